//! Gradient clipping by the global norm.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use std::collections::HashSet;

/// Scales the gradients of `vars` so that their common Euclidean norm is at most `max_norm`, and returns the norm that they had
/// (Pascanu et al. 2013, [arXiv:1211.5063](https://arxiv.org/abs/1211.5063)).
///
/// Gradients within the bound keep their bits. So do those whose norm is infinite or NaN, for the caller to see. Variables
/// without a gradient count as zero.
///
/// # Errors
/// When gradients are not floats, or on different devices.
pub fn clip_grad_norm(grads: &mut GradStore, vars: &[Var], max_norm: f64) -> Result<f64> {
    let mut seen = HashSet::new();
    let vars: Vec<&Var> = vars.iter().filter(|var| seen.insert(var.as_tensor().id())).collect();
    let row: Vec<Option<Tensor>> = vars.iter().map(|var| grads.get(var.as_tensor()).cloned()).collect();
    let norm = balgrad_kernels::gram(&[&row])?[0].sqrt();
    if norm > max_norm && norm.is_finite() {
        for (var, gradient) in vars.into_iter().zip(balgrad_kernels::blend(&[&row], &[max_norm / norm])?) {
            if let Some(gradient) = gradient {
                grads.insert(var.as_tensor(), gradient);
            }
        }
    }
    Ok(norm)
}
