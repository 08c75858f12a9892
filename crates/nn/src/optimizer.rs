//! Optimisers whose state can be saved and restored, one file each.
//!
//! To add one: a file that implements [`Optimizer`], and its line in [`OPTIMIZERS`].

mod adamw;
mod clip;
mod fused;
mod sgd;

use crate::{Error, Result as NnResult};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use std::collections::HashMap;
use std::fmt::Debug;

pub use adamw::AdamW;
pub use clip::clip_grad_norm;
pub use sgd::Sgd;

/// Every optimiser, by name.
pub static OPTIMIZERS: &[&OptimizerEntry] = &[&adamw::ENTRY, &sgd::ENTRY];

/// A variable to train, and how.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Unique name; the key of its state, and what `step_scale` is asked for.
    pub name: String,
    /// The variable, updated in place.
    pub var: Var,
    /// Factor on the learning rate of a step.
    pub lr_scale: f64,
    /// Decoupled weight decay: each step first multiplies the parameter by `1 − rate · weight_decay`.
    pub weight_decay: f64,
}

impl Parameter {
    /// A variable at the full learning rate, without decay.
    pub fn new(name: impl Into<String>, var: Var) -> Self {
        Self { name: name.into(), var, lr_scale: 1.0, weight_decay: 0.0 }
    }
}

/// Steps a list of parameters along their gradients.
///
/// A parameter's rate is `lr · lr_scale · step_scale(name)`, for the gradient and for the decay. A parameter without a gradient is
/// left alone entirely: no decay, no change of its moments, no count of a step. A step has the same bits under any
/// number of threads.
pub trait Optimizer: Debug + Send {
    /// The parameters, in the order given.
    fn parameters(&self) -> Box<dyn Iterator<Item = &Parameter> + '_>;

    /// One step at learning rate `lr`; `step_scale(name)` is a parameter's own factor in this step.
    ///
    /// # Errors
    /// When a gradient does not fit its parameter; the message names it, and no parameter has been changed.
    fn step(&mut self, grads: &GradStore, lr: f64, step_scale: &dyn Fn(&str) -> f64) -> Result<()>;

    /// All that [`load_state`](Self::load_state) needs to go on with the same bits: for each parameter `name.steps` (i64, shape
    /// `[1]`) and the rule's moments in the parameter's shape (`name.first_moment` and so on), on the CPU. The parameters
    /// themselves are not in it.
    ///
    /// # Errors
    /// When a moment cannot be copied from its device.
    fn state(&self) -> Result<HashMap<String, Tensor>>;

    /// Goes back to a [`state`](Self::state).
    ///
    /// # Errors
    /// When an entry is missing, unknown, or of another shape or dtype; the message names it, and nothing has been changed.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()>;

    /// Forgets all steps: the optimiser is as when it was made. The parameters stay as they are.
    ///
    /// # Errors
    /// When the moments cannot be allocated.
    fn reset(&mut self) -> Result<()>;
}

type Make = fn(Vec<Parameter>, &[f64]) -> Result<Box<dyn Optimizer>>;

/// One row of [`OPTIMIZERS`].
#[derive(Debug)]
#[non_exhaustive]
pub struct OptimizerEntry {
    /// What it is called in a config.
    pub name: &'static str,
    /// One line on it.
    pub about: &'static str,
    /// Its settings beside learning rate and weight decay.
    pub settings: &'static [OptimizerSetting],
    /// Makes one, given a value for each setting in order.
    make: Make,
}

/// A number that an optimiser's rule asks for.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptimizerSetting {
    /// Its name.
    pub name: &'static str,
    /// One line on it.
    pub about: &'static str,
    /// Its usual value.
    pub default: f64,
}

impl OptimizerEntry {
    /// An optimiser of `parameters`, all moments zero; `given(name)` is the value of a setting, `None` for its default.
    ///
    /// # Errors
    /// When two parameters share a name or a variable, or a variable is not a float.
    pub fn build(&self, parameters: Vec<Parameter>, given: impl Fn(&str) -> Option<f64>) -> Result<Box<dyn Optimizer>> {
        let value = |setting: &OptimizerSetting| given(setting.name).unwrap_or(setting.default);
        (self.make)(parameters, &self.settings.iter().map(value).collect::<Vec<_>>())
    }
}

/// The entry of [`OPTIMIZERS`] called `name`.
///
/// # Errors
/// When there is none; the message lists the names that there are.
pub fn optimizer(name: &str) -> NnResult<&'static OptimizerEntry> {
    let found = OPTIMIZERS.iter().copied().find(|entry| entry.name == name);
    found.ok_or_else(|| Error::unknown("optimizer", name, OPTIMIZERS.iter().map(|entry| entry.name)))
}
