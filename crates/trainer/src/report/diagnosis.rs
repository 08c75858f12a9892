//! What a run says of its modalities, and what a person can do about it.

use super::predictions::Predictions;
use super::run::{Run, place};
use crate::metrics::{Better, Score, Task, Unit, argmax, compute};
use crate::record::{Condition, RunRecord};

/// Something that was found in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The modality that it is about, if one.
    pub modality: Option<String>,
    /// A sentence for people.
    pub says: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Kinds of finding, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The scores are those of a constant answer.
    NearChance,
    /// Taking the modality away changes no answer.
    Absent,
    /// The modality is there, and helps neither with the others nor alone.
    Useless,
    /// The model leans on the modality.
    Dominant,
    /// Without the modality the model is surer than it is right.
    Overconfident,
    /// The modality knows something, and the others know it too.
    Redundant,
    /// Losing any modality costs about the same.
    Balanced,
}

/// What was found in one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The scores in one line.
    pub scores: String,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
}

/// Below this difference two modalities count as balanced: points of percent; of a score in its own unit, that fraction
/// of Full.
const CLOSE: f64 = 0.05;
/// From this fraction of unchanged answers on, a modality counts as absent.
const UNCHANGED: f64 = 0.95;
/// From this distance between confidence and accuracy on, a model is overconfident.
const SURE: f64 = 0.1;

/// Reads the predictions of a run, and finds what there is to find.
///
/// # Errors
/// Predictions that are gone or damaged, and scores that are undefined, as of a run that scored nothing.
pub fn diagnose(run: &Run) -> Result<Diagnosis, String> {
    let record = &run.record;
    let read = |condition: &Condition| Predictions::read(&run.path, condition, &record.dataset.classes);
    let full = read(&Condition::Full)?;
    if full.ids.is_empty() {
        return Err(format!("{}: nothing was scored, as the data has no labelled test sample", place(&run.path)));
    }
    let modalities = record.modalities();
    let mut parts = Vec::with_capacity(modalities.len());
    for modality in &modalities {
        let missing = read(&Condition::missing(modality))?;
        let score = record.score(&Condition::missing(modality), record.metric);
        let score = score.ok_or_else(|| undefined(&run.path))?;
        parts.push(Part {
            name: modality,
            score,
            unchanged: unchanged(&full, &missing),
            surplus: surplus(record, &missing),
        });
    }
    let score = record.score(&Condition::Full, record.metric).ok_or_else(|| undefined(&run.path))?;
    let guess = constant(record, &full).ok_or_else(|| undefined(&run.path))?;
    let case = Case { run, record, metric: record.metric, full: score, guess, samples: full.ids.len(), parts };
    let surplus = surplus(record, &full);
    Ok(Diagnosis { scores: case.scores(), findings: case.findings(surplus) })
}

fn undefined(run: &std::path::Path) -> String {
    format!("{}: the scores are undefined; is a class missing from the test split?", place(run))
}

/// One modality of a run.
struct Part<'a> {
    name: &'a str,
    /// The headline score without it.
    score: f64,
    /// The fraction of answers that stay the same, to the bit or nearly, without it.
    unchanged: f64,
    /// Mean confidence less accuracy without it; none where an answer is no one class.
    surplus: Option<(f64, f64)>,
}

struct Case<'a> {
    run: &'a Run,
    record: &'a RunRecord,
    metric: Score,
    full: f64,
    /// The score of the best constant answer.
    guess: f64,
    samples: usize,
    parts: Vec<Part<'a>>,
}

impl Case<'_> {
    fn text(&self, value: f64) -> String {
        self.metric.text(value, 1)
    }

    fn scores(&self) -> String {
        let without: String =
            self.parts.iter().map(|p| format!(", without {} {}", p.name, self.text(p.score))).collect();
        format!("{}: full {}{without} (guessing: {})", self.metric, self.text(self.full), self.text(self.guess))
    }

    /// How far `a` is better than `b`.
    fn ahead(&self, a: f64, b: f64) -> f64 {
        if self.metric.better == Better::Higher { a - b } else { b - a }
    }

    /// What chance may make of a difference from this score: two standard errors of a fraction, or a twentieth of a number.
    fn noise(&self, score: f64) -> f64 {
        match self.metric.unit {
            Unit::Percent => 2.0 * (score * (1.0 - score)).max(0.01).sqrt() / (self.samples as f64).sqrt(),
            Unit::Plain => CLOSE * score.abs(),
        }
    }

    fn is_guess(&self, score: f64) -> bool {
        self.ahead(score, self.guess) <= self.noise(self.guess)
    }

    /// What the modality scores by itself: its own view, or what is left where the other of two is missing.
    fn alone(&self, m: usize) -> Option<f64> {
        let view = self.record.score(&Condition::only(self.parts[m].name), self.metric);
        let left = (self.parts.len() == 2).then(|| self.parts[1 - m].score);
        [view, left].into_iter().flatten().reduce(|a, b| if self.ahead(a, b) > 0.0 { a } else { b })
    }

    fn findings(&self, surplus: Option<(f64, f64)>) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |kind, modality: Option<&str>, says: String, advice: Option<String>| {
            found.push(Finding { kind, modality: modality.map(str::to_owned), says, advice });
        };
        let near_chance = self.is_guess(self.full);
        if near_chance {
            let says = format!("The model is no better than the same answer every time ({}).", self.text(self.guess));
            add(Kind::NearChance, None, says, Some(self.learn()));
        }
        let alone = (self.record.method.strip_suffix("-only")).filter(|m| self.parts.iter().any(|p| p.name == *m));
        if let Some(alone) = alone {
            let says = format!("This run trains the {alone} alone: there is nothing to balance.");
            add(Kind::Balanced, None, says, Some("Diagnose a run that uses every modality.".into()));
            return found;
        }
        let absent = |p: &&Part<'_>| p.unchanged >= UNCHANGED;
        for part in self.parts.iter().filter(absent) {
            let m = part.name;
            let percent = (100.0 * part.unchanged).floor();
            let says = format!("The {m} plays no part: {percent:.0} % of answers stay the same without it.");
            let advice =
                format!("Does the data have one for each sample? `balgrad check --data {}` counts.", self.data());
            add(Kind::Absent, Some(m), says, Some(advice));
        }
        if near_chance {
            return found;
        }
        for (m, part) in self.parts.iter().enumerate().filter(|(_, p)| !absent(p)) {
            let cost = self.ahead(self.full, part.score);
            if cost > self.noise(self.full) {
                continue;
            }
            match self.alone(m) {
                Some(alone) if !self.is_guess(alone) => add(
                    Kind::Redundant,
                    Some(part.name),
                    format!("The {} alone scores {}, and the rest makes up for it.", part.name, self.text(alone)),
                    None,
                ),
                alone => {
                    let alone = alone.map_or_else(String::new, |a| format!(" alone scores {}", self.text(a)));
                    let comma = if alone.is_empty() { "" } else { ", as guessing does, and" };
                    let says = format!("The {}{alone}{comma} adds nothing to the rest.", part.name);
                    add(Kind::Useless, Some(part.name), says, Some(self.replace(m)));
                }
            }
        }
        let useless = found.iter().any(|f| matches!(f.kind, Kind::Useless | Kind::Absent));
        if self.parts.len() > 1 && !useless {
            let balance = self.balance();
            if balance.kind == Kind::Dominant {
                found.retain(|f| f.kind != Kind::Redundant);
            }
            found.push(balance);
        }
        // Where only one modality says anything, nothing is left without it.
        for part in self.parts.iter().filter(|_| !useless) {
            let Some((confidence, accuracy)) = part.surplus else { continue };
            let before = surplus.map_or(0.0, |(confidence, accuracy)| confidence - accuracy);
            if confidence - accuracy >= SURE.max(before + CLOSE) && part.unchanged < UNCHANGED {
                found.push(Finding {
                    kind: Kind::Overconfident,
                    modality: Some(part.name.to_owned()),
                    says: format!(
                        "Without the {} it is sure of {:.0} % and right in {:.0} %.",
                        part.name,
                        100.0 * confidence,
                        100.0 * accuracy
                    ),
                    advice: Some(self.humble()),
                });
            }
        }
        found.sort_by_key(|f| f.kind);
        found
    }

    /// Which modality the model leans on.
    fn balance(&self) -> Finding {
        let by_cost = |a: &&Part<'_>, b: &&Part<'_>| self.ahead(a.score, b.score).total_cmp(&0.0);
        let (Some(dominant), Some(other)) = (self.parts.iter().min_by(by_cost), self.parts.iter().max_by(by_cost))
        else {
            return Finding { kind: Kind::Balanced, modality: None, says: "Nothing to compare.".into(), advice: None };
        };
        let gap = self.ahead(other.score, dominant.score);
        let close = if self.metric.unit == Unit::Percent { CLOSE } else { CLOSE * self.full.abs() };
        let unit = if self.metric.unit == Unit::Percent { " points" } else { "" };
        if gap < close {
            let says = format!("Balanced: losing any modality costs about the same ({}{unit} apart).", self.text(gap));
            let cost = self.parts.iter().map(|p| self.ahead(self.full, p.score)).fold(0.0, f64::max);
            let advice = if cost <= self.noise(self.full) { None } else { self.dropout() };
            return Finding { kind: Kind::Balanced, modality: None, says, advice };
        }
        let (name, score) = (dominant.name, self.text(dominant.score));
        let mut says =
            format!("The {name} dominates: without it {} goes from {} to {score}", self.metric, self.text(self.full));
        says += &format!(", without the {} to {}.", other.name, self.text(other.score));
        if let Some(epoch) = self.since(name, other.name) {
            says += &format!(" It has been ahead on validation since epoch {epoch}.");
        }
        let rest = || "What remains may be all that the others have to give: better encoders or more data would help.";
        let advice = self.dropout().unwrap_or_else(|| rest().to_owned());
        Finding { kind: Kind::Dominant, modality: Some(name.to_owned()), says, advice: Some(advice) }
    }

    /// The epoch from which on the dominant modality's validation score stayed ahead.
    fn since(&self, dominant: &str, other: &str) -> Option<u64> {
        let mut since = None;
        for epoch in &self.run.log.epochs {
            let view = |m: &str| epoch.val.views.get(m).copied().flatten();
            let (Some(a), Some(b)) = (view(dominant), view(other)) else { continue };
            since = if self.metric.is_better(a, b) { since.or(Some(epoch.epoch)) } else { None };
        }
        since
    }

    fn data(&self) -> String {
        let data = self.run.config.parse::<toml::Table>().ok().and_then(|t| Some(t.get("data")?.as_str()?.to_owned()));
        data.unwrap_or_else(|| self.record.dataset.name.clone())
    }

    /// The command that trains the same again with something else.
    fn again(&self, change: &str) -> String {
        let run = self.run.path.display();
        format!("balgrad train --config {run}/config.toml {change} --out {run}-2")
    }

    fn dropout(&self) -> Option<String> {
        let dropped = self.record.setting("modality_dropout").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        match dropped > 0.0 {
            false => Some(format!("Drop modalities in training: {}", self.again("--set modality_dropout=0.2"))),
            true if !["balgrad", "chorus"].contains(&&*self.record.method) => {
                Some(format!("Let every modality learn by itself too: {}", self.again("--method chorus")))
            }
            true => None,
        }
    }

    fn learn(&self) -> String {
        let check = format!(
            "Look at the data first: `balgrad check --data {}`: do labels and files belong together?",
            self.data()
        );
        let last = self.run.log.epochs.last().map_or(0, |epoch| epoch.epoch);
        if last > 0 && self.record.best_epoch == last {
            return format!(
                "{check} The last epoch was the best: {}",
                self.again(&format!("--set epochs={}", 4 * last))
            );
        }
        format!("{check} If so, try pretrained encoders: `balgrad encoders` lists them.")
    }

    fn replace(&self, m: usize) -> String {
        let name = self.parts[m].name;
        let encoder = self.record.encoders.get(name).map_or("", String::as_str);
        let mut advice = format!(
            "Do they belong to their samples? Else try another encoder than `{encoder}`: --set encoders.{name}=NAME."
        );
        if let [a, b] = &self.parts[..] {
            let other = if m == 0 { b.name } else { a.name };
            advice += &format!(" Or leave it out: {}", self.again(&format!("--method {other}-only")));
        }
        advice
    }

    fn humble(&self) -> String {
        let wait = "ask it for more before you trust it: balgrad predict RUN --abstain 0.9";
        self.dropout()
            .map_or_else(|| format!("Where it is missing, {wait}"), |advice| format!("{advice}; till then {wait}"))
    }
}

/// The fraction of samples whose answer is the same.
fn unchanged(full: &Predictions, missing: &Predictions) -> f64 {
    let near = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0));
    let same = full.rows.iter().zip(&missing.rows).filter(|pair| near(*pair)).count();
    same as f64 / full.rows.len().max(1) as f64
}

/// Mean confidence, and accuracy.
fn surplus(record: &RunRecord, predictions: &Predictions) -> Option<(f64, f64)> {
    if !matches!(record.dataset.task, Task::MultiClass | Task::Binary) || predictions.rows.is_empty() {
        return None;
    }
    let (mut confidence, mut right) = (0.0, 0.0);
    for (row, labels) in predictions.rows.iter().zip(&predictions.labels) {
        let row: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
        let best = argmax(&row)?;
        confidence += row[best];
        right += f64::from(u8::from(labels.contains(&(best as u32))));
    }
    let count = predictions.rows.len() as f64;
    Some((confidence / count, right / count))
}

/// The score of the best answer that is the same for every sample.
fn constant(record: &RunRecord, full: &Predictions) -> Option<f64> {
    let (task, count) = (record.dataset.task, full.rows.len());
    let row: Vec<f64> = match task {
        Task::Regression => {
            let numbers = full.targets.first()?.len();
            (0..numbers).map(|n| full.targets.iter().map(|t| t[n]).sum::<f64>() / count as f64).collect()
        }
        // Every label: what a constant answer can gain by F1.
        Task::MultiLabel => vec![1.0; record.dataset.classes.len()],
        _ => {
            let share = |c: u32| full.labels.iter().filter(|l| l.contains(&c)).count() as f64 / count as f64;
            (0..record.dataset.classes.len() as u32).map(share).collect()
        }
    };
    compute(task, &vec![row; count], full.truth(task)).get(record.metric)
}
