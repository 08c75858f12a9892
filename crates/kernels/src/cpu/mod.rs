//! The CPU kernels: chunks of fixed size over rayon, vectorised by the compiler for the instruction set found at run time.
//!
//! Hidden from the documentation: what is public here is for `balgrad-nn` alone, and changes without notice.

pub(crate) mod blend;
pub mod element;
pub(crate) mod gram;
pub mod matmul;
pub mod parallel;
pub mod simd;

pub use crate::__by_dtype as by_dtype;
use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, WithDType, bail};

/// The elements of a contiguous tensor on the CPU, from what [`storage_and_layout`](candle_core::Tensor::storage_and_layout)
/// returns.
///
/// # Errors
/// When the tensor is elsewhere, not contiguous, or of another dtype.
pub fn floats<'a, T: WithDType>(storage: &'a Storage, layout: &Layout) -> Result<&'a [T]> {
    match storage {
        Storage::Cpu(storage) => storage_floats(storage, layout),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// The elements of a contiguous tensor's storage.
///
/// # Errors
/// When the tensor is not contiguous, or of another dtype.
pub fn storage_floats<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("expected a contiguous tensor, found strides {:?}", layout.stride()),
    }
}

/// Whether the fused CPU ops compute on this tensor.
pub fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// Evaluates an expression with `$T` bound to the float type of a dtype.
#[doc(hidden)]
#[macro_export]
macro_rules! __by_dtype {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("{}: expected f32 or f64, found {}", $op, other.as_str()),
        }
    };
}
