use candle_core::{Result, Tensor};
use std::ops::Range;

/// A square kernel that moves over an image with zeros around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Rows, and columns, from one position to the next.
    pub stride: usize,
    /// Zeros above and below.
    pub rows: (usize, usize),
    /// Zeros left and right.
    pub columns: (usize, usize),
}

impl Window {
    /// Height and width of the output for an image of height `h` and width `w`.
    pub fn output(&self, h: usize, w: usize) -> (usize, usize) {
        let count = |n: usize, (before, after): (usize, usize)| {
            (n + before + after).checked_sub(self.kernel).map_or(0, |room| room / self.stride.max(1) + 1)
        };
        (count(h, self.rows), count(w, self.columns))
    }

    /// The input row that kernel row `k` meets at output row `o`, if it is inside `0..h`.
    pub(super) fn row(&self, o: usize, k: usize, h: usize) -> Option<usize> {
        (o * self.stride + k).checked_sub(self.rows.0).filter(|y| *y < h)
    }

    /// The output row at which kernel row `k` meets input row `y`, if there is one among `0..oh`.
    pub(super) fn output_row(&self, y: usize, k: usize, oh: usize) -> Option<usize> {
        let start = (y + self.rows.0).checked_sub(k)?;
        (start.is_multiple_of(self.stride) && start / self.stride < oh).then_some(start / self.stride)
    }

    /// The kernel columns that meet an input column inside `0..w` at output column `o`, and the input column of the first.
    pub(super) fn columns_inside(&self, o: usize, w: usize) -> (Range<usize>, usize) {
        let at = o * self.stride;
        let first = self.columns.0.saturating_sub(at).min(self.kernel);
        let last = (w + self.columns.0).saturating_sub(at).min(self.kernel).max(first);
        (first..last, (at + first).saturating_sub(self.columns.0))
    }

    /// The input at each kernel position, composed of candle's own differentiable operations: `k²` tensors `[b, h', w', c]`
    /// of `x` `[b, h, w, c]`, with `outside` around it. The path of devices without a kernel of their own.
    pub(super) fn taps(&self, x: &Tensor, outside: f64) -> Result<Vec<Tensor>> {
        let (b, h, w, c) = x.dims4()?;
        let (oh, ow) = self.output(h, w);
        let full = |shape: [usize; 4]| Tensor::full(outside as f32, &shape, x.device())?.to_dtype(x.dtype());
        // GPUs take no empty tensor and select from none that is not contiguous.
        let pad = |x: &Tensor, dim: usize, (before, after): (usize, usize), shape: &dyn Fn(usize) -> [usize; 4]| {
            let ends = [before, after].map(|n| (n > 0).then(|| full(shape(n))).transpose());
            let [before, after] = ends;
            let (before, after) = (before?, after?);
            let all: Vec<&Tensor> = before.iter().chain([x]).chain(&after).collect();
            if all.len() > 1 { Tensor::cat(&all, dim)?.contiguous() } else { x.contiguous() }
        };
        let tall = h + self.rows.0 + self.rows.1;
        let padded = pad(x, 1, self.rows, &|n| [b, n, w, c])?;
        let padded = pad(&padded, 2, self.columns, &|n| [b, tall, n, c])?;
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
