//! Stochastic gradient descent with momentum.

use super::fused::{Fused, Rule};
use super::{Optimizer, OptimizerEntry, OptimizerSetting, Parameter};
use crate::cpu::element::Float;
use candle_core::{Result, Tensor};

pub(super) static ENTRY: OptimizerEntry = OptimizerEntry {
    name: "sgd",
    about: "stochastic gradient descent with momentum, as PyTorch's",
    settings: &[OptimizerSetting {
        name: "momentum",
        about: "decay of the velocity; 0 is plain descent",
        default: 0.9,
    }],
    make: |parameters, values| Sgd { momentum: values[0] }.over(parameters),
};

/// `velocity ← momentum · velocity + gradient`, `parameter ← parameter − rate · velocity`, as PyTorch's SGD, with decoupled
/// weight decay.
///
/// On the CPU, f32 and f64 parameters are updated in place in one pass over memory. Elsewhere, and for the CPU's 16-bit types,
/// the same rule is composed of tensor operations. 16-bit parameters have their velocity in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Decay of the velocity; 0 is plain descent.
    pub momentum: f64,
}

impl Sgd {
    /// An optimiser of `parameters`, all velocities zero.
    ///
    /// # Errors
    /// When two parameters share a name or a variable, or a variable is not a float.
    pub fn over(self, parameters: Vec<Parameter>) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Fused::new(self, parameters)?))
    }
}

/// `p ← keep · p − rate · velocity`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    momentum: f64,
    keep: f64,
    rate: f64,
}

impl Rule<1> for Sgd {
    const MOMENTS: [&'static str; 1] = ["velocity"];
    type Step = Step;

    fn at(&self, rate: f64, weight_decay: f64, _: i64) -> Step {
        Step { momentum: self.momentum, keep: 1.0 - rate * weight_decay, rate }
    }

    #[inline(always)]
    fn update<T: Float>(step: Step, p: &mut [T], g: &[T], [velocity]: [&mut [T]; 1]) {
        let [momentum, keep, rate] = [step.momentum, step.keep, step.rate].map(T::from_f64);
        for ((p, &g), velocity) in p.iter_mut().zip(g).zip(velocity) {
            *velocity = *velocity * momentum + g;
            *p = *p * keep - *velocity * rate;
        }
    }

    fn composed(step: Step, p: Tensor, g: &Tensor, [velocity]: &mut [Tensor; 1]) -> Result<Tensor> {
        *velocity = ((&*velocity * step.momentum)? + g)?;
        (p * step.keep)? - (&*velocity * step.rate)?
    }
}
