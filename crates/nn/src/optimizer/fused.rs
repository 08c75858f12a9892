//! What the optimisers share: their state, checked gradients, and one pass over a parameter, its gradient and its moments.

use super::{Optimizer, Parameter};
use crate::cpu::element::Float;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, Var, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;

const CHUNK: usize = 16384;

/// An update rule with `N` moments for each parameter.
pub(super) trait Rule<const N: usize>: Debug + Send + Sync + 'static {
    /// Names of the moments, which are keys of the state.
    const MOMENTS: [&'static str; N];

    /// The rule with the numbers of one parameter's step filled in.
    type Step: Copy + Send + Sync;

    /// `steps` counts this step.
    fn at(&self, rate: f64, weight_decay: f64, steps: i64) -> Self::Step;

    /// The step over slices of one length. Implementations are `#[inline(always)]`, as [`Kernel::run`] is.
    fn update<T: Float>(step: Self::Step, p: &mut [T], g: &[T], moments: [&mut [T]; N]);

    /// The step in tensor operations, in the dtype of the moments; returns the new parameter.
    fn composed(step: Self::Step, p: Tensor, g: &Tensor, moments: &mut [Tensor; N]) -> Result<Tensor>;

    /// Takes the steps of all parameters on CUDA, where there is a kernel for that.
    #[cfg(feature = "cuda")]
    const ON_CUDA: Option<OnCuda<Self, N>> = None;
}

#[cfg(feature = "cuda")]
pub(super) type OnCuda<R, const N: usize> = fn(&R, Vec<Pending<<R as Rule<N>>::Step, N>>) -> Result<()>;

/// A parameter's step, to be taken together with others.
#[cfg(feature = "cuda")]
pub(super) struct Pending<S, const N: usize> {
    pub(super) gradient: Tensor,
    pub(super) parameter: Tensor,
    pub(super) moments: [Tensor; N],
    pub(super) step: S,
}

/// An optimiser by a [`Rule`].
#[derive(Debug)]
pub(super) struct Fused<R, const N: usize> {
    rule: R,
    entries: Vec<Entry<N>>,
}

#[derive(Debug)]
struct Entry<const N: usize> {
    parameter: Parameter,
    moments: Moments<N>,
    /// Steps taken, for the bias correction.
    steps: i64,
}

impl<R: Rule<N>, const N: usize> Fused<R, N> {
    /// With all moments zero.
    pub(super) fn new(rule: R, parameters: Vec<Parameter>) -> Result<Self> {
        let (mut names, mut vars) = (HashSet::new(), HashSet::new());
        let mut entries = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            if !names.insert(parameter.name.clone()) {
                bail!("optimizer: two parameters are named `{}`", parameter.name);
            }
            if !vars.insert(parameter.var.as_tensor().id()) {
                bail!("optimizer: parameter `{}` is the variable of an earlier one", parameter.name);
            }
            let moments = Moments::zeros(&parameter.var)
                .map_err(|error| error.context(format!("optimizer: parameter `{}`", parameter.name)))?;
            entries.push(Entry { parameter, moments, steps: 0 });
        }
        Ok(Self { rule, entries })
    }

    /// The gradient of each parameter that has one, checked and contiguous.
    fn gradients(&self, grads: &GradStore) -> Result<Vec<Option<Tensor>>> {
        let mut found = Vec::with_capacity(self.entries.len());
        for Entry { parameter: Parameter { name, var, .. }, .. } in &self.entries {
            let Some(grad) = grads.get(var) else {
                found.push(None);
                continue;
            };
            if grad.shape() != var.shape() || grad.dtype() != var.dtype() || !grad.device().same_device(var.device()) {
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
            found.push(Some(grad.detach().contiguous()?));
        }
        Ok(found)
    }
}

impl<R: Rule<N>, const N: usize> Optimizer for Fused<R, N> {
    fn parameters(&self) -> Box<dyn Iterator<Item = &Parameter> + '_> {
        Box::new(self.entries.iter().map(|entry| &entry.parameter))
    }

    fn step(&mut self, grads: &GradStore, lr: f64, step_scale: &dyn Fn(&str) -> f64) -> Result<()> {
        let gradients = self.gradients(grads)?;
        #[cfg(feature = "cuda")]
        let mut together = Vec::new();
        for (Entry { parameter, moments, steps }, gradient) in self.entries.iter_mut().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            *steps += 1;
            let rate = lr * parameter.lr_scale * step_scale(&parameter.name);
            let step = self.rule.at(rate, parameter.weight_decay, *steps);
            #[cfg(feature = "cuda")]
            if let (Some(_), Device::Cuda(_), Moments::Composed(moments)) =
                (R::ON_CUDA, parameter.var.device(), &*moments)
            {
                let (parameter, moments) = (parameter.var.as_detached_tensor(), moments.clone());
                together.push(Pending { gradient, parameter, moments, step });
                continue;
            }
            moments.step::<R>(&parameter.var, &gradient, step)?;
        }
        #[cfg(feature = "cuda")]
        if let Some(on_cuda) = R::ON_CUDA {
            on_cuda(&self.rule, together)?;
        }
        Ok(())
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for Entry { parameter, moments, steps } in &self.entries {
            state.insert(format!("{}.steps", parameter.name), Tensor::new(&[*steps], &Device::Cpu)?);
            for (i, moment) in R::MOMENTS.iter().enumerate() {
                state.insert(format!("{}.{moment}", parameter.name), moments.get(i, parameter.var.shape())?);
            }
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
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
            for moment in R::MOMENTS {
                tensors.push(get(format!("{name}.{moment}"), moments.dtype(), var.dims())?);
            }
            loaded.push((steps, Moments::from_tensors(var, &tensors)?));
        }
        let expected = self.entries.len() * (1 + N);
        if state.len() != expected {
            bail!("optimizer state: expected {expected} entries, found {}: it is of another model", state.len());
        }
        for (entry, (steps, moments)) in self.entries.iter_mut().zip(loaded) {
            (entry.steps, entry.moments) = (steps, moments);
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<()> {
        for entry in &mut self.entries {
            (entry.steps, entry.moments) = (0, Moments::zeros(&entry.parameter.var)?);
        }
        Ok(())
    }
}

/// A parameter's moments: plain vectors where the fused CPU update runs, tensors elsewhere.
#[derive(Debug)]
enum Moments<const N: usize> {
    F32([Vec<f32>; N]),
    F64([Vec<f64>; N]),
    /// On the parameter's device, f32 for the 16-bit types.
    Composed([Tensor; N]),
}

impl<const N: usize> Moments<N> {
    fn zeros(var: &Var) -> Result<Self> {
        let len = var.elem_count();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => Self::F32(std::array::from_fn(|_| vec![0.0; len])),
            (Device::Cpu, DType::F64) => Self::F64(std::array::from_fn(|_| vec![0.0; len])),
            (device, DType::F64 | DType::F32 | DType::BF16 | DType::F16) => {
                let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                // Each with memory of its own.
                Self::Composed(collected((0..N).map(|_| Tensor::zeros(var.shape(), dtype, device)))?)
            }
            (_, other) => bail!("expected a float, found {}", other.as_str()),
        })
    }

    fn from_tensors(var: &Var, tensors: &[&Tensor]) -> Result<Self> {
        let flat = |t: &Tensor| t.to_device(&Device::Cpu)?.flatten_all();
        let tensors = tensors.iter();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => Self::F32(collected(tensors.map(|t| flat(t)?.to_vec1()))?),
            (Device::Cpu, DType::F64) => Self::F64(collected(tensors.map(|t| flat(t)?.to_vec1()))?),
            (device, _) => {
                Self::Composed(collected(tensors.map(|t| t.detach().contiguous()?.to_device(device)?.copy()))?)
            }
        })
    }

    fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Composed(tensors) => tensors.first().map_or(DType::F32, Tensor::dtype),
        }
    }

    fn get(&self, i: usize, shape: &Shape) -> Result<Tensor> {
        match self {
            Self::F32(moments) => Tensor::from_slice(&moments[i], shape, &Device::Cpu),
            Self::F64(moments) => Tensor::from_slice(&moments[i], shape, &Device::Cpu),
            Self::Composed(moments) => moments[i].to_device(&Device::Cpu),
        }
    }

    /// Updates the variable and the moments along a gradient that fits and is contiguous.
    fn step<R: Rule<N>>(&mut self, var: &Var, gradient: &Tensor, step: R::Step) -> Result<()> {
        match self {
            Self::F32(moments) => update::<R, f32, N>(var, gradient, step, moments),
            Self::F64(moments) => update::<R, f64, N>(var, gradient, step, moments),
            Self::Composed(moments) => {
                let dtype = moments.first().map_or(DType::F32, Tensor::dtype);
                let (p, g) = (var.as_detached_tensor().to_dtype(dtype)?, gradient.to_dtype(dtype)?);
                var.set(&R::composed(step, p, &g, moments)?.to_dtype(var.dtype())?)
            }
        }
    }
}

/// `N` results as an array.
fn collected<T: Debug, const N: usize>(items: impl Iterator<Item = Result<T>>) -> Result<[T; N]> {
    let items: Vec<T> = items.collect::<Result<_>>()?;
    match <[T; N]>::try_from(items) {
        Ok(array) => Ok(array),
        Err(items) => bail!("expected {N} moments, found {}", items.len()),
    }
}

/// One pass over the variable, its gradient and its moments.
fn update<R: Rule<N>, T: Float, const N: usize>(
    var: &Var,
    gradient: &Tensor,
    step: R::Step,
    moments: &mut [Vec<T>; N],
) -> Result<()> {
    let (storage, layout) = gradient.storage_and_layout();
    let gradient = floats::<T>(&storage, layout)?;
    var.inplace_op1(&Update::<R, T, N> { step, gradient, moments: RefCell::new(moments) })
}

struct Update<'a, R: Rule<N>, T, const N: usize> {
    step: R::Step,
    gradient: &'a [T],
    moments: RefCell<&'a mut [Vec<T>; N]>,
}

impl<R: Rule<N>, T: Float, const N: usize> InplaceOp1 for Update<'_, R, T, N> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, var: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous variable, found strides {:?}", layout.stride());
        };
        let p = &mut T::elements(var)?[start..end];
        let threads = parallel::worth(size_of_val(p) * (2 * (1 + N) + 1));
        let mut moments = self.moments.borrow_mut();
        let mut moments = moments.each_mut().map(|moment| moment.chunks_mut(CHUNK));
        let chunks = p.chunks_mut(CHUNK).zip(self.gradient.chunks(CHUNK));
        let chunk = |(p, g)| {
            let moments = moments.each_mut().map(|chunks| chunks.next().unwrap_or_default());
            OneChunk::<R, T, N> { step: self.step, p, g, moments }
        };
        let chunks = chunks.map(chunk).collect::<Vec<_>>();
        if threads {
            chunks.into_par_iter().for_each(dispatch);
        } else {
            chunks.into_iter().for_each(dispatch);
        }
        Ok(())
    }
}

struct OneChunk<'a, R: Rule<N>, T, const N: usize> {
    step: R::Step,
    p: &'a mut [T],
    g: &'a [T],
    moments: [&'a mut [T]; N],
}

impl<R: Rule<N>, T: Float, const N: usize> Kernel for OneChunk<'_, R, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        R::update(self.step, self.p, self.g, self.moments);
    }
}
