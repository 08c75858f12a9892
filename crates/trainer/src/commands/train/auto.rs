//! `--method auto`: a method chosen from a short list by cross-validation on the training split.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use balgrad::{Targets, Value};
use balgrad_data::{Split, Task};
use serde::Serialize;

use super::super::Configured;
use super::super::compare::Compare;
use super::super::progress::duration;
use crate::metrics::{Score, Unit};
use crate::record::{Condition, Impairment, RunRecord};
use crate::registry::registry;
use crate::session::open_data;
use crate::statistics::mean;
use crate::storage::{create_folder, write_atomic};

/// What stands for a choice on the command line.
pub(super) const NAME: &str = "auto";
/// What is chosen from, the simplest first.
const LIST: [&str; 4] = ["joint", "late-fusion", "balgrad+dropout", "chorus+dropout"];
const FOLDS: usize = 3;
/// Where the runs of the folds stand until the choice is made.
const RUNS: &str = "auto";
/// What was seen, in the run folder.
const FILE: &str = "auto.json";

/// What was seen of a method.
#[derive(Serialize)]
struct Candidate {
    method: &'static str,
    /// The headline score of each fold: clean, the mean with one modality missing, and the mean of these two.
    clean: Vec<f64>,
    one_missing: Vec<f64>,
    both: Vec<f64>,
}

#[derive(Serialize)]
struct Folded<'a> {
    chosen: &'a str,
    why: &'a str,
    metric: Score,
    folds: usize,
    seed: u64,
    runs: usize,
    seconds: f64,
    candidates: &'a [Candidate],
}

/// Trains every method of the list on each fold, says what came of it, and returns the best.
///
/// # Errors
/// Data that cannot be read, or a run that fails.
pub(super) fn choose(configured: &Configured, seed: Option<u64>, out: &Path, quiet: bool) -> Result<&'static str> {
    let started = Instant::now();
    let first = ("method", Some(Value::Word(LIST[0].to_owned())));
    let config = configured.load(&[first, ("seed", seed.map(Value::Count))])?;
    let data = open_data(&config)?;
    let suits = |name: &&str| {
        let method = name.trim_end_matches("+dropout");
        data.task != Task::Regression || registry().method(method).is_ok_and(|m| m.targets == Targets::All)
    };
    let list: Vec<&'static str> = LIST.into_iter().filter(suits).collect();
    let train = data.indices(Split::Train).len();
    if train < 10 * FOLDS || data.modalities.len() < 2 {
        if !quiet {
            say!(
                "auto: joint, as {train} training samples of {} modalities are no basis for a choice",
                data.modalities.len()
            );
        }
        return Ok(LIST[0]);
    }
    let runs = list.len() * FOLDS;
    if !quiet {
        say!("auto: {} on {FOLDS} folds of the training split; the test split is not read", list.join(", "));
    }
    create_folder(out)?;
    let folder = out.join(RUNS);
    Compare::of_folds(configured.clone(), &list, FOLDS as u64, config.seed, &folder, quiet).train_all()?;
    let mut metric = Score::headline(data.task);
    let mut candidates = Vec::with_capacity(list.len());
    for method in list {
        let mut seen = Candidate { method, clean: Vec::new(), one_missing: Vec::new(), both: Vec::new() };
        for fold in 0..FOLDS {
            let run = folder.join(method).join(format!("fold-{fold}"));
            let record = RunRecord::read(&run).with_context(|| run.display().to_string())?;
            metric = record.metric;
            let scores = record.score(&Condition::Full, metric).zip(record.pair(Impairment::Missing).avg);
            let (clean, missing) = scores.with_context(|| format!("{method}: a score of fold {fold} is undefined"))?;
            seen.clean.push(clean);
            seen.one_missing.push(missing);
            seen.both.push(f64::midpoint(clean, missing));
        }
        candidates.push(seen);
    }
    let why = why(metric, &candidates);
    let chosen = best(metric, &candidates)[0].method;
    let seconds = started.elapsed().as_secs_f64();
    let seen =
        Folded { chosen, why: &why, metric, folds: FOLDS, seed: config.seed, runs, seconds, candidates: &candidates };
    write_atomic(&out.join(FILE), format!("{}\n", serde_json::to_string_pretty(&seen)?).as_bytes())?;
    let _ = std::fs::remove_dir_all(&folder);
    if !quiet {
        table(metric, &candidates);
        say!("auto: {why}");
        say!("auto: {runs} runs took {}; now {chosen} is trained on the whole training split", duration(seconds));
    }
    Ok(chosen)
}

fn of(values: &[f64]) -> f64 {
    mean(values).unwrap_or(f64::NAN)
}

/// The candidates, the best first; of equals the simpler.
fn best(metric: Score, candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by(|a, b| metric.order(of(&a.both), of(&b.both)));
    order
}

/// Why the best was chosen.
fn why(metric: Score, candidates: &[Candidate]) -> String {
    let order = best(metric, candidates);
    let [first, second, ..] = order[..] else { return "there is one method for such data".to_owned() };
    let ahead = first.both.iter().zip(&second.both).filter(|(a, b)| metric.is_better(**a, **b)).count();
    let gap = metric.text((of(&first.both) - of(&second.both)).abs(), 1);
    let unit = if metric.unit == Unit::Percent { " points" } else { "" };
    format!(
        "{} is best by the mean of clean and one missing: {gap}{unit} ahead of {}, in {ahead} of {} folds",
        first.method,
        second.method,
        first.both.len()
    )
}

fn table(metric: Score, candidates: &[Candidate]) {
    let width = candidates.iter().map(|c| c.method.len()).max().unwrap_or(0);
    say!("  {:width$}  {:>8}  {:>12}  {:>6}   ({metric}, means of folds)", "", "clean", "one missing", "both");
    for c in candidates {
        let [clean, missing, both] = [&c.clean, &c.one_missing, &c.both].map(|v| metric.text(of(v), 1));
        say!("  {:width$}  {clean:>8}  {missing:>12}  {both:>6}", c.method);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_by_the_mean_of_clean_and_missing_and_of_equals_the_simpler() {
        let one = |method, both: [f64; 3]| Candidate {
            method,
            clean: both.to_vec(),
            one_missing: both.to_vec(),
            both: both.to_vec(),
        };
        let metric = Score::headline(Task::MultiClass);
        let all = [one("joint", [0.5, 0.6, 0.7]), one("late-fusion", [0.6, 0.6, 0.9]), one("chorus", [0.9, 0.6, 0.6])];
        assert_eq!(best(metric, &all)[0].method, "late-fusion");
        let says = why(metric, &all[..2]);
        assert_eq!(
            says,
            "late-fusion is best by the mean of clean and one missing: 10.0 points ahead of joint, in 2 of 3 folds"
        );
        let rmse = Score::headline(Task::Regression);
        assert_eq!(best(rmse, &all)[0].method, "joint");
    }
}
