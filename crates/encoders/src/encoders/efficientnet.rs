//! EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6.
//!
//! Names and numbers are those of the Lite0 checkpoint converted from TensorFlow: "SAME" padding, norms with ε = 1e-3,
//! pixels as (x − 127) / 128; the stem and the last stage are not scaled.

use candle_core::{Result, Tensor};
use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{Conv2d, DepthwiseConv2d, FrozenNorm, Padding, channels_last, mean_positions};
use crate::preprocessor::Takes;
use crate::{Encoder, Input, ModelFiles, Parameters, Pixels, Reader};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "efficientnet-lite",
    modality: "image",
    about: "EfficientNet-Lite0, pretrained; the mean over positions",
    paper: "Tan & Le 2019, and TensorFlow's Lite variants of 2020",
    stem: &["_conv_stem", "_bn0"],
    kind: EncoderKind::Pretrained { model: "", build },
};

const EPS: f64 = 1e-3;

/// An optional `config.json`; Lite0 without.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    stem: usize,
    stages: Vec<Stage>,
    head: usize,
    image_size: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    repeats: usize,
    kernel: usize,
    stride: usize,
    expand: usize,
    channels: usize,
}

impl Default for Config {
    fn default() -> Self {
        let stages = [
            (1, 3, 1, 1, 16),
            (2, 3, 2, 6, 24),
            (2, 5, 2, 6, 40),
            (3, 3, 2, 6, 80),
            (3, 5, 1, 6, 112),
            (4, 5, 2, 6, 192),
            (1, 3, 1, 6, 320),
        ];
        let stage = |(repeats, kernel, stride, expand, channels)| Stage { repeats, kernel, stride, expand, channels };
        Self { stem: 32, stages: stages.map(stage).into(), head: 1280, image_size: 224 }
    }
}

struct EfficientNet {
    stem: Conv2d,
    blocks: Vec<Inverted>,
    head: Conv2d,
    dim: usize,
    reader: Pixels,
}

/// An inverted residual: wide inside, narrow between.
struct Inverted {
    expand: Option<Conv2d>,
    depthwise: DepthwiseConv2d,
    project: Conv2d,
    residual: bool,
}

fn build(files: &ModelFiles, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let config: Config = files.json("config.json")?.unwrap_or_default();
    let reader = files.pixels(Takes::Any(config.image_size), [127.0 / 255.0; 3], [128.0 / 255.0; 3])?;
    load(files.weights()?, &["num_batches_tracked", "_fc."], p, |p| {
        Ok(Box::new(EfficientNet::new(&config, reader, p)?))
    })
}

impl EfficientNet {
    fn new(config: &Config, reader: Pixels, p: &Parameters) -> crate::Result<Self> {
        let mut inputs = config.stem;
        let stem = conv((3, inputs), (3, 2), ["_conv_stem", "_bn0"], p)?;
        let mut blocks = Vec::new();
        for stage in &config.stages {
            for i in 0..stage.repeats {
                let stride = if i == 0 { stage.stride } else { 1 };
                let scope = p.scope("_blocks").scope(blocks.len());
                let inner = inputs * stage.expand;
                let expand =
                    (stage.expand != 1).then(|| conv((inputs, inner), (1, 1), ["_expand_conv", "_bn0"], &scope));
                let norm = FrozenNorm::new(inner, EPS, &scope.scope("_bn1"))?;
                let form = (stage.kernel, stride);
                let scope_depthwise = scope.scope("_depthwise_conv");
                blocks.push(Inverted {
                    expand: expand.transpose()?,
                    depthwise: DepthwiseConv2d::new(inner, form, Padding::Same, norm, &scope_depthwise)?,
                    project: conv((inner, stage.channels), (1, 1), ["_project_conv", "_bn2"], &scope)?,
                    residual: stride == 1 && inputs == stage.channels,
                });
                inputs = stage.channels;
            }
        }
        let head = conv((inputs, config.head), (1, 1), ["_conv_head", "_bn1"], p)?;
        Ok(Self { stem, blocks, head, dim: config.head, reader })
    }
}

fn conv(
    channels: (usize, usize),
    form: (usize, usize),
    [conv, norm]: [&str; 2],
    p: &Parameters,
) -> crate::Result<Conv2d> {
    let conv = Conv2d::new(channels, form, Padding::Same, false, &p.scope(conv))?;
    Ok(conv.normed(FrozenNorm::new(channels.1, EPS, &p.scope(norm))?))
}

/// Where ReLU6 cuts off.
const SIX: f64 = 6.0;

impl Inverted {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => expand.clamped(x, Some(SIX))?,
            None => x.clone(),
        };
        let y = self.project.forward(&self.depthwise.clamped(&wide, SIX)?)?;
        if self.residual { y + x } else { Ok(y) }
    }
}

impl Encoder for EfficientNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let x = self.stem.clamped(&channels_last(input.pixels()?)?, Some(SIX))?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        mean_positions(&self.head.clamped(&x, Some(SIX))?)
    }
}
