//! Residual networks: 18 and 34 with basic blocks, 50 and deeper with bottlenecks.

use candle_core::{Result, Tensor, bail};
use serde::Deserialize;

use super::{EncoderEntry, EncoderKind, load};
use crate::layers::{Conv2d, FrozenNorm, Padding, channels_last, mean_positions};
use crate::ops;
use crate::preprocessor::Takes;
use crate::{Encoder, Error, Input, ModelFiles, Parameters, Pixels, Reader};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "resnet",
    modality: "image",
    about: "ResNet-18, -34, -50 and deeper, pretrained; the mean over positions",
    paper: "He et al. 2016",
    stem: &["embedder"],
    kind: EncoderKind::Pretrained { model: "microsoft/resnet-50", build },
};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    embedding_size: usize,
    hidden_sizes: Vec<usize>,
    depths: Vec<usize>,
    layer_type: String,
    hidden_act: String,
    downsample_in_first_stage: bool,
    downsample_in_bottleneck: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: "bottleneck".into(),
            hidden_act: "relu".into(),
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
        }
    }
}

struct ResNet {
    stem: Conv2d,
    units: Vec<Unit>,
    dim: usize,
    reader: Pixels,
}

/// One residual unit.
struct Unit {
    layers: Vec<Conv2d>,
    shortcut: Option<Conv2d>,
}

fn build(files: &ModelFiles, p: &Parameters) -> crate::Result<Box<dyn Encoder>> {
    let config: Config = files.config()?;
    let reader = files.pixels(Takes::Any(224), MEAN, STD)?;
    let weights = files.weights()?.renamed(|name| Some(name.strip_prefix("resnet.").unwrap_or(name).to_owned()));
    load(weights, &["num_batches_tracked", "classifier."], p, |p| Ok(Box::new(ResNet::new(&config, reader, p)?)))
}

impl ResNet {
    fn new(config: &Config, reader: Pixels, p: &Parameters) -> crate::Result<Self> {
        let bottleneck = match config.layer_type.as_str() {
            "bottleneck" => true,
            "basic" => false,
            other => return Err(Error::unknown("layer_type", other, ["basic", "bottleneck"].into_iter())),
        };
        if config.hidden_act != "relu" || config.hidden_sizes.len() != config.depths.len() {
            let problem = "expected hidden_act relu, and one of hidden_sizes for each of depths";
            return Err(Error::invalid("ResNet", problem));
        }
        let mut inputs = config.embedding_size;
        let stem = conv((3, inputs), (7, 2), &p.scope("embedder.embedder"))?;
        let mut units = Vec::new();
        for (stage, (outputs, depth)) in config.hidden_sizes.iter().zip(&config.depths).enumerate() {
            for i in 0..*depth {
                let stride = if i == 0 && (stage > 0 || config.downsample_in_first_stage) { 2 } else { 1 };
                let scope = p.scope(format!("encoder.stages.{stage}.layers.{i}"));
                let layer = |n: usize, channels, form| conv(channels, form, &scope.scope("layer").scope(n));
                let layers = if bottleneck {
                    let inner = outputs / 4;
                    let (first, second) = if config.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
                    vec![
                        layer(0, (inputs, inner), (1, first))?,
                        layer(1, (inner, inner), (3, second))?,
                        layer(2, (inner, *outputs), (1, 1))?,
                    ]
                } else {
                    vec![layer(0, (inputs, *outputs), (3, stride))?, layer(1, (*outputs, *outputs), (3, 1))?]
                };
                let shortcut = (inputs != *outputs || stride != 1)
                    .then(|| conv((inputs, *outputs), (1, stride), &scope.scope("shortcut")));
                units.push(Unit { layers, shortcut: shortcut.transpose()? });
                inputs = *outputs;
            }
        }
        Ok(Self { stem, units, dim: inputs, reader })
    }
}

fn conv(channels: (usize, usize), form: (usize, usize), p: &Parameters) -> crate::Result<Conv2d> {
    let conv = Conv2d::new(channels, form, Padding::Even(form.0 / 2), false, &p.scope("convolution"))?;
    Ok(conv.normed(FrozenNorm::new(channels.1, 1e-5, &p.scope("normalization"))?))
}

impl Unit {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Some((last, before)) = self.layers.split_last() else { bail!("a residual unit without layers") };
        let y = before.iter().try_fold(x.clone(), |y, layer| layer.relu(&y))?;
        let y = last.forward(&y)?;
        match &self.shortcut {
            Some(shortcut) => ops::add_relu(&y, &shortcut.forward(x)?),
            None => ops::add_relu(&y, x),
        }
    }
}

impl Encoder for ResNet {
    fn dim(&self) -> usize {
        self.dim
    }

    fn reader(&self) -> &dyn Reader {
        &self.reader
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        let x = self.stem.relu(&channels_last(input.pixels()?)?)?;
        let (_, h, w, _) = x.dims4()?;
        let x = ops::max_pool2d(&x, Padding::Even(1).window(3, 2, (h, w)))?;
        mean_positions(&self.units.iter().try_fold(x, |x, unit| unit.forward(&x))?)
    }
}
