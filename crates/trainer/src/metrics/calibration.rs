//! Whether probabilities mean what they say.

use super::{Task, decide};

/// Equal bins of confidence in the expected calibration error.
pub const BINS: usize = 15;

/// Expected calibration error: Σ_bins (share of the bin) · |mean confidence − share that is right|, bins `(lo, hi]`.
///
/// One decision per sample (its most probable class), or one per sample and label for multi-label tasks, where the
/// confidence is the label's probability. `None` without a sample.
pub fn expected_calibration_error<P: Copy + Into<f64>>(
    task: Task,
    probs: &[Vec<P>],
    labels: &[Vec<u32>],
) -> Option<f64> {
    let mut bins = [(0.0f64, 0.0f64); BINS]; // sum of confidence, number right
    let mut total = 0usize;
    let mut add = |confidence: f64, right: bool| {
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += confidence;
        bins[bin].1 += f64::from(u8::from(right));
        total += 1;
    };
    for (row, truth) in probs.iter().zip(labels) {
        if task == Task::MultiLabel {
            (0u32..).zip(row).for_each(|(class, &p)| add(p.into(), truth.contains(&class)));
        } else {
            decide(task, row).iter().for_each(|&class| add(row[class as usize].into(), truth.contains(&class)));
        }
    }
    (total > 0).then(|| bins.iter().map(|(sum, right)| (sum - right).abs()).sum::<f64>() / total as f64)
}

/// Brier score in [0, 1]: half the mean squared distance to the one-hot truth, or for multi-label tasks the mean
/// squared error per label. `None` without a sample.
pub fn brier<P: Copy + Into<f64>>(task: Task, probs: &[Vec<P>], labels: &[Vec<u32>]) -> Option<f64> {
    let classes = probs.first()?.len();
    let error = |row: &[P], truth: &[u32]| -> f64 {
        let one = |(class, &p): (u32, &P)| (p.into() - f64::from(u8::from(truth.contains(&class)))).powi(2);
        (0u32..).zip(row).map(one).sum()
    };
    let sum: f64 = probs.iter().zip(labels).map(|(row, truth)| error(row, truth)).sum();
    let parts = if task == Task::MultiLabel { classes as f64 } else { 2.0 };
    Some(sum / parts / probs.len() as f64)
}
