//! AdamW and SGD with momentum, fused: one pass over a parameter, its gradient and its moments.

mod rule;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rule::Moments;
use std::collections::{HashMap, HashSet};

/// Where an [`Optimizer`] finds gradients.
pub trait Gradients {
    /// The gradient of `var` as terms `(c, g)` of a sum `Σ c · g`, all in its shape, no `c` being 0 and no `g`
    /// a parameter; none where it has no gradient.
    fn terms(&self, var: &Var) -> Vec<(f64, &Tensor)>;
}

impl Gradients for GradStore {
    fn terms(&self, var: &Var) -> Vec<(f64, &Tensor)> {
        self.get(var).map(|gradient| (1.0, gradient)).into_iter().collect()
    }
}

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

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), moments corrected for bias.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// `velocity ← momentum · velocity + gradient`, `parameter ← parameter − rate · velocity`, as PyTorch's SGD.
    Sgd {
        /// Decay of the velocity; 0 is plain descent.
        momentum: f64,
    },
}

impl OptimizerKind {
    /// Names of the moments that the rule keeps for each parameter, which are keys of its state.
    fn moment_names(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW { .. } => &["first_moment", "second_moment"],
            Self::Sgd { .. } => &["velocity"],
        }
    }
}

/// Steps a list of parameters along their gradients.
///
/// A parameter's rate is `lr · lr_scale · step_scale(name)`, for the gradient and for the decay. A parameter without a gradient is
/// left alone entirely: no decay, no change of its moments, no count of a step. A step has the same bits under any
/// number of threads.
///
/// On the CPU, f32 and f64 parameters are updated in place in one pass, in which the terms of a gradient are summed as by
/// [`blend`](crate::blend), to the same bits. So does AdamW on CUDA, for all parameters in one launch. Elsewhere, and for the
/// CPU's 16-bit types, the same rule is composed of tensor operations. 16-bit parameters have moments in f32.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    parameter: Parameter,
    moments: Moments,
    /// Steps taken, for the bias correction.
    steps: i64,
}

impl Optimizer {
    /// An optimizer with all moments zero.
    ///
    /// # Errors
    /// When two parameters share a name or a variable, or a variable is not a float.
    pub fn new(parameters: Vec<Parameter>, kind: OptimizerKind) -> Result<Self> {
        let (mut names, mut vars) = (HashSet::new(), HashSet::new());
        let mut entries = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            if !names.insert(parameter.name.clone()) {
                bail!("optimizer: two parameters are named `{}`", parameter.name);
            }
            if !vars.insert(parameter.var.as_tensor().id()) {
                bail!("optimizer: parameter `{}` is the variable of an earlier one", parameter.name);
            }
            let moments = Moments::zeros(&parameter.var, kind.moment_names().len())
                .map_err(|error| error.context(format!("optimizer: parameter `{}`", parameter.name)))?;
            entries.push(Entry { parameter, moments, steps: 0 });
        }
        Ok(Self { kind, entries })
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.entries.iter().map(|entry| &entry.parameter)
    }

    /// One step at learning rate `lr`; `step_scale(name)` is a parameter's own factor in this step.
    ///
    /// # Errors
    /// When a gradient does not fit its parameter; the message names it, and no parameter has been changed.
    pub fn step(&mut self, grads: &impl Gradients, lr: f64, step_scale: &dyn Fn(&str) -> f64) -> Result<()> {
        let mut steps = Vec::with_capacity(self.entries.len());
        for Entry { parameter: Parameter { name, var, .. }, .. } in &self.entries {
            let terms = grads.terms(var);
            for (_, grad) in &terms {
                if grad.shape() != var.shape()
                    || grad.dtype() != var.dtype()
                    || !grad.device().same_device(var.device())
                {
                    bail!(
                        "optimizer: gradient of `{name}`: expected {:?} {} on {:?}, found {:?} {} on {:?}",
                        var.dims(),
                        var.dtype().as_str(),
                        var.device().location(),
                        grad.dims(),
                        grad.dtype().as_str(),
                        grad.device().location()
                    );
                }
            }
            steps.push(terms);
        }
        #[cfg(feature = "cuda")]
        let mut together = Vec::new();
        for (Entry { parameter, moments, steps }, terms) in self.entries.iter_mut().zip(steps) {
            if terms.is_empty() {
                continue;
            }
            let contiguous = |(c, grad): (f64, &Tensor)| Ok((c, grad.detach().contiguous()?));
            let terms = terms.into_iter().map(contiguous).collect::<Result<Vec<_>>>()?;
            *steps += 1;
            let rate = lr * parameter.lr_scale * step_scale(&parameter.name);
            let rule = rule::Rule::new(self.kind, rate, parameter.weight_decay, *steps);
            #[cfg(feature = "cuda")]
            if let Some(step) = rule::for_cuda(moments, &parameter.var, &terms, rule) {
                together.push(step);
                continue;
            }
            moments.step(&parameter.var, &terms, rule)?;
        }
        #[cfg(feature = "cuda")]
        if let OptimizerKind::AdamW { beta1, beta2, eps } = self.kind {
            crate::cuda::adamw(together, [beta1, beta2, eps])?;
        }
        Ok(())
    }

    /// All that [`load_state`](Self::load_state) needs to go on with the same bits: for each parameter `name.steps` (i64, shape
    /// `[1]`) and its moments in the parameter's shape (`name.first_moment` and `name.second_moment`, or `name.velocity`), on the CPU.
    /// The parameters themselves are not part of it.
    ///
    /// # Errors
    /// When a moment cannot be copied from its device.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for Entry { parameter, moments, steps } in &self.entries {
            state.insert(format!("{}.steps", parameter.name), Tensor::new(&[*steps], &Device::Cpu)?);
            for (i, moment) in self.kind.moment_names().iter().enumerate() {
                state.insert(format!("{}.{moment}", parameter.name), moments.get(i, parameter.var.shape())?);
            }
        }
        Ok(state)
    }

    /// Goes back to a [`state`](Self::state).
    ///
    /// # Errors
    /// When an entry is missing, unknown, or of another shape or dtype; the message names it, and nothing has been changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let get = |key: String, dtype: DType, shape: &[usize]| -> Result<&Tensor> {
            match state.get(&key) {
                None => bail!("optimizer state: `{key}` is missing"),
                Some(found) if found.dims() != shape || found.dtype() != dtype => bail!(
                    "optimizer state: `{key}`: expected {shape:?} {}, found {:?} {}",
                    dtype.as_str(),
                    found.dims(),
                    found.dtype().as_str()
                ),
                Some(found) => Ok(found),
            }
        };
        let mut loaded = Vec::with_capacity(self.entries.len());
        for Entry { parameter: Parameter { name, var, .. }, moments, .. } in &self.entries {
            let steps = get(format!("{name}.steps"), DType::I64, &[1])?.to_vec1::<i64>()?[0];
            let mut tensors = Vec::new();
            for moment in self.kind.moment_names() {
                tensors.push(get(format!("{name}.{moment}"), moments.dtype(), var.dims())?);
            }
            loaded.push((steps, Moments::from_tensors(var, &tensors)?));
        }
        let expected = self.entries.len() * (1 + self.kind.moment_names().len());
        if state.len() != expected {
            bail!("optimizer state: expected {expected} entries, found {}: it is of another model", state.len());
        }
        for (entry, (steps, moments)) in self.entries.iter_mut().zip(loaded) {
            (entry.steps, entry.moments) = (steps, moments);
        }
        Ok(())
    }
}
