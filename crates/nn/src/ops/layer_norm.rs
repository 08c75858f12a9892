use super::real::{Real, sum, sum2};
use super::{by_dtype, fused, last_dim, row_chunk, wide};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Device, Layout, Result, Shape, Tensor, WithDType, bail};
use std::mem::MaybeUninit;

/// `(x − mean) / √(variance + eps) · weight + bias` over the last dimension of `x`: `[.., d]`, with `weight` and `bias`: `[d]`.
///
/// # Errors
/// When the shapes or dtypes do not fit; the message names both.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let d = last_dim("layer_norm", x)?;
    if weight.dims() != [d] || bias.dims() != [d] {
        bail!(
            "layer_norm: expected weight and bias of shape [{d}] for x {:?}, found {:?} and {:?}",
            x.dims(),
            weight.dims(),
            bias.dims()
        );
    }
    if fused(x) && weight.dtype() == x.dtype() && bias.dtype() == x.dtype() {
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { d, eps });
    }
    let dtype = wide(x.dtype());
    let (wide_x, weight, bias) = (x.to_dtype(dtype)?, weight.to_dtype(dtype)?, bias.to_dtype(dtype)?);
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(x.dtype())
}

struct LayerNorm {
    d: usize,
    eps: f64,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = by_dtype!(self.name(), x.dtype(), T => {
            let x = storage_floats::<T>(x, x_layout)?;
            let (weight, bias) = (storage_floats::<T>(weight, weight_layout)?, storage_floats::<T>(bias, bias_layout)?);
            let threads = parallel::worth(2 * size_of_val(x));
            let eps = T::from_f64(self.eps);
            // SAFETY: `Forward` writes each element of `out`.
            let out = unsafe {
                parallel::build(x.len(), row_chunk(self.d), threads, |start, out| {
                    dispatch(Forward { x: &x[start..start + out.len()], weight, bias, eps, out });
                })
            };
            T::to_cpu_storage_owned(out)
        });
        Ok((out, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        by_dtype!(self.name(), x.dtype(), T => {
            let (x_storage, x_layout) = x.storage_and_layout();
            let (weight_storage, weight_layout) = weight.storage_and_layout();
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let (xs, dys) = (floats::<T>(&x_storage, x_layout)?, floats::<T>(&dy_storage, dy_layout)?);
            let weights = floats::<T>(&weight_storage, weight_layout)?;
            let threads = parallel::worth(3 * size_of_val(xs));
            let eps = T::from_f64(self.eps);
            // SAFETY: `Backward` writes each element of `dx`.
            let (dx, partial) = unsafe {
                parallel::build_and_map(xs.len(), row_chunk(self.d), threads, |start, dx| {
                    let range = start..start + dx.len();
                    dispatch(Backward { x: &xs[range.clone()], dy: &dys[range], weight: weights, eps, dx })
                })
            };
            // Chunk by chunk in order, in f64: [dweight, dbias].
            let mut total = vec![0.0; 2 * self.d];
            for partial in partial {
                for (total, p) in total.iter_mut().zip(partial) {
                    *total += p.to_f64();
                }
            }
            let total: Vec<T> = total.into_iter().map(T::from_f64).collect();
            let part = |half: &[T]| Tensor::from_slice(half, self.d, &Device::Cpu);
            Ok((
                x.track_op().then(|| Tensor::from_vec(dx, x.shape(), &Device::Cpu)).transpose()?,
                weight.track_op().then(|| part(&total[..self.d])).transpose()?,
                bias.track_op().then(|| part(&total[self.d..])).transpose()?,
            ))
        })
    }
}

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn moments<T: Real>(x: &[T], eps: T) -> (T, T) {
    let n = T::from_f64(x.len() as f64);
    let mean = sum(x, |x| x) / n;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
    (mean, (variance + eps).rsqrt())
}

struct Forward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    eps: T,
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let d = self.weight.len().max(1);
        for (x, out) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)) {
            let (mean, scale) = moments(x, self.eps);
            for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                out.write(((x - mean) * scale).multiply_add::<S>(w, b));
            }
        }
    }
}

/// With `x̂` the normalised row and `g = dy · weight`: `dx = (g − mean(g) − x̂ mean(g x̂)) / deviation`. Returns the chunk's
/// `[Σ dy x̂, Σ dy]`, `2 d` numbers.
struct Backward<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    weight: &'a [T],
    eps: T,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<T> {
        let d = self.weight.len().max(1);
        let n = T::from_f64(d as f64);
        let mut sums = vec![T::zero(); 2 * d];
        let (dweight, dbias) = sums.split_at_mut(d);
        let mut normed = vec![T::zero(); d];
        let mut g = vec![T::zero(); d];
        for ((x, dy), dx) in self.x.chunks_exact(d).zip(self.dy.chunks_exact(d)).zip(self.dx.chunks_exact_mut(d)) {
            let (mean, scale) = moments(x, self.eps);
            for (normed, &x) in normed.iter_mut().zip(x) {
                *normed = (x - mean) * scale;
            }
            for ((g, &dy), &w) in g.iter_mut().zip(dy).zip(self.weight) {
                *g = dy * w;
            }
            for (((dw, db), &dy), &normed) in dweight.iter_mut().zip(dbias.iter_mut()).zip(dy).zip(&normed) {
                *dw = dy.multiply_add::<S>(normed, *dw);
                *db += dy;
            }
            let mean_g = sum(&g, |g| g) / n;
            let mean_gx = sum2(&g, &normed, |g, x| g * x) / n;
            for ((dx, &g), &x) in dx.iter_mut().zip(&g).zip(&normed) {
                dx.write(scale * (g - mean_g - x * mean_gx));
            }
        }
        sums
    }
}
