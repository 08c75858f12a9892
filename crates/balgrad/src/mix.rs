//! A method's answer: how much of each objective's gradient goes into each block.

use serde::Serialize;

use crate::{BlockInfo, Role};

/// Coefficients for one step: the gradient of block `b` is `Σ_i coefficients[b][i] · g_i,b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// `[blocks][objectives]`.
    pub coefficients: Vec<Vec<f64>>,
    /// Per block a factor on the learning rate, for optimisers that cancel a factor on the gradient (Adam).
    pub step_scale: Vec<f64>,
    /// Standard deviations of zero-mean Gaussian noise added to each tower tensor's gradient, in units of that
    /// (unmixed first) gradient's own standard deviation: 0 for every method but OGM-GE.
    pub noise: f64,
    /// Each modality's share `w_m` (mean 1), for the log.
    pub shares: Option<Vec<f64>>,
    /// Each modality's conflict between task and KL gradient, for the log.
    pub conflict: Option<Vec<Conflict>>,
}

impl Mix {
    /// The same coefficients for every block.
    pub fn uniform(blocks: &[BlockInfo], coefficients: &[f64]) -> Self {
        Self {
            coefficients: vec![coefficients.to_vec(); blocks.len()],
            step_scale: vec![1.0; blocks.len()],
            noise: 0.0,
            shares: None,
            conflict: None,
        }
    }

    /// Multiplies every tower of modality `m` by `factors[m]` (1 where it has none): on its gradient, or on its
    /// learning rate if `on_step`.
    #[must_use]
    pub fn scale_towers(mut self, blocks: &[BlockInfo], factors: &[f64], on_step: bool) -> Self {
        for (b, block) in blocks.iter().enumerate() {
            if let Role::Tower(m) = block.role {
                let factor = factors.get(m).copied().unwrap_or(1.0);
                if on_step {
                    self.step_scale[b] *= factor;
                } else {
                    self.coefficients[b].iter_mut().for_each(|c| *c *= factor);
                }
            }
        }
        self
    }
}

/// How task and KL gradient meet in one modality's tower, before and after projection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Conflict {
    /// Cosine between the task gradient and the KL gradient; `None` where one of them is zero.
    pub before: Option<f64>,
    /// The same for the projected task gradient; `before` where nothing was projected.
    pub after: Option<f64>,
}
