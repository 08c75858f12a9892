//! A small BERT-like encoder of short texts.

use candle_core::{Result, Tensor};

use super::small_vit::NAMES;
use super::{EncoderEntry, EncoderKind, FIT_VOCABULARY};
use crate::layers::{Activation, Block, BlockSpec, Embedding, LayerNorm, NormPlace, additive_mask, mean_tokens};
use crate::{Encoder, Input, Parameters, Reader, Tokenizer, Tokens};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "small-bert",
    modality: "text",
    about: "a small transformer over word pieces, trained from scratch",
    paper: "Devlin et al. 2019; norms first as in Xiong et al. 2020; mean pooling",
    stem: &[],
    kind: EncoderKind::Scratch { fit: FIT_VOCABULARY, build },
};

const LAYERS: usize = 2;
const LIMIT: usize = 128;
/// `[CLS] [SEP]` of a vocabulary that [`Tokenizer::train`](crate::Tokenizer::train) learnt.
const EMPTY: [u32; 2] = [2, 3];
const SPEC: BlockSpec = BlockSpec {
    width: 128,
    heads: 4,
    inner: 256,
    eps: 1e-5,
    activation: Activation::Gelu,
    norm: NormPlace::Before,
    key_bias: false,
    names: &NAMES,
};

struct SmallBert {
    words: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    reader: Tokens,
}

fn build(fitted: &str, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let tokenizer = Tokenizer::from_json(fitted)?;
    let block = |i| Block::new(&SPEC, &p.scope("layer").scope(i));
    Ok(Box::new(SmallBert {
        words: Embedding::new(tokenizer.vocabulary(), SPEC.width, &p.scope("words"))?,
        positions: Embedding::new(LIMIT, SPEC.width, &p.scope("positions"))?,
        blocks: (0..LAYERS).map(block).collect::<crate::Result<_>>()?,
        norm: LayerNorm::new(SPEC.width, SPEC.eps, &p.scope("norm"))?,
        reader: Tokens {
            place: "small-bert".to_owned(),
            tokenizer: Some(tokenizer),
            limit: LIMIT,
            empty: EMPTY.to_vec(),
            learnt: true,
        },
    }))
}

impl Encoder for SmallBert {
    fn dim(&self) -> usize {
        SPEC.width
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let (ids, mask) = input.tokens()?;
        let x = self.words.forward(ids)?.broadcast_add(&self.positions.first(ids.dim(1)?)?)?;
        let additive = additive_mask(mask, x.dtype())?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, Some(&additive)))?;
        mean_tokens(&self.norm.forward(&x)?, mask)
    }
}
