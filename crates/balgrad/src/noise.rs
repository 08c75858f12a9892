//! Gradient noise, for the one method that wants it.

use candle_core::{Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Gaussian noise like the first objective's gradient in size: `factor` times its sample standard deviation, per
/// tensor, seeded by what the step is.
pub(crate) fn noise(
    rows: &[Vec<Option<Tensor>>],
    factor: f64,
    key: (u64, usize, usize),
) -> Result<Vec<Option<Tensor>>> {
    let (seed, step, block) = key;
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let one = |(i, g): (usize, &Option<Tensor>)| {
        let Some(g) = g else { return Ok(None) };
        let flat = g.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
        let n = flat.len() as f64;
        let mean = flat.iter().map(|&v| f64::from(v)).sum::<f64>() / n.max(1.0);
        let variance = flat.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let deviation = (factor * variance.sqrt()) as f32;
        let mut bytes = [0u8; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip([seed, step as u64, block as u64, i as u64]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(bytes);
        let draw = || -> f32 { StandardNormal.sample(&mut rng) };
        let values: Vec<f32> = std::iter::repeat_with(draw).take(flat.len()).map(|v| v * deviation).collect();
        Tensor::from_vec(values, g.shape(), g.device())?.to_dtype(g.dtype()).map(Some)
    };
    first.iter().enumerate().map(one).collect()
}
