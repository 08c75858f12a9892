//! Run folders of made-up runs, from a seeded generator: shaped as real ones, measured on nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use balgrad_data::Split;
use balgrad_data::Task;
use balgrad_trainer::metrics::{Score, compute};
use balgrad_trainer::record::{
    Condition, Conflict, DatasetCard, Histogram, Impairment, MissingRatios, Noise, Pair, RunRecord, Validation, View,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

pub(crate) const METHODS: [&str; 11] = [
    "joint",
    "multi-loss",
    "neither",
    "mslr",
    "ogm-ge",
    "agm",
    "reweighting",
    "projection",
    "balgrad",
    "joint+dropout",
    "balgrad+dropout",
];

const MODALITIES: [&str; 2] = ["image", "text"];

/// A made-up data set.
#[derive(Clone)]
pub(crate) struct Data {
    pub name: &'static str,
    pub task: Task,
    pub classes: Vec<String>,
    pub samples: usize,
    pub seeds: u64,
}

impl Data {
    pub(crate) fn emoji() -> Self {
        let classes = ["Smileys & Emotion", "People", "Animals", "Food"].map(String::from).to_vec();
        Self { name: "emoji", task: Task::MultiClass, classes, samples: 90, seeds: 3 }
    }
}

/// Writes the runs of all `methods` and seeds under `root`, and returns their folders.
pub(crate) fn write(root: &Path, data: &Data, methods: &[&str]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for (m, method) in methods.iter().enumerate() {
        for seed in 0..data.seeds {
            let folder = root.join(data.name).join(method).join(format!("seed-{seed}"));
            write_run(&folder, data, method, m, seed);
            folders.push(folder);
        }
    }
    folders
}

fn write_run(folder: &Path, data: &Data, method: &str, m: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(100 * m as u64 + seed);
    fs::create_dir_all(folder.join("predictions")).unwrap();
    let metric = Score::headline(data.task);
    let strength = 0.01 * METHODS.iter().position(|k| *k == method).unwrap_or(4) as f64;
    let mut test = BTreeMap::new();
    for (c, condition) in Condition::all(&MODALITIES).into_iter().enumerate() {
        let skill = [0.75, 0.5, 0.62, 0.6, 0.7, 0.52, 0.66][c] + strength * [0.2, 2.0, 1.0, 1.0, 0.2, 1.0, 0.5][c];
        let (probs, labels) = predictions(&mut rng, data, skill);
        let mut text = String::new();
        for (i, (probs, labels)) in probs.iter().zip(&labels).enumerate() {
            let names: Vec<&str> = labels.iter().map(|&l| data.classes[l as usize].as_str()).collect();
            text += &json!({"id": format!("s{i}"), "label": names, "probs": probs, "group": format!("g{}", i / 2)})
                .to_string();
            text.push('\n');
        }
        fs::write(folder.join(format!("predictions/{condition}.jsonl")), text).unwrap();
        test.insert(condition, Some(compute(data.task, &probs, &labels)));
    }
    let score = |c: &Condition| test[c].as_ref().unwrap().get(metric).unwrap();
    let ratios: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
    let fall = |c: Condition| {
        let full = score(&Condition::Full);
        (c.clone(), ratios.iter().map(|r| Some(full + r * (score(&c) - full))).collect())
    };
    let scores = MODALITIES.iter().map(|m| fall(Condition::missing(m))).collect();
    let edges: Vec<f64> = (0..=40).map(|i| -1.0 + f64::from(i) / 20.0).collect();
    let bump = |at: f64, cut: bool| Histogram {
        counts: edges
            .windows(2)
            .map(|w| if cut && w[1] <= 0.0 { 0 } else { (200.0 * (-((w[0] - at) / 0.2).powi(2)).exp()).round() as u64 })
            .collect(),
        edges: edges.clone(),
    };
    let projects = ["projection", "balgrad", "balgrad+dropout"].contains(&method);
    let has_kl = projects || ["neither", "reweighting"].contains(&method);
    let conflict = |(m, at): (&str, f64)| {
        let (cosine_before, cosine_after) = (bump(at, false), bump(at, projects));
        (m.to_owned(), Conflict { fraction: Some(0.4 - at), cosine_before, cosine_after })
    };
    let each = |words: [&str; 2]| MODALITIES.map(str::to_owned).into_iter().zip(words.map(str::to_owned)).collect();
    let noise = |(m, kind): (&str, &str)| (Condition::noisy(m), Noise { kind: kind.into(), severity: 3 });
    let mut record = RunRecord {
        schema: 2,
        dataset: DatasetCard {
            name: data.name.into(),
            layout: "manifest".into(),
            task: data.task,
            classes: data.classes.clone(),
            fingerprint: "sha256:0123abcd".into(),
            samples: [(Split::Train, 900), (Split::Val, 120), (Split::Test, data.samples as u64)].into(),
            skipped: 0,
            show_samples: false,
        },
        label: method.into(),
        method: method.split('+').next().unwrap().into(),
        settings: [("epochs".to_owned(), json!(12))].into_iter().collect(),
        seed,
        encoders: each(["descriptor", "ngrams"]),
        fusion: "concat".into(),
        device: "cpu".into(),
        version: "0.1.0".into(),
        revision: "abc1234".into(),
        wall_seconds: 3.5,
        peak_rss_bytes: 0,
        metric,
        best_epoch: 9,
        val: Validation::default(),
        steps_per_second: 200.0,
        nan_steps: 0,
        parameters: 0,
        missing_ratios: MissingRatios { ratios: ratios.clone(), scores },
        impairments: [("image", "gaussian"), ("text", "mask")].map(noise).into(),
        test,
        missing: Pair::default(),
        noisy: Pair::default(),
        views: MODALITIES.map(|m| (Condition::only(m), Some(View::Head))).into(),
        conflict: has_kl.then(|| [("image", -0.05), ("text", 0.2)].map(conflict).into()),
        contribution: None,
        calibration: BTreeMap::new(),
    };
    (record.missing, record.noisy) = (record.pair(Impairment::Missing), record.pair(Impairment::Noisy));
    record.write(folder).unwrap();
    fs::write(folder.join("config.toml"), format!("data = \"{}\"\nmethod = \"{method}\"\nseed = {seed}\n", data.name))
        .unwrap();
    fs::write(folder.join("metrics.jsonl"), log(&mut rng, metric.name, has_kl, strength)).unwrap();
}

fn predictions(rng: &mut ChaCha8Rng, data: &Data, skill: f64) -> (Vec<Vec<f32>>, Vec<Vec<u32>>) {
    let classes = data.classes.len() as u32;
    let mut truth_rng = ChaCha8Rng::seed_from_u64(9); // the same labels in every run
    let sample = |_| {
        let label: Vec<u32> = match data.task {
            Task::MultiLabel => (0..classes).filter(|_| truth_rng.random_bool(0.3)).collect(),
            _ => vec![truth_rng.random_range(0..classes)],
        };
        let knows = rng.random_bool(skill.min(1.0));
        let guess = rng.random_range(0..classes);
        let prob = |c: u32| {
            let high = if knows || data.task == Task::MultiLabel && rng.random_bool(0.5) {
                label.contains(&c)
            } else {
                c == guess
            };
            if high { 0.6 + 0.3 * rng.random::<f32>() } else { 0.3 * rng.random::<f32>() }
        };
        let row: Vec<f32> = (0..classes).map(prob).collect();
        let sum: f32 = if data.task == Task::MultiLabel { 1.0 } else { row.iter().sum() };
        (row.into_iter().map(|p| p / sum).collect(), label)
    };
    (0..data.samples).map(sample).unzip()
}

fn log(rng: &mut ChaCha8Rng, metric: &str, has_kl: bool, strength: f64) -> String {
    let mut text = String::new();
    for epoch in 1..=12u32 {
        for step in 1..=14u32 {
            let step = 14 * (epoch - 1) + step;
            let decay = (-f64::from(step) / 60.0).exp() + 0.1 * rng.random::<f64>();
            let mut losses = json!({"task": 1.8 * decay + 0.2, "own": 3.0 * decay + 0.5});
            if has_kl {
                losses["kl"] = json!(0.4 * decay + 0.05 - strength * 0.2);
            }
            let line = json!({"kind": "step", "step": step, "epoch": epoch, "losses": losses, "shares": {"image": 1.3, "text": 0.7}, "lr": 1e-3});
            text += &format!("{line}\n");
        }
        let rise = 1.0 - (-f64::from(epoch) / 4.0).exp() + 0.02 * rng.random::<f64>();
        let mut val = json!({"image-only": 0.5 * rise + strength, "text-only": 0.68 * rise, "loss-image": 2.0 - rise, "loss-text": 1.8 - 1.2 * rise});
        val[metric] = json!(0.76 * rise);
        text += &format!("{}\n", json!({"kind": "epoch", "epoch": epoch, "train_loss": 2.0 - rise, "val": val}));
    }
    text + "{\"kind\":\"step\",\"st" // cut off, as a crash leaves it
}
