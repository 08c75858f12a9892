//! Differences between methods, with what chance alone could do to them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Run;
use super::predictions::Predictions;
use super::sections::{Arm, Section};
use super::summary::{CONDITIONS, Comparison, Row, Summary, compared_metrics, score};
use crate::statistics::{Bootstrap, Score, holm, interval, paired_t};

/// Seed of the draws, so that a report repeats to the last digit.
const SEED: u64 = 20_250_313;

/// Additions that a bootstrap may cost before it takes fewer draws (never fewer than [`FEWEST`]).
const BUDGET: usize = 40_000_000_000;
const FEWEST: usize = 1_000;

/// Conditions with predictions of their own.
const MEASURED: [&str; 5] = ["full", "missing-image", "missing-text", "noisy-image", "noisy-text"];

/// Scores of every run and condition under every draw.
struct Draws {
    /// `[draws][sources]`.
    values: Vec<Vec<f64>>,
    /// Label, seed and condition → source.
    sources: BTreeMap<(String, u64, &'static str), usize>,
}

/// Fills the intervals of `rows`, and adds the comparisons of a section to `summary`.
pub(super) fn compare(section: &Section<'_>, draws: usize, rows: &mut [Row], summary: &mut Summary) {
    let pairs = pairs(section);
    for metric in compared_metrics(section) {
        let drawn = match resample(section, metric, draws, &mut summary.notes) {
            Ok(drawn) => Some(drawn),
            Err(why) => {
                summary.notes.push(format!("{}: no bootstrap intervals, since {why}", section.name));
                None
            }
        };
        for row in rows.iter_mut().filter(|r| r.metric == metric) {
            let Some(arm) = section.arm(&row.method) else { continue };
            let seeds: Vec<u64> = arm.runs.iter().map(|r| r.results.seed).collect();
            row.ci95 = drawn.as_ref().and_then(|d| interval(&d.mean_over_seeds(&arm.label, &seeds, &row.condition)?));
        }
        let first = summary.comparisons.len();
        for (a, b) in &pairs {
            for condition in CONDITIONS {
                summary.comparisons.extend(one(section, a, b, metric, condition, drawn.as_ref()));
            }
        }
        let family = &mut summary.comparisons[first..];
        let tested: Vec<usize> = (0..family.len()).filter(|&i| family[i].p.is_some()).collect();
        let p: Vec<f64> = tested.iter().filter_map(|&i| family[i].p).collect();
        for (&i, p) in tested.iter().zip(holm(&p)) {
            family[i].p_holm = Some(p);
        }
    }
}

/// BalGrad against every other method, the rule beyond it too, and with dropout against the baseline with dropout.
fn pairs<'s, 'a>(section: &'s Section<'a>) -> Vec<(&'s Arm<'a>, &'s Arm<'a>)> {
    let mut pairs = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for ours in ["balgrad", "chorus+dropout"].into_iter().filter_map(|label| section.arm(label)) {
        pairs.extend(
            section
                .arms
                .iter()
                .filter(|other| !seen.contains(&other.label.as_str()) && other.label != ours.label)
                .map(|other| (ours, other)),
        );
        seen.push(&ours.label);
    }
    pairs.extend(section.arm("balgrad+dropout").zip(section.arm("joint+dropout")));
    pairs
}

fn one(
    section: &Section<'_>,
    a: &Arm<'_>,
    b: &Arm<'_>,
    metric: &str,
    condition: &str,
    drawn: Option<&Draws>,
) -> Option<Comparison> {
    let with_seed = |arm: &Arm<'_>, seed: u64| {
        arm.runs.iter().find(|r| r.results.seed == seed).and_then(|r| score(r, condition, metric))
    };
    let common = a.runs.iter().map(|r| r.results.seed).filter(|s| b.runs.iter().any(|r| r.results.seed == *s));
    let common: Vec<u64> = common.collect();
    if common.is_empty() {
        return None;
    }
    let scores = |arm| -> Option<Vec<f64>> { common.iter().map(|&seed| with_seed(arm, seed)).collect() };
    let both = scores(a).zip(scores(b));
    let difference = both
        .as_ref()
        .and_then(|(a, b)| crate::statistics::mean(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>()));
    let ci95 = difference.and(drawn).and_then(|drawn| {
        let of = |arm: &Arm<'_>| drawn.mean_over_seeds(&arm.label, &common, condition);
        interval(&of(a)?.iter().zip(of(b)?).map(|(a, b)| a - b).collect::<Vec<_>>())
    });
    Some(Comparison {
        dataset: section.name.clone(),
        a: a.label.clone(),
        b: b.label.clone(),
        metric: metric.into(),
        condition: condition.into(),
        difference,
        p: both.and_then(|(a, b)| paired_t(&a, &b)).map(|t| t.p),
        p_holm: None,
        ci95,
        draws: drawn.map_or(0, |d| d.values.len()),
        seeds: common.len(),
        resolved: ci95.is_some_and(|[low, high]| low > 0.0 || high < 0.0),
    })
}

impl Draws {
    /// Under each draw, the mean over seeds of a condition's score, or of the average or gap of two.
    fn mean_over_seeds(&self, label: &str, seeds: &[u64], condition: &str) -> Option<Vec<f64>> {
        let source = |seed: u64, condition: &str| {
            let condition = MEASURED.iter().find(|c| **c == condition)?;
            self.sources.get(&(label.to_owned(), seed, *condition)).copied()
        };
        let pair = |kind: &str| -> Option<Vec<(usize, usize)>> {
            let one =
                |&seed: &u64| Some((source(seed, &format!("{kind}-image"))?, source(seed, &format!("{kind}-text"))?));
            seeds.iter().map(one).collect()
        };
        let count = seeds.len() as f64;
        let over = |pairs: Vec<(usize, usize)>, f: fn(f64, f64) -> f64| -> Vec<f64> {
            let mean = |draw: &Vec<f64>| pairs.iter().map(|&(i, t)| f(draw[i], draw[t])).sum::<f64>() / count;
            self.values.iter().map(mean).collect()
        };
        match condition.rsplit_once('-') {
            Some((kind, "avg")) => Some(over(pair(kind)?, |i, t| (i + t) / 2.0)),
            Some((kind, "gap")) => Some(over(pair(kind)?, |i, t| (i - t).abs())),
            _ => {
                let same = seeds.iter().map(|&s| source(s, condition).map(|i| (i, i))).collect::<Option<_>>()?;
                Some(over(same, |i, _| i))
            }
        }
    }
}

/// Where each test sample's group stands: all runs of a section must have seen the same samples.
struct Groups {
    of: BTreeMap<String, usize>,
    count: usize,
}

fn resample(section: &Section<'_>, metric: &str, draws: usize, notes: &mut Vec<String>) -> Result<Draws, String> {
    // Whichever run has its predictions says which samples and groups there are.
    let read = |run: &&Run| Predictions::read(&run.path, "full", &run.results.dataset.classes);
    let mut models = section.arms.iter().flat_map(|arm| &arm.runs).map(read);
    let first = models.next().ok_or("there is no run")?;
    let model = first.or_else(|why| models.find_map(Result::ok).ok_or(why))?;
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of = BTreeMap::new();
    for (id, group) in model.ids.iter().zip(&model.groups) {
        let next = index.len();
        of.insert(id.clone(), *index.entry(group).or_insert(next));
    }
    let groups = Groups { of, count: index.len() };
    let runs = section.arms.iter().flat_map(|arm| arm.runs.iter().map(move |run| (arm.label.clone(), *run)));
    let wanted: Vec<_> = runs.flat_map(|(label, run)| MEASURED.map(|c| (label.clone(), run, c))).collect();
    let read = |(label, run, condition): &(String, &Run, &'static str)| {
        load(run, condition, metric, &groups).map(|score| ((label.clone(), run.results.seed, *condition), score))
    };
    let found: Vec<_> = wanted.par_iter().map(read).collect();
    let mut scores = Vec::new();
    let mut sources = BTreeMap::new();
    for (result, (label, run, condition)) in found.into_iter().zip(&wanted) {
        match result {
            Ok((key, score)) => {
                let ours = score.at(&vec![1.0; groups.count]);
                if run.score(condition, metric).is_none_or(|told| (told - ours).abs() > 1e-6) && ours.is_finite() {
                    let told = run.score(condition, metric).map_or("null".into(), |v| v.to_string());
                    notes.push(format!(
                        "{}: {metric} under {condition} is {ours} by its predictions, but results.json says {told}",
                        run.path.display()
                    ));
                }
                sources.insert(key, scores.len());
                scores.push(score);
            }
            Err(why) => notes.push(format!("{} ({label}, {condition}): no interval, since {why}", section.name)),
        }
    }
    let cost: usize = scores.iter().map(Score::cost).sum::<usize>().max(1);
    let draws = draws.min((BUDGET / cost).max(FEWEST));
    Ok(Draws { values: Bootstrap { draws, seed: SEED, groups: groups.count }.run(&scores), sources })
}

fn load(run: &Run, condition: &str, metric: &str, groups: &Groups) -> Result<Score, String> {
    let dataset = &run.results.dataset;
    let said = Predictions::read(&run.path, condition, &dataset.classes)?;
    let of = |id: &String| groups.of.get(id).copied();
    let members: Option<Vec<usize>> = said.ids.iter().map(of).collect();
    let members = members.filter(|m| m.len() == groups.of.len()).ok_or("its test samples differ from other runs'")?;
    Score::new(metric, dataset.task, &said.probs, &said.labels, &members, groups.count)
        .ok_or_else(|| "its predictions cannot be scored (not finite, or of another shape)".into())
}
