//! A small vision transformer.

use candle_core::{Result, Tensor};

use super::{EncoderEntry, EncoderKind, ScratchShape, centred};
use crate::layers::{
    Activation, Block, BlockNames, BlockSpec, Conv2d, Embedding, LayerNorm, NormPlace, Padding, channels_last,
};
use crate::{Encoder, Error, Expects, Input, Parameters};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "small-vit",
    modality: "image",
    about: "a small vision transformer, trained from nothing",
    paper: "Dosovitskiy et al. 2021; mean pooling as in Beyer et al. 2022",
    kind: EncoderKind::Scratch(build),
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
    expects: Expects,
}

fn build(shape: &ScratchShape, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let size = shape.image_size;
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
        expects: centred(size),
    }))
}

impl Encoder for SmallVit {
    fn dim(&self) -> usize {
        SPEC.width
    }

    fn expects(&self) -> &Expects {
        &self.expects
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let patches = self.patches.forward(&channels_last(input.pixels()?)?)?;
        let (b, h, w, width) = patches.dims4()?;
        let x = patches.reshape((b, h * w, width))?.broadcast_add(&self.positions.first(h * w)?)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, None))?;
        self.norm.forward(&x)?.mean(1)
    }
}
