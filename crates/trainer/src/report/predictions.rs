//! Predictions of a run, read again to resample them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::record::Condition;

/// Predictions of one run under one condition, one entry per sample.
#[derive(Debug, Clone, Default)]
pub(super) struct Predictions {
    pub(super) ids: Vec<String>,
    /// The sample's group: what is drawn in a bootstrap. A sample without one is its own.
    pub(super) groups: Vec<String>,
    pub(super) labels: Vec<Vec<u32>>,
    pub(super) probs: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Line {
    id: String,
    label: Vec<String>,
    probs: Vec<f32>,
    #[serde(default)]
    group: Option<String>,
}

impl Predictions {
    /// Reads `RUN/predictions/<condition>.jsonl`.
    pub(super) fn read(run: &Path, condition: &Condition, classes: &[String]) -> Result<Self, String> {
        let path = run.join("predictions").join(format!("{condition}.jsonl"));
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let index: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut all = Self::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let at = |what: String| format!("{}, line {}: {what}", path.display(), number + 1);
            let line = line.map_err(|e| at(e.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(&line).map_err(|e| at(e.to_string()))?;
            let class =
                |name: &String| index.get(name.as_str()).copied().ok_or_else(|| at(format!("unknown class `{name}`")));
            all.labels.push(line.label.iter().map(class).collect::<Result<_, _>>()?);
            all.groups.push(line.group.unwrap_or_else(|| line.id.clone()));
            all.ids.push(line.id);
            all.probs.push(line.probs);
        }
        Ok(all)
    }
}
