//! A pretrained vision transformer, whatever its checkpoint calls the parts.

use candle_core::{Result, Tensor, bail};

use super::{Block, BlockSpec, Conv2d, LayerNorm, Linear, Padding, channels_last};
use crate::{Encoder, Error, Init, Input, Parameters, Pixels, Reader};

/// The form of a vision transformer.
pub(crate) struct VisionSpec {
    pub(crate) block: BlockSpec,
    pub(crate) layers: usize,
    pub(crate) image: usize,
    pub(crate) patch: usize,
    pub(crate) patch_bias: bool,
    /// Length after a projection without bias, called `projection.1`.
    pub(crate) projection: Option<(usize, &'static str)>,
    pub(crate) names: &'static VisionNames,
}

/// What a checkpoint calls the parts.
pub(crate) struct VisionNames {
    pub(crate) class: &'static str,
    pub(crate) positions: &'static str,
    /// Whether class and positions are stored without leading dimensions of one.
    pub(crate) flat: bool,
    pub(crate) patches: &'static str,
    pub(crate) first_norm: Option<&'static str>,
    pub(crate) layers: &'static str,
    pub(crate) last_norm: &'static str,
}

pub(crate) struct VisionTransformer {
    class: Tensor,
    positions: Tensor,
    patches: Conv2d,
    first_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    projection: Option<Linear>,
    image: usize,
    width: usize,
    dim: usize,
    reader: Pixels,
}

impl VisionTransformer {
    pub(crate) fn new(spec: &VisionSpec, reader: Pixels, p: &Parameters) -> crate::Result<Self> {
        let (VisionSpec { image, patch, names, .. }, BlockSpec { width, eps, .. }) = (spec, spec.block);
        if *patch == 0 || !image.is_multiple_of(*patch) {
            return Err(Error::invalid("vision transformer", format!("patches of {patch} in images of {image}")));
        }
        let tokens = (image / patch).pow(2) + 1;
        let init = Init::Normal(0.02);
        let (class, positions) = match names.flat {
            true => (p.get(names.class, width, init)?, p.get(names.positions, (tokens, width), init)?),
            false => (p.get(names.class, (1, 1, width), init)?, p.get(names.positions, (1, tokens, width), init)?),
        };
        let norm = |name: &str| LayerNorm::new(width, eps, &p.scope(name));
        let projection = spec.projection.map(|(dim, name)| Linear::without_bias(width, dim, &p.scope(name)));
        let scope = p.scope(names.patches);
        Ok(Self {
            class: class.reshape((1, 1, width))?,
            positions: positions.reshape((1, tokens, width))?,
            patches: Conv2d::new((3, width), (*patch, *patch), Padding::Even(0), spec.patch_bias, &scope)?,
            first_norm: names.first_norm.map(norm).transpose()?,
            blocks: (0..spec.layers)
                .map(|i| Block::new(&spec.block, &p.scope(names.layers).scope(i)))
                .collect::<crate::Result<_>>()?,
            last_norm: norm(names.last_norm)?,
            projection: projection.transpose()?,
            image: *image,
            width,
            dim: spec.projection.map_or(width, |(dim, _)| dim),
            reader,
        })
    }
}

impl Encoder for VisionTransformer {
    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let pixels = input.pixels()?;
        let (b, _, h, w) = pixels.dims4()?;
        if (h, w) != (self.image, self.image) {
            bail!("this encoder reads images of {0} x {0}, found {h} x {w}", self.image);
        }
        let patches = self.patches.forward(&channels_last(pixels)?)?.reshape((b, (), self.width))?;
        let class = self.class.broadcast_as((b, 1, self.width))?;
        let mut x = Tensor::cat(&[&class, &patches], 1)?.broadcast_add(&self.positions)?;
        if let Some(norm) = &self.first_norm {
            x = norm.forward(&x)?;
        }
        x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, None))?;
        // The norm acts on each token alone: only the class token's is needed.
        let class = self.last_norm.forward(&x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?)?;
        match &self.projection {
            Some(projection) => projection.forward(&class),
            None => Ok(class),
        }
    }
}
