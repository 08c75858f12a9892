//! The one door to differentiable layer arithmetic.
//!
//! candle's own `LayerNorm`, `softmax_last_dim` and `RmsNorm` have no backward and drop gradients without a word;
//! everything in this crate goes through here instead.

pub(crate) use balgrad_nn::{Window, add_relu, attention, conv2d, depthwise_conv2d, gelu, linear, max_pool2d, softmax};
