use super::real::Real;
use super::{CHUNK, by_dtype, fused, wide};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use std::mem::MaybeUninit;

/// The Gaussian error linear unit `x Φ(x)`, exact (not the tanh form), of any shape.
///
/// # Errors
/// When `x` is not a float tensor.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        x.contiguous()?.apply_op1(Gelu)
    } else {
        x.to_dtype(wide(x.dtype()))?.gelu_erf()?.to_dtype(x.dtype())
    }
}

/// `gelu(x)`.
pub(super) fn gelu_of<T: Real>(x: &[T]) -> Vec<T> {
    let threads = parallel::worth(8 * size_of_val(x));
    // SAFETY: `Forward` writes each element of `out`.
    unsafe {
        parallel::build(x.len(), CHUNK, threads, |start, out| {
            dispatch(Forward { x: &x[start..start + out.len()], out });
        })
    }
}

/// `gelu(x)`; `dx` is multiplied by the derivative.
pub(super) fn gelu_and_gradient<T: Real>(x: &[T], dx: &mut [T]) -> Vec<T> {
    let threads = parallel::worth(8 * size_of_val(x));
    // SAFETY: `Both` writes each element of `out`.
    unsafe {
        parallel::build_beside(dx, CHUNK, threads, |start, dx, out| {
            dispatch(Both { x: &x[start..start + out.len()], dx, out });
        })
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(self.name(), storage.dtype(), T => {
            let x = storage_floats::<T>(storage, layout)?;
            <T as candle_core::WithDType>::to_cpu_storage_owned(gelu_of(x))
        });
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        by_dtype!(self.name(), x.dtype(), T => {
            let (x_storage, x_layout) = x.storage_and_layout();
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let (xs, dys) = (floats::<T>(&x_storage, x_layout)?, floats::<T>(&dy_storage, dy_layout)?);
            let threads = parallel::worth(8 * size_of_val(xs));
            // SAFETY: `Backward` writes each element of `dx`.
            let dx = unsafe {
                parallel::build(xs.len(), CHUNK, threads, |start, dx| {
                    let range = start..start + dx.len();
                    dispatch(Backward { x: &xs[range.clone()], dy: &dys[range], dx });
                })
            };
            Ok(Some(Tensor::from_vec(dx, x.shape(), &Device::Cpu)?))
        })
    }
}

struct Forward<'a, T> {
    x: &'a [T],
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            out.write(x * x.gaussian::<S>().0);
        }
    }
}

/// `dx = dy (Φ(x) + x φ(x))`.
struct Backward<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for ((dx, &x), &dy) in self.dx.iter_mut().zip(self.x).zip(self.dy) {
            let (cdf, pdf) = x.gaussian::<S>();
            dx.write(dy * x.multiply_add::<S>(pdf, cdf));
        }
    }
}

struct Both<'a, T> {
    x: &'a [T],
    dx: &'a mut [T],
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Both<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for ((out, dx), &x) in self.out.iter_mut().zip(self.dx).zip(self.x) {
            let (cdf, pdf) = x.gaussian::<S>();
            out.write(x * cdf);
            *dx *= x.multiply_add::<S>(pdf, cdf);
        }
    }
}
