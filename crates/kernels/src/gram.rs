use crate::cpu;
use crate::rows::{Row, slots};
use candle_core::{Device, Result};

/// The inner products of a block's gradients: `[k, k]`, row-major, symmetric, summed in f64.
///
/// `gram(rows)[i * k + j] = Σ_slots ⟨rows[i][slot], rows[j][slot]⟩`. Every gradient is read once, whatever `k`. The order of
/// the sums depends on the shapes alone, so the result has the same bits under any number of threads. A missing gradient
/// counts as zero. A NaN or an infinity shows, by the rules of IEEE 754, in the entries of its row and column and in no other.
///
/// Tensors may be f32, f64, bf16 or f16 and need not be contiguous; on a GPU one launch serves all tensors of a dtype and
/// `k * k` numbers come back.
///
/// # Errors
/// Rows of different lengths; tensors of one slot that differ in shape, dtype or device. The message names row and tensor.
pub fn gram(rows: &[Row<'_>]) -> Result<Vec<f64>> {
    let k = rows.len();
    let slots: Vec<_> = slots("gram", rows, |_| true)?.into_iter().flatten().collect();
    let Some(first) = slots.first() else {
        return Ok(vec![0.0; k * k]);
    };
    match first.first().device() {
        Device::Cpu => cpu::gram::gram(k, &slots),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::cuda::gram(device, k, &slots),
        #[cfg(feature = "metal")]
        Device::Metal(device) => crate::metal::gram(device, k, &slots),
        #[allow(unreachable_patterns)]
        other => candle_core::bail!("gram: no kernel for {:?} in this build", other.location()),
    }
}
