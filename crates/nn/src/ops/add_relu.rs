use super::real::Real;
use super::{CHUNK, by_dtype, fused};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, WithDType, bail};

/// `max(a + b, 0)`, the end of a residual unit, for two tensors of one shape.
///
/// # Errors
/// When shapes or dtypes differ; the message names both.
pub fn add_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() || a.dtype() != b.dtype() {
        bail!("add_relu: {:?} {} and {:?} {} do not fit", a.dims(), a.dtype().as_str(), b.dims(), b.dtype().as_str());
    }
    if fused(a) { a.contiguous()?.apply_op2(&b.contiguous()?, AddRelu) } else { (a + b)?.relu() }
}

struct AddRelu;

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add_relu"
    }

    fn cpu_fwd(&self, a: &CpuStorage, al: &Layout, b: &CpuStorage, bl: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(self.name(), a.dtype(), T => {
            let (a, b) = (storage_floats::<T>(a, al)?, storage_floats::<T>(b, bl)?);
            T::to_cpu_storage_owned(by_pairs(a, b, true))
        });
        Ok((out, al.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        by_dtype!(self.name(), y.dtype(), T => {
            let ((ys, yl), (dys, dyl)) = (y.storage_and_layout(), dy.storage_and_layout());
            let dx = by_pairs(floats::<T>(&ys, yl)?, floats(&dys, dyl)?, false);
            let dx = Tensor::from_vec(dx, y.shape(), &Device::Cpu)?;
            Ok((Some(dx.clone()), Some(dx)))
        })
    }
}

fn by_pairs<T: Real>(a: &[T], b: &[T], forward: bool) -> Vec<T> {
    // SAFETY: `Pairs` writes each element of `out`.
    unsafe {
        parallel::build(a.len(), CHUNK, parallel::worth(3 * size_of_val(a)), |start, out| {
            let range = start..start + out.len();
            dispatch(Pairs { a: &a[range.clone()], b: &b[range], forward, out });
        })
    }
}

/// Forward: `max(a + b, 0)`; backward: `b` where `a > 0`, else 0.
struct Pairs<'a, T> {
    a: &'a [T],
    b: &'a [T],
    forward: bool,
    out: &'a mut [std::mem::MaybeUninit<T>],
}

impl<T: Real> Kernel for Pairs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let pairs = self.out.iter_mut().zip(self.a.iter().zip(self.b));
        if self.forward {
            pairs.for_each(|(out, (&a, &b))| {
                let sum = a + b;
                out.write(if sum < T::zero() { T::zero() } else { sum });
            });
        } else {
            pairs.for_each(|(out, (&a, &b))| {
                out.write(if a > T::zero() { b } else { T::zero() });
            });
        }
    }
}
