//! Every method in the training loop: learns under every fusion, every form of task, two to four modalities, on vectors and
//! end to end, and goes on bit for bit wherever it was stopped.

#![allow(clippy::unwrap_used)]

mod ranks;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use balgrad::{Alone, Communicator, Entry, METHODS, Prediction, Value};
use balgrad_data::{DataError, Dataset, Modality, Sample, Source, Split, Target, Task};
use balgrad_encoders::{Encoder, EncoderEntry, EncoderKind, FUSIONS, Input, Item, Precomputed, Reader, View};
use candle_core::{Device, Tensor};
use image::{ImageFormat, Rgb, RgbImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Training, Watcher, train};
use crate::checkpoint::Progress;
use crate::config::Config;
use crate::evaluator::Evaluator;
use crate::metrics::Score;
use crate::readable::Readable;
use crate::registry::Registry;
use crate::session::Session;

const CLASSES: usize = 3;
/// Numbers that a part of vectors holds.
const DIM: usize = 5;
/// Pixels a side of what small encoders see.
const SIDE: u32 = 8;

fn classes(task: Task) -> usize {
    match task {
        Task::Binary => 2,
        Task::Regression => 1,
        _ => CLASSES,
    }
}

const fn toy(name: &'static str) -> Modality {
    let check = |_: &Source| -> Result<(), DataError> { Ok(()) };
    Modality { name, about: "made up", inline: true, noises: &[], check }
}

static AUDIO: Modality = toy("audio");
static DEPTH: Modality = toy("depth");

/// Reads numbers that a part spells out: an encoder for any modality.
struct Numbers(Precomputed);

impl Reader for Numbers {
    fn key(&self) -> balgrad_encoders::Result<String> {
        Ok("numbers".into())
    }
    fn item(&self, source: &Source, _: &str, _: &View) -> balgrad_encoders::Result<Item> {
        let numbers = source.text().unwrap_or_default().split(' ').map(|n| n.parse().unwrap());
        Ok(Item::Features(numbers.collect()))
    }
    fn collate(&self, items: &[Item], device: &Device) -> balgrad_encoders::Result<Input> {
        self.0.reader().collate(items, device)
    }
}

impl Encoder for Numbers {
    fn dim(&self) -> usize {
        DIM
    }
    fn reader(&self) -> &dyn Reader {
        self
    }
    fn forward(&self, input: &Input) -> candle_core::Result<Tensor> {
        self.0.forward(input)
    }
}

const fn numbers(name: &'static str, modality: &'static str) -> EncoderEntry {
    EncoderEntry {
        name,
        modality,
        about: "numbers that are spelt out",
        paper: "made up",
        stem: &[],
        kind: EncoderKind::Scratch {
            fit: |_, _| Ok(String::new()),
            build: |_, _| Ok(Box::new(Numbers(Precomputed::new(DIM)))),
        },
    }
}

static TOYS: [EncoderEntry; 4] = [
    numbers("numbers-image", "image"),
    numbers("numbers-text", "text"),
    numbers("numbers-audio", "audio"),
    numbers("numbers-depth", "depth"),
];

/// A program that knows two modalities more.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.modalities.extend([&AUDIO, &DEPTH]);
    registry.encoders.extend(&TOYS);
    registry
}

/// What there is to learn: a form of task, seen by some modalities, as vectors or as images and texts.
#[derive(Clone, Copy)]
struct World {
    task: Task,
    modalities: usize,
    small: bool,
    fusion: &'static str,
    train: usize,
    val: usize,
}

const WORDS: [&str; 8] = ["ash", "bay", "cob", "dew", "elm", "fog", "gum", "hay"];

impl World {
    /// Samples whose answer every modality shows, each on its own with some noise.
    fn dataset(&self) -> Dataset {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let samples = (0..self.train + self.val).map(|i| self.sample(i, &mut rng)).collect();
        let modalities =
            [&balgrad_data::modalities::image::MODALITY, &balgrad_data::modalities::text::MODALITY, &AUDIO, &DEPTH];
        let mut dataset = Dataset::of(self.sample(0, &mut rng), modalities[..self.modalities].to_vec());
        dataset.task = self.task;
        dataset.classes = (0..classes(self.task)).map(|c| c.to_string()).collect();
        dataset.samples = samples;
        dataset
    }

    fn sample(&self, i: usize, rng: &mut ChaCha8Rng) -> Sample {
        let target = match self.task {
            Task::MultiLabel => {
                Target::Labels([0, (i % 3) as u32].into_iter().filter(|c| *c > 0 || i.is_multiple_of(2)).collect())
            }
            Task::Regression => Target::Value(vec![(i % 7) as f32 * 2.0 + 10.0]),
            _ => Target::Class((i % classes(self.task)) as u32),
        };
        let has =
            |c: usize| target.classes().contains(&(c as u32)) || (c == 0 && i % 7 > 3 && self.task == Task::Regression);
        let level = target.values().first().map_or(0.0, |v| (v - 16.0) / 4.0);
        let mut part = |m: usize| {
            if !self.small {
                let mut value = |d: usize| {
                    let signal = if self.task != Task::Regression && d < CLASSES && has(d) { 1.5 } else { 0.0 };
                    let signal = if d == m % DIM { signal + level } else { signal };
                    (signal + rng.random_range(-0.5f32..0.5)).to_string()
                };
                return Source::Text((0..DIM).map(&mut value).collect::<Vec<_>>().join(" "));
            }
            if m == 1 {
                let first: u32 = target.classes().iter().sum();
                let word = |t: u32| WORDS[((first * 2 + t) % 8) as usize];
                return Source::Text([0, 1, 2, 3].map(word).join(" "));
            }
            let pixel = |c: usize| if has(c) { 220 } else { 30 } + (i as u8 % 7);
            let mut png = Cursor::new(Vec::new());
            let image = RgbImage::from_pixel(SIDE, SIDE, Rgb([pixel(0), pixel(1), pixel(2)]));
            image.write_to(&mut png, ImageFormat::Png).unwrap();
            Source::Bytes(png.into_inner().into())
        };
        let parts = (0..self.modalities).map(|m| Some(part(m))).collect();
        let split = if i < self.train { Split::Train } else { Split::Val };
        Sample { id: i.to_string(), parts, target, split, group: None }
    }

    fn config(&self, entry: &Entry, sets: &[(&str, f64)]) -> Config {
        let mut given = BTreeMap::from([("method".to_owned(), Value::Word(entry.name.into()))]);
        given.extend(quick(entry).iter().map(|(k, v)| (format!("method.{k}"), Value::Count(*v))));
        let number = |v: f64| if v.fract() == 0.0 { Value::Count(v as u64) } else { Value::Number(v) };
        let width = if self.small { 16.0 } else { 8.0 };
        let sets = [sets, &[("width", width), ("image_size", f64::from(SIDE)), ("vocab_size", 64.0)]].concat();
        // A key alone is a number's, `key=word` a word's.
        given.extend(sets.iter().map(|(k, v)| match k.split_once('=') {
            Some((key, word)) => (key.to_owned(), Value::Word(word.to_owned())),
            None => ((*k).to_owned(), number(*v)),
        }));
        given.insert("fusion".into(), Value::Word(self.fusion.into()));
        let small = ["small-cnn", "small-bert"].map(str::to_owned);
        for (m, toy) in TOYS.iter().enumerate().take(self.modalities) {
            let name = if self.small { small[m].clone() } else { toy.name.to_owned() };
            given.insert(format!("encoders.{}", toy.modality), Value::Word(name));
        }
        Config::resolve(&given).unwrap()
    }

    fn session(&self, config: &Config) -> Session {
        Session::on(config, Readable::new(self.dataset(), true)).unwrap()
    }

    fn metric(&self) -> Score {
        Score::headline(self.task)
    }

    /// A score that learning must beat by far: a third, a half, what giving every sample every label gets; an error of two.
    fn learnt(&self, score: f64) -> bool {
        match self.task {
            Task::MultiClass => score > 1.0 / 3.0 + 0.12,
            Task::Binary => score > 0.62,
            Task::MultiLabel => score > 0.68,
            Task::Regression => score < 2.0,
        }
    }

    /// Labels that overlap and numbers take longer to learn than classes.
    fn epochs(&self) -> f64 {
        match self.task {
            Task::Binary | Task::MultiClass => 10.0,
            Task::MultiLabel | Task::Regression => 30.0,
        }
    }

    fn run(&self, config: &Config, folder: &Path, resume: bool, stop: usize) -> Outcome {
        self.run_among(config, folder, resume, stop, Arc::new(Alone))
    }

    fn run_among(
        &self,
        config: &Config,
        folder: &Path,
        resume: bool,
        stop: usize,
        communicator: Arc<dyn Communicator>,
    ) -> Outcome {
        self.train_on(&self.session(config), config, folder, resume, stop, communicator)
    }

    fn train_on(
        &self,
        session: &Session,
        config: &Config,
        folder: &Path,
        resume: bool,
        stop: usize,
        communicator: Arc<dyn Communicator>,
    ) -> Outcome {
        let (data, val) = (session.training_split().unwrap(), session.split(Split::Val, None).unwrap());
        let evaluator = Evaluator { ranks: Arc::clone(&communicator), ..session.evaluator(config).unwrap() };
        let training = Training {
            config,
            session,
            train: &data,
            val: &val,
            evaluator,
            metric: self.metric(),
            folder,
            resume,
            communicator,
        };
        let progress = train(&training, &mut Until(stop)).unwrap();
        let bits =
            |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        (session.parameters.all().into_iter().map(|(name, var)| (name, bits(var.as_tensor()))).collect(), progress)
    }
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

/// A weight's name, and its bits.
type Weight = (String, Vec<u32>);

/// A run's weights, and how it went.
type Outcome = (Vec<Weight>, Progress);

/// Scaled cosines are made for classes: as a number they start ten standard deviations off, and most methods need hundreds of
/// steps to come back.
fn fits(fusion: &str, task: Task) -> bool {
    task != Task::Regression || fusion != "cosine"
}

fn suits(entry: &Entry, task: Task) -> bool {
    task != Task::Regression || entry.targets == balgrad::Targets::All
}

/// The methods that did not learn on a world.
fn failed(world: World, sets: &[(&str, f64)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let one = |entry: &&Entry| {
        let config = world.config(entry, sets);
        let score = world.run(&config, folder.path(), false, usize::MAX).1.best_score;
        let World { task, modalities, fusion, .. } = world;
        (!world.learnt(score)).then(|| format!("{}, {modalities} modalities, {fusion}, {task:?}: {score}", entry.name))
    };
    METHODS.iter().copied().filter(|entry| suits(entry, world.task)).filter_map(|entry| one(&entry)).collect()
}

#[test]
fn every_method_learns_under_every_fusion_and_form_of_task() {
    let mut all = Vec::new();
    for task in Task::ALL {
        for fusion in FUSIONS.iter().filter(|fusion| fits(fusion.name, task)) {
            let world = World { task, modalities: 2, small: false, fusion: fusion.name, train: 48, val: 24 };
            all.extend(failed(world, &[("epochs", world.epochs()), ("batch_size", 12.0), ("lr", 0.02)]));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_method_learns_from_three_and_four_modalities() {
    let mut all = Vec::new();
    for (i, task) in Task::ALL.into_iter().enumerate() {
        for modalities in [3, 4] {
            let fusions: Vec<&str> = FUSIONS.iter().map(|fusion| fusion.name).filter(|name| fits(name, task)).collect();
            let fusion = fusions[(i + modalities) % fusions.len()];
            let world = World { task, modalities, small: false, fusion, train: 48, val: 24 };
            all.extend(failed(world, &[("epochs", world.epochs()), ("batch_size", 12.0), ("lr", 0.02)]));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_method_trains_encoders_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (i, entry) in METHODS.iter().enumerate() {
        let (task, fusion) = (Task::ALL[i % 3], FUSIONS[i / 3 % 4].name);
        let world = World { task, modalities: 2, small: true, fusion, train: 12, val: 12 };
        let config = world.config(entry, &[("epochs", 4.0), ("batch_size", 12.0), ("lr", 0.001)]);
        let (weights, progress) = world.run(&config, folder.path(), false, usize::MAX);
        assert_eq!(progress.nan_steps, 0);
        let before = world.session(&config).parameters.all();
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
    let world = World { task: Task::MultiClass, modalities: 2, small: false, fusion: "concat", train: 30, val: 24 };
    for entry in METHODS {
        let sets = [("epochs", 4.0), ("batch_size", 8.0), ("lr", 0.02), ("checkpoint_seconds", 0.0)];
        let config = world.config(entry, &[&sets[..], &[("modality_dropout", 0.2)]].concat());
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
            // The log holds times: its length and hash differ from run to run.
            for progress in [&mut a, &mut b] {
                (progress.seconds, progress.metrics_bytes) = (0.0, 0);
                progress.metrics_sha256.clear();
            }
            assert_eq!(a, b, "{}, stopped in step {stop}", entry.name);
            let relog = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
            assert_eq!(log.lines().count(), relog.lines().count(), "{}, stopped in step {stop}", entry.name);
        }
    }
}

/// What a probe says of a sample does not depend on the samples around it (public code gives every batch the first one's
/// results).
#[test]
fn a_split_beyond_one_batch_is_answered_sample_by_sample() {
    let world = World { task: Task::MultiClass, modalities: 3, small: false, fusion: "concat", train: 300, val: 24 };
    let config = world.config(balgrad::find("joint").unwrap(), &[]);
    let session = world.session(&config);
    let evaluator = session.evaluator(&config).unwrap();
    let all = session.split(Split::Train, None).unwrap();
    for shown in 0..8 {
        let everyone = all.showing(shown);
        let correct = evaluator.correctness(&evaluator.predict(&everyone).unwrap().rows, &everyone);
        for row in [0, 1, 255, 256, 299] {
            let mut one = world.dataset();
            one.samples = vec![one.samples[row].clone()];
            let one = Session::on(&config, Readable::new(one, true)).unwrap().split(Split::Train, None).unwrap();
            let one = one.showing(shown);
            let alone = evaluator.correctness(&evaluator.predict(&one).unwrap().rows, &one);
            assert_eq!(alone, [correct[row]], "row {row}");
        }
    }
}
