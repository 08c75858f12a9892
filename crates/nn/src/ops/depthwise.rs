use super::clamp::{finish, unclamped};
use super::conv::clamp;
use super::real::Real;
use super::window::Window;
use super::{by_dtype, column_sums, fused, wide};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, WithDType, bail};

/// A convolution of each channel with a kernel of its own, `clamp(conv(x, weight) + bias)`, channels last.
///
/// `x` `[b, h, w, c]`, `weight` `[k · k, c]`, `bias` `[c]`, result `[b, h', w', c]`; `ceiling` as in
/// [`conv2d`](crate::conv2d).
///
/// # Errors
/// When shapes or dtypes do not fit; the message names them.
pub fn depthwise_conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    window: Window,
    ceiling: Option<f64>,
) -> Result<Tensor> {
    let (_, _, _, c) = x.dims4()?;
    let taps = window.kernel * window.kernel;
    if weight.dims() != [taps, c] || bias.dims() != [c] || weight.dtype() != x.dtype() || bias.dtype() != x.dtype() {
        bail!(
            "depthwise_conv2d: weight {:?} {} and bias {:?} {} do not fit x {:?} {} (expected [{taps}, {c}] and [{c}])",
            weight.dims(),
            weight.dtype().as_str(),
            bias.dims(),
            bias.dtype().as_str(),
            x.dims(),
            x.dtype().as_str()
        );
    }
    if fused(x) {
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Depthwise { window, ceiling });
    }
    let dtype = wide(x.dtype());
    let (weight, bias) = (weight.to_dtype(dtype)?, bias.to_dtype(dtype)?);
    let mut sum: Option<Tensor> = None;
    for (i, tap) in window.taps(&x.to_dtype(dtype)?, 0.0)?.into_iter().enumerate() {
        let term = tap.broadcast_mul(&weight.get(i)?)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    let Some(sum) = sum else { bail!("depthwise_conv2d: a kernel of no width") };
    clamp(&sum.broadcast_add(&bias)?, ceiling)?.to_dtype(x.dtype())
}

struct Depthwise {
    window: Window,
    ceiling: Option<f64>,
}

impl Depthwise {
    fn forward<T: Real>(&self, x: &[T], [b, h, w, c]: [usize; 4], weight: &[T], bias: &[T]) -> Vec<T> {
        let (oh, ow) = self.window.output(h, w);
        let mut y = vec![T::zero(); b * oh * ow * c];
        parallel::for_chunks(&mut y, ow * c, parallel::worth(4 * size_of_val(x)), |i, row| {
            let image = &x[i / oh * h * w * c..][..h * w * c];
            dispatch(Rows { window: self.window, image, dims: [h, w, c], weight, oy: i % oh, row });
        });
        finish(&mut y, bias, self.ceiling);
        y
    }

    /// The gradients of x, weight and bias.
    fn backward<T: Real>(&self, x: &[T], [b, h, w, c]: [usize; 4], weight: &[T], y: &[T], dy: &[T]) -> [Vec<T>; 3] {
        let window = self.window;
        let (oh, ow) = window.output(h, w);
        let g = unclamped(y, dy, self.ceiling);
        let threads = parallel::worth(4 * size_of_val(x));
        let mut dx = vec![T::zero(); b * h * w * c];
        let parts = parallel::for_chunks(&mut dx, h * w * c, threads, |i, dx| {
            let (image, g) = (&x[i * h * w * c..][..h * w * c], &g[i * oh * ow * c..][..oh * ow * c]);
            dispatch(Image { window, image, dims: [h, w, c], weight, g, dx })
        });
        let mut dweight = vec![0.0; weight.len()];
        // Summed in the order of the batch, whatever thread made them.
        for part in parts {
            dweight.iter_mut().zip(part).for_each(|(sum, part)| *sum += part.to_f64());
        }
        [dx, dweight.into_iter().map(T::from_f64).collect(), column_sums(&g, c)]
    }
}

/// One row of the output of one image, zero before.
struct Rows<'a, T> {
    window: Window,
    image: &'a [T],
    dims: [usize; 3],
    weight: &'a [T],
    oy: usize,
    row: &'a mut [T],
}

impl<T: Real> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { window, image, dims: [h, w, c], weight, oy, row } = self;
        for ky in 0..window.kernel {
            let Some(y) = window.row(oy, ky, h) else { continue };
            for (ox, out) in row.chunks_exact_mut(c.max(1)).enumerate() {
                let (inside, first) = window.columns_inside(ox, w);
                for (kx, x) in inside.zip(first..) {
                    let (image, weight) =
                        (&image[(y * w + x) * c..][..c], &weight[(ky * window.kernel + kx) * c..][..c]);
                    for ((out, &x), &weight) in out.iter_mut().zip(image).zip(weight) {
                        *out = x.multiply_add::<S>(weight, *out);
                    }
                }
            }
        }
    }
}

/// One image's backward: adds to `dx` and returns the weight's gradient.
struct Image<'a, T> {
    window: Window,
    image: &'a [T],
    dims: [usize; 3],
    weight: &'a [T],
    g: &'a [T],
    dx: &'a mut [T],
}

impl<T: Real> Kernel for Image<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<T> {
        let Self { window, image, dims: [h, w, c], weight, g, dx } = self;
        let (oh, ow) = window.output(h, w);
        let mut dweight = vec![T::zero(); weight.len()];
        for at in 0..oh * ow {
            let g = &g[at * c..][..c];
            for ky in 0..window.kernel {
                let Some(y) = window.row(at / ow, ky, h) else { continue };
                let (inside, first) = window.columns_inside(at % ow, w);
                for (kx, x) in inside.zip(first..) {
                    let (pixel, tap) = ((y * w + x) * c, (ky * window.kernel + kx) * c);
                    let (image, dx) = (&image[pixel..][..c], &mut dx[pixel..][..c]);
                    let (weight, dweight) = (&weight[tap..][..c], &mut dweight[tap..][..c]);
                    for ((dx, &g), &weight) in dx.iter_mut().zip(g).zip(weight) {
                        *dx = g.multiply_add::<S>(weight, *dx);
                    }
                    for ((dweight, &g), &x) in dweight.iter_mut().zip(g).zip(image) {
                        *dweight = g.multiply_add::<S>(x, *dweight);
                    }
                }
            }
        }
        dweight
    }
}

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
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
        let (images, h, width, c) = xl.shape().dims4()?;
        let (oh, ow) = self.window.output(h, width);
        by_dtype!(self.name(), x.dtype(), T => {
            let (x, w, b) = (storage_floats::<T>(x, xl)?, storage_floats(w, wl)?, storage_floats(b, bl)?);
            let y = self.forward(x, [images, h, width, c], w, b);
            Ok((T::to_cpu_storage_owned(y), Shape::from((images, oh, ow, c))))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (b, h, w, c) = x.dims4()?;
        by_dtype!(self.name(), x.dtype(), T => {
            let [xs, ws, ys, dys] = [x, weight, y, &dy].map(Tensor::storage_and_layout);
            let [dx, dweight, dbias] = self.backward::<T>(
                floats(&xs.0, xs.1)?,
                [b, h, w, c],
                floats(&ws.0, ws.1)?,
                floats(&ys.0, ys.1)?,
                floats(&dys.0, dys.1)?,
            );
            let tensor = |data: Vec<T>, like: &Tensor| {
                like.track_op().then(|| Tensor::from_vec(data, like.shape(), &Device::Cpu)).transpose()
            };
            Ok((tensor(dx, x)?, tensor(dweight, weight)?, tensor(dbias, bias)?))
        })
    }
}
