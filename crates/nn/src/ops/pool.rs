use super::patches::Images;
use super::real::Real;
use super::window::Window;
use super::{by_dtype, fused, widened};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, WithDType};

/// The maximum of what a window sees of each channel: `x` `[b, h, w, c]` to `[b, h', w', c]`. What is around the image
/// never wins. The gradient goes to the first of equal maxima, by rows.
///
/// # Errors
/// When `x` has not four dimensions or is not a float tensor.
pub fn max_pool2d(x: &Tensor, window: Window) -> Result<Tensor> {
    x.dims4()?;
    if fused(x) {
        return x.contiguous()?.apply_op1(MaxPool(window));
    }
    widened([x], |[x]| {
        let taps = window.taps(&x, f64::NEG_INFINITY)?;
        taps[1..].iter().try_fold(taps[0].clone(), |max, tap| max.maximum(tap))
    })
}

struct MaxPool(Window);

impl MaxPool {
    fn shape(&self, image: &[usize]) -> Shape {
        let (oh, ow) = self.0.output(image[1], image[2]);
        Shape::from((image[0], oh, ow, image[3]))
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.shape(layout.dims());
        by_dtype!(self.name(), storage.dtype(), T => {
            let x = Images::<T>::new(storage, layout)?;
            let [_, h, w, c] = x.dims;
            let mut y = vec![T::from_f64(f64::NEG_INFINITY); shape.elem_count()];
            let ow = shape.dims()[2];
            let oh = shape.dims()[1].max(1);
            let threads = parallel::worth(3 * size_of_val(x.data));
            parallel::for_chunks(&mut y, ow * c, threads, |i, y| {
                let image = &x.data[i / oh * h * w * c..][..h * w * c];
                dispatch(Forward { window: self.0, image, dims: [h, w, c], oy: i % oh, y });
            });
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let (_, h, w, c) = x.dims4()?;
        by_dtype!(self.name(), x.dtype(), T => {
            let [xs, ys, dys] = [x, y, &dy].map(Tensor::storage_and_layout);
            let (xs, ys, dys) = (floats::<T>(&xs.0, xs.1)?, floats::<T>(&ys.0, ys.1)?, floats::<T>(&dys.0, dys.1)?);
            let mut dx = vec![T::default(); xs.len()];
            let (pixels, outputs) = (h * w * c, ys.len() / x.dims()[0].max(1));
            parallel::for_chunks(&mut dx, pixels, parallel::worth(3 * size_of_val(xs)), |i, dx| {
                let (image, range) = (&xs[i * pixels..][..pixels], i * outputs..(i + 1) * outputs);
                dispatch(Backward { window: self.0, image, dims: [h, w, c], y: &ys[range.clone()], dy: &dys[range], dx });
            });
            Ok(Some(Tensor::from_vec(dx, x.shape(), &Device::Cpu)?))
        })
    }
}

/// One row of the output of one image.
struct Forward<'a, T> {
    window: Window,
    image: &'a [T],
    dims: [usize; 3],
    oy: usize,
    y: &'a mut [T],
}

impl<T: Real> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { window, image, dims: [h, w, c], oy, y } = self;
        for ky in 0..window.kernel {
            let Some(row) = window.row(oy, ky, h) else { continue };
            for (ox, y) in y.chunks_exact_mut(c.max(1)).enumerate() {
                let (inside, x) = window.columns_inside(ox, w);
                for x in x..x + inside.len() {
                    for (y, &x) in y.iter_mut().zip(&image[(row * w + x) * c..][..c]) {
                        // A NaN wins, as it does in a sum.
                        *y = if *y >= x || y.not_a_number() { *y } else { x };
                    }
                }
            }
        }
    }
}

/// One image.
struct Backward<'a, T> {
    window: Window,
    image: &'a [T],
    dims: [usize; 3],
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Real> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { window, image, dims: [h, w, c], y, dy, dx } = self;
        let (oh, ow) = window.output(h, w);
        // What of each channel's gradient has not found its maximum yet.
        let mut left = vec![T::zero(); c];
        for at in 0..oh * ow {
            let (oy, ox) = (at / ow, at % ow);
            let y = &y[at * c..][..c];
            left.copy_from_slice(&dy[at * c..][..c]);
            for ky in 0..window.kernel {
                let Some(row) = window.row(oy, ky, h) else { continue };
                let (inside, x) = window.columns_inside(ox, w);
                for x in x..x + inside.len() {
                    let from = (row * w + x) * c;
                    let (image, dx) = (&image[from..][..c], &mut dx[from..][..c]);
                    for (((dx, left), &x), &y) in dx.iter_mut().zip(left.iter_mut()).zip(image).zip(y) {
                        let here = if x == y { *left } else { T::zero() };
                        *dx += here;
                        *left = if x == y { T::zero() } else { *left };
                    }
                }
            }
        }
    }
}
