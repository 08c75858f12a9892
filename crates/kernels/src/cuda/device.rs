//! The launches.

use super::table::{THREADS, Table};
use crate::rows::Slot;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Layout, Result, Storage, StorageRef, Tensor, bail};
use half::{bf16, f16};

/// The k × k inner products of checked, contiguous slots.
pub(crate) fn gram(device: &CudaDevice, k: usize, slots: &[Slot]) -> Result<Vec<f64>> {
    let mut out = device.alloc_zeros::<f64>(k * k)?;
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let slots: Vec<&Slot> = slots.iter().filter(|slot| slot.dtype() == dtype && slot.len > 0).collect();
        if slots.is_empty() {
            continue;
        }
        match dtype {
            DType::F32 => gram_of::<f32>(device, k, &slots, &mut out)?,
            DType::F64 => gram_of::<f64>(device, k, &slots, &mut out)?,
            DType::BF16 => gram_of::<bf16>(device, k, &slots, &mut out)?,
            _ => gram_of::<f16>(device, k, &slots, &mut out)?,
        }
    }
    device.clone_dtoh(&out)
}

fn gram_of<T: Stored>(device: &CudaDevice, k: usize, slots: &[&Slot], out: &mut CudaSlice<f64>) -> Result<()> {
    let guards = guards(slots);
    let stream = device.cuda_stream();
    let (table, _reads) = table::<T>(&stream, k, slots, &guards)?;
    let work = device.clone_htod(table.words())?;
    let partial = device.alloc_zeros::<f64>(table.partials())?;
    let (k, slots, chunks) = (table.k(), table.slots(), table.chunks());

    let kernel = function(device, &format!("gram_{}", T::DTYPE.as_str()))?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&work).arg(&k).arg(&slots).arg(&partial);
    // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, and
    // `partial` has room for each product of each chunk.
    unsafe { launch.launch(grid(table.gram_grid())) }.w()?;

    let kernel = function(device, "gram_finish")?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&partial).arg(&k).arg(&chunks).arg(out);
    // SAFETY: as above; `out` holds k · k sums.
    unsafe { launch.launch(grid(table.finish_grid())) }.w()?;
    Ok(())
}

/// `Σ_i coefficients[i] · slot[i]` for each slot, in slot order.
pub(crate) fn blend(device: &CudaDevice, slots: &[(usize, Slot)], coefficients: &[f64]) -> Result<Vec<Tensor>> {
    let mut blended: Vec<Option<Tensor>> = vec![None; slots.len()];
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let chosen: Vec<usize> = (0..slots.len()).filter(|&s| slots[s].1.dtype() == dtype).collect();
        let of_dtype: Vec<&Slot> = chosen.iter().map(|&s| &slots[s].1).collect();
        if chosen.is_empty() {
            continue;
        }
        let tensors = match dtype {
            DType::F32 => blend_of::<f32>(device, &of_dtype, coefficients)?,
            DType::F64 => blend_of::<f64>(device, &of_dtype, coefficients)?,
            DType::BF16 => blend_of::<bf16>(device, &of_dtype, coefficients)?,
            _ => blend_of::<f16>(device, &of_dtype, coefficients)?,
        };
        for (s, tensor) in chosen.into_iter().zip(tensors) {
            blended[s] = Some(tensor);
        }
    }
    Ok(blended.into_iter().flatten().collect())
}

fn blend_of<T: Stored>(device: &CudaDevice, slots: &[&Slot], coefficients: &[f64]) -> Result<Vec<Tensor>> {
    let guards = guards(slots);
    let stream = device.cuda_stream();
    let mut outs = Vec::with_capacity(slots.len());
    for slot in slots {
        // SAFETY: the kernel writes each element before anything reads it, on this stream.
        outs.push(unsafe { device.alloc::<T>(slot.len) }?);
    }
    let (mut table, _reads) = table::<T>(&stream, coefficients.len(), slots, &guards)?;
    if table.chunks() > 0 {
        let mut _writes = Vec::with_capacity(outs.len());
        for out in &mut outs {
            let (address, write) = out.device_ptr_mut(&stream);
            table.push_addresses([address]);
            _writes.push(write);
        }
        table.push_numbers(coefficients);
        let work = device.clone_htod(table.words())?;
        let (k, slots) = (table.k(), table.slots());
        let kernel = function(device, &format!("blend_{}", T::DTYPE.as_str()))?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&work).arg(&k).arg(&slots);
        // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, and
        // outputs of the slots' lengths.
        unsafe { launch.launch(grid(table.chunk_grid())) }.w()?;
    }
    let wrap = |(slot, out): (&&Slot, CudaSlice<T>)| {
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(out, device.clone()));
        Tensor::from_storage(storage, slot.first().shape(), BackpropOp::none(), false)
    };
    Ok(slots.iter().zip(outs).map(wrap).collect())
}

/// A float that candle stores on CUDA.
pub trait Stored: CudaDType + DeviceRepr + candle_core::WithDType {}
impl<T: CudaDType + DeviceRepr + candle_core::WithDType> Stored for T {}

type Guards<'a> = Vec<Vec<(usize, StorageRef<'a>, &'a Layout)>>;

/// Read locks on each tensor, with its row.
fn guards<'a>(slots: &[&'a Slot]) -> Guards<'a> {
    let guard = |(row, tensor): &'a (usize, Tensor)| {
        let (storage, layout) = tensor.storage_and_layout();
        (*row, storage, layout)
    };
    slots.iter().map(|slot| slot.tensors.iter().map(guard).collect()).collect()
}

/// The table of the slots' gradients. What comes with it tells the stream, when dropped, that the reads have been queued.
fn table<'a, T: Stored>(
    stream: &'a CudaStream,
    k: usize,
    slots: &[&Slot],
    guards: &'a Guards<'_>,
) -> Result<(Table, Vec<SyncOnDrop<'a>>)> {
    let lens: Vec<usize> = slots.iter().map(|slot| slot.len).collect();
    let (mut table, mut reads) = (Table::new(k, &lens), Vec::new());
    for (slot, guards) in slots.iter().zip(guards) {
        let mut present = Vec::with_capacity(guards.len());
        for (row, storage, layout) in guards {
            let (address, read) = address::<T>(stream, storage, layout)?;
            debug_assert_eq!(layout.shape().elem_count(), slot.len);
            present.push((*row, address));
            reads.push(read);
        }
        table.push_rows(present);
    }
    Ok((table, reads))
}

/// Where a contiguous tensor starts, and what tells the stream, when dropped, that it has been used.
///
/// # Errors
/// When it is elsewhere, not contiguous, or of another dtype.
pub fn address<'a, T: Stored>(
    stream: &'a CudaStream,
    storage: &'a Storage,
    layout: &Layout,
) -> Result<(u64, SyncOnDrop<'a>)> {
    let (Storage::Cuda(storage), Some((start, _))) = (storage, layout.contiguous_offsets()) else {
        bail!("expected a contiguous tensor on CUDA");
    };
    let (address, used) = storage.as_cuda_slice::<T>()?.device_ptr(stream);
    Ok((address + (start * size_of::<T>()) as u64, used))
}

/// A launch of so many blocks.
pub fn grid((x, y): (u32, u32)) -> LaunchConfig {
    LaunchConfig { grid_dim: (x, y, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// A kernel of `kernels.cu`.
fn function(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
    Ok(device.get_or_load_custom_func(name, "balgrad-kernels", PTX)?.into_cuda_function())
}
