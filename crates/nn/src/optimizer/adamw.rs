//! Adam with decoupled weight decay.

use super::fused::{Fused, Rule};
use super::{Optimizer, OptimizerEntry, OptimizerSetting, Parameter};
use crate::cpu::element::Float;
use candle_core::{Result, Tensor};

pub(super) static ENTRY: OptimizerEntry = OptimizerEntry {
    name: "adamw",
    about: "Adam with decoupled weight decay (Loshchilov & Hutter 2019)",
    settings: &[
        OptimizerSetting { name: "beta1", about: "decay of the first moment", default: 0.9 },
        OptimizerSetting { name: "beta2", about: "decay of the second moment", default: 0.999 },
        OptimizerSetting { name: "eps", about: "added to the root of the second moment", default: 1e-8 },
    ],
    make: |parameters, values| AdamW { beta1: values[0], beta2: values[1], eps: values[2] }.over(parameters),
};

/// Adam with decoupled weight decay: algorithm 2 of Loshchilov & Hutter 2019 ([arXiv:1711.05101](https://arxiv.org/abs/1711.05101)),
/// both moments corrected for bias.
///
/// On the CPU, f32 and f64 parameters are updated in place in one pass over memory. On CUDA all parameters of a dtype take one
/// launch. On Metal, and for the CPU's 16-bit types, the same rule is composed of tensor operations. 16-bit parameters have
/// moments in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamW {
    /// The usual numbers: 0.9, 0.999, 1e-8.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl AdamW {
    /// An optimiser of `parameters`, all moments zero.
    ///
    /// # Errors
    /// When two parameters share a name or a variable, or a variable is not a float.
    pub fn over(self, parameters: Vec<Parameter>) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Fused::new(self, parameters)?))
    }
}

/// `p ← keep · p − rate · m / (√(v · unbias2) + eps)`, the first correction being part of `rate`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    rule: AdamW,
    keep: f64,
    rate: f64,
    unbias2: f64,
}

impl Rule<2> for AdamW {
    const MOMENTS: [&'static str; 2] = ["first_moment", "second_moment"];
    type Step = Step;

    fn at(&self, rate: f64, weight_decay: f64, steps: i64) -> Step {
        let unbias = |beta: f64| 1.0 / (1.0 - beta.powf(steps as f64));
        let keep = 1.0 - rate * weight_decay;
        Step { rule: *self, keep, rate: rate * unbias(self.beta1), unbias2: unbias(self.beta2) }
    }

    #[inline(always)]
    fn update<T: Float>(step: Step, p: &mut [T], g: &[T], [m, v]: [&mut [T]; 2]) {
        let Step { rule: AdamW { beta1, beta2, eps }, keep, rate, unbias2 } = step;
        let [gain1, gain2] = [1.0 - beta1, 1.0 - beta2].map(T::from_f64);
        let [beta1, beta2, eps, keep, rate, unbias2] = [beta1, beta2, eps, keep, rate, unbias2].map(T::from_f64);
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m = *m * beta1 + g * gain1;
            *v = *v * beta2 + g * g * gain2;
            *p = *p * keep - *m * rate / ((*v * unbias2).root() + eps);
        }
    }

    fn composed(step: Step, p: Tensor, g: &Tensor, [m, v]: &mut [Tensor; 2]) -> Result<Tensor> {
        let Step { rule: AdamW { beta1, beta2, eps }, keep, rate, unbias2 } = step;
        *m = ((&*m * beta1)? + (g * (1.0 - beta1))?)?;
        *v = ((&*v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
        let root = ((&*v * unbias2)?.sqrt()? + eps)?;
        (p * keep)? - ((&*m * rate)? / root)?
    }

    #[cfg(feature = "cuda")]
    const ON_CUDA: Option<super::fused::OnCuda<Self, 2>> = Some(|rule, pending| {
        let step = |pending: super::fused::Pending<Step, 2>| {
            let super::fused::Pending { gradient, parameter, moments, step: Step { keep, rate, unbias2, .. } } =
                pending;
            crate::cuda::Step { gradient, parameter, moments, keep, rate, unbias2 }
        };
        crate::cuda::adamw(pending.into_iter().map(step).collect(), [rule.beta1, rule.beta2, rule.eps])
    });
}
