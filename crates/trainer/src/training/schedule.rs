//! The learning rate over a run, and the length of a gradient.

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Var};

use crate::config::{Optimization, Schedule};

/// The learning rate at a step of `total`: a linear rise to the peak over the first fraction of them, rounded down, then the
/// schedule's fall.
pub(super) fn learning_rate(config: &Optimization, step: f64, total: f64) -> f64 {
    let (peak, warm) = (config.lr, (config.warmup_ratio * total).floor());
    if step < warm {
        return peak * (step + 1.0) / warm;
    }
    let done = ((step - warm) / (total - warm).max(1.0)).min(1.0);
    match config.schedule {
        Schedule::Cosine => peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        Schedule::Linear => peak * (1.0 - done),
        Schedule::Constant => peak,
    }
}

/// Scales all gradients down to a common norm of `limit`, where it is larger; returns the norm that it was.
pub(super) fn clip_grad_norm(gradients: &mut GradStore, vars: &[Var], limit: f64) -> Result<f64> {
    let mut squared = 0.0;
    for gradient in vars.iter().filter_map(|var| gradients.get(var)) {
        squared += gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    let norm = squared.sqrt();
    if norm > limit && norm.is_finite() {
        for var in vars {
            if let Some(gradient) = gradients.remove(var) {
                gradients.insert(var, (gradient * (limit / norm))?);
            }
        }
    }
    Ok(norm)
}
