//! Run folders of made-up runs, from a seeded generator: shaped as real ones, measured on nothing.

use std::fs;
use std::path::{Path, PathBuf};

use balgrad_trainer::metrics::{Task, compute};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

pub const METHODS: [&str; 11] = [
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

/// A made-up data set.
#[derive(Clone)]
pub struct Data {
    pub name: &'static str,
    pub task: Task,
    pub classes: Vec<String>,
    pub samples: usize,
    pub seeds: u64,
}

impl Data {
    pub fn emoji() -> Self {
        let classes = ["Smileys & Emotion", "People", "Animals", "Food"].map(String::from).to_vec();
        Self { name: "emoji", task: Task::MultiClass, classes, samples: 90, seeds: 3 }
    }
}

const CONDITIONS: [&str; 7] =
    ["full", "missing-image", "missing-text", "noisy-image", "noisy-text", "image-only", "text-only"];

/// Writes the runs of all `methods` and seeds under `root`, and returns their folders.
pub fn write(root: &Path, data: &Data, methods: &[&str]) -> Vec<PathBuf> {
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
    let metric = if data.task == Task::MultiLabel { "f1_macro" } else { "accuracy" };
    let strength = 0.01 * METHODS.iter().position(|k| *k == method).unwrap_or(4) as f64;
    let mut test = Map::new();
    for (c, condition) in CONDITIONS.into_iter().enumerate() {
        let skill = [0.75, 0.5, 0.62, 0.6, 0.7, 0.52, 0.66][c] + strength * [0.2, 2.0, 1.0, 1.0, 0.2, 1.0, 0.5][c];
        let (probs, labels) = predictions(&mut rng, data, skill);
        test.insert(condition.into(), serde_json::to_value(compute(data.task, &probs, &labels)).unwrap());
        let mut text = String::new();
        for (i, (probs, labels)) in probs.iter().zip(&labels).enumerate() {
            let names: Vec<&str> = labels.iter().map(|&l| data.classes[l as usize].as_str()).collect();
            text += &json!({"id": format!("s{i}"), "label": names, "probs": probs, "group": format!("g{}", i / 2)})
                .to_string();
            text.push('\n');
        }
        fs::write(folder.join(format!("predictions/{condition}.jsonl")), text).unwrap();
    }
    let score = |c: &str| test[c][metric].as_f64().unwrap();
    let pair = |kind: &str| {
        let (i, t) = (score(&format!("{kind}-image")), score(&format!("{kind}-text")));
        json!({"avg": (i + t) / 2.0, "gap": (i - t).abs()})
    };
    let ratios: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
    let fall = |c: &str| ratios.iter().map(|r| score("full") + r * (score(c) - score("full"))).collect::<Vec<_>>();
    let edges: Vec<f64> = (0..=40).map(|i| -1.0 + f64::from(i) / 20.0).collect();
    let bump = |at: f64, cut: bool| -> Vec<f64> {
        edges
            .windows(2)
            .map(|w| if cut && w[1] <= 0.0 { 0.0 } else { (200.0 * (-((w[0] - at) / 0.2).powi(2)).exp()).round() })
            .collect()
    };
    let projects = ["projection", "balgrad", "balgrad+dropout"].contains(&method);
    let conflict = |at: f64| {
        json!({"fraction": 0.4 - at, "cosine_before": {"edges": edges, "counts": bump(at, false)},
        "cosine_after": {"edges": edges, "counts": bump(at, projects)}})
    };
    let has_kl = projects || ["neither", "reweighting"].contains(&method);
    let results = json!({
        "schema": 1,
        "dataset": {"name": data.name, "layout": "manifest", "task": data.task, "classes": data.classes, "fingerprint": "sha256:0123abcd",
            "samples": {"train": 900, "val": 120, "test": data.samples}, "skipped": 0, "show_samples": false},
        "method": method.split('+').next(), "label": method, "settings": {"epochs": 12}, "seed": seed,
        "encoders": {"image": "descriptor", "text": "ngrams"}, "fusion": "concat", "device": "cpu", "version": "0.1.0",
        "revision": "abc1234", "wall_seconds": 3.5, "peak_rss_bytes": 0, "metric": metric, "best_epoch": 9, "val": {},
        "steps_per_second": 200.0,
        "missing_ratios": {"ratios": ratios, "missing-image": fall("missing-image"), "missing-text": fall("missing-text")},
        "impairments": {"noisy-image": {"kind": "gaussian", "severity": 3}, "noisy-text": {"kind": "mask", "severity": 3}},
        "missing": pair("missing"), "noisy": pair("noisy"), "views": {"image-only": "head", "text-only": "head"},
        "conflict": if has_kl { json!({"image": conflict(-0.05), "text": conflict(0.2)}) } else { Value::Null },
        "test": test,
    });
    fs::write(folder.join("results.json"), results.to_string()).unwrap();
    fs::write(folder.join("config.toml"), format!("data = \"{}\"\nmethod = \"{method}\"\nseed = {seed}\n", data.name))
        .unwrap();
    fs::write(folder.join("metrics.jsonl"), log(&mut rng, metric, has_kl, strength)).unwrap();
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
