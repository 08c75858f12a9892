//! A block's gradients laid out as rows (objectives) by slots (tensors), checked once.

use candle_core::{DType, Device, Result, Tensor, bail};

/// A block's gradients of one objective, one entry per parameter; `None` is no gradient, that is zero.
pub type Row<'a> = &'a [Option<Tensor>];

/// One parameter's gradients: the rows that have one, all of the same shape, dtype and device.
pub(crate) struct Slot {
    /// `(row, gradient)`, contiguous, in row order, never empty.
    pub(crate) tensors: Vec<(usize, Tensor)>,
    /// Elements of each tensor.
    pub(crate) len: usize,
}

impl Slot {
    /// The first gradient, which tells the shape, dtype and device of all.
    pub(crate) fn first(&self) -> &Tensor {
        &self.tensors[0].1
    }

    pub(crate) fn dtype(&self) -> DType {
        self.first().dtype()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len * self.tensors.len() * self.dtype().size_in_bytes()
    }
}

/// Turns rows into slots, `None` where no row has a gradient or where `keep` refuses each row that has one.
///
/// Errors name the row, the tensor, and what was expected and found.
pub(crate) fn slots(op: &str, rows: &[Row<'_>], keep: impl Fn(usize) -> bool) -> Result<Vec<Option<Slot>>> {
    let width = rows.first().map_or(0, |row| row.len());
    for (i, row) in rows.iter().enumerate() {
        if row.len() != width {
            bail!(
                "{op}: row {i} has {} tensors, row 0 has {width}: the rows of a block list the same parameters",
                row.len()
            );
        }
    }
    let mut block_device: Option<&Device> = None;
    let mut slots = Vec::with_capacity(width);
    for j in 0..width {
        let mut expected: Option<(usize, &Tensor)> = None;
        let mut tensors = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let Some(found) = &row[j] else { continue };
            let device = block_device.get_or_insert(found.device());
            if !device.same_device(found.device()) {
                bail!(
                    "{op}: row {i} tensor {j}: expected device {:?}, found {:?}",
                    device.location(),
                    found.device().location()
                );
            }
            let &mut (first, like) = expected.get_or_insert((i, found));
            if like.shape() != found.shape() || like.dtype() != found.dtype() {
                bail!(
                    "{op}: row {i} tensor {j}: expected {:?} {} as in row {first}, found {:?} {}",
                    like.dims(),
                    like.dtype().as_str(),
                    found.dims(),
                    found.dtype().as_str()
                );
            }
            if !matches!(found.dtype(), DType::F32 | DType::F64 | DType::BF16 | DType::F16) {
                bail!(
                    "{op}: row {i} tensor {j}: expected dtype f32, f64, bf16 or f16, found {}",
                    found.dtype().as_str()
                );
            }
            if keep(i) {
                tensors.push((i, found.contiguous()?));
            }
        }
        slots.push(match (expected, tensors.is_empty()) {
            (Some((_, like)), false) => Some(Slot { len: like.elem_count(), tensors }),
            _ => None,
        });
    }
    Ok(slots)
}
