//! The record of a run: the test split under every condition, and what training left.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use balgrad::Communicator;
use balgrad_data::{Dataset, ImpairmentKind, Split, Task};
use candle_core::Device;
use serde_json::json;

use crate::calibration;
use crate::channel::Channel;
use crate::checkpoint::{BINS, ConflictCounts, Progress};
use crate::config::Config;
use crate::evaluator::{Evaluator, Predictions, Rows};
use crate::metrics::{Metrics, Score};
use crate::ranks::check_signals;
use crate::record::{
    Calibrated, Condition, Conflict, Contribution, DatasetCard, Histogram, Impairment, MissingRatios, Noise, Pair,
    RunRecord, SCHEMAS, Shapley, Validation, View,
};
use crate::session::Session;
use crate::split_data::SplitData;
use crate::storage::{create_folder, write_atomic};

/// The score that stands for a run: the one that the data set names, or that of its form of target.
///
/// # Errors
/// A name that is no score, or a score that does not suit the data set.
pub(crate) fn headline(dataset: &Dataset) -> Result<Score> {
    let task = dataset.task;
    let Some(name) = &dataset.metric else { return Ok(Score::headline(task)) };
    let score: Score = name.parse().with_context(|| dataset.name.clone())?;
    if !score.leads || !score.suits(task) {
        anyhow::bail!("{}: `{score}` cannot be the headline metric of a {} task", dataset.name, task.name());
    }
    Ok(score)
}

/// What the test split showed of a trained model.
pub(crate) struct Tested<'a> {
    session: &'a Session,
    metric: Score,
    data: SplitData,
    test: BTreeMap<Condition, Option<Metrics>>,
    ratios: MissingRatios,
    /// None where there is nothing to score.
    contribution: Option<Contribution>,
    calibration: BTreeMap<Condition, Calibrated>,
    view: Option<View>,
}

impl<'a> Tested<'a> {
    /// Tests a model under every condition, and leaves its predictions in the run folder. Nothing before this reads the test split.
    ///
    /// # Errors
    /// A sample that cannot be read, or a disk that refuses.
    pub(super) fn new(
        session: &'a Session,
        config: &Config,
        folder: &Path,
        ranks: &Arc<dyn Communicator>,
    ) -> Result<Self> {
        let (metric, modalities) = (headline(session.dataset())?, session.modalities());
        let evaluator = Evaluator { ranks: Arc::clone(ranks), ..session.evaluator(config)? };
        let write = |condition: &Condition, data: &SplitData, rows: &Rows| match ranks.rank() {
            0 => write_predictions(session.dataset(), folder, condition, data, rows),
            _ => Ok(()),
        };
        let mut test = BTreeMap::new();
        let mut by_condition: BTreeMap<Condition, Rows> = BTreeMap::new();
        let mut clean: Option<(SplitData, Predictions)> = None;
        let mut calibration = BTreeMap::new();
        let fitted = &session.spec.calibration;
        let ece: Score = "ece".parse()?;
        let mut calibrated =
            |condition: &Condition, temperature: f64, before: &Rows, after: &Rows, data: &SplitData| {
                let score = |rows: &Rows| evaluator.score(ece, rows, data);
                let scores = Calibrated { temperature, ece_before: score(before), ece_after: score(after) };
                if evaluator.task != Task::Regression {
                    calibration.insert(condition.clone(), scores);
                }
            };
        for condition in Condition::tested(&modalities) {
            check_signals(ranks.as_ref())?;
            let data = session.split(Split::Test, session.impairment(config, &condition)?)?;
            let predictions = evaluator.predict(&data)?;
            test.insert(condition.clone(), Some(evaluator.metrics(&predictions.rows, &data)));
            write(&condition, &data, &predictions.rows)?;
            let without = |name: &&str| condition == Condition::missing(name);
            let set = (0..).zip(&modalities).filter(|(_, name)| !without(name)).map(|(m, _)| 1usize << m).sum();
            let rows = fitted.rows(evaluator.task, &predictions.rows, &data, &modalities);
            calibrated(&condition, fitted.of(set, &modalities), &predictions.rows, &rows, &data);
            by_condition.insert(condition.clone(), predictions.rows.clone());
            if condition == Condition::Full {
                clean = Some((data, predictions));
            }
        }
        let (data, predictions) = clean.context("the clean condition is one of all")?;
        for (name, view) in modalities.iter().zip(&predictions.views) {
            let condition = Condition::only(name);
            if let Some(rows) = view {
                write(&condition, &data, rows)?;
                let temperature = fitted.view(name);
                let after = rows.iter().map(|row| calibration::apply(evaluator.task, temperature, row)).collect();
                calibrated(&condition, temperature, rows, &after, &data);
            }
            test.insert(condition, view.as_ref().map(|rows| evaluator.metrics(rows, &data)));
        }
        let tenths: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
        let ratios = missing_ratios(&evaluator, metric, config.seed, &data, &by_condition, &tenths);
        let contribute = || contribution(&evaluator, metric, &data, &modalities, &by_condition);
        let contribution = (!data.is_empty()).then(contribute).transpose()?;
        let additive = predictions.views.iter().all(Option::is_some);
        let view = evaluator.view(additive);
        Ok(Self { session, metric, data, test, ratios, contribution, calibration, view })
    }

    /// The record of the run, its time aside.
    pub(super) fn record(&self, config: &Config, learnt: [&SplitData; 2], progress: &Progress) -> Result<RunRecord> {
        let session = self.session;
        let (dataset, modalities) = (session.dataset(), session.modalities());
        let [train, val, test] = [learnt[0].len(), learnt[1].len(), self.data.len()];
        let steps = progress.step as f64;
        // A time budget may end before the first epoch that counts.
        let validation = match progress.best_epoch {
            0 => Validation::default(),
            _ => serde_json::from_str(&progress.best_val).context("the validation of the best epoch")?,
        };
        let noise = |channel: &Channel| -> Result<_> {
            let condition = Condition::noisy(channel.modality().name);
            let impairment = session.impairment(config, &condition)?.map(|impairment| impairment.kind);
            let Some(ImpairmentKind::Noise { kind, severity }) = impairment else { bail!("{condition} is no noise") };
            Ok((condition, Noise { kind: kind.to_owned(), severity: u64::from(severity) }))
        };
        let mut record = RunRecord {
            schema: *SCHEMAS.end(),
            dataset: DatasetCard {
                name: dataset.name.clone(),
                layout: dataset.layout.to_owned(),
                task: dataset.task,
                classes: dataset.classes.clone(),
                fingerprint: session.data.fingerprint.clone(),
                samples: Split::ALL.into_iter().zip([train, val, test].map(|n| n as u64)).collect(),
                skipped: (dataset.problems.len() + dataset.samples.len() - train - val - test) as u64,
                show_samples: dataset.show_samples,
            },
            label: config.label().to_owned(),
            method: config.method.name.to_owned(),
            settings: config.differing(),
            seed: config.seed,
            encoders: session
                .channels
                .iter()
                .map(|c| (c.modality().name.to_owned(), c.spec().encoder.clone()))
                .collect(),
            fusion: config.model.fusion.clone(),
            device: device_name(&session.device).to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("BALGRAD_REVISION").to_owned(),
            wall_seconds: 0.0,
            peak_rss_bytes: peak_memory(),
            metric: self.metric,
            best_epoch: progress.best_epoch as u64,
            val: validation,
            steps_per_second: if progress.seconds > 0.0 { steps / progress.seconds } else { 0.0 },
            nan_steps: progress.nan_steps as u64,
            parameters: session.parameters.count() as u64,
            missing_ratios: self.ratios.clone(),
            impairments: session.channels.iter().map(noise).collect::<Result<_>>()?,
            test: self.test.clone(),
            missing: Pair::default(),
            noisy: Pair::default(),
            views: modalities.iter().map(|m| (Condition::only(m), self.view)).collect(),
            conflict: conflict(&modalities, &progress.conflict),
            contribution: self.contribution.clone(),
            calibration: self.calibration.clone(),
        };
        (record.missing, record.noisy) = (record.pair(Impairment::Missing), record.pair(Impairment::Noisy));
        Ok(record)
    }
}

/// What each modality contributes to the headline score, and takes off the loss, given the predictions from every set of modalities.
fn contribution(
    evaluator: &Evaluator<'_>,
    metric: Score,
    data: &SplitData,
    modalities: &[&str],
    by_condition: &BTreeMap<Condition, Rows>,
) -> Result<Contribution> {
    // Bit `m` of a set stands for modality `m`.
    let of = |set: usize| -> Result<Rows> {
        let absent: Vec<usize> = (0..modalities.len()).filter(|m| set >> m & 1 == 0).collect();
        let known = match absent[..] {
            [] => by_condition.get(&Condition::Full),
            [m] => by_condition.get(&Condition::missing(modalities[m])),
            _ => None,
        };
        known.map_or_else(|| Ok(evaluator.predict(&data.showing(set))?.rows), |rows| Ok(rows.clone()))
    };
    let all = (0..1 << modalities.len()).map(of).collect::<Result<Vec<_>>>()?;
    let scores: Option<Vec<f64>> = all.iter().map(|rows| evaluator.score(metric, rows, data)).collect();
    let gains: Vec<f64> = all.iter().map(|rows| -evaluator.loss(rows, data)).collect();
    let values = |worth: &[f64]| Shapley {
        modalities: modalities.iter().map(|m| (*m).to_owned()).zip(balgrad::shapley(worth)).collect(),
        nothing: worth[0],
    };
    Ok(Contribution { score: scores.map(|s| values(&s)), loss: values(&gains) })
}

/// The headline score when a fraction of the test samples loses a modality: the same samples for every method, more of them as the
/// fraction grows.
pub(crate) fn missing_ratios(
    evaluator: &Evaluator<'_>,
    metric: Score,
    seed: u64,
    data: &SplitData,
    by_condition: &BTreeMap<Condition, Rows>,
    ratios: &[f64],
) -> MissingRatios {
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by_key(|&i| balgrad_data::stable_hash(&[&seed.to_le_bytes(), data.sample(i).id.as_bytes()]));
    let full = &by_condition[&Condition::Full];
    let curve = |missing: &Rows| {
        let score = |ratio: &f64| {
            let lost = (ratio * data.len() as f64).round() as usize;
            let mut rows = full.clone();
            order[..lost].iter().for_each(|&i| rows[i].clone_from(&missing[i]));
            evaluator.score(metric, &rows, data)
        };
        ratios.iter().map(score).collect()
    };
    let missing = by_condition.iter().filter(|(condition, _)| matches!(condition, Condition::Missing(_)));
    let scores = missing.map(|(condition, rows)| (condition.clone(), curve(rows))).collect();
    MissingRatios { ratios: ratios.to_vec(), scores }
}

/// Writes `predictions/CONDITION.jsonl`: a line for each sample, from which every score can be computed again.
fn write_predictions(
    dataset: &Dataset,
    folder: &Path,
    condition: &Condition,
    data: &SplitData,
    rows: &Rows,
) -> Result<()> {
    let mut text = String::new();
    for (sample, row) in data.samples().zip(rows) {
        let mut line = match dataset.task {
            Task::Regression => json!({"id": sample.id, "target": sample.target.values(), "prediction": row}),
            _ => {
                let classes = sample.target.classes().iter();
                let names: Vec<&str> = classes.map(|&c| dataset.classes[c as usize].as_str()).collect();
                json!({"id": sample.id, "label": names, "probs": row})
            }
        };
        if let (Some(group), Some(line)) = (&sample.group, line.as_object_mut()) {
            line.insert("group".to_owned(), json!(group));
        }
        writeln!(text, "{line}")?;
    }
    let parent = folder.join("predictions");
    create_folder(&parent)?;
    write_atomic(&parent.join(format!("{condition}.jsonl")), text.as_bytes())
}

/// How gradients met; none for methods without a KL objective.
fn conflict(modalities: &[&str], counts: &[ConflictCounts]) -> Option<BTreeMap<String, Conflict>> {
    if counts.iter().all(|c| c.steps == 0) {
        return None;
    }
    let edges: Vec<f64> = (0..=BINS).map(|i| -1.0 + 2.0 * i as f64 / BINS as f64).collect();
    let histogram = |counts: &[u64]| Histogram { edges: edges.clone(), counts: counts.to_vec() };
    let one = |c: &ConflictCounts| Conflict {
        fraction: (c.steps > 0).then(|| c.conflicting as f64 / c.steps as f64),
        cosine_before: histogram(&c.before),
        cosine_after: histogram(&c.after),
    };
    Some(modalities.iter().zip(counts).map(|(name, c)| ((*name).to_owned(), one(c))).collect())
}

fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// The most memory that this process has held, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}
