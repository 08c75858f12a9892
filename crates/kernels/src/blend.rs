use crate::cpu;
use crate::rows::{Row, slots};
use candle_core::{Device, Result, Tensor, bail};

/// One gradient out of many: `blend(rows, c)[slot] = Σ_i c[i] · rows[i][slot]`, summed in f64 in row order and rounded once.
///
/// A slot is `None` where no row has a gradient. A coefficient of exactly 0 skips its row: a NaN in it does not spread.
/// Where each gradient present is skipped the slot is a tensor of zeros; where the one row left has coefficient 1 it is that gradient itself,
/// without a copy. The bits depend on neither the number of threads nor the other slots.
///
/// # Errors
/// As [`gram`](crate::gram), and when there is not one coefficient per row.
pub fn blend(rows: &[Row<'_>], coefficients: &[f64]) -> Result<Vec<Option<Tensor>>> {
    if coefficients.len() != rows.len() {
        bail!("blend: expected one coefficient for each of {} rows, found {}", rows.len(), coefficients.len());
    }
    let slots = slots("blend", rows, |row| coefficients[row] != 0.0)?;
    let mut blended: Vec<Option<Tensor>> = Vec::with_capacity(slots.len());
    let mut work = Vec::new();
    for (j, slot) in slots.into_iter().enumerate() {
        blended.push(match slot {
            None => match rows.iter().find_map(|row| row[j].as_ref()) {
                Some(skipped) => Some(skipped.detach().zeros_like()?),
                None => None,
            },
            Some(slot) => match slot.tensors.as_slice() {
                [(row, only)] if coefficients[*row] == 1.0 => Some(only.detach()),
                _ => {
                    work.push((j, slot));
                    None
                }
            },
        });
    }
    let Some((_, first)) = work.first() else {
        return Ok(blended);
    };
    let results = match first.first().device().clone() {
        Device::Cpu => cpu::blend::blend(&work, coefficients)?,
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::cuda::blend(&device, &work, coefficients)?,
        #[cfg(feature = "metal")]
        Device::Metal(device) => crate::metal::blend(&device, &work, coefficients)?,
        #[allow(unreachable_patterns)]
        other => bail!("blend: no kernel for {:?} in this build", other.location()),
    };
    for ((j, _), tensor) in work.iter().zip(results) {
        blended[*j] = Some(tensor);
    }
    Ok(blended)
}
