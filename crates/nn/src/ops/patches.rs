//! Patches of images as the rows of a matrix, and back.

use super::real::Real;
use super::window::Window;
use crate::cpu::parallel;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use candle_core::{CpuStorage, Layout, Result, Storage, bail};
use std::ops::Range;

/// Images `[b, h, w, c]` of any strides.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, T> {
    pub(super) data: &'a [T],
    pub(super) dims: [usize; 4],
    strides: [usize; 4],
}

impl<'a, T: Real> Images<'a, T> {
    pub(super) fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (Ok(dims), Ok(strides)) = (layout.dims().try_into(), layout.stride().try_into()) else {
            bail!("expected images [b, h, w, c], found {:?}", layout.dims());
        };
        Ok(Self { data: &storage.as_slice::<T>()?[layout.start_offset()..], dims, strides })
    }

    pub(super) fn of(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        match storage {
            Storage::Cpu(storage) => Self::new(storage, layout),
            _ => bail!("expected images on the CPU"),
        }
    }

    /// Whether elements lie in order, without gaps.
    pub(super) fn contiguous(&self) -> bool {
        let [_, h, w, c] = self.dims;
        self.strides == [h * w * c, w * c, c, 1]
    }

    /// Fills `out` `[images · h' · w', k · k · c]`: each row is what the window sees at one position of one image.
    pub(super) fn unfold(&self, images: Range<usize>, window: Window, out: &mut [T]) {
        let [_, h, w, c] = self.dims;
        let (oh, ow) = window.output(h, w);
        let run = window.kernel * c;
        let [sb, sh, sw, sc] = self.strides;
        let packed = sc == 1 && sw == c;
        let threads = parallel::worth(2 * size_of_val(out));
        parallel::for_chunks(out, ow * window.kernel * run, threads, |i, out| {
            let (b, oy) = (images.start + i / oh, i % oh);
            for (at, out) in out.chunks_exact_mut(run).enumerate() {
                let (ox, ky) = (at / window.kernel, at % window.kernel);
                let Some(y) = window.row(oy, ky, h) else {
                    out.fill(T::zero());
                    continue;
                };
                let (inside, x) = window.columns_inside(ox, w);
                out[..inside.start * c].fill(T::zero());
                out[inside.end * c..].fill(T::zero());
                let out = &mut out[inside.start * c..inside.end * c];
                let from = b * sb + y * sh + x * sw;
                if packed {
                    out.copy_from_slice(&self.data[from..][..out.len()]);
                    continue;
                }
                for (kx, out) in out.chunks_exact_mut(c).enumerate() {
                    for (channel, out) in out.iter_mut().enumerate() {
                        *out = self.data[from + kx * sw + channel * sc];
                    }
                }
            }
        });
    }
}

/// The adjoint of [`Images::unfold`]: fills `images` `[.., h, w, c]` with the sums of the patches that lie over them.
pub(super) fn fold<T: Real>(patches: &[T], [h, w, c]: [usize; 3], window: Window, images: &mut [T]) {
    let threads = parallel::worth(2 * size_of_val(patches));
    // Row by row of the image: whatever thread a row falls to, its sums are in the order of the kernel's rows.
    parallel::for_chunks(images, w * c, threads, |i, row| {
        dispatch(FoldRow { patches, image: i / h.max(1), y: i % h.max(1), dims: [h, w, c], window, row });
    });
}

struct FoldRow<'a, T> {
    patches: &'a [T],
    image: usize,
    y: usize,
    dims: [usize; 3],
    window: Window,
    row: &'a mut [T],
}

impl<T: Real> Kernel for FoldRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { patches, image, y, dims: [h, w, c], window, row } = self;
        let (oh, ow) = window.output(h, w);
        row.fill(T::zero());
        for ky in 0..window.kernel {
            let Some(oy) = window.output_row(y, ky, oh) else { continue };
            for ox in 0..ow {
                let (inside, x) = window.columns_inside(ox, w);
                let patch = (((image * oh + oy) * ow + ox) * window.kernel + ky) * window.kernel;
                let from = &patches[(patch + inside.start) * c..(patch + inside.end) * c];
                for (sum, &x) in row[x * c..].iter_mut().zip(from) {
                    *sum += x;
                }
            }
        }
    }
}
