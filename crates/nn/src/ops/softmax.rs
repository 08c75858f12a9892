use super::real::{Real, max, sum, sum2};
use super::{by_dtype, fused, last_dim, row_chunk, widened};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, WithDType};
use std::mem::MaybeUninit;

/// `e^x / Σ e^x` over the last dimension: rows of `[.., d]` that sum to 1. A row of −∞ alone gives NaN.
///
/// # Errors
/// When `x` is a scalar or not a float tensor.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let d = last_dim("softmax", x)?;
    if fused(x) {
        return x.contiguous()?.apply_op1(Softmax { d, log: false });
    }
    widened([x], |[x]| {
        let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
    })
}

/// `x − ln Σ e^x` over the last dimension of `[.., d]`, without overflow.
///
/// # Errors
/// When `x` is a scalar or not a float tensor.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let d = last_dim("log_softmax", x)?;
    if fused(x) {
        return x.contiguous()?.apply_op1(Softmax { d, log: true });
    }
    widened([x], |[x]| {
        let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
        x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
    })
}

struct Softmax {
    d: usize,
    log: bool,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(self.name(), storage.dtype(), T => {
            let x = storage_floats::<T>(storage, layout)?;
            let threads = parallel::worth(4 * size_of_val(x));
            // SAFETY: `Forward` writes each element of `out`.
            let out = unsafe {
                parallel::build(x.len(), row_chunk(self.d), threads, |start, out| {
                    dispatch(Forward { x: &x[start..start + out.len()], d: self.d, log: self.log, out });
                })
            };
            T::to_cpu_storage_owned(out)
        });
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        by_dtype!(self.name(), y.dtype(), T => {
            let (y_storage, y_layout) = y.storage_and_layout();
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let (ys, dys) = (floats::<T>(&y_storage, y_layout)?, floats::<T>(&dy_storage, dy_layout)?);
            let threads = parallel::worth(4 * size_of_val(ys));
            // SAFETY: `Backward` writes each element of `dx`.
            let dx = unsafe {
                parallel::build(ys.len(), row_chunk(self.d), threads, |start, dx| {
                    let range = start..start + dx.len();
                    dispatch(Backward { y: &ys[range.clone()], dy: &dys[range], d: self.d, log: self.log, dx });
                })
            };
            Ok(Some(Tensor::from_vec(dx, y.shape(), &Device::Cpu)?))
        })
    }
}

struct Forward<'a, T> {
    x: &'a [T],
    d: usize,
    log: bool,
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let d = self.d.max(1);
        let mut e = vec![T::zero(); if self.log { 0 } else { d }];
        for (x, out) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)) {
            let top = max(x);
            if self.log {
                let shift = top + sum(x, |x| (x - top).exp::<S>()).ln();
                for (out, &x) in out.iter_mut().zip(x) {
                    out.write(x - shift);
                }
            } else {
                for (e, &x) in e.iter_mut().zip(x) {
                    *e = (x - top).exp::<S>();
                }
                let scale = T::one() / sum(&e, |e| e);
                for (out, &e) in out.iter_mut().zip(&e) {
                    out.write(e * scale);
                }
            }
        }
    }
}

/// Softmax: `dx = y (dy − Σ dy y)`; its logarithm: `dx = dy − e^y Σ dy`.
struct Backward<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    d: usize,
    log: bool,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let d = self.d.max(1);
        for ((y, dy), dx) in self.y.chunks_exact(d).zip(self.dy.chunks_exact(d)).zip(self.dx.chunks_exact_mut(d)) {
            if self.log {
                let total = sum(dy, |dy| dy);
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    dx.write(dy - y.exp::<S>() * total);
                }
            } else {
                let total = sum2(y, dy, |y, dy| y * dy);
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    dx.write(y * (dy - total));
                }
            }
        }
    }
}
