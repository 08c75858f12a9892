//! Patches of an image as the rows of a matrix, and back.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

/// A square kernel that moves over an image with zeros around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros above and below.
    pub(crate) rows: (usize, usize),
    /// Zeros left and right.
    pub(crate) columns: (usize, usize),
}

impl Window {
    /// Height and width of the output.
    pub(crate) fn output(&self, h: usize, w: usize) -> (usize, usize) {
        let count = |n: usize, (a, b): (usize, usize)| {
            (n + a + b).checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1)
        };
        (count(h, self.rows), count(w, self.columns))
    }

    /// The input row that kernel row `k` meets at output row `o`, if it is inside `0..h`.
    pub(crate) fn row(&self, o: usize, k: usize, h: usize) -> Option<usize> {
        (o * self.stride + k).checked_sub(self.rows.0).filter(|y| *y < h)
    }

    /// The input column that kernel column `k` meets at output column `o`, if it is inside `0..w`.
    pub(crate) fn column(&self, o: usize, k: usize, w: usize) -> Option<usize> {
        (o * self.stride + k).checked_sub(self.columns.0).filter(|x| *x < w)
    }

    /// One input position for each kernel position, composed of candle's own differentiable operations:
    /// `k²` tensors `[b, h', w', c]`. The path of devices without a kernel of their own.
    pub(crate) fn taps(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (_, h, w, _) = x.dims4()?;
        let (oh, ow) = self.output(h, w);
        let padded =
            x.pad_with_zeros(1, self.rows.0, self.rows.1)?.pad_with_zeros(2, self.columns.0, self.columns.1)?;
        let select = |k: usize, n: usize| {
            let at: Vec<u32> = (0..n).map(|o| (o * self.stride + k) as u32).collect();
            Tensor::from_vec(at, n, x.device())
        };
        let tap = |i: usize| {
            let rows = select(i / self.kernel, oh)?;
            padded.index_select(&rows, 1)?.index_select(&select(i % self.kernel, ow)?, 2)
        };
        (0..self.kernel * self.kernel).map(tap).collect()
    }
}

/// `[b, h, w, c]` to `[b·h'·w', k·k·c]`: each row is what the window sees at one position.
pub(crate) fn unfold(x: &Tensor, window: Window) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Unfold { window, image: (b, h, w, c) });
    }
    let (oh, ow) = window.output(h, w);
    Tensor::cat(&window.taps(x)?, 3)?.reshape((b * oh * ow, window.kernel * window.kernel * c))
}

#[derive(Clone, Copy)]
struct Unfold {
    window: Window,
    image: (usize, usize, usize, usize),
}

/// The adjoint of [`Unfold`]: patches are added up where they lie.
struct Fold(Unfold);

impl Unfold {
    /// Calls `copy(patch offset, image offset)` for each run of `c` values of one image that lies inside it.
    fn runs(&self, mut copy: impl FnMut(usize, usize)) {
        let (_, h, w, c) = self.image;
        let (oh, ow) = self.window.output(h, w);
        let k = self.window.kernel;
        for oy in 0..oh {
            for ky in 0..k {
                let Some(y) = self.window.row(oy, ky, h) else { continue };
                for ox in 0..ow {
                    for kx in 0..k {
                        let Some(x) = self.window.column(ox, kx, w) else { continue };
                        copy((((oy * ow + ox) * k + ky) * k + kx) * c, (y * w + x) * c);
                    }
                }
            }
        }
    }

    /// Numbers in one image's patches, and in one image.
    fn sizes(&self) -> (usize, usize) {
        let (_, h, w, c) = self.image;
        let (oh, ow) = self.window.output(h, w);
        (oh * ow * self.window.kernel * self.window.kernel * c, h * w * c)
    }

    fn unfold<T: WithDType>(&self, image: &[T]) -> Vec<T> {
        let (b, _, _, c) = self.image;
        let (patches, pixels) = self.sizes();
        let mut out = vec![T::zero(); b * patches];
        let each = |(out, image): (&mut [T], &[T])| {
            self.runs(|to, from| out[to..to + c].copy_from_slice(&image[from..from + c]));
        };
        out.par_chunks_mut(patches.max(1)).zip(image.par_chunks(pixels.max(1))).for_each(each);
        out
    }

    fn fold<T: WithDType>(&self, patches: &[T]) -> Vec<T> {
        let (b, _, _, c) = self.image;
        let (size, pixels) = self.sizes();
        let mut out = vec![T::zero(); b * pixels];
        let each = |(out, patches): (&mut [T], &[T])| {
            self.runs(|from, to| {
                for (out, x) in out[to..to + c].iter_mut().zip(&patches[from..from + c]) {
                    *out += *x;
                }
            });
        };
        out.par_chunks_mut(pixels.max(1)).zip(patches.par_chunks(size.max(1))).for_each(each);
        out
    }
}

/// The values that a contiguous layout shows.
pub(super) fn view<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<T>()?[from..to]),
        None => bail!("a convolution got values that are not contiguous"),
    }
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, _, _, _) = self.image;
        let k = self.window.kernel * self.window.kernel * self.image.3;
        let shape = Shape::from((b * self.sizes().0 / k.max(1), k));
        let out = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(self.unfold(view(storage, layout)?)),
            CpuStorage::F64(_) => CpuStorage::F64(self.unfold(view(storage, layout)?)),
            _ => bail!("convolution is for f32 and f64"),
        };
        Ok((out, shape))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.contiguous()?.apply_op1_no_bwd(&Fold(*self))?))
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(self.0.fold(view(storage, layout)?)),
            CpuStorage::F64(_) => CpuStorage::F64(self.0.fold(view(storage, layout)?)),
            _ => bail!("convolution is for f32 and f64"),
        };
        Ok((out, Shape::from(self.0.image)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_fast_path_is_the_composed_one_forward_and_backward() {
        let window = Window { kernel: 3, stride: 2, rows: (1, 0), columns: (0, 2) };
        let values: Vec<f64> = (0..2 * 5 * 6 * 3).map(|i| (f64::from(i) * 0.77).sin()).collect();
        let x = Var::from_vec(values, (2, 5, 6, 3), &Device::Cpu).unwrap();
        let fast = unfold(&x, window).unwrap();
        let slow = Tensor::cat(&window.taps(&x).unwrap(), 3).unwrap().reshape(fast.shape()).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(values(&fast), values(&slow));

        let weights = fast.detach().sin().unwrap();
        let gradient = |y: &Tensor| {
            let gradients = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
            values(gradients.get(&x).unwrap())
        };
        for (a, b) in gradient(&fast).into_iter().zip(gradient(&slow)) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
