//! One transformer block for all of ViT, BERT, DistilBERT, CLIP and BLIP: they differ in names, in where the norms
//! stand, and in the activation.

use candle_core::{D, DType, Result, Tensor};

use super::{LayerNorm, Linear};
use crate::{Error, Parameters, ops};

/// What the checkpoints of an architecture call the parts of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockNames {
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) mlp_norm: &'static str,
}

/// Where the norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormPlace {
    /// Before attention and before the MLP, as in ViT.
    Before,
    /// After each residual sum, as in BERT.
    After,
}

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Gelu,
    /// `x σ(1.702 x)`, as in CLIP.
    QuickGelu,
    Relu,
}

impl Activation {
    /// By the name that configurations give it.
    pub(crate) fn named(name: &str) -> crate::Result<Self> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "quick_gelu" => Ok(Self::QuickGelu),
            "relu" => Ok(Self::Relu),
            other => Err(Error::unknown("activation", other, ["gelu", "quick_gelu", "relu"].into_iter())),
        }
    }

    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => ops::gelu(x),
            // σ through tanh, which candle differentiates.
            Self::QuickGelu => x * (((x * 0.851)?.tanh()? + 1.0)? * 0.5)?,
            Self::Relu => x.relu(),
        }
    }
}

/// The sizes and the form of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSpec {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
    pub(crate) norm: NormPlace,
    /// A key's bias shifts all scores of a query alike and does nothing; pretrained files have it all the same.
    pub(crate) key_bias: bool,
    pub(crate) names: &'static BlockNames,
}

/// Self-attention and an MLP, each with a norm and a residual sum.
pub(crate) struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
    heads: usize,
    activation: Activation,
    norm: NormPlace,
}

impl Block {
    pub(crate) fn new(spec: &BlockSpec, p: &Parameters) -> crate::Result<Self> {
        let BlockSpec { width, inner, eps, names, .. } = *spec;
        if spec.heads == 0 || !width.is_multiple_of(spec.heads) {
            let problem = format!("{} attention heads do not divide the width {width}", spec.heads);
            return Err(Error::invalid("transformer", problem));
        }
        let key = if spec.key_bias { Linear::new } else { Linear::without_bias };
        Ok(Self {
            query: Linear::new(width, width, &p.scope(names.query))?,
            key: key(width, width, &p.scope(names.key))?,
            value: Linear::new(width, width, &p.scope(names.value))?,
            output: Linear::new(width, width, &p.scope(names.output))?,
            attention_norm: LayerNorm::new(width, eps, &p.scope(names.attention_norm))?,
            up: Linear::new(width, inner, &p.scope(names.up))?,
            down: Linear::new(inner, width, &p.scope(names.down))?,
            mlp_norm: LayerNorm::new(width, eps, &p.scope(names.mlp_norm))?,
            heads: spec.heads,
            activation: spec.activation,
            norm: spec.norm,
        })
    }

    /// `[b, t, width]` to the same shape; `mask` is additive, broadcastable to `[b, heads, t, t]`.
    pub(crate) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        match self.norm {
            NormPlace::Before => {
                let x = self.attend(x, &self.attention_norm.forward(x)?, mask)?;
                self.mlp(&x, &self.mlp_norm.forward(&x)?)
            }
            NormPlace::After => {
                let x = self.attention_norm.forward(&self.attend(x, x, mask)?)?;
                self.mlp_norm.forward(&self.mlp(&x, &x)?)
            }
        }
    }

    /// `residual` and what attention makes of `x`.
    fn attend(&self, residual: &Tensor, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (b, t, width) = x.dims3()?;
        let size = width / self.heads;
        // One product makes queries, keys and values.
        let layers = [&self.query, &self.key, &self.value];
        let weight = Tensor::cat(&layers.map(Linear::weight), 0)?;
        let none = Tensor::zeros(width, x.dtype(), x.device())?;
        let bias = Tensor::cat(&layers.map(|layer| layer.bias().unwrap_or(&none)), 0)?;
        let qkv = ops::linear(x, &weight, Some(&bias))?.reshape((b, t, 3, self.heads, size))?;
        let mixed = ops::attention(&qkv, mask, 1.0 / (size as f64).sqrt())?;
        self.output.forward_onto(residual, &mixed.reshape((b, t, width))?, false)
    }

    /// `residual` and what the MLP makes of `x`.
    fn mlp(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        let hidden = self.up.forward(x)?;
        match self.activation {
            Activation::Gelu => self.down.forward_onto(residual, &hidden, true),
            other => self.down.forward_onto(residual, &other.forward(&hidden)?, false),
        }
    }
}

/// Scores this low leave nothing after the softmax, in any float type.
const SILENCE: f64 = -1e4;

/// `[b, t]` of 1 and 0 as an additive mask `[b, 1, 1, t]`.
pub(crate) fn additive_mask(mask: &Tensor, dtype: DType) -> Result<Tensor> {
    let (b, t) = mask.dims2()?;
    ((mask.to_dtype(dtype)? - 1.0)? * -SILENCE)?.reshape((b, 1, 1, t))
}

/// The additive mask `[1, 1, t, t]` under which a token sees itself and those before it.
pub(crate) fn causal_mask(like: &Tensor) -> Result<Tensor> {
    let t = like.dim(1)?;
    let values: Vec<f64> = (0..t * t).map(|i| if i % t > i / t { SILENCE } else { 0.0 }).collect();
    Tensor::from_vec(values, (1, 1, t, t), like.device())?.to_dtype(like.dtype())
}

/// The mean of the real tokens: `x` `[b, t, d]`, `mask` `[b, t]`, to `[b, d]`.
pub(crate) fn mean_tokens(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.to_dtype(x.dtype())?;
    let counts = mask.sum_keepdim(1)?.maximum(1.0)?;
    let sums = x.broadcast_mul(&mask.unsqueeze(D::Minus1)?)?.sum(1)?;
    sums.broadcast_div(&counts)
}
