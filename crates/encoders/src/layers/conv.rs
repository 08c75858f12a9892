//! Convolution as patches times a matrix, channels last.
//!
//! candle's own convolution is five to eight times slower than it need be on CPU, and grouped ones are slower still.
//! Activations here are `[batch, height, width, channels]`; weights keep PyTorch's `[out, in, k, k]`, so pretrained
//! files load as they are.

use candle_core::{Result, Tensor};

use super::depthwise::depthwise;
use super::unfold::{Window, unfold};
use crate::{Init, Parameters, ops};

/// The zeros around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// This many on every side.
    Even(usize),
    /// As TensorFlow's "SAME": the output is `ceil(size / stride)`, an odd zero goes to the end.
    Same,
}

impl Padding {
    pub(crate) fn window(self, kernel: usize, stride: usize, size: (usize, usize)) -> Window {
        let before_and_after = |n: usize| match self {
            Self::Even(p) => (p, p),
            Self::Same => {
                let total = (n.div_ceil(stride).saturating_sub(1) * stride + kernel).saturating_sub(n);
                (total / 2, total - total / 2)
            }
        };
        Window { kernel, stride, rows: before_and_after(size.0), columns: before_and_after(size.1) }
    }
}

/// A batch normalisation with fixed statistics: a scale and a shift for each channel.
///
/// Pretrained networks keep their statistics when they are fine-tuned on small batches here; weight and bias learn.
pub(crate) struct FrozenNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: f64,
}

impl FrozenNorm {
    pub(crate) fn new(channels: usize, eps: f64, p: &Parameters) -> crate::Result<Self> {
        Ok(Self {
            weight: p.get("weight", channels, Init::Const(1.0))?,
            bias: p.get("bias", channels, Init::Const(0.0))?,
            mean: p.buffer("running_mean", channels, Init::Const(0.0))?,
            variance: p.buffer("running_var", channels, Init::Const(1.0))?,
            eps,
        })
    }

    /// Scale and shift, `[channels]` each.
    fn affine(&self) -> Result<(Tensor, Tensor)> {
        let scale = (&self.weight / (&self.variance + self.eps)?.sqrt()?)?;
        let shift = (&self.bias - (&self.mean * &scale)?)?;
        Ok((scale, shift))
    }
}

/// What follows the sum of a convolution: nothing, a bias, or a norm that is folded into weight and bias.
pub(crate) enum After {
    Nothing,
    Bias(Tensor),
    Norm(FrozenNorm),
}

impl After {
    /// The weight, its first dimension scaled, and the bias.
    fn fold(&self, weight: Tensor) -> Result<(Tensor, Option<Tensor>)> {
        match self {
            Self::Nothing => Ok((weight, None)),
            Self::Bias(bias) => Ok((weight, Some(bias.clone()))),
            Self::Norm(norm) => {
                let (scale, shift) = norm.affine()?;
                Ok((weight.broadcast_mul(&scale.unsqueeze(1)?)?, Some(shift)))
            }
        }
    }
}

/// `[b, h, w, in]` to `[b, h', w', out]`.
pub(crate) struct Conv2d {
    weight: Tensor,
    after: After,
    stride: usize,
    padding: Padding,
}

impl Conv2d {
    /// The parameter `weight` `[out, in, k, k]`, and `bias` `[out]` if asked for.
    pub(crate) fn new(
        (inputs, outputs): (usize, usize),
        (kernel, stride): (usize, usize),
        padding: Padding,
        bias: bool,
        p: &Parameters,
    ) -> crate::Result<Self> {
        let fan_in = inputs * kernel * kernel;
        let weight = p.get("weight", (outputs, inputs, kernel, kernel), Init::he(fan_in))?;
        let after = if bias { After::Bias(p.get("bias", outputs, Init::fan_in(fan_in))?) } else { After::Nothing };
        Ok(Self { weight, after, stride, padding })
    }

    /// Followed by a norm.
    pub(crate) fn normed(mut self, norm: FrozenNorm) -> Self {
        self.after = After::Norm(norm);
        self
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, _) = x.dims4()?;
        let (outputs, inputs, kernel, _) = self.weight.dims4()?;
        let window = self.padding.window(kernel, self.stride, (h, w));
        let (oh, ow) = window.output(h, w);
        let weight = match kernel {
            1 => self.weight.reshape((outputs, inputs))?,
            _ => self.weight.permute((0, 2, 3, 1))?.reshape((outputs, kernel * kernel * inputs))?,
        };
        let (weight, bias) = self.after.fold(weight)?;
        let patches = match (kernel, self.stride) {
            (1, 1) => x.reshape((b * h * w, inputs))?,
            _ => unfold(x, window)?,
        };
        ops::linear(&patches, &weight, bias.as_ref())?.reshape((b, oh, ow, outputs))
    }
}

/// A convolution of each channel with its own kernel: `[b, h, w, c]` to `[b, h', w', c]`.
pub(crate) struct DepthwiseConv2d {
    weight: Tensor,
    after: After,
    stride: usize,
    padding: Padding,
}

impl DepthwiseConv2d {
    /// The parameter `weight` `[c, 1, k, k]`, followed by a norm.
    pub(crate) fn new(
        channels: usize,
        (kernel, stride): (usize, usize),
        padding: Padding,
        norm: FrozenNorm,
        p: &Parameters,
    ) -> crate::Result<Self> {
        let weight = p.get("weight", (channels, 1, kernel, kernel), Init::he(kernel * kernel))?;
        Ok(Self { weight, after: After::Norm(norm), stride, padding })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, h, w, channels) = x.dims4()?;
        let kernel = self.weight.dim(2)?;
        let window = self.padding.window(kernel, self.stride, (h, w));
        let (weight, bias) = self.after.fold(self.weight.reshape((channels, kernel * kernel))?)?;
        let y = depthwise(x, &weight.t()?.contiguous()?, window)?;
        match bias {
            Some(bias) => y.broadcast_add(&bias),
            None => Ok(y),
        }
    }
}

/// `[b, c, h, w]` pixels as `[b, h, w, c]`.
pub(crate) fn channels_last(pixels: &Tensor) -> Result<Tensor> {
    pixels.permute((0, 2, 3, 1))?.contiguous()
}

/// The mean over positions: `[b, h, w, c]` to `[b, c]`.
pub(crate) fn mean_positions(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h * w, c))?.mean(1)
}
