//! One run folder, as far as a report reads it. Keys that are missing or null are simply not shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::metrics::Task;

/// The schema of `results.json` that this program reads.
pub(super) const SCHEMA: u64 = 1;

/// A finished run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// `results.json`.
    pub results: Results,
    /// Logged steps of `metrics.jsonl`; lines that cannot be read are left out.
    pub steps: Vec<Step>,
    /// Epochs of `metrics.jsonl`.
    pub epochs: Vec<Epoch>,
    /// `config.toml`, or nothing.
    pub config: String,
}

/// What stands in `results.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Results {
    /// The data.
    pub dataset: DatasetCard,
    /// The method's name.
    pub method: String,
    /// The row's name, where the run has one.
    #[serde(default)]
    pub label: Option<String>,
    /// Settings that differ from the defaults.
    #[serde(default, deserialize_with = "or_default")]
    pub settings: Map<String, Value>,
    /// The run's seed.
    #[serde(default)]
    pub seed: u64,
    /// Encoder of each modality.
    #[serde(default, deserialize_with = "or_default")]
    pub encoders: BTreeMap<String, String>,
    /// The fusion.
    #[serde(default, deserialize_with = "or_default")]
    pub fusion: String,
    /// Where it ran.
    #[serde(default, deserialize_with = "or_default")]
    pub device: String,
    /// Version of the program.
    #[serde(default, deserialize_with = "or_default")]
    pub version: String,
    /// Revision of the source.
    #[serde(default, deserialize_with = "or_default")]
    pub revision: String,
    /// Time from start to end, in seconds.
    #[serde(default)]
    pub wall_seconds: Option<f64>,
    /// Speed of training.
    #[serde(default)]
    pub steps_per_second: Option<f64>,
    /// The headline metric.
    pub metric: String,
    /// The chosen epoch, from 1.
    #[serde(default)]
    pub best_epoch: Option<u64>,
    /// Condition → metric → score.
    pub test: BTreeMap<String, Option<BTreeMap<String, Option<f64>>>>,
    /// Headline score by the part of samples that lack a modality: `ratios`, and a list per condition.
    #[serde(default, deserialize_with = "or_default")]
    pub missing_ratios: BTreeMap<String, Vec<Option<f64>>>,
    /// How modalities were corrupted.
    #[serde(default)]
    pub impairments: Value,
    /// `head` or `slice` for each modality's own view.
    #[serde(default, deserialize_with = "or_default")]
    pub views: BTreeMap<String, Option<String>>,
    /// What each modality contributes: `score` and `loss`, each with a Shapley value per modality and the worth of nothing.
    #[serde(default)]
    pub contribution: Value,
    /// Modality → conflict between the task's and the KL gradients.
    #[serde(default, deserialize_with = "or_default")]
    pub conflict: BTreeMap<String, Option<Conflict>>,
}

/// The data of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct DatasetCard {
    /// Its name.
    pub name: String,
    /// The layout it was read from.
    #[serde(default, deserialize_with = "or_default")]
    pub layout: String,
    /// The form of the task.
    pub task: Task,
    /// Names of the classes, in the order of probabilities.
    pub classes: Vec<String>,
    /// Hash of what was read.
    #[serde(default, deserialize_with = "or_default")]
    pub fingerprint: String,
    /// Samples per split.
    #[serde(default, deserialize_with = "or_default")]
    pub samples: BTreeMap<String, u64>,
    /// Samples that were left out.
    #[serde(default)]
    pub skipped: u64,
    /// Whether samples may be shown. A report shows none, whatever this says.
    #[serde(default)]
    pub show_samples: bool,
}

/// How the gradients of task and KL met in one modality's block.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Conflict {
    /// Part of steps with a negative inner product.
    pub fraction: Option<f64>,
    /// Cosines before the projection.
    pub cosine_before: Option<Histogram>,
    /// Cosines after it.
    pub cosine_after: Option<Histogram>,
}

/// Counts between edges.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// One more than there are bins.
    pub edges: Vec<f64>,
    /// One per bin.
    pub counts: Vec<f64>,
}

/// A logged step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Steps taken.
    pub step: f64,
    /// Losses by name.
    pub losses: BTreeMap<String, Option<f64>>,
    /// Shares by modality.
    pub shares: BTreeMap<String, Option<f64>>,
}

/// An epoch with its validation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Epoch {
    /// From 1.
    pub epoch: f64,
    /// Mean loss in training.
    pub train_loss: Option<f64>,
    /// Validation scores: metrics, each modality's own view, losses.
    pub val: BTreeMap<String, Option<f64>>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Run {
    /// Reads a run folder, or says in one line why it is no run of a report.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("results.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err("not finished (no results.json): continue it with `balgrad train --resume`".into());
            }
            Err(e) => return Err(format!("results.json cannot be read: {e}")),
        };
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("results.json is damaged: {e}"))?;
        match &value["schema"] {
            Value::Number(n) if n.as_u64() == Some(SCHEMA) => {}
            Value::Null => return Err("results.json has no `schema`: it is not a run's".into()),
            found => {
                return Err(format!(
                    "results.json has schema {found}, but this program reads schema {SCHEMA}; train the run again, or use the version that wrote it"
                ));
            }
        }
        let results = serde_json::from_value(value).map_err(|e| format!("results.json is incomplete: {e}"))?;
        let (steps, epochs) = log(&std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default());
        let config = std::fs::read_to_string(folder.join("config.toml")).unwrap_or_default();
        Ok(Self { path: folder.to_owned(), results, steps, epochs, config })
    }

    /// The score of `metric` under `condition`.
    pub fn score(&self, condition: &str, metric: &str) -> Option<f64> {
        *self.results.test.get(condition)?.as_ref()?.get(metric)?
    }

    /// Mean and absolute difference of the two impaired scores, `kind` being `missing` or `noisy`.
    pub fn pair(&self, kind: &str, metric: &str) -> Option<(f64, f64)> {
        let image = self.score(&format!("{kind}-image"), metric)?;
        let text = self.score(&format!("{kind}-text"), metric)?;
        Some(((image + text) / 2.0, (image - text).abs()))
    }
}

/// Steps and epochs of a log; a line that was cut off by a crash is left out.
fn log(text: &str) -> (Vec<Step>, Vec<Epoch>) {
    let (mut steps, mut epochs) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        match value["kind"].as_str() {
            Some("step") => steps.extend(serde_json::from_value::<Step>(value)),
            Some("epoch") => epochs.extend(serde_json::from_value::<Epoch>(value)),
            _ => {}
        }
    }
    (steps, epochs)
}
