//! Tensors out of the storages of a PyTorch file, whatever their strides.

use candle_core::pickle::TensorInfo;
use candle_core::{Device, Result, Tensor, bail};

/// The tensor's values in row-major order.
pub(super) fn tensor(info: &TensorInfo, storage: &[u8]) -> Result<Tensor> {
    let (dims, strides) = (info.layout.dims(), info.layout.stride());
    let (size, start) = (info.dtype.size_in_bytes(), info.layout.start_offset());
    let count = dims.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim));
    // No shape is believed before its storage could hold it.
    let Some(count) = count.filter(|count| *count <= storage.len() / size) else {
        bail!("`{}` of shape {dims:?} is larger than its storage", info.name)
    };
    let beyond = || candle_core::Error::Msg(format!("`{}` reaches beyond its storage", info.name));
    if info.layout.is_contiguous() {
        let values = start.checked_add(count * size).and_then(|end| storage.get(start..end)).ok_or_else(beyond)?;
        return Tensor::from_raw_buffer(values, info.dtype, dims, &Device::Cpu);
    }
    let element = |mut index: usize| {
        let mut at = 0usize;
        for (dim, stride) in dims.iter().zip(strides).rev() {
            at = at.checked_add((index % dim).checked_mul(*stride)?)?;
            index /= dim;
        }
        let at = start.checked_add(at.checked_mul(size)?)?;
        storage.get(at..at.checked_add(size)?)
    };
    let mut values = Vec::with_capacity(count * size);
    for index in 0..count {
        values.extend_from_slice(element(index).ok_or_else(beyond)?);
    }
    Tensor::from_raw_buffer(&values, info.dtype, dims, &Device::Cpu)
}
