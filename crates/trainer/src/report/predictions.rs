//! Predictions of a run, read again to resample them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::run::place;
use crate::metrics::{Task, Truth};
use crate::record::Condition;

/// Predictions of one run under one condition, one entry per sample.
#[derive(Debug, Clone, Default)]
pub(super) struct Predictions {
    pub(super) ids: Vec<String>,
    /// The sample's group: what is drawn in a bootstrap. A sample without one is its own.
    pub(super) groups: Vec<String>,
    pub(super) labels: Vec<Vec<u32>>,
    pub(super) targets: Vec<Vec<f64>>,
    /// Probabilities, or predicted numbers.
    pub(super) rows: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(flatten)]
    said: Said,
    #[serde(default)]
    group: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Classes { label: Vec<String>, probs: Vec<f32> },
    Numbers { target: Vec<f64>, prediction: Vec<f32> },
}

impl Predictions {
    /// Reads `RUN/predictions/<condition>.jsonl`.
    pub(super) fn read(run: &Path, condition: &Condition, classes: &[String]) -> Result<Self, String> {
        let path = run.join("predictions").join(format!("{condition}.jsonl"));
        let name = format!("predictions/{condition}.jsonl");
        crate::record::sums::verify(run, &name).map_err(|e| format!("{}: {e}", place(run)))?;
        let file = File::open(&path).map_err(|e| format!("{}: {e}", place(&path)))?;
        let index: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut all = Self::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let at = |what: String| format!("{}, line {}: {what}", place(&path), number + 1);
            let line = line.map_err(|e| at(e.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(&line).map_err(|e| at(e.to_string()))?;
            let class =
                |name: &String| index.get(name.as_str()).copied().ok_or_else(|| at(format!("unknown class `{name}`")));
            match line.said {
                Said::Classes { label, probs } => {
                    all.labels.push(label.iter().map(class).collect::<Result<_, _>>()?);
                    all.rows.push(probs);
                }
                Said::Numbers { target, prediction } => {
                    all.targets.push(target);
                    all.rows.push(prediction);
                }
            }
            all.groups.push(line.group.unwrap_or_else(|| line.id.clone()));
            all.ids.push(line.id);
        }
        Ok(all)
    }

    /// The truth that goes with a form of target.
    pub(super) fn truth(&self, task: Task) -> Truth<'_> {
        if task == Task::Regression { Truth::from(&self.targets) } else { Truth::from(&self.labels) }
    }
}
