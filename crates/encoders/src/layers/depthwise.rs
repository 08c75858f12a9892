//! Depthwise convolution, channels last, forward and backward.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use super::unfold::{Window, view};

/// `x` `[b, h, w, c]` with a kernel for each channel, `weight` `[k·k, c]`: `[b, h', w', c]`.
pub(crate) fn depthwise(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    let image = x.dims4()?;
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(weight, Depthwise { window, image });
    }
    let weighted = |(i, tap): (usize, Tensor)| tap.broadcast_mul(&weight.get(i)?);
    let taps = window.taps(x)?.into_iter().enumerate().map(weighted).collect::<Result<Vec<_>>>()?;
    let zero = taps.first().map(Tensor::zeros_like).transpose()?;
    let Some(zero) = zero else { bail!("a depthwise convolution needs a kernel of one or more") };
    taps.iter().try_fold(zero, |sum, tap| sum + tap)
}

#[derive(Clone, Copy)]
struct Depthwise {
    window: Window,
    image: (usize, usize, usize, usize),
}

/// Gradients of input and weight, one after the other in one flat tensor.
struct Backward(Depthwise);

impl Depthwise {
    /// Calls `visit(output offset, weight offset, input offset)` for each run of `c` values of one image.
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (_, h, w, c) = self.image;
        let (oh, ow) = self.window.output(h, w);
        let k = self.window.kernel;
        for oy in 0..oh {
            for ky in 0..k {
                let Some(y) = self.window.row(oy, ky, h) else { continue };
                for ox in 0..ow {
                    for kx in 0..k {
                        let Some(x) = self.window.column(ox, kx, w) else { continue };
                        visit((oy * ow + ox) * c, (ky * k + kx) * c, (y * w + x) * c);
                    }
                }
            }
        }
    }

    fn shape(&self) -> (usize, usize, usize, usize) {
        let (b, h, w, c) = self.image;
        let (oh, ow) = self.window.output(h, w);
        (b, oh, ow, c)
    }

    fn forward<T: WithDType>(&self, x: &[T], weight: &[T]) -> Vec<T> {
        let (_, h, w, c) = self.image;
        let (b, oh, ow, _) = self.shape();
        let mut out = vec![T::zero(); b * oh * ow * c];
        let each = |(out, x): (&mut [T], &[T])| {
            self.runs(|o, k, i| {
                let run = out[o..o + c].iter_mut().zip(&x[i..i + c]).zip(&weight[k..k + c]);
                run.for_each(|((out, x), weight)| *out += *x * *weight);
            });
        };
        out.par_chunks_mut((oh * ow * c).max(1)).zip(x.par_chunks((h * w * c).max(1))).for_each(each);
        out
    }

    fn backward<T: WithDType>(&self, x: &[T], weight: &[T], gradient: &[T]) -> Vec<T> {
        let (_, h, w, c) = self.image;
        let (b, oh, ow, _) = self.shape();
        let pixels = h * w * c;
        let mut out = vec![T::zero(); b * pixels + weight.len()];
        let (dx, dw) = out.split_at_mut(b * pixels);
        let each = |((dx, x), gradient): ((&mut [T], &[T]), &[T])| {
            let mut dw = vec![T::zero(); weight.len()];
            self.runs(|o, k, i| {
                let gradient = &gradient[o..o + c];
                let run = dx[i..i + c].iter_mut().zip(gradient).zip(&weight[k..k + c]);
                run.for_each(|((dx, g), weight)| *dx += *g * *weight);
                let run = dw[k..k + c].iter_mut().zip(gradient).zip(&x[i..i + c]);
                run.for_each(|((dw, g), x)| *dw += *g * *x);
            });
            dw
        };
        let images = dx.par_chunks_mut(pixels.max(1)).zip(x.par_chunks(pixels.max(1)));
        let parts: Vec<_> = images.zip(gradient.par_chunks((oh * ow * c).max(1))).map(each).collect();
        // Summed in the order of the batch, whatever thread made them.
        for part in parts {
            dw.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        out
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = match x {
            CpuStorage::F32(_) => CpuStorage::F32(self.forward(view(x, lx)?, view(w, lw)?)),
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(view(x, lx)?, view(w, lw)?)),
            _ => bail!("convolution is for f32 and f64"),
        };
        Ok((out, Shape::from(self.shape())))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let both = x.contiguous()?.apply_op3_no_bwd(&w.contiguous()?, &gradient.contiguous()?, &Backward(*self))?;
        let dx = both.narrow(0, 0, x.elem_count())?.reshape(x.shape())?;
        let dw = both.narrow(0, x.elem_count(), w.elem_count())?.reshape(w.shape())?;
        Ok((Some(dx), Some(dw)))
    }
}

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "depthwise-conv-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let n = lx.shape().elem_count() + lw.shape().elem_count();
        let out = match x {
            CpuStorage::F32(_) => CpuStorage::F32(self.0.backward(view(x, lx)?, view(w, lw)?, view(g, lg)?)),
            CpuStorage::F64(_) => CpuStorage::F64(self.0.backward(view(x, lx)?, view(w, lw)?, view(g, lg)?)),
            _ => bail!("convolution is for f32 and f64"),
        };
        Ok((out, Shape::from(n)))
    }
}
