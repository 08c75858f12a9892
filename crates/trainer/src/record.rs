//! The record of a finished run: the only reader and writer of `results.json`.
//!
//! Schema 2 differs from schema 1 (version 0.1.0) in what it may hold: any modalities, any conditions of theirs, and
//! targets that are numbers. Both are read; schema 2 is written.

mod condition;
mod error;
pub(crate) mod log;
mod measure;
pub(crate) mod sums;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::Result;
use balgrad_data::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use condition::{Condition, UnknownCondition};
pub use error::RecordError;
pub use log::{Epoch, Log, Step, Validation};
pub use measure::{Impairment, Measure};

use crate::metrics::{Metrics, Score, Task};
use crate::storage::write_atomic;

/// The schemas that are read; the last is the one that is written.
pub const SCHEMAS: RangeInclusive<u64> = 1..=2;

/// The file in a run folder. Its presence says that the run is finished.
const FILE: &str = "results.json";

/// What stands in `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of the file's form.
    pub schema: u64,
    /// The data.
    pub dataset: DatasetCard,
    /// What tables call the run; empty: the method's name.
    #[serde(default)]
    pub label: String,
    /// The method's name.
    pub method: String,
    /// Settings that differ from the defaults, and the method's own.
    pub settings: Map<String, Value>,
    /// The run's seed.
    pub seed: u64,
    /// Encoder of each modality.
    pub encoders: BTreeMap<String, String>,
    /// The fusion.
    pub fusion: String,
    /// Where it ran: `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Version of the program.
    pub version: String,
    /// Revision of the source.
    pub revision: String,
    /// Time from start to end, in seconds.
    pub wall_seconds: f64,
    /// The most memory that the process held, in bytes; 0 where the system does not tell.
    pub peak_rss_bytes: u64,
    /// The headline score.
    pub metric: Score,
    /// The chosen epoch, from 1.
    pub best_epoch: u64,
    /// The validation split after that epoch.
    pub val: Validation,
    /// Speed of training.
    pub steps_per_second: f64,
    /// Steps that were left out because their loss was not finite.
    #[serde(default)]
    pub nan_steps: u64,
    /// Numbers that the model's parameters hold.
    #[serde(default)]
    pub parameters: u64,
    /// The headline score as more and more samples lose a modality.
    pub missing_ratios: MissingRatios,
    /// How each noisy modality was corrupted.
    pub impairments: BTreeMap<Condition, Noise>,
    /// Scores under each condition; none for a modality without a view of its own.
    pub test: BTreeMap<Condition, Option<Metrics>>,
    /// Average and gap of the headline scores with one modality missing.
    pub missing: Pair,
    /// Average and gap of the headline scores with one modality noisy.
    pub noisy: Pair,
    /// What a modality's own view is; none where it has none.
    pub views: BTreeMap<Condition, Option<View>>,
    /// How the gradients of task and KL met in each modality's block; none for methods without a KL objective.
    pub conflict: Option<BTreeMap<String, Conflict>>,
    /// What each modality contributes.
    #[serde(default)]
    pub contribution: Option<Contribution>,
    /// How well confidence holds what it promises, by condition; none of a regression.
    #[serde(default)]
    pub calibration: BTreeMap<Condition, Calibrated>,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetCard {
    /// Its name.
    pub name: String,
    /// The layout it was read from.
    pub layout: String,
    /// What is asked.
    pub task: Task,
    /// Names of the classes, in the order of probabilities.
    pub classes: Vec<String>,
    /// Hash of what was read.
    pub fingerprint: String,
    /// Samples per split.
    pub samples: BTreeMap<Split, u64>,
    /// Samples that were left out.
    pub skipped: u64,
    /// Whether samples may be shown.
    #[serde(default)]
    pub show_samples: bool,
}

/// The headline score when a fraction of the test samples loses a modality.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MissingRatios {
    /// The fractions.
    pub ratios: Vec<f64>,
    /// The score at each fraction, by condition.
    #[serde(flatten)]
    pub scores: BTreeMap<Condition, Vec<Option<f64>>>,
}

/// How a modality was corrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noise {
    /// The kind.
    pub kind: String,
    /// The severity, 1 to 5.
    pub severity: u64,
}

/// Average and gap of the impaired scores.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pair {
    /// Their mean; none where one is undefined.
    pub avg: Option<f64>,
    /// The largest difference between two of them.
    pub gap: Option<f64>,
}

/// What a modality's own view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Its own head, trained with the model.
    Head,
    /// Its slice of the fused head.
    Slice,
}

impl View {
    /// `head` or `slice`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Slice => "slice",
        }
    }
}

/// How the gradients of task and KL met in one modality's block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Fraction of steps with a negative inner product; none where no step was counted.
    pub fraction: Option<f64>,
    /// Cosines before the projection.
    pub cosine_before: Histogram,
    /// Cosines after it.
    pub cosine_after: Histogram,
}

/// Counts between edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// One more than there are bins.
    pub edges: Vec<f64>,
    /// One per bin; empty where nothing was counted.
    pub counts: Vec<u64>,
}

/// What each modality contributes, as exact Shapley values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// To the headline score; none where that is undefined for some set of modalities.
    pub score: Option<Shapley>,
    /// To the loss, in nats that it falls.
    pub loss: Shapley,
}

/// A Shapley value per modality. With the worth of nothing they sum to the worth of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shapley {
    /// The value of each modality.
    #[serde(flatten)]
    pub modalities: BTreeMap<String, f64>,
    /// The worth of a model that is shown nothing.
    pub nothing: f64,
}

/// The expected calibration error on the test split before and after temperature scaling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// The temperature, of samples that lack nothing but what the condition takes; above 1, probabilities are made less certain.
    pub temperature: f64,
    /// Of the probabilities in the files of predictions; none where nothing is scored.
    pub ece_before: Option<f64>,
    /// Of calibrated probabilities, each sample's by the modalities that it has.
    pub ece_after: Option<f64>,
}

impl RunRecord {
    /// Reads the record of a run folder.
    ///
    /// # Errors
    /// A folder without one, or one that is damaged, foreign or of a later version.
    pub fn read(folder: &Path) -> Result<Self, RecordError> {
        match std::fs::read_to_string(folder.join(FILE)) {
            Ok(text) => {
                let record = Self::parse(&text)?;
                [FILE, log::FILE].into_iter().try_for_each(|name| sums::verify(folder, name))?;
                Ok(record)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(RecordError::Unfinished),
            Err(e) => Err(RecordError::Unreadable(e)),
        }
    }

    /// Reads the text of a `results.json`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let value: Value = serde_json::from_str(text).map_err(RecordError::Damaged)?;
        let schema = value.get("schema").filter(|schema| !schema.is_null()).ok_or(RecordError::Foreign)?;
        if !schema.as_u64().is_some_and(|schema| SCHEMAS.contains(&schema)) {
            let version = value.get("version").and_then(Value::as_str).unwrap_or("of that schema").to_owned();
            return Err(RecordError::Newer { schema: schema.to_string(), version });
        }
        serde_json::from_value(value).map_err(RecordError::Incomplete)
    }

    /// Writes the record into a run folder: the old file or the new one is there, never half of either.
    ///
    /// # Errors
    /// When the disk is full or the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomic(&folder.join(FILE), self.to_text()?.as_bytes())
    }

    /// Finishes a run: writes the checksums of all that stands in its folder, and then the record, whose presence says that the
    /// run is done.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(crate) fn seal(&self, folder: &Path) -> Result<()> {
        sums::write(folder, (FILE, self.to_text()?.as_bytes()))?;
        self.write(folder)
    }

    fn to_text(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// Names of the modalities.
    pub fn modalities(&self) -> Vec<&str> {
        self.encoders.keys().map(String::as_str).collect()
    }

    /// What tables call the run.
    pub fn label(&self) -> &str {
        if self.label.trim().is_empty() { &self.method } else { self.label.trim() }
    }

    /// A setting that differs from the default, or one of the method's.
    pub fn setting(&self, name: &str) -> Option<&Value> {
        self.settings.get(name)
    }

    /// A score under a condition.
    pub fn score(&self, condition: &Condition, score: Score) -> Option<f64> {
        self.test.get(condition)?.as_ref()?.get(score)
    }

    /// A row of a table; none where a score that it is made of is undefined.
    pub fn measure(&self, measure: &Measure, score: Score) -> Option<f64> {
        let conditions = measure.conditions(&self.modalities());
        let scores: Vec<f64> = conditions.iter().map(|c| self.score(c, score)).collect::<Option<_>>()?;
        (!scores.is_empty()).then(|| measure.value(&scores))
    }

    /// Average and gap of the headline scores under an impairment.
    pub fn pair(&self, impairment: Impairment) -> Pair {
        Pair {
            avg: self.measure(&Measure::Avg(impairment), self.metric),
            gap: self.measure(&Measure::Gap(impairment), self.metric),
        }
    }

    /// The headline scores in one line, for people.
    pub fn one_line(&self) -> String {
        let text = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| self.metric.text(v, 1));
        if self.dataset.samples.get(&Split::Test) == Some(&0) {
            return "nothing was scored: the data has no labelled test sample".to_owned();
        }
        let mut line = format!("{} {}", self.metric, text(self.score(&Condition::Full, self.metric)));
        for modality in self.modalities() {
            let missing = self.score(&Condition::missing(modality), self.metric);
            line += &format!("  missing {modality} {}", text(missing));
        }
        let (missing, noisy) = (self.missing, self.noisy);
        line + &format!("  avg {}  gap {}  noisy avg {}", text(missing.avg), text(missing.gap), text(noisy.avg))
    }
}
