//! How sure one may be of a difference: Student's t over seeds, Holm's correction, a paired bootstrap over test groups.
//!
//! Seeds and test samples are two sources of chance. The t test asks whether another seed would show the same
//! difference; the bootstrap, whether another test set would. A claim needs both.

mod bootstrap;
pub(crate) mod resampled;
mod student;

pub use bootstrap::{Bootstrap, interval};
pub use resampled::Resampled;
pub use student::{PairedT, paired_t, student_two_sided};

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
