//! Scores of numbers.

use super::Measured;

/// Mean absolute error, averaged over the numbers of a sample.
pub(super) fn mae(measured: &Measured) -> Option<f64> {
    let samples = measured.samples() as f64;
    measured.mean(|n| Some(measured.column(n).map(|(p, y)| (p - y).abs()).sum::<f64>() / samples))
}

/// Root of the mean squared error, averaged over the numbers of a sample.
pub(super) fn rmse(measured: &Measured) -> Option<f64> {
    let samples = measured.samples() as f64;
    measured.mean(|n| Some((measured.column(n).map(|(p, y)| (p - y).powi(2)).sum::<f64>() / samples).sqrt()))
}

/// The fraction of the truth's variance that is explained, averaged over the numbers whose truth varies.
pub(super) fn r2(measured: &Measured) -> Option<f64> {
    measured.mean(|n| {
        let middle = measured.column(n).map(|(_, y)| y).sum::<f64>() / measured.samples() as f64;
        let spread: f64 = measured.column(n).map(|(_, y)| (y - middle).powi(2)).sum();
        let error: f64 = measured.column(n).map(|(p, y)| (p - y).powi(2)).sum();
        (spread > 0.0).then(|| 1.0 - error / spread)
    })
}

/// Pearson's correlation, averaged over the numbers of which both prediction and truth vary.
pub(super) fn pearson(measured: &Measured) -> Option<f64> {
    let samples = measured.samples() as f64;
    measured.mean(|n| {
        let pairs = measured.column(n);
        let sum = |of: fn((f64, f64)) -> f64| pairs.clone().map(of).sum::<f64>() / samples;
        let (p_mean, y_mean) = (sum(|(p, _)| p), sum(|(_, y)| y));
        let (mut pp, mut yy, mut py) = (0.0, 0.0, 0.0);
        for (p, y) in pairs.clone() {
            let (p, y) = (p - p_mean, y - y_mean);
            (pp, yy, py) = (pp + p * p, yy + y * y, py + p * y);
        }
        // Roots first: the product of two small sums may vanish.
        let norm = f64::sqrt(pp) * f64::sqrt(yy);
        (norm > 0.0).then(|| (py / norm).clamp(-1.0, 1.0))
    })
}
