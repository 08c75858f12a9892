//! How sure one may be of a difference: one interval and one p-value from a crossed bootstrap, corrected by Holm.
//!
//! Seeds and test samples are two sources of chance, and a claim has to stand against both: both are drawn. Holm's
//! correction and not the largest t of each draw: it holds whatever ties the comparisons together, and asks nothing of
//! far tails that a handful of seeds cannot show.

mod bootstrap;
mod crossed;
pub(crate) mod resampled;

pub use bootstrap::Bootstrap;
pub use crossed::{Crossed, Grade, crossed};
pub use resampled::Resampled;

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (n − 1 in the denominator); `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Holm's step-down adjustment of a family of p-values, in the order given: the i-th smallest of m is multiplied by
/// m − i, results never decrease along that order, and 1 is the most (Holm 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = least;
    }
    adjusted
}
