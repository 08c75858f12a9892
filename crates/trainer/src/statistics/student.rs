//! Student's t.

use statrs::function::beta::checked_beta_reg;

/// P(|T| ≥ |t|) for Student's t with `degrees` of freedom; NaN for arguments outside.
pub fn student_two_sided(t: f64, degrees: f64) -> f64 {
    checked_beta_reg(degrees / 2.0, 0.5, degrees / (degrees + t * t)).unwrap_or(f64::NAN)
}
