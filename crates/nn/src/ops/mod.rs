//! Training ops with a forward and a backward of their own on the CPU, in f32 and f64: one pass over memory where a chain of
//! tensor operations makes many, exact gradients, no gradient computed for an input that needs none.
//!
//! On other devices each op is composed of candle's differentiable operations, to the same definition. The 16-bit types are
//! computed in f32 and rounded once, on every device. Results have the same bits under any number of threads.

mod add_relu;
mod attention;
mod clamp;
mod conv;
mod depthwise;
mod embedding;
mod gelu;
mod layer_norm;
mod linear;
mod patches;
mod pool;
mod real;
mod residual_linear;
mod softmax;
mod window;

pub use add_relu::add_relu;
pub use attention::attention;
pub use conv::conv2d;
pub use depthwise::depthwise_conv2d;
pub use embedding::embedding;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use pool::max_pool2d;
pub use residual_linear::residual_linear;
pub use softmax::{log_softmax, softmax};
pub use window::Window;

use crate::cpu::matmul::{self, column_sums};
use crate::cpu::{by_dtype, fused};
use candle_core::{DType, Result, Tensor, bail};

/// Elements of a chunk of an elementwise or rowwise op.
const CHUNK: usize = 8192;

/// The dtype that an op computes in: f32 for the 16-bit types.
fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::BF16 | DType::F16) { DType::F32 } else { dtype }
}

/// Runs `op` on the inputs in their [`wide`] dtype and rounds its result back.
fn widened<const N: usize>(inputs: [&Tensor; N], op: impl Fn([Tensor; N]) -> Result<Tensor>) -> Result<Tensor> {
    let dtype = inputs[0].dtype();
    let mut wides = inputs.map(Tensor::clone);
    for input in &mut wides {
        *input = input.to_dtype(wide(dtype))?;
    }
    op(wides)?.to_dtype(dtype)
}

/// Length of the last dimension.
fn last_dim(op: &str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&d) => Ok(d),
        None => bail!("{op}: expected at least one dimension, found a scalar"),
    }
}

/// Elements of a chunk of whole rows of `d` elements, about [`CHUNK`].
fn row_chunk(d: usize) -> usize {
    (CHUNK / d.max(1)).max(1) * d
}
