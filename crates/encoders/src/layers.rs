//! The layers that encoders are made of, beside those of `balgrad-nn`.

mod conv;
mod text;
mod transformer;
mod vision;

pub(crate) use balgrad_nn::{Embedding, LayerNorm, Linear};
pub(crate) use conv::{Conv2d, DepthwiseConv2d, FrozenNorm, Padding, channels_last, mean_positions};
pub(crate) use text::{Pool, TextNames, TextSpec, TextTransformer};
pub(crate) use transformer::{Activation, Block, BlockNames, BlockSpec, NormPlace};
pub(crate) use transformer::{additive_mask, causal_mask, mean_tokens};
pub(crate) use vision::{VisionNames, VisionSpec, VisionTransformer};
