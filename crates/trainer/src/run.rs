//! One run from data to results: the run folder and what stands in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use balgrad_data::{Condition, Split};
use balgrad_encoders::Parameters;
use candle_core::{DType, Device};
use serde_json::{Map, Value, json};

use crate::Usage;
use crate::bank::Bank;
use crate::card::Card;
use crate::checkpoint::{BINS, ConflictCounts, Progress, write_atomic};
use crate::config::{Config, MODALITIES};
use crate::evaluation::{Answers, Judge, Probabilities, expects};
use crate::stage::{Stage, impairment};
use crate::training::{Course, Watcher};

/// Where a run goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run folder.
    pub folder: PathBuf,
    /// Whether to continue what stands there.
    pub resume: bool,
}

/// Trains and tests one run, and returns its results. With `resume`, a finished run is left as it is.
///
/// # Errors
/// A folder that exists (without `resume`), unusable data, a signal, a full disk: what was written is kept.
pub fn train(config: &Config, options: &Options, watcher: &mut dyn Watcher) -> Result<Value> {
    let started = Instant::now();
    let folder = options.folder.as_path();
    if occupied(folder) && !options.resume {
        let folder = folder.display();
        return Err(Usage(format!("{folder} exists: choose another --out, or continue it with --resume")).into());
    }
    if let Some(results) = finished(folder) {
        return Ok(results);
    }
    let stage = Stage::set(config)?;
    let train = stage.lessons(config)?;
    let val = stage.bank(config, Split::Val, None)?;
    for (split, bank) in [(Split::Train, &train), (Split::Val, &val)] {
        stage.need(split, bank)?;
    }
    // Known from the index alone: no sample of the test split is looked at before the end.
    if stage.dataset().indices(Split::Test).is_empty() {
        anyhow::bail!(
            "{}: the split `test` has no labelled sample, so that nothing could be scored",
            stage.dataset().name
        );
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_atomic(&folder.join("config.toml"), config.to_toml().as_bytes())?;
    let fresh = || {
        let parameters = Parameters::new(config.seed(), &stage.device);
        let model = stage.sight.model(config.word("fusion"), stage.dataset().classes.len(), &parameters)?;
        Ok((parameters, model))
    };
    let course = Course {
        config,
        model: &stage.model,
        parameters: &stage.parameters,
        fresh: &fresh,
        train: &train,
        val: &val,
        judge: Judge { class_weights: stage.class_weights(config, &train)?, ..stage.judge(config) },
        metric: stage.dataset().headline_metric(),
        modalities: MODALITIES,
        folder,
        resume: options.resume,
    };
    let progress = crate::training::train(&course, watcher)?;
    Card::of(stage.dataset(), &stage.sight, config).save(folder, &stage.parameters)?;
    let trained = Trained::new(&stage, config);
    let test = trained.test(folder)?;
    let mut results = trained.results([&train, &val, &test.bank], &test, &progress);
    results.insert("wall_seconds".into(), json!(started.elapsed().as_secs_f64()));
    let results = Value::Object(results);
    // Last, since its presence says that the run is done.
    write_atomic(&folder.join("results.json"), format!("{results:#}\n").as_bytes())?;
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    Ok(results)
}

/// Whether a folder holds anything of a run.
fn occupied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn finished(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("results.json")).ok()?).ok()
}

/// Whether `folder` holds the finished run of `config`.
pub fn is_done(folder: &Path, config: &Config) -> bool {
    let same = std::fs::read_to_string(folder.join("config.toml")).is_ok_and(|text| text == config.to_toml());
    same && finished(folder).is_some()
}

/// A trained model on its stage.
pub(crate) struct Trained<'a> {
    stage: &'a Stage,
    config: &'a Config,
}

/// What the test split showed.
struct Tested {
    bank: Bank,
    /// Metrics per condition, in the order of the results file.
    test: Map<String, Value>,
    ratios: Value,
    contribution: Value,
    additive: bool,
}

impl<'a> Trained<'a> {
    pub(crate) fn new(stage: &'a Stage, config: &'a Config) -> Self {
        Self { stage, config }
    }

    /// The test split under every condition. Nothing before this reads it.
    fn test(&self, folder: &Path) -> Result<Tested> {
        let (stage, judge) = (self.stage, self.stage.judge(self.config));
        let reads = expects(&stage.model);
        let mut test = Map::new();
        let mut by_condition: BTreeMap<&'static str, Probabilities> = BTreeMap::new();
        let mut clean: Option<(Bank, Answers)> = None;
        for condition in Condition::ALL {
            let impairment = impairment(self.config, condition.name())?;
            let bank = stage.bank(self.config, Split::Test, impairment)?;
            let answers = judge.answers(&bank, &reads)?;
            test.insert(condition.name().into(), serde_json::to_value(judge.metrics(&answers.probs, &bank))?);
            self.write_predictions(folder, condition.name(), &bank, &answers.probs)?;
            by_condition.insert(condition.name(), answers.probs.clone());
            if condition == Condition::Full {
                clean = Some((bank, answers));
            }
        }
        let (bank, answers) = clean.context("the clean condition is one of all")?;
        for (name, view) in MODALITIES.iter().zip(&answers.views) {
            let condition = format!("{name}-only");
            let scores = view.as_ref().map(|probs| judge.metrics(probs, &bank));
            test.insert(condition.clone(), scores.map_or(Ok(Value::Null), serde_json::to_value)?);
            if let Some(probs) = view {
                self.write_predictions(folder, &condition, &bank, probs)?;
            }
        }
        let tenths: Vec<f64> = (0..=10).map(|i| f64::from(i) / 10.0).collect();
        let ratios = self.ratios(&bank, &by_condition, &tenths);
        let silent = judge.answers(&bank.showing(0), &reads)?.probs;
        let contribution = self.contribution(
            &bank,
            [&silent, &by_condition["missing-text"], &by_condition["missing-image"], &by_condition["full"]],
        );
        let nothing: Vec<_> =
            reads.iter().map(|e| e.missing(1, DType::F32, &stage.device)).collect::<Result<_, _>>()?;
        let additive = stage.model.slices(&stage.model.embed(&nothing)?)?.is_some();
        Ok(Tested { bank, test, ratios, contribution, additive })
    }

    /// What each modality contributes to the headline metric, and takes off the loss: exact Shapley values, given the
    /// answers to nothing, the image, the text and both.
    fn contribution(&self, bank: &Bank, answers: [&Probabilities; 4]) -> Value {
        let judge = self.stage.judge(self.config);
        let metric = self.stage.dataset().headline_metric();
        let scores: Option<Vec<f64>> = answers.iter().map(|probs| judge.metrics(probs, bank).get(metric)).collect();
        let gains: Vec<f64> = answers.iter().map(|probs| -judge.loss(probs, bank)).collect();
        let values = |worth: &[f64]| {
            let each = MODALITIES.iter().zip(balgrad::shapley(worth)).map(|(name, v)| ((*name).to_owned(), json!(v)));
            Value::Object(each.chain([("nothing".to_owned(), json!(worth[0]))]).collect())
        };
        json!({"score": scores.map(|s| values(&s)), "loss": values(&gains)})
    }

    /// The headline score when a part of the test samples lose a modality: the same samples for every method, more
    /// of them as the ratio grows.
    pub(crate) fn ratios(
        &self,
        bank: &Bank,
        by_condition: &BTreeMap<&'static str, Probabilities>,
        ratios: &[f64],
    ) -> Value {
        let judge = self.stage.judge(self.config);
        let mut order: Vec<usize> = (0..bank.len()).collect();
        order.sort_by_key(|&row| {
            balgrad_data::stable_hash(&[&self.config.seed().to_le_bytes(), bank.id(row).as_bytes()])
        });
        let mut out = Map::from_iter([("ratios".to_owned(), json!(ratios))]);
        for name in ["missing-image", "missing-text"] {
            let (full, missing) = (&by_condition["full"], &by_condition[name]);
            let score = |ratio: &f64| {
                let lost = (ratio * bank.len() as f64).round() as usize;
                let mut probs = full.clone();
                order[..lost].iter().for_each(|&row| probs[row].clone_from(&missing[row]));
                judge.metrics(&probs, bank).get(self.stage.dataset().headline_metric())
            };
            out.insert(name.into(), json!(ratios.iter().map(score).collect::<Vec<_>>()));
        }
        out.into()
    }

    fn write_predictions(&self, folder: &Path, condition: &str, bank: &Bank, probs: &Probabilities) -> Result<()> {
        let dataset = self.stage.dataset();
        let groups: BTreeMap<&str, &str> = dataset
            .indices(Split::Test)
            .iter()
            .filter_map(|&i| {
                let sample = &dataset.samples[i];
                Some((sample.id.as_str(), sample.group.as_deref()?))
            })
            .collect();
        let mut text = String::new();
        for (row, (labels, probs)) in bank.labels.iter().zip(probs).enumerate() {
            let id = bank.id(row);
            let names: Vec<&str> = labels.iter().map(|&c| dataset.classes[c as usize].as_str()).collect();
            let mut line = json!({"id": id, "label": names, "probs": probs});
            if let Some(group) = groups.get(id) {
                line["group"] = json!(group);
            }
            writeln!(text, "{line}")?;
        }
        let parent = folder.join("predictions");
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        write_atomic(&parent.join(format!("{condition}.jsonl")), text.as_bytes())
    }

    fn results(&self, banks: [&Bank; 3], tested: &Tested, progress: &Progress) -> Map<String, Value> {
        let (config, stage) = (self.config, self.stage);
        let dataset = stage.dataset();
        let metric = dataset.headline_metric();
        let [train, val, test] = banks.map(Bank::len);
        let skipped = dataset.problems.len() + dataset.samples.len() - train - val - test;
        let pair = |kind: &str| {
            let score = |m: &str| tested.test.get(&format!("{kind}-{m}")).and_then(|s| s[metric].as_f64());
            let both = score("image").zip(score("text"));
            json!({"avg": both.map(|(a, b)| (a + b) / 2.0), "gap": both.map(|(a, b)| (a - b).abs())})
        };
        let view = stage.judge(config).view_name(tested.additive);
        let impairments = json!({
            "noisy-image": {"kind": config.word("noise.image"), "severity": config.count("noise.severity")},
            "noisy-text": {"kind": config.word("noise.text"), "severity": config.count("noise.severity")},
        });
        let steps = progress.step as f64;
        let value = json!({
            "schema": 1,
            "dataset": {
                "name": dataset.name, "layout": dataset.layout, "task": dataset.task.name(), "classes": dataset.classes,
                "fingerprint": stage.data.fingerprint, "samples": {"train": train, "val": val, "test": test},
                "skipped": skipped, "show_samples": dataset.show_samples,
            },
            "label": config.label(),
            "method": config.method.name,
            "settings": config.differing(),
            "seed": config.seed(),
            "encoders": {"image": config.word("encoders.image"), "text": config.word("encoders.text")},
            "fusion": config.word("fusion"),
            "device": config.word("device").replace("auto", device_name(&stage.device)),
            "version": env!("CARGO_PKG_VERSION"),
            "revision": env!("BALGRAD_REVISION"),
            "wall_seconds": 0.0,
            "peak_rss_bytes": peak_memory(),
            "metric": metric,
            "best_epoch": progress.best_epoch,
            "val": serde_json::from_str::<Value>(&progress.best_val).unwrap_or_default(),
            "steps_per_second": if progress.seconds > 0.0 { steps / progress.seconds } else { 0.0 },
            "nan_steps": progress.nan_steps,
            "parameters": stage.parameters.count(),
            "missing_ratios": tested.ratios,
            "impairments": impairments,
            "test": tested.test,
            "missing": pair("missing"),
            "noisy": pair("noisy"),
            "views": {"image-only": view, "text-only": view},
            "conflict": conflict(&progress.conflict),
            "contribution": tested.contribution,
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The conflict statistics of a results file; null for methods without a KL objective.
fn conflict(counts: &[ConflictCounts]) -> Value {
    if counts.iter().all(|c| c.steps == 0) {
        return Value::Null;
    }
    let edges: Vec<f64> = (0..=BINS).map(|i| -1.0 + 2.0 * i as f64 / BINS as f64).collect();
    let one = |c: &ConflictCounts| {
        let fraction = (c.steps > 0).then(|| c.conflicting as f64 / c.steps as f64);
        json!({"fraction": fraction, "cosine_before": {"edges": edges, "counts": c.before},
            "cosine_after": {"edges": edges, "counts": c.after}})
    };
    MODALITIES.iter().zip(counts).map(|(name, c)| ((*name).to_owned(), one(c))).collect::<Map<_, _>>().into()
}

fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// The most memory that this process has held, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

/// The headline scores of a results file, for people.
pub fn one_line(results: &Value) -> String {
    let metric = results["metric"].as_str().unwrap_or("accuracy");
    let percent = |v: &Value| v.as_f64().map_or_else(|| "–".to_owned(), |v| format!("{:.1}", 100.0 * v));
    format!(
        "{metric} {}  missing image {}  missing text {}  avg {}  gap {}  noisy avg {}",
        percent(&results["test"]["full"][metric]),
        percent(&results["test"]["missing-image"][metric]),
        percent(&results["test"]["missing-text"][metric]),
        percent(&results["missing"]["avg"]),
        percent(&results["missing"]["gap"]),
        percent(&results["noisy"]["avg"]),
    )
}

/// [`one_line`] of the run in `folder`.
pub fn summary_line(folder: &Path) -> String {
    finished(folder).map_or_else(|| "failed".to_owned(), |r| one_line(&r))
}
