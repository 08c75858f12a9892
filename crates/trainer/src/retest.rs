//! A trained run tested again: other conditions, other ratios, other data.

use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad_data::{Condition, Split};
use serde_json::{Map, Value, json};

use crate::card::Card;
use crate::config::Config;
use crate::evaluation::expects;
use crate::run::Trained;
use crate::stage::{Stage, impairment};

/// What to test.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Other data with the same classes.
    pub data: Option<String>,
    /// Conditions; none: the five of a run.
    pub conditions: Vec<String>,
    /// Parts of the test samples that lose a modality.
    pub missing_ratios: Vec<f64>,
    /// Seed of the impairments.
    pub seed: Option<u64>,
}

/// Tests the model of a run folder and returns `{dataset, metric, test, missing_ratios}`.
///
/// # Errors
/// An unfinished run, unusable data, or classes that are not the model's.
pub fn retest(folder: &Path, request: &Request) -> Result<Value> {
    let mut sets = Vec::new();
    if let Some(data) = &request.data {
        sets.push(("data".to_owned(), balgrad::Value::Word(data.clone())));
        sets.push(("layout".to_owned(), balgrad::Value::Word("auto".into())));
    }
    if let Some(seed) = request.seed {
        sets.push(("seed".to_owned(), balgrad::Value::Count(seed)));
    }
    let config = Config::load(&[folder.join("config.toml")], &sets)?;
    let names = if request.conditions.is_empty() {
        Condition::ALL.map(|c| c.name().to_owned()).to_vec()
    } else {
        request.conditions.clone()
    };
    let impairments = names.iter().map(|name| impairment(&config, name)).collect::<Result<Vec<_>>>()?;
    let stage = Stage::resume(&config, folder)?;
    let data = stage.dataset();
    let known = Card::load(folder)?.classes;
    if data.classes != known {
        let (found, known) = (data.classes.join(", "), known.join(", "));
        bail!("{} has the classes {found}, but the model was trained on {known}", data.name);
    }
    let judge = stage.judge(&config);
    let reads = expects(&stage.model);
    let mut test = Map::new();
    for (name, impairment) in names.iter().zip(impairments) {
        crate::interrupt::check()?;
        let bank = stage.bank(&config, Split::Test, impairment)?;
        stage.need(Split::Test, &bank)?;
        let answers = judge.answers(&bank, &reads)?;
        test.insert(name.clone(), serde_json::to_value(judge.metrics(&answers.probs, &bank))?);
    }
    let mut out = json!({"dataset": data.name, "metric": data.headline_metric(), "seed": config.seed(), "test": test});
    if !request.missing_ratios.is_empty() {
        let mut answers = std::collections::BTreeMap::new();
        let mut clean = None;
        for condition in [Condition::Full, Condition::MissingImage, Condition::MissingText] {
            let impairment = impairment(&config, condition.name())?;
            let bank = stage.bank(&config, Split::Test, impairment)?;
            answers.insert(condition.name(), judge.answers(&bank, &reads)?.probs);
            clean.get_or_insert(bank);
        }
        let bank = clean.context("the clean condition is the first")?;
        out["missing_ratios"] = Trained::new(&stage, &config).ratios(&bank, &answers, &request.missing_ratios);
    }
    Ok(out)
}
