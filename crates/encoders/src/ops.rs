//! The one door to differentiable layer arithmetic.
//!
//! candle's own `LayerNorm`, `softmax_last_dim` and `RmsNorm` have no backward and drop gradients without a word;
//! everything in this crate goes through here instead.

use candle_core::{D, Result, Tensor};

/// Layer normalisation over the last dimension.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    candle_nn::ops::layer_norm_slow(x, weight, bias, eps as f32)
}

/// Softmax over the last dimension.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(x, D::Minus1)
}

/// GELU, erf form.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// `x Wᵀ + b` for `x` `[.., in]` and `weight` `[out, in]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    let y = x.reshape(((), width))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

/// Scaled dot-product attention; q, k, v `[b, h, t, d]`, `mask` additive and broadcastable to `[b, h, t, t]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * scale)?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    softmax(&scores)?.matmul(&v.contiguous()?)
}

/// Rows of `table` `[n, d]` for u32 `ids` `[..]`: `[.., d]`.
pub(crate) fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let mut shape = ids.dims().to_vec();
    shape.push(table.dim(1)?);
    table.index_select(&ids.flatten_all()?, 0)?.reshape(shape)
}
