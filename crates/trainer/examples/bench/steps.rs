//! Whole training steps: forward, balanced backward, optimiser.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad::{Balancer, Block, Role, Target, Value, methods};
use balgrad_data::Source;
use balgrad_encoders::{
    BlockRole, Encoder, EncoderKind, FitOptions, HeadForm, HubSettings, Input, Item, ModelConfig, ModelFiles,
    Parameters, Precomputed, TowerConfig, TwoTower, encoder,
};
use balgrad_kernels::run_on;
use balgrad_nn::{AdamW, Parameter};
use balgrad_trainer::forward;
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

/// A small ViT and a small BERT, from scratch.
fn small(_: &[String], p: &Parameters) -> Result<Encoders> {
    let built = ["small-vit", "small-bert"].into_iter().zip(["image", "text"]).map(|(name, modality)| {
        let entry = encoder(name)?;
        let EncoderKind::Scratch { fit, build } = entry.kind else { bail!("`{name}` is not trained from scratch") };
        // Texts of many words, for a vocabulary of full size.
        let letter = |i: u32| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 26);
        let text = (0..30_000).map(|i| if i % 7 == 6 { ' ' } else { letter(i) }).collect();
        let fitted = fit(&[&Source::Text(text)], &FitOptions::default())?;
        Ok(build(&fitted, &p.scope(modality).scope("encoder"))?)
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
pub(crate) fn batch(encoder: &dyn Encoder, batch: usize) -> Result<Input> {
    let missing = encoder.reader().collate(&vec![Item::Missing; batch], &Device::Cpu)?;
    let wave = |like: &Tensor| {
        let values: Vec<f32> = (0..like.elem_count()).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, like.dims(), &Device::Cpu)
    };
    Ok(match missing {
        Input::Pixels(x) => Input::Pixels(wave(&x)?),
        Input::Features(x) => Input::Features(wave(&x)?),
        Input::Tokens { .. } => {
            let text = |b: usize| Item::Tokens((0..TOKENS).map(|t| ((b * 31 + t * 7) % 1000) as u32).collect());
            encoder.reader().collate(&(0..batch).map(text).collect::<Vec<_>>(), &Device::Cpu)?
        }
    })
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
    let inputs = encoders.iter().map(|e| batch(e.as_ref(), setting.batch)).collect::<Result<Vec<_>>>()?;
    let tower = |name: &str, input: &Input| {
        let deep = !matches!(input, Input::Features(_));
        TowerConfig { name: name.to_owned(), head: HeadForm::Mlp, norm: setting.norm && deep }
    };
    let towers = vec![tower("image", &inputs[0]), tower("text", &inputs[1])];
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
    let labels = Target::class(Tensor::new(ids, &Device::Cpu)?, None);

    let count = parameters.count();
    let parameter = |(name, var)| Parameter { name, var, lr_scale: 1.0, weight_decay: 0.01 };
    let mut optimizer = AdamW::default().over(named.into_iter().map(parameter).collect())?;
    let period = method.needs().refresh.max(1);
    let mut balancer = Balancer::new(method, blocks, 0).lasting(1000, 100);
    let mut iterate = move || {
        let outputs = forward(&model, &inputs, balancer.needs())?;
        let grads = balancer.backward(&outputs, &labels)?;
        optimizer.step(&grads, 1e-4, &|_| 1.0)?;
        Ok(())
    };
    let iterate = move || run_on(&Device::Cpu, &mut iterate);
    Ok(Job { parameters: count, period, ..Job::on(count, iterate) })
}
