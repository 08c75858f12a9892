use super::gelu::{gelu, gelu_and_gradient, gelu_of};
use super::linear::{linear, out_shape};
use super::matmul::{Matrix, add_product, column_sums, own_product, product};
use super::real::Real;
use super::{by_dtype, last_dim};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, WithDType, bail};
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// `residual + act(x) weightᵀ + bias`, where `act` is [`gelu`] or nothing: how the halves of a transformer block end.
///
/// `residual` `[.., out]`, `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`, result `[.., out]`. Neither the activation nor
/// the product is kept for the backward.
///
/// # Errors
/// When the shapes or dtypes do not fit; the message names them.
pub fn residual_linear(
    residual: &Tensor,
    x: &Tensor,
    with_gelu: bool,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let fits = last_dim("residual_linear", x)? == inner && *residual.shape() == out_shape(x.shape(), out);
    if !fits || bias.dims() != [out] {
        bail!(
            "residual_linear: x {:?}, weight {:?} and bias {:?} do not fit residual {:?}",
            x.dims(),
            weight.dims(),
            bias.dims(),
            residual.dims()
        );
    }
    let all = [residual, x, weight, bias];
    let alike = all.iter().all(|t| t.dtype() == x.dtype());
    // Without a graph nothing is kept, and a copy of the weight would not pay.
    if !(own_product(x) && alike && all.iter().any(|t| t.track_op())) {
        let x = if with_gelu { gelu(x)? } else { x.clone() };
        return residual + linear(&x, weight, Some(bias))?;
    }
    // An operation has three arguments at most.
    let layer = Tensor::cat(&[&weight.flatten_all()?, bias], 0)?;
    let op = ResidualLinear { gelu: with_gelu, out, inner };
    residual.contiguous()?.apply_op3(&x.contiguous()?, &layer, op)
}

struct ResidualLinear {
    gelu: bool,
    out: usize,
    inner: usize,
}

impl CustomOp3 for ResidualLinear {
    fn name(&self) -> &'static str {
        "residual_linear"
    }

    fn cpu_fwd(
        &self,
        residual: &CpuStorage,
        residual_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        layer: &CpuStorage,
        layer_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sum = by_dtype!(self.name(), x.dtype(), T => {
            let residual = storage_floats::<T>(residual, residual_layout)?;
            let x = storage_floats::<T>(x, x_layout)?;
            let (weight, bias) = storage_floats::<T>(layer, layer_layout)?.split_at(self.out * self.inner);
            let threads = parallel::worth(2 * size_of_val(residual));
            let row_chunk = super::row_chunk(self.out);
            // SAFETY: `AddRow` writes each element of `out`.
            let mut sum = unsafe {
                parallel::build(residual.len(), row_chunk, threads, |start, out| {
                    dispatch(AddRow { rows: &residual[start..start + out.len()], row: bias, out });
                })
            };
            let a = self.activated(x);
            let rows = x.len() / self.inner.max(1);
            let a = Matrix::new(&a, rows, self.inner);
            add_product(&mut sum, a, Matrix::new(weight, self.out, self.inner).t(), true);
            T::to_cpu_storage_owned(sum)
        });
        Ok((sum, residual_layout.shape().clone()))
    }

    fn bwd(
        &self,
        residual: &Tensor,
        x: &Tensor,
        layer: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dlayer) = by_dtype!("residual_linear", x.dtype(), T => {
            let (x_storage, x_layout) = x.storage_and_layout();
            let (layer_storage, layer_layout) = layer.storage_and_layout();
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let xs = floats::<T>(&x_storage, x_layout)?;
            let dys = floats::<T>(&dy_storage, dy_layout)?;
            let weight = &floats::<T>(&layer_storage, layer_layout)?[..self.out * self.inner];
            let rows = xs.len() / self.inner.max(1);
            let dy = Matrix::new(dys, rows, self.out);
            let mut dx = match x.track_op() {
                true => Some(product(dy, Matrix::new(weight, self.out, self.inner), xs.len())),
                false => None,
            };
            let a = match &mut dx {
                Some(dx) if self.gelu => Cow::Owned(gelu_and_gradient(xs, dx)),
                _ => self.activated(xs),
            };
            let dlayer = layer.track_op().then(|| {
                let mut d = product(dy.t(), Matrix::new(&a, rows, self.inner), weight.len());
                d.extend(column_sums(dys, self.out));
                d
            });
            let tensor = |data: Option<Vec<T>>, shape: &Shape| {
                data.map(|data| Tensor::from_vec(data, shape, &Device::Cpu)).transpose()
            };
            (tensor(dx, x.shape())?, tensor(dlayer, layer.shape())?)
        });
        Ok((residual.track_op().then_some(dy), dx, dlayer))
    }
}

impl ResidualLinear {
    fn activated<'a, T: Real>(&self, x: &'a [T]) -> Cow<'a, [T]> {
        if self.gelu { Cow::Owned(gelu_of(x)) } else { Cow::Borrowed(x) }
    }
}

struct AddRow<'a, T> {
    rows: &'a [T],
    row: &'a [T],
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Kernel for AddRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let d = self.row.len().max(1);
        for (out, x) in self.out.chunks_exact_mut(d).zip(self.rows.chunks_exact(d)) {
            for ((out, &x), &add) in out.iter_mut().zip(x).zip(self.row) {
                out.write(x + add);
            }
        }
    }
}
