//! `metrics.jsonl`: what a run writes while it trains.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::Condition;
use crate::metrics::Metrics;

/// The file in a run folder.
pub(crate) const FILE: &str = "metrics.jsonl";

/// The log of a run.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Logged steps.
    pub steps: Vec<Step>,
    /// Epochs.
    pub epochs: Vec<Epoch>,
}

/// A logged step.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// Steps taken before it.
    pub step: u64,
    /// Losses by name.
    pub losses: BTreeMap<String, Option<f64>>,
}

/// An epoch with its validation.
#[derive(Debug, Clone, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u64,
    /// Mean loss in training.
    pub train_loss: Option<f64>,
    /// What the validation split showed.
    pub val: Validation,
}

/// The clean validation split at the end of an epoch. As JSON one flat object: each score by its name, `M-only` and
/// `loss-M` for each modality, `loss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Validation {
    /// Scores of the model's predictions.
    pub scores: Metrics,
    /// The headline score of each modality's own view; none where it has none.
    pub views: BTreeMap<String, Option<f64>>,
    /// Mean loss of each modality's own view.
    pub view_losses: BTreeMap<String, Option<f64>>,
    /// Mean loss of the fused head.
    pub loss: Option<f64>,
}

impl Serialize for Validation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (score, value) in self.scores.iter() {
            map.serialize_entry(score.name, &value)?;
        }
        for (modality, score) in &self.views {
            map.serialize_entry(&Condition::only(modality), score)?;
            map.serialize_entry(&format!("loss-{modality}"), &self.view_losses.get(modality).copied().flatten())?;
        }
        map.serialize_entry("loss", &self.loss)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Validation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Validation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("validation scores by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Validation, A::Error> {
                let mut val = Validation::default();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    if name == "loss" {
                        val.loss = value;
                    } else if let Some(modality) = name.strip_prefix("loss-") {
                        val.view_losses.insert(modality.to_owned(), value);
                    } else if let Ok(Condition::Only(modality)) = name.parse() {
                        val.views.insert(modality, value);
                    } else {
                        val.scores.set(name.parse().map_err(A::Error::custom)?, value);
                    }
                }
                Ok(val)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Log {
    /// Reads the log of a run folder. A run without a log has an empty one; a line that cannot be read, such as one that a
    /// crash cut off, is left out.
    pub fn read(folder: &Path) -> Self {
        #[derive(Deserialize)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        enum Line {
            Step(Step),
            Epoch(Epoch),
        }
        let mut log = Self::default();
        for line in std::fs::read_to_string(folder.join(FILE)).unwrap_or_default().lines() {
            match serde_json::from_str(line) {
                Ok(Line::Step(step)) => log.steps.push(step),
                Ok(Line::Epoch(epoch)) => log.epochs.push(epoch),
                Err(_) => {}
            }
        }
        log
    }
}
