//! Convolution, channels last.
//!
//! Activations here are `[batch, height, width, channels]`; weights keep PyTorch's `[out, in, k, k]`, so pretrained
//! files load as they are.

use candle_core::{Result, Tensor};

use crate::ops::{self, Window};
use crate::{Init, Parameters};

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

/// What follows the sum of a convolution: nothing, a bias, or a norm.
pub(crate) enum After {
    Nothing,
    Bias(Tensor),
    Norm(FrozenNorm),
}

impl After {
    /// Scale and shift.
    fn affine(&self) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(match self {
            Self::Nothing => (None, None),
            Self::Bias(bias) => (None, Some(bias.clone())),
            Self::Norm(norm) => {
                let (scale, shift) = norm.affine()?;
                (Some(scale), Some(shift))
            }
        })
    }
}

/// A convolution that stands still, or sees nothing, has no output.
fn check(kernel: usize, stride: usize) -> crate::Result<()> {
    if kernel == 0 || stride == 0 {
        return Err(crate::Error::invalid(
            "convolution",
            format!("kernel {kernel} and stride {stride}: both start at 1"),
        ));
    }
    Ok(())
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
        check(kernel, stride)?;
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
        self.clamped(x, None)
    }

    /// Followed by `max(·, 0)`.
    pub(crate) fn relu(&self, x: &Tensor) -> Result<Tensor> {
        self.clamped(x, Some(f64::INFINITY))
    }

    /// Followed by a clamp to `[0, ceiling]`, where there is one.
    pub(crate) fn clamped(&self, x: &Tensor, ceiling: Option<f64>) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        let window = self.padding.window(self.weight.dim(2)?, self.stride, (h, w));
        let (scale, shift) = self.after.affine()?;
        ops::conv2d(x, &self.weight, (scale.as_ref(), shift.as_ref()), window, ceiling)
    }
}

/// A convolution of each channel with its own kernel: `[b, h, w, c]` to `[b, h', w', c]`.
pub(crate) struct DepthwiseConv2d {
    weight: Tensor,
    norm: FrozenNorm,
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
        check(kernel, stride)?;
        let weight = p.get("weight", (channels, 1, kernel, kernel), Init::he(kernel * kernel))?;
        Ok(Self { weight, norm, stride, padding })
    }

    /// Followed by a clamp to `[0, ceiling]`.
    pub(crate) fn clamped(&self, x: &Tensor, ceiling: f64) -> Result<Tensor> {
        let (_, h, w, channels) = x.dims4()?;
        let kernel = self.weight.dim(2)?;
        let window = self.padding.window(kernel, self.stride, (h, w));
        let (scale, shift) = self.norm.affine()?;
        let weight = self.weight.reshape((channels, kernel * kernel))?.t()?.broadcast_mul(&scale)?;
        ops::depthwise_conv2d(x, &weight, &shift, window, Some(ceiling))
    }
}

/// `[b, c, h, w]` pixels as `[b, h, w, c]`, for a convolution, which reads any strides.
pub(crate) fn channels_last(pixels: &Tensor) -> Result<Tensor> {
    pixels.permute((0, 2, 3, 1))
}

/// The mean over positions: `[b, h, w, c]` to `[b, c]`.
pub(crate) fn mean_positions(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    x.reshape((b, h * w, c))?.mean(1)
}
