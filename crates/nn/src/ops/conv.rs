use super::clamp::{finish, unclamped};
use super::matmul::{Matrix, add_product, set_product};
use super::patches::{Images, fold};
use super::real::Real;
use super::window::Window;
use super::{by_dtype, column_sums, fused, wide};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, WithDType, bail};
use std::ops::Range;

/// Bytes of patches that are in work at a time: they are to stay in the cache between the copy that makes them and the
/// product that reads them.
const TILE: usize = 2 << 20;

/// A convolution with what usually follows it: `clamp(conv(x, weight) · scale + shift)`, channels last.
///
/// `x` `[b, h, w, c]` of any strides, `weight` `[out, c, k, k]` as PyTorch keeps it, `scale` and `shift` `[out]` (1 and 0
/// where `None`), result `[b, h', w', out]`. With a `ceiling` the result is clamped to `[0, ceiling]`: infinity for ReLU, 6
/// for ReLU6. The backward computes a gradient for what is tracked, and for nothing else; patches are never kept.
///
/// # Errors
/// When shapes or dtypes do not fit; the message names them.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    (scale, shift): (Option<&Tensor>, Option<&Tensor>),
    window: Window,
    ceiling: Option<f64>,
) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let (out, inner, k, width) = weight.dims4()?;
    if (inner, k, width) != (c, window.kernel, window.kernel) || weight.dtype() != x.dtype() {
        bail!(
            "conv2d: weight {:?} {} does not fit x {:?} {} (expected [out, {c}, {k}, {k}] of x's type)",
            weight.dims(),
            weight.dtype().as_str(),
            x.dims(),
            x.dtype().as_str(),
            k = window.kernel
        );
    }
    let constant = |value: f32| Tensor::full(value, out, x.device())?.to_dtype(x.dtype());
    let or = |given: Option<&Tensor>, value| given.map_or_else(|| constant(value), Tensor::contiguous);
    let affine = Tensor::stack(&[or(scale, 1.0)?, or(shift, 0.0)?], 0)?;
    if fused(x) {
        return x.apply_op3(&weight.contiguous()?, &affine, Conv { window, ceiling });
    }
    let (oh, ow) = window.output(h, w);
    let dtype = wide(x.dtype());
    let patches = Tensor::cat(&window.taps(&x.to_dtype(dtype)?, 0.0)?, 3)?.reshape((b * oh * ow, k * k * c))?;
    let weight = weight.to_dtype(dtype)?.permute((0, 2, 3, 1))?.reshape((out, k * k * c))?;
    let affine = affine.to_dtype(dtype)?;
    let y = patches.matmul(&weight.t()?)?.broadcast_mul(&affine.get(0)?)?.broadcast_add(&affine.get(1)?)?;
    clamp(&y, ceiling)?.reshape((b, oh, ow, out))?.to_dtype(x.dtype())
}

/// `[0, ceiling]` where there is a ceiling, in candle's operations.
pub(super) fn clamp(y: &Tensor, ceiling: Option<f64>) -> Result<Tensor> {
    match ceiling {
        Some(ceiling) if ceiling.is_finite() => y.relu()?.minimum(ceiling),
        Some(_) => y.relu(),
        None => Ok(y.clone()),
    }
}

struct Conv {
    window: Window,
    ceiling: Option<f64>,
}

/// The sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    /// Positions of one image's output.
    positions: usize,
    /// Numbers that the window sees at a position.
    patch: usize,
    out: usize,
    /// Images in work at a time.
    tile: usize,
}

impl Conv {
    fn sizes<T: Real>(&self, x: Images<'_, T>, out: usize) -> Sizes {
        let [images, h, w, c] = x.dims;
        let (oh, ow) = self.window.output(h, w);
        let patch = self.window.kernel * self.window.kernel * c;
        let tile = (TILE / size_of::<T>() / (oh * ow * patch).max(1)).clamp(1, images.max(1));
        Sizes { images, positions: oh * ow, patch, out, tile }
    }

    /// Whether the patches are the images themselves.
    fn pointwise<T: Real>(&self, x: Images<'_, T>) -> bool {
        let Window { kernel, stride, rows, columns } = self.window;
        (kernel, stride, rows, columns) == (1, 1, (0, 0), (0, 0)) && x.contiguous()
    }

    /// The patches of some images: unfolded into `room`, or where they stand.
    fn patches<'a, T: Real>(&self, x: Images<'a, T>, sizes: Sizes, images: Range<usize>, room: &'a mut [T]) -> &'a [T] {
        let len = images.len() * sizes.positions * sizes.patch;
        if self.pointwise(x) {
            return &x.data[images.start * sizes.positions * sizes.patch..][..len];
        }
        x.unfold(images, self.window, &mut room[..len]);
        &room[..len]
    }

    fn room<T: Real>(&self, x: Images<'_, T>, sizes: Sizes) -> Vec<T> {
        vec![T::zero(); if self.pointwise(x) { 0 } else { sizes.tile * sizes.positions * sizes.patch }]
    }

    fn forward<T: Real>(&self, x: Images<'_, T>, weight: &[T], affine: &[T]) -> Vec<T> {
        let sizes = self.sizes(x, affine.len() / 2);
        let (scale, shift) = affine.split_at(sizes.out);
        let weight = folded(weight, scale, sizes.patch, x.dims[3]);
        let mut y = vec![T::zero(); sizes.images * sizes.positions * sizes.out];
        let mut room = self.room(x, sizes);
        for (t, y) in y.chunks_mut((sizes.tile * sizes.positions * sizes.out).max(1)).enumerate() {
            let rows = y.len() / sizes.out;
            let images = t * sizes.tile..t * sizes.tile + rows / sizes.positions;
            let patches = Matrix::new(self.patches(x, sizes, images, &mut room), rows, sizes.patch);
            set_product(y, patches, Matrix::new(&weight, sizes.out, sizes.patch).t(), true);
            finish(y, shift, self.ceiling);
        }
        y
    }

    /// With `g` the gradient where nothing was clamped: `dx = fold(g (scale weight))`, `dweight = scale gᵀ patches`,
    /// `dscale = Σ (gᵀ patches) weight`, `dshift = Σ g`. In the order x, weight, [scale, shift].
    fn backward<T: Real>(
        &self,
        x: Images<'_, T>,
        weight: &[T],
        affine: &[T],
        [y, dy]: [&[T]; 2],
        [wants_x, wants_weight, wants_affine]: [bool; 3],
    ) -> [Option<Vec<T>>; 3] {
        let sizes = self.sizes(x, affine.len() / 2);
        let [_, h, w, c] = x.dims;
        let scale = &affine[..sizes.out];
        let forward = wants_x.then(|| folded(weight, scale, sizes.patch, c));
        let wants_product = wants_weight || wants_affine;
        let mut product = vec![T::zero(); if wants_product { sizes.out * sizes.patch } else { 0 }];
        let mut dx = vec![T::zero(); if wants_x { sizes.images * h * w * c } else { 0 }];
        let mut room = if wants_product { self.room(x, sizes) } else { Vec::new() };
        let mut dpatches = vec![T::zero(); if wants_x { sizes.tile * sizes.positions * sizes.patch } else { 0 }];
        let g = unclamped(y, dy, self.ceiling);
        let dshift = if wants_affine { column_sums(&g, sizes.out) } else { Vec::new() };
        for (t, g) in g.chunks((sizes.tile * sizes.positions * sizes.out).max(1)).enumerate() {
            let rows = g.len() / sizes.out;
            let images = t * sizes.tile..t * sizes.tile + rows / sizes.positions;
            let g = Matrix::new(g, rows, sizes.out);
            if wants_product {
                let patches = Matrix::new(self.patches(x, sizes, images.clone(), &mut room), rows, sizes.patch);
                add_product(&mut product, g.t(), patches, true);
            }
            if let Some(weight) = &forward {
                let dpatches = &mut dpatches[..rows * sizes.patch];
                set_product(dpatches, g, Matrix::new(weight, sizes.out, sizes.patch), true);
                fold(dpatches, [h, w, c], self.window, &mut dx[images.start * h * w * c..images.end * h * w * c]);
            }
        }
        let mut dscale = Vec::new();
        let mut dweight = Vec::new();
        if wants_product {
            dweight = vec![T::zero(); product.len()];
            let threads = parallel::worth(2 * size_of_val(weight));
            dscale = parallel::for_chunks(&mut dweight, sizes.patch, threads, |o, dweight| {
                let range = o * sizes.patch..(o + 1) * sizes.patch;
                dispatch(Unfolded {
                    product: &product[range.clone()],
                    weight: &weight[range],
                    scale: scale[o],
                    c,
                    dweight,
                })
            });
        }
        dscale.extend(dshift);
        [wants_x.then_some(dx), wants_weight.then_some(dweight), wants_affine.then_some(dscale)]
    }
}

/// The weight as patches meet it: `[out, c, k · k]` to `[out, k · k, c]`, each row times its scale.
fn folded<T: Real>(weight: &[T], scale: &[T], patch: usize, c: usize) -> Vec<T> {
    let mut folded = vec![T::zero(); weight.len()];
    parallel::for_chunks(&mut folded, patch, parallel::worth(2 * size_of_val(weight)), |o, folded| {
        let weight = &weight[o * patch..(o + 1) * patch];
        for (tap, folded) in folded.chunks_exact_mut(c).enumerate() {
            for (folded, weight) in folded.iter_mut().zip(weight.chunks_exact(patch / c)) {
                *folded = weight[tap] * scale[o];
            }
        }
    });
    folded
}

/// The way back for one row of the weight's gradient, which is written as `scale` times `product`; returns their inner
/// product before the scale.
struct Unfolded<'a, T> {
    product: &'a [T],
    weight: &'a [T],
    scale: T,
    c: usize,
    dweight: &'a mut [T],
}

impl<T: Real> Kernel for Unfolded<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd>(self) -> T {
        let taps = self.dweight.len() / self.c.max(1);
        for (channel, dweight) in self.dweight.chunks_exact_mut(taps.max(1)).enumerate() {
            for (tap, dweight) in dweight.iter_mut().enumerate() {
                *dweight = self.product[tap * self.c + channel];
            }
        }
        let inner = super::real::sum2(self.dweight, self.weight, |d, w| d * w);
        self.dweight.iter_mut().for_each(|d| *d *= self.scale);
        inner
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        a: &CpuStorage,
        al: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, h, width, _) = xl.shape().dims4()?;
        let (oh, ow) = self.window.output(h, width);
        let shape = Shape::from((b, oh, ow, wl.dims()[0]));
        by_dtype!(self.name(), x.dtype(), T => {
            let y = self.forward::<T>(Images::new(x, xl)?, storage_floats(w, wl)?, storage_floats(a, al)?);
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        by_dtype!(self.name(), x.dtype(), T => {
            let [xs, ws, a, ys, dys] = [x, weight, affine, y, &dy].map(Tensor::storage_and_layout);
            let wanted = [x, weight, affine].map(Tensor::track_op);
            let grads = self.backward::<T>(
                Images::of(&xs.0, xs.1)?,
                floats(&ws.0, ws.1)?,
                floats(&a.0, a.1)?,
                [floats(&ys.0, ys.1)?, floats(&dys.0, dys.1)?],
                wanted,
            );
            let tensor = |data: Option<Vec<T>>, like: &Tensor| {
                data.map(|data| Tensor::from_vec(data, like.shape(), &Device::Cpu)).transpose()
            };
            let [dx, dweight, daffine] = grads;
            Ok((tensor(dx, x)?, tensor(dweight, weight)?, tensor(daffine, affine)?))
        })
    }
}
