//! Which runs stand in one table, and under what name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Collected, Run, Skipped};
use crate::metrics::Score;

/// The order of methods in every table; others follow alphabetically.
const ORDER: &[&str] = &[
    "image-only",
    "text-only",
    "late-fusion",
    "joint",
    "multi-loss",
    "neither",
    "mslr",
    "ogm",
    "ogm-ge",
    "agm",
    "reweighting",
    "projection",
    "balgrad",
    "chorus",
    "joint+dropout",
    "balgrad+dropout",
    "chorus+dropout",
];

/// Runs that may be compared: same data, encoders and fusion.
pub(super) struct Section<'a> {
    /// The data set's name, with whatever tells it from other sections.
    pub(super) name: String,
    /// Columns of the tables.
    pub(super) arms: Vec<Arm<'a>>,
}

/// One column: a method with its settings, one run per seed, in the order of seeds.
pub(super) struct Arm<'a> {
    pub(super) label: String,
    pub(super) runs: Vec<&'a Run>,
}

impl Arm<'_> {
    /// Something of each run, with commas between.
    pub(super) fn list(&self, of: impl Fn(&Run) -> String) -> String {
        self.runs.iter().map(|r| of(r)).collect::<Vec<_>>().join(", ")
    }
}

impl<'a> Section<'a> {
    /// Some run of the section; what all runs share is read from it.
    pub(super) fn first(&self) -> &'a Run {
        self.arms[0].runs[0]
    }

    /// The headline score.
    pub(super) fn metric(&self) -> Score {
        self.first().record.metric
    }

    pub(super) fn modalities(&self) -> Vec<&'a str> {
        self.first().record.modalities()
    }

    pub(super) fn arm(&self, label: &str) -> Option<&Arm<'a>> {
        self.arms.iter().find(|arm| arm.label == label)
    }

    pub(super) fn seeds(&self) -> BTreeSet<u64> {
        self.arms.iter().flat_map(|a| &a.runs).map(|r| r.record.seed).collect()
    }
}

/// Sorts runs into sections, and names those that repeat a seed.
pub(super) fn sections(collected: &Collected) -> (Vec<Section<'_>>, Vec<Skipped>) {
    let mut by_key: BTreeMap<(&str, String, &str, &str), Vec<&Run>> = BTreeMap::new();
    for run in &collected.runs {
        let r = &run.record;
        let encoders = r.encoders.values().map(String::as_str).collect::<Vec<_>>().join(" + ");
        by_key.entry((&r.dataset.name, encoders, &r.fusion, &r.dataset.fingerprint)).or_default().push(run);
    }
    let keys: Vec<_> = by_key.keys().cloned().collect();
    let mut repeated = Vec::new();
    let sections = by_key.into_iter().map(|((dataset, encoders, fusion, fingerprint), runs)| {
        let rivals = || keys.iter().filter(|k| k.0 == dataset);
        let mut name = dataset.to_owned();
        if rivals().any(|k| k.1 != encoders) {
            name += &format!(" · {encoders}");
        }
        if rivals().any(|k| k.2 != fusion) {
            name += &format!(" · {fusion}");
        }
        if rivals().any(|k| k.3 != fingerprint) {
            let digest = fingerprint.trim_start_matches("sha256:");
            name += &format!(" · data {}", digest.chars().take(8).collect::<String>());
        }
        Section { name, arms: arms(&runs, &mut repeated) }
    });
    (sections.collect(), repeated)
}

fn arms<'a>(runs: &[&'a Run], repeated: &mut Vec<Skipped>) -> Vec<Arm<'a>> {
    let mut by_label: BTreeMap<String, Vec<&'a Run>> = BTreeMap::new();
    for run in runs {
        by_label.entry(run.record.label().to_owned()).or_default().push(run);
    }
    let mut arms: BTreeMap<(usize, String), BTreeMap<u64, &'a Run>> = BTreeMap::new();
    for (label, runs) in by_label {
        let differing = differing_settings(&runs);
        for run in runs {
            let mut label = label.clone();
            if !differing.is_empty() {
                let of = |key: &String| {
                    format!("{}={}", key.trim_start_matches("method."), show(run.record.settings.get(key)))
                };
                label += &format!(" ({})", differing.iter().map(of).collect::<Vec<_>>().join(", "));
            }
            let seeds = arms.entry((rank(&label), label)).or_default();
            if let Some(first) = seeds.get(&run.record.seed) {
                let reason = format!("the same data, method and seed as {}", first.place());
                repeated.push(Skipped { path: run.path.display().to_string(), reason });
            } else {
                seeds.insert(run.record.seed, run);
            }
        }
    }
    arms.into_iter().map(|((_, label), seeds)| Arm { label, runs: seeds.into_values().collect() }).collect()
}

/// Settings in which runs of one label differ: they are no repetitions of each other.
fn differing_settings(runs: &[&Run]) -> Vec<String> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|r| r.record.settings.keys()).collect();
    let differs = |key: &&String| runs.iter().any(|r| r.record.settings.get(*key) != runs[0].record.settings.get(*key));
    keys.into_iter().filter(differs).filter(|k| *k != "seed").cloned().collect()
}

pub(super) fn show(value: Option<&Value>) -> String {
    match value {
        None => "default".into(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

/// Place in tables. A label with settings in brackets stands with its method.
fn rank(label: &str) -> usize {
    let name = label.split(" (").next().unwrap_or(label);
    ORDER.iter().position(|m| *m == name).unwrap_or(ORDER.len())
}
