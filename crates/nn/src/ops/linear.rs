use super::matmul::{Matrix, add_product, column_sums, own_product, product};
use super::{by_dtype, last_dim};
use crate::cpu::{floats, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, WithDType, bail};

/// `x weightᵀ + bias`: `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`, result `[.., out]`.
///
/// The backward computes a gradient for those of the three that are tracked, and for no other.
///
/// # Errors
/// When the shapes or dtypes do not fit; the message names them.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let inner = last_dim("linear", x)?;
    let (out, weight_inner) = weight.dims2()?;
    if weight_inner != inner || bias.is_some_and(|bias| bias.dims() != [out]) {
        bail!(
            "linear: x {:?} does not fit weight {:?} (expected [out, {inner}]) and bias {:?}",
            x.dims(),
            weight.dims(),
            bias.map(Tensor::dims)
        );
    }
    if weight.dtype() != x.dtype() || bias.is_some_and(|bias| bias.dtype() != x.dtype()) {
        bail!(
            "linear: x is {}, weight {}, bias {:?}",
            x.dtype().as_str(),
            weight.dtype().as_str(),
            bias.map(Tensor::dtype)
        );
    }
    if own_product(x) {
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        return match bias {
            Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear),
            None => x.apply_op2(&weight, Linear),
        };
    }
    let rows = x.elem_count() / inner.max(1);
    // GPUs multiply by no slice of a larger matrix.
    let product = x.reshape((rows, inner))?.matmul(&weight.contiguous()?.t()?)?;
    let product = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    };
    product.reshape(out_shape(x.shape(), out))
}

pub(super) fn out_shape(x: &Shape, out: usize) -> Shape {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    Shape::from(dims)
}

struct Linear;

type Stored<'a> = (&'a CpuStorage, &'a Layout);

impl Linear {
    fn forward(x: Stored<'_>, weight: Stored<'_>, bias: Option<Stored<'_>>) -> Result<(CpuStorage, Shape)> {
        let (out, inner) = weight.1.shape().dims2()?;
        let storage = by_dtype!("linear", x.0.dtype(), T => {
            let a = storage_floats::<T>(x.0, x.1)?;
            let rows = a.len() / inner.max(1);
            let a = Matrix::new(a, rows, inner);
            let b = Matrix::new(storage_floats::<T>(weight.0, weight.1)?, out, inner).t();
            T::to_cpu_storage_owned(match bias {
                Some((storage, layout)) => {
                    let mut y = storage_floats::<T>(storage, layout)?.repeat(rows);
                    add_product(&mut y, a, b, true);
                    y
                }
                None => product(a, b, rows * out),
            })
        });
        Ok((storage, out_shape(x.1.shape(), out)))
    }

    fn backward(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (out, inner) = weight.dims2()?;
        by_dtype!("linear", x.dtype(), T => {
            let (x_storage, x_layout) = x.storage_and_layout();
            let (weight_storage, weight_layout) = weight.storage_and_layout();
            let (dy_storage, dy_layout) = dy.storage_and_layout();
            let xs = floats::<T>(&x_storage, x_layout)?;
            let rows = xs.len() / inner.max(1);
            let dys = floats::<T>(&dy_storage, dy_layout)?;
            let dy = Matrix::new(dys, rows, out);
            let tensor = |data: Vec<T>, shape: &Shape| Tensor::from_vec(data, shape, &Device::Cpu);
            let dx = || {
                let weight = Matrix::new(floats::<T>(&weight_storage, weight_layout)?, out, inner);
                tensor(product(dy, weight, rows * inner), x.shape())
            };
            let dweight = || tensor(product(dy.t(), Matrix::new(xs, rows, inner), out * inner), weight.shape());
            Ok((
                x.track_op().then(dx).transpose()?,
                weight.track_op().then(dweight).transpose()?,
                match bias {
                    Some(bias) if bias.track_op() => Some(tensor(column_sums(dys, out), bias.shape())?),
                    _ => None,
                },
            ))
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        Self::forward((x, xl), (w, wl), None)
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dweight, _) = Self::backward(x, weight, None, dy)?;
        Ok((dx, dweight))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Self::forward((x, xl), (w, wl), Some((b, bl)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Self::backward(x, weight, Some(bias), dy)
    }
}
