//! The CPU kernels: chunks of fixed size over rayon, vectorised by the compiler for the instruction set found at run time.

pub(crate) mod blend;
pub(crate) mod element;
pub(crate) mod gram;
pub(crate) mod parallel;
pub(crate) mod simd;

use candle_core::{CpuStorage, Layout, Result, Storage, WithDType, bail};

/// The elements of a contiguous tensor on the CPU, from what [`storage_and_layout`](candle_core::Tensor::storage_and_layout)
/// returns.
pub(crate) fn floats<'a, T: WithDType>(storage: &'a Storage, layout: &Layout) -> Result<&'a [T]> {
    match storage {
        Storage::Cpu(storage) => storage_floats(storage, layout),
        _ => bail!("expected a tensor on the CPU"),
    }
}

/// The elements of a contiguous tensor's storage.
pub(crate) fn storage_floats<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("expected a contiguous tensor, found strides {:?}", layout.stride()),
    }
}
