//! Gram and blend on CUDA: the tensors of a block go into one table of pointers, and each kernel is launched once for a dtype.

use crate::rows::Slot;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDType, CudaDevice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Layout, Result, Storage, StorageRef, Tensor, bail};
use half::{bf16, f16};
use std::sync::OnceLock;

/// As in `kernels.cu`.
const THREADS: u32 = 256;
const CHUNK: usize = 65536;
const TILE: usize = 4;

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
    let chunks = chunks(slots);
    let guards = guards(slots);
    let stream = device.cuda_stream();
    let mut words = header(slots, &chunks);
    let _reads = push_rows::<T>(&stream, k, slots, &guards, &mut words)?;
    let work = device.clone_htod(&words)?;
    let tiles = k.div_ceil(TILE);
    let partial = device.alloc_zeros::<f64>(k * k * chunks.len())?;
    let (k, slots, count) = (k as u32, slots.len() as u32, chunks.len() as u32);

    let kernel = function(device, &format!("gram_{}", T::DTYPE.as_str()))?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&work).arg(&k).arg(&slots).arg(&partial);
    // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, and
    // `partial` has room for each product of each chunk.
    unsafe { launch.launch(grid(count, (tiles * (tiles + 1) / 2) as u32)) }.w()?;

    let kernel = function(device, "gram_finish")?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&partial).arg(&k).arg(&count).arg(out);
    // SAFETY: as above; `out` holds k · k sums.
    unsafe { launch.launch(grid(k, k)) }.w()?;
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
    let chunks = chunks(slots);
    let guards = guards(slots);
    let stream = device.cuda_stream();
    let mut outs = Vec::with_capacity(slots.len());
    for slot in slots {
        // SAFETY: the kernel writes each element before anything reads it, on this stream.
        outs.push(unsafe { device.alloc::<T>(slot.len) }?);
    }
    if !chunks.is_empty() {
        let mut words = header(slots, &chunks);
        let _reads = push_rows::<T>(&stream, coefficients.len(), slots, &guards, &mut words)?;
        let mut _writes = Vec::with_capacity(outs.len());
        for out in &mut outs {
            let (pointer, write) = out.device_ptr_mut(&stream);
            words.push(pointer);
            _writes.push(write);
        }
        words.extend(coefficients.iter().map(|c| c.to_bits()));
        let work = device.clone_htod(&words)?;
        let (k, count) = (coefficients.len() as u32, slots.len() as u32);
        let kernel = function(device, &format!("blend_{}", T::DTYPE.as_str()))?;
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&work).arg(&k).arg(&count);
        // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, and
        // outputs of the slots' lengths.
        unsafe { launch.launch(grid(chunks.len() as u32, 1)) }.w()?;
    }
    let wrap = |(slot, out): (&&Slot, CudaSlice<T>)| {
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(out, device.clone()));
        Tensor::from_storage(storage, slot.first().shape(), BackpropOp::none(), false)
    };
    Ok(slots.iter().zip(outs).map(wrap).collect())
}

/// A float that candle stores on CUDA.
trait Stored: CudaDType + DeviceRepr + candle_core::WithDType {}
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

fn chunks(slots: &[&Slot]) -> Vec<u64> {
    let of_slot = |(s, slot): (usize, &&Slot)| (0..slot.len.div_ceil(CHUNK)).map(move |c| (s as u64) << 32 | c as u64);
    slots.iter().enumerate().flat_map(of_slot).collect()
}

fn header(slots: &[&Slot], chunks: &[u64]) -> Vec<u64> {
    chunks.iter().copied().chain(slots.iter().map(|slot| slot.len as u64)).collect()
}

/// Appends the table of row pointers. What it returns tells the stream, when dropped, that the reads have been queued.
fn push_rows<'a, T: Stored>(
    stream: &'a CudaStream,
    k: usize,
    slots: &[&Slot],
    guards: &'a Guards<'_>,
    words: &mut Vec<u64>,
) -> Result<Vec<SyncOnDrop<'a>>> {
    let mut reads = Vec::new();
    for (slot, guards) in slots.iter().zip(guards) {
        let mut rows = vec![0; k];
        for (row, storage, layout) in guards {
            let Storage::Cuda(storage) = &**storage else {
                bail!("expected a tensor on CUDA");
            };
            let slice = storage.as_cuda_slice::<T>()?;
            let (pointer, read) = slice.device_ptr(stream);
            debug_assert_eq!(layout.shape().elem_count(), slot.len);
            rows[*row] = pointer + (layout.start_offset() * size_of::<T>()) as u64;
            reads.push(read);
        }
        words.extend(rows);
    }
    Ok(reads)
}

fn grid(x: u32, y: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (x, y, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// A kernel of `kernels.cu`, compiled once in a process and loaded once on a device.
fn function(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let compile = || compile_ptx(include_str!("kernels.cu")).map(|ptx| ptx.to_src()).map_err(|error| error.to_string());
    match PTX.get_or_init(compile) {
        Ok(ptx) => Ok(device.get_or_load_custom_func(name, "balgrad-kernels", ptx)?.into_cuda_function()),
        Err(error) => bail!("NVRTC could not compile the gradient kernels: {error}"),
    }
}
