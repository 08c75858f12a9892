//! Gradients of a linear layer that are kept as factors: `weight` has `dyᵀ x`, `bias` the sums over the rows of `dy`.

use crate::cpu::element::Element;
use crate::cpu::matmul::{Matrix, column_sums, own_product, product};
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch};
use crate::cpu::{by_dtype, floats};
use crate::gram;
use candle_core::{Device, Result, Tensor, WithDType, bail};

/// The gradients of `weight` and `bias` in `y = x weightᵀ + bias`: `[out, in]` and `[out]`, from the layer's input `x` `[n, in]` and
/// the gradient `dy` `[n, out]` of its result.
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn linear_gradients(x: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    let ((n, inner), (rows, out)) = (x.dims2()?, dy.dims2()?);
    if n != rows || x.dtype() != dy.dtype() {
        bail!("linear_gradients: x {:?} {:?} beside dy {:?} {:?}", x.dims(), x.dtype(), dy.dims(), dy.dtype());
    }
    if !own_product(x) {
        return Ok((dy.t()?.matmul(x)?, dy.sum(0)?));
    }
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let ((x_storage, x_layout), (dy_storage, dy_layout)) = (x.storage_and_layout(), dy.storage_and_layout());
    by_dtype!("linear_gradients", x.dtype(), T => {
        let (xs, dys) = (floats::<T>(&x_storage, x_layout)?, floats::<T>(&dy_storage, dy_layout)?);
        let weight = product(Matrix::new(dys, n, out).t(), Matrix::new(xs, n, inner), out * inner);
        let bias = Tensor::from_vec(column_sums(dys, out), out, &Device::Cpu)?;
        Ok((Tensor::from_vec(weight, (out, inner), &Device::Cpu)?, bias))
    })
}

/// The `k × k` inner products of the gradients that [`linear_gradients`] makes of `x` `[n, in]` and each of `k` factors `[n, out]`,
/// without making them: `⟨i, j⟩ = Σ_ab (x xᵀ + 1)_ab (dy_i dy_jᵀ)_ab`, with the 1 for the bias. A missing factor counts as zero.
///
/// # Errors
/// When the shapes or dtypes do not fit.
pub fn factored_gram(x: &Tensor, factors: &[Option<Tensor>], bias: bool) -> Result<Vec<f64>> {
    let (k, n) = (factors.len(), x.dim(0)?);
    let mut inner = vec![0.0; k * k];
    let factors: Vec<(usize, Tensor)> = factors
        .iter()
        .enumerate()
        .filter_map(|(i, factor)| Some((i, factor.as_ref()?)))
        .map(|(i, factor)| Ok((i, factor.contiguous()?)))
        .collect::<Result<_>>()?;
    if let Some((_, odd)) = factors.iter().find(|(_, f)| f.rank() != 2 || f.dims()[0] != n || f.dtype() != x.dtype()) {
        bail!("factored_gram: x {:?} {:?} beside {:?} {:?}", x.dims(), x.dtype(), odd.dims(), odd.dtype());
    }
    let products =
        if own_product(x) { fused_products(x, &factors, bias)? } else { composed_products(x, &factors, bias)? };
    for (a, (i, _)) in factors.iter().enumerate() {
        for (b, (j, _)) in factors.iter().enumerate() {
            // Equal but for rounding; halved so that the matrix is symmetric to the last bit.
            inner[i * k + j] = 0.5 * (products[a * factors.len() + b] + products[b * factors.len() + a]);
        }
    }
    Ok(inner)
}

/// `⟨dy_a, (x xᵀ + 1) dy_b⟩`.
fn fused_products(x: &Tensor, factors: &[(usize, Tensor)], bias: bool) -> Result<Vec<f64>> {
    let x = x.contiguous()?;
    let (n, inner) = x.dims2()?;
    let (x_storage, x_layout) = x.storage_and_layout();
    let guards: Vec<_> = factors.iter().map(|(_, factor)| factor.storage_and_layout()).collect();
    by_dtype!("factored_gram", x.dtype(), T => {
        let x = Matrix::new(floats::<T>(&x_storage, x_layout)?, n, inner);
        let mut between = product(x, x.t(), n * n);
        if bias {
            let one = <T as WithDType>::from_f64(1.0);
            between.iter_mut().for_each(|b| *b += one);
        }
        let between = Matrix::new(&between, n, n);
        let mut dys: Vec<&[T]> = Vec::with_capacity(guards.len());
        for (storage, layout) in &guards {
            dys.push(floats::<T>(storage, layout)?);
        }
        let seen: Vec<Vec<T>> = dys.iter().map(|dy| product(between, Matrix::new(dy, n, dy.len() / n.max(1)), dy.len())).collect();
        Ok(dys.iter().flat_map(|a| seen.iter().map(|b| dispatch(Dot { a, b }))).collect())
    })
}

fn composed_products(x: &Tensor, factors: &[(usize, Tensor)], bias: bool) -> Result<Vec<f64>> {
    let between = x.matmul(&x.t()?)?;
    let between = if bias { (between + 1.0)? } else { between };
    let seen = factors.iter().map(|(_, factor)| Ok(Some(between.matmul(factor)?))).collect::<Result<Vec<_>>>()?;
    let own: Vec<Option<Tensor>> = factors.iter().map(|(_, factor)| Some(factor.clone())).collect();
    let rows: Vec<&[Option<Tensor>]> = own.iter().chain(&seen).map(std::slice::from_ref).collect();
    let (all, k) = (gram(&rows)?, own.len());
    Ok((0..k * k).map(|i| all[(i / k) * 2 * k + k + i % k]).collect())
}

/// `⟨a, b⟩`, summed in f64 in an order that the length decides.
struct Dot<'a, T> {
    a: &'a [T],
    b: &'a [T],
}

impl<T: Element> Kernel for Dot<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let ((a, a_rest), (b, b_rest)) = (self.a.as_chunks::<LANES>(), self.b.as_chunks::<LANES>());
        let mut lanes = S::zero();
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (T::load::<S>(a), T::load::<S>(b));
            lanes = if T::EXACT_PRODUCT { S::multiply_add(a, b, lanes) } else { S::multiply_then_add(a, b, lanes) };
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a.widen() * b.widen()).sum();
        S::store(lanes).iter().sum::<f64>() + rest
    }
}
