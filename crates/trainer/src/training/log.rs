//! The log of a run: a line of JSON per logged step and per epoch, and the same numbers for TensorBoard.

use std::io::Write;

use anyhow::Result;
use balgrad::Role;
use serde_json::{Map, Value, json};
use sha2::Digest;

use super::Run;
use crate::events::Events;
use crate::storage::refused;

/// The event file in a run folder.
pub(super) const EVENTS: &str = "events.out.tfevents.0.balgrad";

impl Run<'_> {
    /// What happened in the step that was just taken.
    pub(super) fn log_step(&mut self, rate: f64) -> Result<()> {
        let report = self.balancer.report();
        let names = &self.modalities;
        let by_name =
            |values: &[f64]| names.iter().zip(values).map(|(n, v)| ((*n).to_owned(), json!(v))).collect::<Map<_, _>>();
        let mut line = Map::new();
        let losses: Map<String, Value> = report.losses.iter().map(|(n, v)| (n.to_string(), json!(v))).collect();
        line.insert("kind".into(), json!("step"));
        line.insert("step".into(), json!(self.progress.step));
        line.insert("epoch".into(), json!(self.progress.epoch + 1));
        line.insert("losses".into(), losses.into());
        if let Some(mix) = report.mix.as_ref() {
            if let Some(shares) = &mix.shares {
                line.insert("shares".into(), by_name(shares).into());
            }
            // Coefficients that were kept from an earlier step say nothing of this step's gradients.
            if let (Some(conflict), true) = (&mix.conflict, report.passes > 1) {
                let both = conflict.iter().map(|c| c.before.zip(c.after));
                for (counts, cosines) in self.progress.conflict.iter_mut().zip(both) {
                    if let Some((before, after)) = cosines {
                        counts.add(before, after);
                    }
                }
                let cosines: Map<_, _> =
                    names.iter().zip(conflict).map(|(n, c)| ((*n).to_owned(), json!(c.before))).collect();
                let clashes =
                    names.iter().zip(conflict).map(|(n, c)| ((*n).to_owned(), json!(c.before.map(|v| v < 0.0))));
                line.insert("conflict".into(), clashes.collect::<Map<_, _>>().into());
                line.insert("cosine".into(), cosines.into());
            }
            let scales: Vec<f64> = (0..names.len()).map(|m| self.balancer.step_scale(Role::Tower(m))).collect();
            if scales.iter().any(|s| *s != 1.0) {
                line.insert("step_scale".into(), by_name(&scales).into());
            }
        }
        line.insert("lr".into(), json!(rate));
        line.insert("seconds".into(), json!(self.progress.seconds));
        if self.progress.step.is_multiple_of(self.training.config.output.log_every) {
            self.write_line(&line)?;
        }
        Ok(())
    }

    pub(super) fn flush_events(&mut self) -> Result<()> {
        Ok(self.files.as_mut().map_or(Ok(()), |(_, events)| events.flush())?)
    }

    pub(super) fn write_line(&mut self, line: &Map<String, Value>) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let cannot = |what: &str| format!("cannot write {what} of {}", self.training.folder.display());
        let Some((metrics, events)) = &mut self.files else { return Ok(()) };
        metrics.write_all(text.as_bytes()).map_err(|e| refused(e, cannot("metrics.jsonl")))?;
        self.progress.metrics_bytes += text.len() as u64;
        self.metrics_hash.update(text.as_bytes());
        show(events, line).map_err(|e| refused(e, cannot("the event file")))
    }
}

/// Shows the numbers of a log line to TensorBoard.
pub(super) fn show(events: &mut Events, line: &Map<String, Value>) -> std::io::Result<()> {
    let mut scalars = Vec::new();
    scalars_of("", line, &mut scalars);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    events.scalars(line.get("step").and_then(Value::as_u64).unwrap_or(0), now, &scalars)
}

/// Every number of a log line with a path for its name.
fn scalars_of(prefix: &str, line: &Map<String, Value>, out: &mut Vec<(String, f64)>) {
    for (name, value) in line {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => scalars_of(&format!("{name}/"), inner, out),
            Value::Number(v) if name != "step" => out.extend(v.as_f64().map(|v| (name, v))),
            _ => {}
        }
    }
}
