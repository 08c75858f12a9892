use super::OptimizerKind;
use crate::cpu::blend::sum;
use crate::cpu::element::Element;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel};
use crate::{Row, blend};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor, Var, WithDType, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

const CHUNK: usize = 16384;
/// Elements of a gradient that are summed at a time.
const PIECE: usize = 2048;

/// An update rule with the numbers of one step filled in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// `p ← keep · p − rate · m / (√(v · unbias2) + eps)`, the first correction being part of `rate`.
    AdamW { beta1: f64, beta2: f64, eps: f64, keep: f64, rate: f64, unbias2: f64 },
    /// `p ← keep · p − rate · velocity`.
    Sgd { momentum: f64, keep: f64, rate: f64 },
}

impl Rule {
    /// `steps` counts this step.
    pub(super) fn new(kind: OptimizerKind, rate: f64, weight_decay: f64, steps: i64) -> Self {
        let keep = 1.0 - rate * weight_decay;
        match kind {
            OptimizerKind::AdamW { beta1, beta2, eps } => {
                let unbias = |beta: f64| 1.0 / (1.0 - beta.powf(steps as f64));
                Self::AdamW { beta1, beta2, eps, keep, rate: rate * unbias(beta1), unbias2: unbias(beta2) }
            }
            OptimizerKind::Sgd { momentum } => Self::Sgd { momentum, keep, rate },
        }
    }
}

/// A parameter's moments: plain vectors where the fused CPU update runs, tensors elsewhere.
#[derive(Debug)]
pub(super) enum Moments {
    F32(Vec<Vec<f32>>),
    F64(Vec<Vec<f64>>),
    /// On the parameter's device, f32 for the 16-bit types.
    Composed(Vec<Tensor>),
}

impl Moments {
    pub(super) fn zeros(var: &Var, count: usize) -> Result<Self> {
        let len = var.elem_count();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => Self::F32(vec![vec![0.0; len]; count]),
            (Device::Cpu, DType::F64) => Self::F64(vec![vec![0.0; len]; count]),
            (device, DType::F64 | DType::F32 | DType::BF16 | DType::F16) => {
                let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
                // Each with memory of its own.
                let moments = (0..count).map(|_| Tensor::zeros(var.shape(), dtype, device));
                Self::Composed(moments.collect::<Result<_>>()?)
            }
            (_, other) => bail!("expected a float, found {}", other.as_str()),
        })
    }

    pub(super) fn from_tensors(var: &Var, tensors: &[&Tensor]) -> Result<Self> {
        let flat = |t: &&Tensor| t.to_device(&Device::Cpu)?.flatten_all();
        Ok(match (var.device(), var.dtype()) {
            (Device::Cpu, DType::F32) => Self::F32(tensors.iter().map(|t| flat(t)?.to_vec1()).collect::<Result<_>>()?),
            (Device::Cpu, DType::F64) => Self::F64(tensors.iter().map(|t| flat(t)?.to_vec1()).collect::<Result<_>>()?),
            (device, _) => Self::Composed(
                tensors.iter().map(|t| t.detach().contiguous()?.to_device(device)?.copy()).collect::<Result<_>>()?,
            ),
        })
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Composed(tensors) => tensors.first().map_or(DType::F32, Tensor::dtype),
        }
    }

    pub(super) fn get(&self, i: usize, shape: &Shape) -> Result<Tensor> {
        match self {
            Self::F32(moments) => Tensor::from_slice(&moments[i], shape, &Device::Cpu),
            Self::F64(moments) => Tensor::from_slice(&moments[i], shape, &Device::Cpu),
            Self::Composed(moments) => moments[i].to_device(&Device::Cpu),
        }
    }

    /// Updates the variable and the moments along the sum of the terms, which fit and are contiguous.
    pub(super) fn step(&mut self, var: &Var, terms: &[(f64, Tensor)], rule: Rule) -> Result<()> {
        match self {
            Self::F32(moments) => update(var, terms, rule, moments),
            Self::F64(moments) => update(var, terms, rule, moments),
            Self::Composed(moments) => {
                if let [(c, grad)] = terms
                    && *c == 1.0
                {
                    return composed(var, grad, rule, moments);
                }
                let rows: Vec<[Option<Tensor>; 1]> = terms.iter().map(|(_, g)| [Some(g.clone())]).collect();
                let rows: Vec<Row<'_>> = rows.iter().map(<[_; 1]>::as_slice).collect();
                let coefficients: Vec<f64> = terms.iter().map(|(c, _)| *c).collect();
                let blended = blend(&rows, &coefficients)?.pop().flatten();
                blended.map_or(Ok(()), |grad| composed(var, &grad, rule, moments))
            }
        }
    }
}

/// The step as CUDA takes it, together with those of other parameters; `None` where it is to be taken alone.
#[cfg(feature = "cuda")]
pub(super) fn for_cuda(moments: &Moments, var: &Var, terms: &[(f64, Tensor)], rule: Rule) -> Option<crate::cuda::Step> {
    let (Device::Cuda(_), Rule::AdamW { keep, rate, unbias2, .. }) = (var.device(), rule) else { return None };
    let Moments::Composed(moments) = moments else { return None };
    let [first, second] = moments.as_slice() else { return None };
    let tensors = terms.iter().enumerate().map(|(i, (_, g))| (i, g.clone())).collect();
    Some(crate::cuda::Step {
        gradient: crate::rows::Slot { tensors, len: var.elem_count() },
        coefficients: terms.iter().map(|(c, _)| *c).collect(),
        parameter: var.as_detached_tensor(),
        moments: [first.clone(), second.clone()],
        keep,
        rate,
        unbias2,
    })
}

/// The rule in tensor operations, for GPUs and the 16-bit types.
fn composed(var: &Var, grad: &Tensor, rule: Rule, moments: &mut [Tensor]) -> Result<()> {
    let dtype = moments[0].dtype();
    let (p, g) = (var.as_detached_tensor().to_dtype(dtype)?, grad.to_dtype(dtype)?);
    let p = match rule {
        Rule::AdamW { beta1, beta2, eps, keep, rate, unbias2 } => {
            moments[0] = ((&moments[0] * beta1)? + (&g * (1.0 - beta1))?)?;
            moments[1] = ((&moments[1] * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
            let root = ((&moments[1] * unbias2)?.sqrt()? + eps)?;
            ((p * keep)? - ((&moments[0] * rate)? / root)?)?
        }
        Rule::Sgd { momentum, keep, rate } => {
            moments[0] = ((&moments[0] * momentum)? + g)?;
            ((p * keep)? - (&moments[0] * rate)?)?
        }
    };
    var.set(&p.to_dtype(var.dtype())?)
}

/// The rule in one pass over the variable, its moments, and every term.
fn update<T: Float>(var: &Var, terms: &[(f64, Tensor)], rule: Rule, moments: &mut [Vec<T>]) -> Result<()> {
    let guards: Vec<_> = terms.iter().map(|(c, g)| (*c, g.storage_and_layout())).collect();
    let mut terms = Vec::with_capacity(guards.len());
    for (c, (storage, layout)) in &guards {
        terms.push((*c, floats::<T>(storage, layout)?));
    }
    var.inplace_op1(&Update { rule, terms, moments: RefCell::new(moments) })
}

struct Update<'a, T> {
    rule: Rule,
    terms: Vec<(f64, &'a [T])>,
    moments: RefCell<&'a mut [Vec<T>]>,
}

impl<T: Float> InplaceOp1 for Update<'_, T> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, var: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous variable, found strides {:?}", layout.stride());
        };
        let p = &mut T::elements(var)?[start..end];
        let mut moments = self.moments.borrow_mut();
        let (rule, terms) = (self.rule, self.terms.as_slice());
        let passes = 2 * (1 + moments.len()) + terms.len();
        let threads = parallel::worth(size_of_val(p) * passes);
        let pieces = p.chunks_mut(CHUNK).enumerate();
        match (rule, &mut **moments) {
            (Rule::AdamW { .. }, [m, v]) => {
                run(pieces.zip(m.chunks_mut(CHUNK)).zip(v.chunks_mut(CHUNK)).collect(), threads, |(((i, p), m), v)| {
                    each_sum(terms, i * CHUNK, p.len(), |range, g| {
                        let (p, m, v) = (&mut p[range.clone()], &mut m[range.clone()], &mut v[range]);
                        dispatch(AdamW { rule, p, g, m, v });
                    });
                });
            }
            (Rule::Sgd { .. }, [velocity]) => {
                run(pieces.zip(velocity.chunks_mut(CHUNK)).collect(), threads, |((i, p), velocity)| {
                    each_sum(terms, i * CHUNK, p.len(), |range, g| {
                        let (p, velocity) = (&mut p[range.clone()], &mut velocity[range]);
                        dispatch(Sgd { rule, p, g, velocity });
                    });
                });
            }
            _ => bail!("the moments do not fit the rule"),
        }
        Ok(())
    }
}

/// `f` of the gradient from `start` on: whole where it is the one term, otherwise summed a piece at a time, which stays in the
/// nearest cache. Ranges count from `start`.
fn each_sum<T: Float>(terms: &[(f64, &[T])], start: usize, len: usize, mut f: impl FnMut(Range<usize>, &[T])) {
    if let [(c, g)] = terms
        && *c == 1.0
    {
        return f(0..len, &g[start..start + len]);
    }
    let mut room = [MaybeUninit::uninit(); PIECE];
    for from in (0..len).step_by(PIECE) {
        let to = len.min(from + PIECE);
        sum(&mut room[..to - from], terms, start + from, false);
        // SAFETY: `sum` has written each of them.
        f(from..to, unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), to - from) });
    }
}

fn run<W: Send>(work: Vec<W>, threads: bool, f: impl Fn(W) + Sync + Send) {
    if threads {
        work.into_par_iter().for_each(f);
    } else {
        work.into_iter().for_each(f);
    }
}

trait Float: Element {
    fn root(self) -> Self;
    fn elements(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! float {
    ($T:ident, $Variant:ident) => {
        impl Float for $T {
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }

            fn elements(storage: &mut CpuStorage) -> Result<&mut [Self]> {
                match storage {
                    CpuStorage::$Variant(data) => Ok(data),
                    _ => bail!("expected {}", Self::DTYPE.as_str()),
                }
            }
        }
    };
}
float!(f32, F32);
float!(f64, F64);

struct AdamW<'a, T> {
    rule: Rule,
    p: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
}

impl<T: Float> Kernel for AdamW<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Rule::AdamW { beta1, beta2, eps, keep, rate, unbias2 } = self.rule else {
            return;
        };
        let [gain1, gain2] = [1.0 - beta1, 1.0 - beta2].map(T::from_f64);
        let [beta1, beta2, eps, keep, rate, unbias2] = [beta1, beta2, eps, keep, rate, unbias2].map(T::from_f64);
        for (((p, &g), m), v) in self.p.iter_mut().zip(self.g).zip(self.m).zip(self.v) {
            *m = *m * beta1 + g * gain1;
            *v = *v * beta2 + g * g * gain2;
            *p = *p * keep - *m * rate / ((*v * unbias2).root() + eps);
        }
    }
}

struct Sgd<'a, T> {
    rule: Rule,
    p: &'a mut [T],
    g: &'a [T],
    velocity: &'a mut [T],
}

impl<T: Float> Kernel for Sgd<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Rule::Sgd { momentum, keep, rate } = self.rule else {
            return;
        };
        let [momentum, keep, rate] = [momentum, keep, rate].map(T::from_f64);
        for ((p, &g), velocity) in self.p.iter_mut().zip(self.g).zip(self.velocity) {
            *velocity = *velocity * momentum + g;
            *p = *p * keep - *velocity * rate;
        }
    }
}
