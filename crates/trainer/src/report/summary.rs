//! The numbers of a report, ready for JSON.

use std::collections::BTreeMap;

use balgrad_data::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Skipped;
use super::sections::Section;
use crate::metrics::Score;
use crate::record::Measure;
use crate::statistics::Grade;

/// What `summary.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this layout.
    pub schema: u64,
    /// One per run.
    pub runs: Vec<RunCard>,
    /// One per data set, method, condition and metric: mean and spread over seeds.
    pub rows: Vec<Row>,
    /// Differences with their uncertainty.
    pub comparisons: Vec<Comparison>,
    /// Runs that were left out.
    pub skipped: Vec<Skipped>,
    /// What a reader should know of the numbers.
    pub notes: Vec<String>,
}

/// A run, as far as a reader needs it to judge a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunCard {
    /// Its folder.
    pub path: String,
    /// The data set, as rows name it.
    pub dataset: String,
    /// The method, as rows name it.
    pub method: String,
    /// The seed.
    pub seed: u64,
    /// Settings that differ from the defaults.
    pub settings: Map<String, Value>,
    /// Encoder of each modality.
    pub encoders: BTreeMap<String, String>,
    /// The fusion.
    pub fusion: String,
    /// Samples per split.
    pub samples: BTreeMap<Split, u64>,
    /// Hash of the data.
    pub fingerprint: String,
    /// The headline score.
    pub metric: Score,
    /// Its value on the validation split after the chosen epoch.
    pub val: Option<f64>,
    /// The chosen epoch.
    pub best_epoch: u64,
    /// Where it ran.
    pub device: String,
    /// Version of the program.
    pub version: String,
    /// Revision of the source.
    pub revision: String,
    /// Time from start to end, in seconds.
    pub wall_seconds: f64,
}

/// A score over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The data set.
    pub dataset: String,
    /// The method.
    pub method: String,
    /// A test condition, or `missing-avg`, `missing-gap`, `noisy-avg`, `noisy-gap`.
    pub condition: Measure,
    /// The score.
    pub metric: Score,
    /// Mean over seeds; null where a seed's score is undefined.
    pub mean: Option<f64>,
    /// Sample standard deviation over seeds; null for one seed.
    pub std: Option<f64>,
    /// How many seeds.
    pub seeds: usize,
    /// 95 % interval of the mean (bootstrap over seeds and test groups), where predictions were there to resample.
    pub ci95: Option<[f64; 2]>,
    /// Whether this is an impaired score that is better than Full.
    pub negative_transfer: bool,
}

/// A difference `a − b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The data set.
    pub dataset: String,
    /// The method that is asked about.
    pub a: String,
    /// The method it is compared with.
    pub b: String,
    /// The score.
    pub metric: Score,
    /// The condition, as in [`Row`].
    pub condition: Measure,
    /// Mean over common seeds of the score of `a` less that of `b`; of a gap, less is better.
    pub difference: Option<f64>,
    /// Chance of such a difference where there is none, two-sided; null for one seed.
    pub p: Option<f64>,
    /// The same, corrected by Holm within data set and metric.
    pub p_holm: Option<f64>,
    /// 95 % interval of the difference: bootstrap over seeds and test groups, paired.
    pub ci95: Option<[f64; 2]>,
    /// Draws of that bootstrap.
    pub draws: usize,
    /// Seeds that both methods have.
    pub seeds: usize,
    /// What may be said of it; null without an interval.
    pub grade: Option<Grade>,
}

/// Scores that are compared: the headline, and for binary tasks those in which such data sets are reported.
pub(super) fn compared(section: &Section<'_>) -> Vec<Score> {
    let form = section.first().record.dataset.task;
    Score::of(form).filter(|score| *score == section.metric() || score.compared.contains(&form)).collect()
}
