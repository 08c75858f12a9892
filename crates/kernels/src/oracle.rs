//! The same two kernels, slow and plain: everything in f64, one element at a time, no thread, no chunk.
//!
//! Tests hold the fast kernels of every device against these.

use crate::rows::Row;
use candle_core::{DType, Device, Result, Tensor};

/// [`gram`](crate::gram) by its definition.
///
/// # Errors
/// When a tensor cannot be read as f64, or two tensors of one slot differ in length.
pub fn gram(rows: &[Row<'_>]) -> Result<Vec<f64>> {
    let k = rows.len();
    let mut sums = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..k {
            for (a, b) in rows[i].iter().zip(rows[j]) {
                if let (Some(a), Some(b)) = (a, b) {
                    let (a, b) = (values(a)?, values(b)?);
                    if a.len() != b.len() {
                        candle_core::bail!("oracle: rows {i} and {j} differ: {} and {} elements", a.len(), b.len());
                    }
                    for (x, y) in a.iter().zip(&b) {
                        sums[i * k + j] += x * y;
                    }
                }
            }
        }
    }
    Ok(sums)
}

/// [`blend`](crate::blend) by its definition; the tensors returned are f64, on the CPU.
///
/// # Errors
/// When a tensor cannot be read as f64.
pub fn blend(rows: &[Row<'_>], coefficients: &[f64]) -> Result<Vec<Option<Tensor>>> {
    let width = rows.first().map_or(0, |row| row.len());
    let mut blended = Vec::with_capacity(width);
    for slot in 0..width {
        let mut sum: Option<(Vec<f64>, &Tensor)> = None;
        for (row, &c) in rows.iter().zip(coefficients) {
            let Some(tensor) = &row[slot] else { continue };
            let (sum, _) = sum.get_or_insert_with(|| (vec![0.0; tensor.elem_count()], tensor));
            if c == 0.0 {
                continue;
            }
            for (s, x) in sum.iter_mut().zip(values(tensor)?) {
                *s += c * x;
            }
        }
        blended.push(match sum {
            Some((sum, like)) => Some(Tensor::from_vec(sum, like.shape(), &Device::Cpu)?),
            None => None,
        });
    }
    Ok(blended)
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}
