//! Student's t over paired observations.

use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

use super::{mean, standard_deviation};

/// The result of a paired t test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedT {
    /// Mean of the differences.
    pub difference: f64,
    /// The statistic: the mean over its standard error.
    pub t: f64,
    /// Pairs less one.
    pub degrees: f64,
    /// Chance of a |t| as large when the true mean is 0.
    pub p: f64,
}

/// Paired, two-sided t test of `a − b`, one entry per seed.
///
/// `None` for fewer than two pairs, unequal lengths, values that are not finite, and differences that do not vary at
/// all: without spread the test has no scale to measure by.
pub fn paired_t(a: &[f64], b: &[f64]) -> Option<PairedT> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let difference = mean(&differences)?;
    let deviation = standard_deviation(&differences)?;
    let scale = differences.iter().fold(0.0f64, |m, d| m.max(d.abs()));
    // Equal differences differ by rounding alone.
    if !deviation.is_finite() || deviation <= 1e-12 * scale {
        return None;
    }
    let pairs = differences.len() as f64;
    let t = difference / (deviation / pairs.sqrt());
    let degrees = pairs - 1.0;
    Some(PairedT { difference, t, degrees, p: student_two_sided(t, degrees) })
}

/// P(|T| ≥ |t|) for Student's t with `degrees` of freedom; NaN for arguments outside.
pub fn student_two_sided(t: f64, degrees: f64) -> f64 {
    checked_beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t)).unwrap_or(f64::NAN)
}
