//! Every method in the training loop: learns under every fusion and form of task, on frozen features and end to end, and
//! goes on bit for bit wherever it was stopped.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use balgrad::{Entry, METHODS, Prediction, Value};
use balgrad_data::{Dataset, Framing, ImageSource, Sample, Split, Task};
use balgrad_encoders::{
    CachedFeatures, Encoder, EncoderKind, FUSIONS, HeadForm, ModelConfig, Parameters, Precomputed, ScratchShape,
    Tokenizer, TowerConfig, TwoTower, encoder,
};
use balgrad_trainer::bank::{Bank, Seen};
use balgrad_trainer::checkpoint::Progress;
use balgrad_trainer::config::Config;
use balgrad_trainer::evaluation::Judge;
use balgrad_trainer::shown::Look;
use balgrad_trainer::training::{Course, Watcher, train};
use candle_core::{Device, Tensor};
use image::{ImageFormat, Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CLASSES: usize = 3;
const FEATURES: [usize; 2] = [6, 5];
/// Pixels a side of what small encoders see.
const SIDE: usize = 8;

const FORMS: [Task; 3] = [Task::MultiClass, Task::Binary, Task::MultiLabel];

fn classes(form: Task) -> usize {
    if form == Task::Binary { 2 } else { CLASSES }
}

/// Samples whose class both modalities show, each on its own with some noise.
fn bank(form: Task, small: bool, samples: usize, seed: u64) -> Bank {
    part(form, small, samples, seed, (0..samples).collect())
}

/// Some of the samples of [`bank`].
fn part(form: Task, small: bool, samples: usize, seed: u64, rows: Vec<usize>) -> Bank {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<Vec<u32>> = (0..samples)
        .map(|i| match form {
            Task::MultiLabel => vec![0, (i % 3) as u32].into_iter().filter(|c| *c > 0 || i % 2 == 0).collect(),
            _ => vec![(i % classes(form)) as u32],
        })
        .collect();
    let has = |i: usize, c: usize| labels[i].contains(&(c as u32));
    let mut seen = Vec::new();
    for (m, dim) in FEATURES.into_iter().enumerate() {
        let mut value = |i: usize, d: usize| {
            let signal = if d < CLASSES && has(i, d) { 1.5 } else { 0.0 };
            signal + rng.random_range(-0.5f32..0.5)
        };
        let look = Look::default();
        seen.push(match (small, m) {
            (false, _) => {
                let values: Vec<f32> = (0..samples * dim).map(|p| value(p / dim, p % dim)).collect();
                Seen::Features {
                    tables: vec![Arc::new(CachedFeatures::in_memory(values, dim))],
                    places: rows.iter().map(|&row| row as u32).collect(),
                    standardizer: None,
                    missing: vec![0.0; dim],
                }
            }
            (true, 0) => Seen::Images { framing: Framing::whole(SIDE as u32), look },
            (true, _) => Seen::Tokens { tokenizer: Box::new(tokenizer()), look },
        });
    }
    let sample = |i: usize| {
        let pixel = |c: usize| if has(i, c) { 220 } else { 30 } + (i as u8 % 7);
        let image = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb([pixel(0), pixel(1), pixel(2)]));
        let mut png = Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        let word = |t: u32| WORDS[((labels[i].iter().sum::<u32>() * 2 + t) % 8) as usize];
        Sample {
            id: i.to_string(),
            image: Some(ImageSource::Bytes(png.into_inner().into())),
            text: Some([0, 1, 2, 3].map(word).join(" ")),
            labels: labels[i].clone(),
            split: Split::Train,
            group: None,
        }
    };
    let dataset = Dataset {
        name: "made".into(),
        layout: "manifest",
        task: form,
        classes: (0..classes(form)).map(|c| c.to_string()).collect(),
        samples: (0..samples).map(sample).collect(),
        problems: Vec::new(),
        notes: Vec::new(),
        licence: None,
        show_samples: false,
        metric: None,
    };
    Bank::new(Arc::new(dataset), rows, seen, 1)
}

const WORDS: [&str; 8] = ["ash", "bay", "cob", "dew", "elm", "fog", "gum", "hay"];

fn tokenizer() -> Tokenizer {
    Tokenizer::train(WORDS, 64).unwrap()
}

fn model(form: Task, small: bool, fusion: &str, seed: u64) -> (Parameters, TwoTower) {
    let parameters = Parameters::new(seed, &Device::Cpu);
    let shape = ScratchShape { image_size: SIDE, vocabulary: tokenizer().vocabulary() };
    let encoders = ["image", "text"].iter().enumerate().map(|(m, name)| -> Box<dyn Encoder> {
        let scope = parameters.scope(name).scope("encoder");
        match encoder(["small-cnn", "small-bert"][m]).unwrap().kind {
            EncoderKind::Scratch(build) if small => build(&shape, &scope).unwrap(),
            _ => Box::new(Precomputed::new(FEATURES[m])),
        }
    });
    let encoders = encoders.collect();
    let tower = |name: &str| TowerConfig { name: name.into(), head: HeadForm::Mlp, norm: small };
    let towers = vec![tower("image"), tower("text")];
    let config = ModelConfig { fusion: fusion.into(), width: 8, classes: classes(form), towers };
    let model = TwoTower::new(&config, encoders, &parameters).unwrap();
    (parameters, model)
}

/// Stages and turns within few epochs.
fn quick(entry: &Entry) -> &'static [(&'static str, u64)] {
    match entry.name {
        "umt" => &[("teacher_epochs", 2)],
        "resampling" => &[("warm_up", 1)],
        "relearning" => &[("every", 2), ("times", 1)],
        "g-blending" => &[("super_epoch", 1)],
        "balgrad" => &[("refresh", 2)],
        _ => &[],
    }
}

fn config(entry: &Entry, sets: &[(&str, f64)]) -> Config {
    let mut given = BTreeMap::from([("method".to_owned(), Value::Word(entry.name.into()))]);
    given.extend(quick(entry).iter().map(|(k, v)| (format!("method.{k}"), Value::Count(*v))));
    let number = |v: f64| if v.fract() == 0.0 { Value::Count(v as u64) } else { Value::Number(v) };
    given.extend(sets.iter().map(|(k, v)| ((*k).to_owned(), number(*v))));
    Config::resolve(&given).unwrap()
}

/// Stops a run in its `n`-th step, as a crash would: what was saved is the checkpoint of the step before.
struct Until(usize);

impl Watcher for Until {
    fn step(&mut self, done: usize, _: usize, _: f64) {
        if done == self.0 {
            resume_unwind(Box::new("stopped"));
        }
    }
    fn epoch(&mut self, _: usize, _: usize, _: f64, _: Option<f64>) {}
}

/// A run's weights, bit for bit, and how it went.
type Outcome = (Vec<(String, Vec<u32>)>, Progress);

struct World {
    form: Task,
    small: bool,
    fusion: &'static str,
    train: Bank,
    val: Bank,
}

impl World {
    fn new(form: Task, small: bool, fusion: &'static str, samples: usize) -> Self {
        let (train, val) = (bank(form, small, samples, 1), bank(form, small, 24, 2));
        Self { form, small, fusion, train, val }
    }

    fn run(&self, config: &Config, folder: &Path, resume: bool, stop: usize) -> Outcome {
        let (parameters, model_) = model(self.form, self.small, self.fusion, config.seed());
        let fresh = || Ok(model(self.form, self.small, self.fusion, config.seed()));
        let course = Course {
            config,
            model: &model_,
            parameters: &parameters,
            fresh: &fresh,
            train: &self.train,
            val: &self.val,
            judge: Judge {
                model: &model_,
                task: self.form,
                classes: classes(self.form),
                prediction: config.method.prediction,
                trains_heads: config.method.trains_heads,
                class_weights: None,
                device: &Device::Cpu,
            },
            metric: if self.form == Task::MultiLabel { "f1_micro" } else { "accuracy" },
            modalities: &["image", "text"],
            folder,
            resume,
        };
        let progress = train(&course, &mut Until(stop)).unwrap();
        let bits =
            |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        (parameters.all().into_iter().map(|(name, var)| (name, bits(var.as_tensor()))).collect(), progress)
    }
}

#[test]
fn every_method_learns_under_every_fusion_and_form_of_task() {
    let folder = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for form in FORMS {
        for fusion in FUSIONS {
            let world = World::new(form, false, fusion.name, 48);
            for entry in METHODS {
                let config = config(entry, &[("epochs", 10.0), ("batch_size", 12.0), ("lr", 0.02)]);
                let (_, progress) = world.run(&config, folder.path(), false, usize::MAX);
                // A third, a half, and what giving every sample every label gets.
                let trivial = [1.0 / 3.0, 0.5, 0.56][FORMS.iter().position(|f| *f == form).unwrap()];
                let score = progress.best_score;
                if score < trivial + 0.12 {
                    failed.push(format!("{}, {}, {form:?}: {score}", entry.name, fusion.name));
                }
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{}",
        failed.join(
            "
"
        )
    );
}

#[test]
fn every_method_trains_encoders_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (i, entry) in METHODS.iter().enumerate() {
        let (form, fusion) = (FORMS[i % 3], FUSIONS[i / 3 % 4].name);
        let world = World::new(form, true, fusion, 12);
        let config = config(entry, &[("epochs", 4.0), ("batch_size", 12.0), ("lr", 0.001)]);
        let (weights, progress) = world.run(&config, folder.path(), false, usize::MAX);
        assert_eq!(progress.nan_steps, 0);
        let before = model(form, true, fusion, config.seed()).0.all();
        for (m, tower) in ["image.encoder.", "text.encoder."].into_iter().enumerate() {
            let moved = weights.iter().zip(&before).filter(|((name, now), (_, then))| {
                let then = then.as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                name.starts_with(tower) && then.iter().zip(now).any(|(a, b)| a.to_bits() != *b)
            });
            let learns = !matches!(entry.prediction, Prediction::Own(n) if n != m);
            // The best epoch is kept, and in the first one a method by stages has trained one tower.
            let staged = entry.name == "recon-boost" && progress.best_epoch < 3;
            assert!(moved.count() > 0 || staged || !learns, "{}: {tower} stands still", entry.name);
        }
        let finite = |bits: &Vec<u32>| bits.iter().all(|b| f32::from_bits(*b).is_finite());
        assert!(weights.iter().all(|(_, bits)| finite(bits)), "{}", entry.name);
    }
}

/// Stopped in the middle of an epoch, at its last step, in the first step of the next, and later: with preludes and
/// teachers, turns, stages, rehearsals and towers moved back on the way.
#[test]
fn every_method_goes_on_bit_for_bit_wherever_it_stopped() {
    let world = World::new(Task::MultiClass, false, "concat", 30);
    for entry in METHODS {
        let sets = [("epochs", 4.0), ("batch_size", 8.0), ("lr", 0.02), ("checkpoint_seconds", 0.0)];
        let config = config(entry, &[&sets[..], &[("modality_dropout", 0.2)]].concat());
        let folder = tempfile::tempdir().unwrap();
        let (weights, whole) = world.run(&config, folder.path(), false, usize::MAX);
        let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert!(whole.step >= 16, "{}: {} steps", entry.name, whole.step);
        // Epochs have four steps, and more where samples are shown again. The step named is lost.
        for stop in [3, 5, 6, 11, whole.step] {
            let folder = tempfile::tempdir().unwrap();
            let stopped = catch_unwind(AssertUnwindSafe(|| world.run(&config, folder.path(), false, stop)));
            assert!(stopped.is_err(), "{}: nothing stopped at {stop}", entry.name);
            let (again, resumed) = world.run(&config, folder.path(), true, usize::MAX);
            assert_eq!(weights, again, "{}, stopped in step {stop}", entry.name);
            let (mut a, mut b) = (whole.clone(), resumed);
            (a.seconds, b.seconds, a.metrics_bytes, b.metrics_bytes) = (0.0, 0.0, 0, 0);
            assert_eq!(a, b, "{}, stopped in step {stop}", entry.name);
            let relog = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
            assert_eq!(log.lines().count(), relog.lines().count(), "{}, stopped in step {stop}", entry.name);
        }
    }
}

/// What a survey says of a sample does not depend on the samples around it (public code gives every batch the first
/// one's results).
#[test]
fn a_bank_beyond_one_batch_is_answered_sample_by_sample() {
    let all = bank(Task::MultiClass, false, 300, 4);
    let (_, model) = model(Task::MultiClass, false, "concat", 3);
    let judge = Judge {
        model: &model,
        task: Task::MultiClass,
        classes: CLASSES,
        prediction: Prediction::Fused,
        trains_heads: false,
        class_weights: None,
        device: &Device::Cpu,
    };
    let reads = balgrad_trainer::evaluation::expects(&model);
    for shown in 0..4 {
        let everyone = all.showing(shown);
        let correct = judge.correct(&judge.answers(&everyone, &reads).unwrap().probs, &everyone);
        for row in [0, 1, 255, 256, 299] {
            let one = part(Task::MultiClass, false, 300, 4, vec![row]).showing(shown);
            let alone = judge.correct(&judge.answers(&one, &reads).unwrap().probs, &one);
            assert_eq!(alone, [correct[row]], "row {row}");
        }
    }
}
