//! A pretrained text transformer, whatever its checkpoint calls the parts.

use candle_core::{Result, Tensor};

use super::{Block, BlockSpec, Embedding, LayerNorm, Linear, additive_mask, causal_mask, mean_tokens};
use crate::{Encoder, Input, Parameters, Reader, Tokens};

/// Which token speaks for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The first, `[CLS]`.
    First,
    /// The mean of all real ones.
    Mean,
    /// The last real one, the end of the text.
    Last,
}

/// The form of a text transformer.
pub(crate) struct TextSpec {
    pub(crate) block: BlockSpec,
    pub(crate) layers: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    /// How many kinds of segment; texts are all of the first.
    pub(crate) types: usize,
    pub(crate) causal: bool,
    pub(crate) pool: Pool,
    /// Length after a projection without bias, called `projection.1`.
    pub(crate) projection: Option<(usize, &'static str)>,
    pub(crate) names: &'static TextNames,
}

/// What a checkpoint calls the parts.
pub(crate) struct TextNames {
    pub(crate) words: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) types: &'static str,
    pub(crate) first_norm: Option<&'static str>,
    pub(crate) layers: &'static str,
    pub(crate) last_norm: Option<&'static str>,
}

pub(crate) struct TextTransformer {
    words: Embedding,
    positions: Embedding,
    types: Option<Embedding>,
    first_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    last_norm: Option<LayerNorm>,
    projection: Option<Linear>,
    causal: bool,
    pool: Pool,
    dim: usize,
    reader: Tokens,
}

impl TextTransformer {
    pub(crate) fn new(spec: &TextSpec, reader: Tokens, p: &Parameters) -> crate::Result<Self> {
        let BlockSpec { width, eps, .. } = spec.block;
        let names = spec.names;
        let norm = |name: Option<&str>| name.map(|name| LayerNorm::new(width, eps, &p.scope(name))).transpose();
        let types = (spec.types > 0).then(|| Embedding::new(spec.types, width, &p.scope(names.types)));
        let projection = spec.projection.map(|(dim, name)| Linear::without_bias(width, dim, &p.scope(name)));
        Ok(Self {
            words: Embedding::new(spec.vocabulary, width, &p.scope(names.words))?,
            positions: Embedding::new(spec.positions, width, &p.scope(names.positions))?,
            types: types.transpose()?,
            first_norm: norm(names.first_norm)?,
            blocks: (0..spec.layers)
                .map(|i| Block::new(&spec.block, &p.scope(names.layers).scope(i)))
                .collect::<crate::Result<_>>()?,
            last_norm: norm(names.last_norm)?,
            projection: projection.transpose()?,
            causal: spec.causal,
            pool: spec.pool,
            dim: spec.projection.map_or(width, |(dim, _)| dim),
            reader,
        })
    }

    fn pool(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        match self.pool {
            Pool::First => x.narrow(1, 0, 1)?.squeeze(1),
            Pool::Mean => mean_tokens(x, mask),
            Pool::Last => {
                // 1 at the last real token alone: where the mask ends.
                let next = mask.narrow(1, 1, mask.dim(1)? - 1)?.pad_with_zeros(1, 0, 1)?;
                mean_tokens(x, &(mask - next)?)
            }
        }
    }
}

impl Encoder for TextTransformer {
    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let (ids, mask) = input.tokens()?;
        let mut x = self.words.forward(ids)?.broadcast_add(&self.positions.first(ids.dim(1)?)?)?;
        if let Some(types) = &self.types {
            x = x.broadcast_add(&types.first(1)?)?;
        }
        if let Some(norm) = &self.first_norm {
            x = norm.forward(&x)?;
        }
        let mut additive = additive_mask(mask, x.dtype())?;
        if self.causal {
            additive = additive.broadcast_add(&causal_mask(&x)?)?;
        }
        x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x, Some(&additive)))?;
        if let Some(norm) = &self.last_norm {
            x = norm.forward(&x)?;
        }
        let pooled = self.pool(&x, mask)?;
        match &self.projection {
            Some(projection) => projection.forward(&pooled),
            None => Ok(pooled),
        }
    }
}
