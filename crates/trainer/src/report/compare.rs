//! Differences between methods, with what chance alone could do to them.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Run;
use super::predictions::Predictions;
use super::sections::{Arm, Section};
use super::summary::{Comparison, Row, Summary, compared};
use crate::metrics::{Score, Scored};
use crate::record::{Condition, Measure};
use crate::statistics::{Bootstrap, Grade, Resampled, crossed, holm};

/// Seed of the draws, so that a report repeats to the last digit.
const SEED: u64 = 20_250_313;

/// Additions that a bootstrap may cost before it takes fewer draws (never fewer than [`FEWEST`]).
const BUDGET: usize = 40_000_000_000;
const FEWEST: usize = 1_000;

/// Scores of every run and condition under every draw.
struct Draws<'a> {
    /// `[draws][sources]`.
    values: Vec<Vec<f64>>,
    /// Label, seed and condition → source.
    sources: BTreeMap<(String, u64, Condition), usize>,
    modalities: Vec<&'a str>,
    groups: usize,
}

/// Fills the intervals of `rows`, and adds the comparisons of a section to `summary`.
pub(super) fn compare(section: &Section<'_>, draws: usize, rows: &mut [Row], summary: &mut Summary) {
    let pairs = pairs(section);
    for metric in compared(section) {
        let drawn = match resample(section, metric, draws, &mut summary.notes) {
            Ok(drawn) => Some(drawn),
            Err(why) => {
                summary.notes.push(format!("{}: no bootstrap intervals, since {why}", section.name));
                None
            }
        };
        for row in rows.iter_mut().filter(|r| r.metric == metric) {
            let Some(arm) = section.arm(&row.method) else { continue };
            let seeds: Vec<u64> = arm.runs.iter().map(|r| r.record.seed).collect();
            let scores: Option<Vec<f64>> = arm.runs.iter().map(|r| r.measure(&row.condition, metric)).collect();
            row.ci95 = scores.zip(drawn.as_ref()).and_then(|(scores, drawn)| {
                let values = drawn.of_seeds(&arm.label, &seeds, &row.condition)?;
                Some(crossed(&scores, &values, drawn.groups)?.ci95)
            });
        }
        let first = summary.comparisons.len();
        for (a, b) in &pairs {
            for measure in Measure::table(&section.modalities()) {
                summary.comparisons.extend(one(section, a, b, metric, &measure, drawn.as_ref()));
            }
        }
        let family = &mut summary.comparisons[first..];
        let tested: Vec<usize> = (0..family.len()).filter(|&i| family[i].p.is_some()).collect();
        let p: Vec<f64> = tested.iter().filter_map(|&i| family[i].p).collect();
        for (&i, p) in tested.iter().zip(holm(&p)) {
            family[i].p_holm = Some(p);
        }
        for c in family {
            c.grade = c.ci95.map(|ci95| Grade::of(ci95, c.p_holm));
        }
    }
}

/// BalGrad against every other method, the rule beyond it too, and with dropout against the baseline without and with dropout.
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
    for other in ["joint", "joint+dropout"] {
        pairs.extend(section.arm("balgrad+dropout").zip(section.arm(other)));
    }
    pairs
}

fn one(
    section: &Section<'_>,
    a: &Arm<'_>,
    b: &Arm<'_>,
    metric: Score,
    measure: &Measure,
    drawn: Option<&Draws<'_>>,
) -> Option<Comparison> {
    let with_seed = |arm: &Arm<'_>, seed: u64| {
        arm.runs.iter().find(|r| r.record.seed == seed).and_then(|r| r.measure(measure, metric))
    };
    let common = a.runs.iter().map(|r| r.record.seed).filter(|s| b.runs.iter().any(|r| r.record.seed == *s));
    let common: Vec<u64> = common.collect();
    if common.is_empty() {
        return None;
    }
    let scores = |arm| -> Option<Vec<f64>> { common.iter().map(|&seed| with_seed(arm, seed)).collect() };
    let less = |(a, b): (Vec<f64>, Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
    let observed = scores(a).zip(scores(b)).map(less);
    let found = observed.as_ref().zip(drawn).and_then(|(observed, drawn)| {
        let of = |arm: &Arm<'_>| drawn.of_seeds(&arm.label, &common, measure);
        let differences: Vec<Vec<f64>> = of(a)?.into_iter().zip(of(b)?).map(less).collect();
        crossed(observed, &differences, drawn.groups)
    });
    Some(Comparison {
        dataset: section.name.clone(),
        a: a.label.clone(),
        b: b.label.clone(),
        metric,
        condition: measure.clone(),
        difference: observed.as_deref().and_then(crate::statistics::mean),
        p: found.and_then(|f| f.p),
        p_holm: None,
        ci95: found.map(|f| f.ci95),
        draws: drawn.map_or(0, |d| d.values.len()),
        seeds: common.len(),
        grade: None,
    })
}

impl Draws<'_> {
    /// Under each draw, each seed's value of a row of the table.
    fn of_seeds(&self, label: &str, seeds: &[u64], measure: &Measure) -> Option<Vec<Vec<f64>>> {
        let conditions = measure.conditions(&self.modalities);
        let source =
            |seed: u64, condition: &Condition| self.sources.get(&(label.to_owned(), seed, condition.clone())).copied();
        let of_seed = |&seed: &u64| conditions.iter().map(|c| source(seed, c)).collect::<Option<Vec<usize>>>();
        let sources: Vec<Vec<usize>> = seeds.iter().map(of_seed).collect::<Option<_>>()?;
        let mut scores = Vec::new();
        let mut value = |draw: &[f64], sources: &[usize]| {
            scores.clear();
            scores.extend(sources.iter().map(|&i| draw[i]));
            measure.value(&scores)
        };
        Some(self.values.iter().map(|draw| sources.iter().map(|s| value(draw, s)).collect()).collect())
    }
}

/// Where each test sample's group stands: all runs of a section must have seen the same samples.
struct Groups {
    of: BTreeMap<String, usize>,
    count: usize,
}

fn resample<'a>(
    section: &Section<'a>,
    metric: Score,
    draws: usize,
    notes: &mut Vec<String>,
) -> Result<Draws<'a>, String> {
    if metric.resample.is_none() {
        return Err(format!("{metric} is no sum over samples"));
    }
    let modalities = section.modalities();
    let measured = Condition::tested(&modalities);
    // Whichever run has its predictions says which samples and groups there are.
    let read = |run: &&Run| Predictions::read(&run.path, &Condition::Full, &run.record.dataset.classes);
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
    let wanted: Vec<_> =
        runs.flat_map(|(label, run)| measured.iter().map(move |c| (label.clone(), run, c.clone()))).collect();
    let read = |(label, run, condition): &(String, &Run, Condition)| {
        load(run, condition, metric, &groups).map(|score| ((label.clone(), run.record.seed, condition.clone()), score))
    };
    let found: Vec<_> = wanted.par_iter().map(read).collect();
    let mut scores = Vec::new();
    let mut sources = BTreeMap::new();
    for (result, (label, run, condition)) in found.into_iter().zip(&wanted) {
        match result {
            Ok((key, score)) => {
                let ours = score.at(&vec![1.0; groups.count]);
                if run.record.score(condition, metric).is_none_or(|told| (told - ours).abs() > 1e-6) && ours.is_finite()
                {
                    let told = run.record.score(condition, metric).map_or("null".into(), |v| v.to_string());
                    notes.push(format!(
                        "{}: {metric} under {condition} is {ours} by its predictions, but results.json says {told}",
                        run.place()
                    ));
                }
                sources.insert(key, scores.len());
                scores.push(score);
            }
            Err(why) => notes.push(format!("{} ({label}, {condition}): no interval, since {why}", section.name)),
        }
    }
    let cost: usize = scores.iter().map(Resampled::cost).sum::<usize>().max(1);
    let draws = draws.min((BUDGET / cost).max(FEWEST));
    Ok(Draws {
        values: Bootstrap { draws, seed: SEED, groups: groups.count }.run(&scores),
        sources,
        modalities,
        groups: groups.count,
    })
}

fn load(run: &Run, condition: &Condition, metric: Score, groups: &Groups) -> Result<Resampled, String> {
    let dataset = &run.record.dataset;
    let said = Predictions::read(&run.path, condition, &dataset.classes)?;
    let of = |id: &String| groups.of.get(id).copied();
    let members: Option<Vec<usize>> = said.ids.iter().map(of).collect();
    let members = members.filter(|m| m.len() == groups.of.len()).ok_or("its test samples differ from other runs'")?;
    let scored = Scored::new(dataset.task, &said.rows, said.truth(dataset.task));
    scored
        .and_then(|scored| Resampled::new(metric, &scored, &members, groups.count))
        .ok_or_else(|| "its predictions cannot be scored (not finite, or of another shape)".into())
}
