use super::by_dtype;
use super::fused;
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, WithDType, bail};

/// Row `ids[i]` of `table` for each id: `ids` `[..]` u32, `table` `[rows, d]`, result `[.., d]`.
///
/// The backward adds the rows of a repeated id in the order of the ids. (On CUDA that order is the hardware's.)
///
/// # Errors
/// When `ids` is not u32, `table` not two-dimensional, or, on the CPU, an id is out of range; the message names the first such id.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (rows, d) = table.dims2()?;
    if ids.dtype() != DType::U32 {
        bail!("embedding: expected ids of dtype u32, found {}", ids.dtype().as_str());
    }
    let mut dims = ids.dims().to_vec();
    dims.push(d);
    if !fused(table) {
        return table.index_select(&ids.flatten_all()?, 0)?.reshape(dims);
    }
    let ids = ids.flatten_all()?.to_vec1::<u32>()?;
    if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= rows) {
        bail!("embedding: id {id} at position {at} is out of range for a table of {rows} rows");
    }
    table.contiguous()?.apply_op1(Embedding { ids, rows, d, shape: Shape::from(dims) })
}

struct Embedding {
    ids: Vec<u32>,
    rows: usize,
    d: usize,
    shape: Shape,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let d = self.d;
        let out = by_dtype!(self.name(), table.dtype(), T => {
            let table = storage_floats::<T>(table, layout)?;
            let mut out = Vec::with_capacity(self.ids.len() * d);
            for &id in &self.ids {
                out.extend_from_slice(&table[id as usize * d..][..d]);
            }
            T::to_cpu_storage_owned(out)
        });
        Ok((out, self.shape.clone()))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let d = self.d.max(1);
        by_dtype!(self.name(), table.dtype(), T => {
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let dys = floats::<T>(&dy_storage, dy_layout)?;
            let mut sums = vec![T::default(); self.rows * self.d];
            let threads = parallel::worth(size_of_val(dys));
            // A band of the table to each thread, which picks its own ids: each row is added to in the order of the ids.
            let band = if threads { self.rows.div_ceil(rayon::current_num_threads()).max(1) } else { self.rows.max(1) };
            parallel::for_chunks(&mut sums, band * d, threads, |i, sums| {
                let first = i * band;
                let rows = first..first + sums.len() / d;
                for (dy, &id) in dys.chunks_exact(d).zip(&self.ids) {
                    if rows.contains(&(id as usize)) {
                        for (sum, &dy) in sums[(id as usize - first) * d..][..d].iter_mut().zip(dy) {
                            *sum += dy;
                        }
                    }
                }
            });
            Ok(Some(Tensor::from_vec(sums, table.shape(), &Device::Cpu)?))
        })
    }
}
