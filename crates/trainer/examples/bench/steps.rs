//! Whole training steps: forward, balanced backward, optimiser.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad::{Balancer, Block, Labels, Role, Value, methods};
use balgrad_encoders::{
    BlockRole, Encoder, EncoderKind, Expects, HeadForm, HubSettings, Input, ModelConfig, ModelFiles, Parameters,
    Precomputed, ScratchShape, TowerConfig, TwoTower, encoder,
};
use balgrad_kernels::run_on;
use balgrad_nn::{AdamW, Parameter};
use balgrad_trainer::training::speak;
use candle_core::{Device, Tensor};

use super::Job;

const CLASSES: usize = 8;
const WIDTH: usize = 256;
/// Tokens of a text.
pub(crate) const TOKENS: usize = 24;

/// One for each modality.
type Encoders = Vec<Box<dyn Encoder>>;

/// A model to train: an encoder for each modality, whether its `h_m` starts with a norm, and samples of a batch.
struct Setting {
    encoders: fn(&[String], &Parameters) -> Result<Encoders>,
    norm: bool,
    batch: usize,
}

const SETTINGS: &[(&str, Setting)] = &[
    ("frozen", Setting { encoders: frozen, norm: false, batch: 64 }),
    ("small", Setting { encoders: small, norm: true, batch: 64 }),
    ("resnet", Setting { encoders: resnet, norm: true, batch: 32 }),
];

/// The sizes of the default descriptors.
fn frozen(_: &[String], _: &Parameters) -> Result<Encoders> {
    Ok(vec![Box::new(Precomputed::new(1030)), Box::new(Precomputed::new(1024))])
}

/// A small ViT and a small BERT, from nothing.
fn small(_: &[String], p: &Parameters) -> Result<Encoders> {
    let built = ["small-vit", "small-bert"].into_iter().zip(["image", "text"]).map(|(name, modality)| {
        let EncoderKind::Scratch(build) = encoder(name)?.kind else { bail!("`{name}` does not start from nothing") };
        Ok(build(&ScratchShape::default(), &p.scope(modality).scope("encoder"))?)
    });
    built.collect()
}

/// ResNet-18 from the folder that the peer wrote, beside features as a text tower.
fn resnet(rest: &[String], p: &Parameters) -> Result<Encoders> {
    let folder = rest.first().context("step resnet METHOD FOLDER: where the peer wrote the model")?;
    let image = pretrained("resnet", Path::new(folder), Some(64), &p.scope("image").scope("encoder"))?;
    Ok(vec![image, Box::new(Precomputed::new(384))])
}

/// A network from a folder in the form of the hub.
pub(crate) fn pretrained(name: &str, folder: &Path, size: Option<usize>, p: &Parameters) -> Result<Box<dyn Encoder>> {
    let EncoderKind::Pretrained { build, .. } = encoder(name)?.kind else { bail!("`{name}` has no pretrained form") };
    let files = ModelFiles::open(&folder.to_string_lossy(), &HubSettings::default())?;
    let files = if let Some(size) = size { files.at_size(size) } else { files };
    Ok(build(&files, p)?)
}

/// A batch of what an encoder reads: waves, the same in every iteration.
pub(crate) fn batch(expects: &Expects, batch: usize) -> candle_core::Result<Input> {
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    match expects {
        Expects::Pixels { size, .. } => {
            let shape = (batch, 3, *size, *size);
            Ok(Input::Pixels(Tensor::from_vec(wave(batch * 3 * size * size), shape, &Device::Cpu)?))
        }
        Expects::Features(dim) => {
            Ok(Input::Features(Tensor::from_vec(wave(batch * dim), (batch, *dim), &Device::Cpu)?))
        }
        Expects::Tokens { .. } => {
            let texts: Vec<Vec<u32>> =
                (0..batch).map(|b| (0..TOKENS).map(|t| ((b * 31 + t * 7) % 1000) as u32).collect()).collect();
            expects.tokens(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>(), &Device::Cpu)
        }
    }
}

/// `step SETTING METHOD [FOLDER] [KEY=VALUE]…`: one step of AdamW on a batch.
pub(crate) fn step(arguments: &[String]) -> Result<Job> {
    let [setting, method, rest @ ..] = arguments else { bail!("step SETTING METHOD [FOLDER] [KEY=VALUE]…") };
    let found = SETTINGS.iter().find(|(name, _)| name == setting);
    let (_, setting) = found.with_context(|| format!("step: there is no setting `{setting}`"))?;
    let given = rest.iter().filter_map(|pair| pair.split_once('='));
    let given: BTreeMap<String, Value> = given.map(|(key, value)| (key.to_owned(), Value::parse(value))).collect();
    let method = methods::find(method)?.with(&given)?;

    let parameters = Parameters::new(0, &Device::Cpu);
    let encoders = (setting.encoders)(rest, &parameters)?;
    let inputs = encoders.iter().map(|e| batch(e.expects(), setting.batch)).collect::<candle_core::Result<Vec<_>>>()?;
    let tower = |name: &str, encoder: &dyn Encoder| {
        let deep = !matches!(encoder.expects(), Expects::Features(_));
        TowerConfig { name: name.to_owned(), head: HeadForm::Mlp, norm: setting.norm && deep }
    };
    let towers = vec![tower("image", encoders[0].as_ref()), tower("text", encoders[1].as_ref())];
    let config = ModelConfig { fusion: "concat".into(), width: WIDTH, classes: CLASSES, towers };
    let model = TwoTower::new(&config, encoders, &parameters)?;
    let named = parameters.all();
    let role = |name: &str| match model.block_of(name) {
        BlockRole::Tower(m) => Role::Tower(m),
        BlockRole::Head(m) => Role::Head(m),
        BlockRole::Fused => Role::Fused,
    };
    let blocks = Block::group(named.iter().cloned(), role, method.needs().granularity);
    let ids: Vec<u32> = (0..setting.batch).map(|b| (b % CLASSES) as u32).collect();
    let labels = Labels::classes(Tensor::new(ids, &Device::Cpu)?);

    let count = parameters.count();
    let parameter = |(name, var)| Parameter { name, var, lr_scale: 1.0, weight_decay: 0.01 };
    let mut optimizer = AdamW::default().over(named.into_iter().map(parameter).collect())?;
    let period = method.needs().refresh.max(1);
    let mut balancer = Balancer::new(method, blocks, 0).lasting(1000, 100);
    let mut iterate = move || {
        let outputs = speak(&model, &inputs, balancer.needs())?;
        let grads = balancer.backward(&outputs, &labels)?;
        optimizer.step(&grads, 1e-4, &|_| 1.0)?;
        Ok(())
    };
    let iterate = move || run_on(&Device::Cpu, &mut iterate);
    Ok(Job { parameters: count, period, ..Job::on(count, iterate) })
}
