//! Whether probabilities hold what they promise.

use super::{Classified, Task, argmax};

/// Equal bins of confidence in the expected calibration error.
const BINS: usize = 15;

/// Expected calibration error: Σ_bins (fraction in the bin) · |mean confidence − fraction that is right|, bins `(lo, hi]`.
///
/// One decision per sample (its most probable class), or one per sample and label for multi-label tasks, where the
/// confidence is the label's probability.
pub(super) fn ece(scored: &Classified<'_>) -> Option<f64> {
    let mut bins = [(0.0f64, 0.0f64); BINS]; // sum of confidence, number right
    let mut total = 0usize;
    let mut add = |confidence: f64, right: bool| {
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += confidence;
        bins[bin].1 += f64::from(u8::from(right));
        total += 1;
    };
    for (row, truth) in scored.samples() {
        if scored.form == Task::MultiLabel {
            (0u32..).zip(row).for_each(|(class, &p)| add(p, truth.contains(&class)));
        } else if let Some(class) = argmax(row) {
            add(row[class], truth.contains(&(class as u32)));
        }
    }
    (total > 0).then(|| bins.iter().map(|(sum, right)| (sum - right).abs()).sum::<f64>() / total as f64)
}

/// Brier score in [0, 1]: half the mean squared distance to the one-hot truth, or for multi-label tasks the mean
/// squared error per label.
pub(super) fn brier(scored: &Classified<'_>) -> Option<f64> {
    let error = |(row, truth): (&[f64], &[u32])| -> f64 {
        (0u32..).zip(row).map(|(class, &p)| (p - f64::from(u8::from(truth.contains(&class)))).powi(2)).sum()
    };
    let sum: f64 = scored.samples().map(error).sum();
    let parts = if scored.form == Task::MultiLabel { scored.classes as f64 } else { 2.0 };
    Some(sum / parts / scored.labels.len() as f64)
}
