//! A small vision transformer.

use candle_core::{Result, Tensor};

use super::{EncoderEntry, EncoderKind, FIT_SIZE, centred, fitted_size};
use crate::layers::{
    Activation, Block, BlockNames, BlockSpec, Conv2d, Embedding, LayerNorm, NormPlace, Padding, channels_last,
};
use crate::{Encoder, Error, Input, Parameters, Pixels, Reader};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "small-vit",
    modality: "image",
    about: "a small vision transformer, trained from scratch",
    paper: "Dosovitskiy et al. 2021; mean pooling as in Beyer et al. 2022",
    stem: &[],
    kind: EncoderKind::Scratch { fit: FIT_SIZE, build },
};

const PATCH: usize = 8;
const LAYERS: usize = 3;
pub(super) const NAMES: BlockNames = BlockNames {
    query: "attention.query",
    key: "attention.key",
    value: "attention.value",
    output: "attention.output",
    attention_norm: "attention.norm",
    up: "mlp.up",
    down: "mlp.down",
    mlp_norm: "mlp.norm",
};
const SPEC: BlockSpec = BlockSpec {
    width: 96,
    heads: 4,
    inner: 192,
    eps: 1e-5,
    activation: Activation::Gelu,
    norm: NormPlace::Before,
    key_bias: false,
    names: &NAMES,
};

struct SmallVit {
    patches: Conv2d,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    reader: Pixels,
}

fn build(fitted: &str, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let size = fitted_size(fitted)?;
    if size == 0 || !size.is_multiple_of(PATCH) {
        return Err(Error::invalid("small-vit", format!("the image size {size} is no multiple of {PATCH}")));
    }
    let block = |i| Block::new(&SPEC, &p.scope("layer").scope(i));
    let padding = Padding::Even(0);
    Ok(Box::new(SmallVit {
        patches: Conv2d::new((3, SPEC.width), (PATCH, PATCH), padding, true, &p.scope("patches"))?,
        positions: Embedding::new((size / PATCH).pow(2), SPEC.width, &p.scope("positions"))?,
        blocks: (0..LAYERS).map(block).collect::<crate::Result<_>>()?,
        norm: LayerNorm::new(SPEC.width, SPEC.eps, &p.scope("norm"))?,
        reader: centred(size),
    }))
}

impl Encoder for SmallVit {
    fn dim(&self) -> usize {
        SPEC.width
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let patches = self.patches.forward(&channels_last(input.pixels()?)?)?;
        let (b, h, w, width) = patches.dims4()?;
        let x = patches.reshape((b, h * w, width))?.broadcast_add(&self.positions.first(h * w)?)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, None))?;
        self.norm.forward(&x)?.mean(1)
    }
}
