//! Scores of predictions against the truth: one table, [`METRICS`], says everything about each.
//!
//! | score | multi-class and binary | multi-label |
//! |---|---|---|
//! | accuracy | the most probable class is the true one (ties to the lowest index) | the set of predicted labels is exactly the true set (subset accuracy) |
//! | F1-macro | mean of each class's F1 over *all* classes, 0 where a class has neither positives nor predictions | the same, a label being predicted from a probability of 0.5 on |
//! | F1-micro | equals accuracy | F1 of the pooled counts |
//! | AUROC | one against the rest, macro over classes with both outcomes; binary: class 1 | the same per label |
//! | mAP | average precision (a sum over steps, no interpolation), macro over classes with a positive | the same |
//! | ECE | 15 equal bins of the top class's confidence | 15 equal bins of every label's probability |
//! | Brier | ½ · mean Σ_c (p_c − y_c)², which for two classes is the mean of (p_1 − y_1)² | mean over samples and labels of (p − y)² |
//!
//! Of values (one or several numbers a sample, on their original scale) each score is computed per number, and averaged
//! over the numbers for which it is defined:
//!
//! | score | one number |
//! |---|---|
//! | MAE | mean of \|p − y\| |
//! | RMSE | square root of the mean of (p − y)² |
//! | R² | 1 − Σ (p − y)² / Σ (y − ȳ)²; undefined where the truth does not vary |
//! | Pearson's r | correlation of p and y; undefined where either does not vary |
//!
//! The formulas are those of scikit-learn (`accuracy_score`, `f1_score(zero_division=0)`, `roc_auc_score`,
//! `average_precision_score`, `brier_score_loss(scale_by_half=True)`, `mean_absolute_error`, `root_mean_squared_error`,
//! `r2_score`) and SciPy (`pearsonr`); ECE is Guo et al. 2017, equation 3 (<https://arxiv.org/abs/1706.04599>).

mod calibration;
mod counts;
mod ranking;
mod scored;
mod table;
mod values;

use std::fmt;

pub use balgrad_data::Task;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

pub(crate) use counts::Counts;
pub use ranking::{auroc, average_precision};
pub(crate) use scored::same_set;
pub use scored::{Classified, Measured, Scored, Truth, argmax, decide};
pub use table::{Better, Compute, METRICS, Metric, Resample, Score, Unit, UnknownScore};

/// The scores of one set of predictions, in the order of the table. `None` (null in JSON) is a score that is undefined on
/// these samples, never 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(Vec<(Score, Option<f64>)>);

impl Metrics {
    /// The scores of a form of target, all of them undefined.
    pub fn undefined(task: Task) -> Self {
        Self(Score::of(task).map(|score| (score, None)).collect())
    }

    /// The value of a score; `None` where it is undefined or was not computed.
    pub fn get(&self, score: Score) -> Option<f64> {
        self.0.iter().find(|(s, _)| *s == score)?.1
    }

    /// Sets the value of a score.
    pub fn set(&mut self, score: Score, value: Option<f64>) {
        match self.0.iter_mut().find(|(s, _)| *s == score) {
            Some(entry) => entry.1 = value,
            None => {
                self.0.push((score, value));
                self.0.sort_by_key(|(s, _)| *s);
            }
        }
    }

    /// Every score with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Score, Option<f64>)> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (score, value) in &self.0 {
            map.serialize_entry(score.name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scores by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut metrics = Metrics::default();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    metrics.set(name.parse().map_err(A::Error::custom)?, value);
                }
                Ok(metrics)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// All scores that suit a form of target: `predictions` are `[samples][classes]` probabilities, or `[samples][numbers]`
/// values. Every score of predictions that cannot be scored (see [`Scored::new`]) is undefined.
pub fn compute<'a, P: Copy + Into<f64>>(task: Task, predictions: &[Vec<P>], truth: impl Into<Truth<'a>>) -> Metrics {
    let Some(scored) = Scored::new(task, predictions, truth.into()) else { return Metrics::undefined(task) };
    Metrics(Score::of(task).map(|score| (score, score.compute(&scored))).collect())
}
