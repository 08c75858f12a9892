//! A small convolutional network for small images and few of them.
//!
//! Plain 3×3 stages with layer norms over channels (Liu et al. 2022 show that they serve as well as batch norms), so
//! that a sample's embedding does not depend on its batch, in training or after.

use candle_core::{Result, Tensor};

use super::{EncoderEntry, EncoderKind, FIT_SIZE, centred, fitted_size};
use crate::layers::{Conv2d, LayerNorm, Padding, channels_last, mean_positions};
use crate::{Encoder, Input, Parameters, Pixels, Reader, ops};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "small-cnn",
    modality: "image",
    about: "a small convolutional network, trained from scratch",
    paper: "after Liu et al. 2022 (ConvNeXt): layer norms, patchified stem",
    stem: &[],
    kind: EncoderKind::Scratch { fit: FIT_SIZE, build },
};

/// Kernel, stride and channels of each stage.
const STAGES: [(usize, usize, usize); 4] = [(5, 2, 24), (3, 2, 48), (3, 2, 96), (3, 2, 192)];

struct SmallCnn {
    stages: Vec<(Conv2d, LayerNorm)>,
    reader: Pixels,
}

fn build(fitted: &str, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let mut inputs = 3;
    let mut stages = Vec::new();
    for (i, (kernel, stride, outputs)) in STAGES.into_iter().enumerate() {
        let scope = p.scope("stage").scope(i);
        let padding = Padding::Even(kernel / 2);
        let conv = Conv2d::new((inputs, outputs), (kernel, stride), padding, false, &scope.scope("conv"))?;
        stages.push((conv, LayerNorm::new(outputs, 1e-5, &scope.scope("norm"))?));
        inputs = outputs;
    }
    Ok(Box::new(SmallCnn { stages, reader: centred(fitted_size(fitted)?) }))
}

impl Encoder for SmallCnn {
    fn dim(&self) -> usize {
        STAGES[STAGES.len() - 1].2
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let stage = |x: Tensor, (conv, norm): &(Conv2d, LayerNorm)| ops::gelu(&norm.forward(&conv.forward(&x)?)?);
        mean_positions(&self.stages.iter().try_fold(channels_last(input.pixels()?)?, stage)?)
    }
}
