//! Gram and blend on Metal: up to four rows of a tensor at a time, f32 within a chunk of 4096 elements, f64 across chunks.
//!
//! Metal has no table of pointers that older systems take, so a kernel is launched per tensor; there is one wait for a block.

use crate::rows::Slot;
use candle_core::op::BackpropOp;
use candle_core::{DType, Error, Layout, MetalDevice, MetalStorage, Result, Storage, StorageRef, Tensor, bail};
use candle_metal_kernels::metal::{Buffer, ComputeCommandEncoder, ComputePipeline};
use objc2_metal::MTLSize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// As in `kernels.metal`.
const THREADS: usize = 256;
const CHUNK: usize = 4096;
const TILE: usize = 4;

/// The k × k inner products of checked, contiguous slots.
pub(crate) fn gram(device: &MetalDevice, k: usize, slots: &[Slot]) -> Result<Vec<f64>> {
    let mut pending: Vec<(Arc<Buffer>, usize, &[(usize, Tensor)], &[(usize, Tensor)])> = Vec::new();
    for slot in slots.iter().filter(|slot| slot.len > 0) {
        let pipeline = pipeline(device, "gram", slot.dtype())?;
        let groups = slot.len.div_ceil(CHUNK);
        let tiles: Vec<&[(usize, Tensor)]> = slot.tensors.chunks(TILE).collect();
        for (a, rows) in tiles.iter().enumerate() {
            for columns in &tiles[a..] {
                let partial = device.allocate_buffer(groups * TILE * TILE * size_of::<f32>())?;
                let guards = [guards(rows), guards(columns)];
                let encoder = device.command_encoder()?;
                let encoder: &ComputeCommandEncoder = encoder.as_ref();
                encoder.set_compute_pipeline_state(&pipeline);
                bind(encoder, 0, &guards[0])?;
                bind(encoder, TILE, &guards[1])?;
                encoder.set_output_buffer(2 * TILE, Some(&partial), 0);
                encoder.set_bytes(2 * TILE + 1, &(slot.len as u32));
                encoder.dispatch_thread_groups(size(groups), size(THREADS));
                pending.push((partial, groups, rows, columns));
            }
        }
    }
    device.flush_and_wait_current()?;
    let mut sums = vec![0.0; k * k];
    for (partial, groups, rows, columns) in pending {
        // SAFETY: a shared buffer of this many floats, which the kernel has written and nothing writes any more.
        let partial = unsafe { std::slice::from_raw_parts(partial.contents().cast::<f32>(), groups * TILE * TILE) };
        for (a, (i, _)) in rows.iter().enumerate() {
            for (b, (j, _)) in columns.iter().enumerate() {
                let sum: f64 = partial.iter().skip(a * TILE + b).step_by(TILE * TILE).map(|&x| f64::from(x)).sum();
                sums[i * k + j] += sum;
                if rows[0].0 != columns[0].0 {
                    sums[j * k + i] += sum;
                }
            }
        }
    }
    Ok(sums)
}

/// `Σ_i coefficients[i] · slot[i]` for each slot, in f32; past four rows by way of the output.
pub(crate) fn blend(device: &MetalDevice, slots: &[(usize, Slot)], coefficients: &[f64]) -> Result<Vec<Tensor>> {
    let mut blended = Vec::with_capacity(slots.len());
    for (_, slot) in slots {
        let out = device.new_buffer(slot.len.max(1), slot.dtype(), "blend")?;
        let pipeline = pipeline(device, "blend", slot.dtype())?;
        let (first, rest) = slot.tensors.split_at(slot.tensors.len().min(TILE));
        let passes = std::iter::once((first, false)).chain(rest.chunks(TILE - 1).map(|rows| (rows, true)));
        for (rows, onto) in passes.filter(|_| slot.len > 0) {
            let guards = guards(rows);
            let encoder = device.command_encoder()?;
            let encoder: &ComputeCommandEncoder = encoder.as_ref();
            encoder.set_compute_pipeline_state(&pipeline);
            let mut weights = [0f32; TILE];
            let given = usize::from(onto);
            weights[0] = 1.0;
            for (weight, (row, _)) in weights[given..].iter_mut().zip(rows) {
                *weight = coefficients[*row] as f32;
            }
            bind(encoder, given, &guards)?;
            if onto {
                encoder.set_input_buffer(0, Some(&out), 0);
            }
            encoder.set_output_buffer(TILE, Some(&out), 0);
            encoder.set_bytes(TILE + 1, &weights);
            encoder.set_bytes(TILE + 2, &[slot.len as u32, (given + rows.len()) as u32]);
            encoder.dispatch_thread_groups(size(slot.len.div_ceil(THREADS)), size(THREADS));
        }
        let storage = Storage::Metal(MetalStorage::new(out, device.clone(), slot.len, slot.dtype()));
        blended.push(Tensor::from_storage(storage, slot.first().shape(), BackpropOp::none(), false));
    }
    Ok(blended)
}

type Guards<'a> = Vec<(StorageRef<'a>, &'a Layout)>;

fn guards(rows: &[(usize, Tensor)]) -> Guards<'_> {
    rows.iter().map(|(_, tensor)| tensor.storage_and_layout()).collect()
}

/// Binds rows from `index` to the end of the tile, the last one over again where there are fewer.
fn bind(encoder: &ComputeCommandEncoder, index: usize, rows: &Guards<'_>) -> Result<()> {
    for i in index % TILE..TILE {
        let Some((storage, layout)) = rows.get(i - index % TILE).or(rows.last()) else {
            continue;
        };
        let Storage::Metal(storage) = &**storage else {
            bail!("expected a tensor on Metal");
        };
        let offset = layout.start_offset() * candle_core::backend::BackendStorage::dtype(storage).size_in_bytes();
        encoder.set_input_buffer(index - index % TILE + i, Some(storage.buffer()), offset);
    }
    Ok(())
}

fn size(width: usize) -> MTLSize {
    MTLSize { width, height: 1, depth: 1 }
}

/// A kernel of `kernels.metal`, compiled once for a device.
fn pipeline(device: &MetalDevice, op: &str, dtype: DType) -> Result<ComputePipeline> {
    static PIPELINES: Mutex<Option<HashMap<(u64, String), ComputePipeline>>> = Mutex::new(None);
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        bail!("{op}: Metal has no {}", dtype.as_str());
    }
    let name = format!("{op}_{}", dtype.as_str());
    let mut pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
    let pipelines = pipelines.get_or_insert_default();
    let key = (device.metal_device().registry_id(), name.clone());
    if let Some(pipeline) = pipelines.get(&key) {
        return Ok(pipeline.clone());
    }
    let library = device.metal_device().new_library_with_source(include_str!("kernels.metal"), None);
    let function = library.and_then(|library| library.get_function(&name, None)).map_err(Error::wrap)?;
    let pipeline = device.metal_device().new_compute_pipeline_state_with_function(&function).map_err(Error::wrap)?;
    pipelines.insert(key, pipeline.clone());
    Ok(pipeline)
}
