//! A trained run tested again: other conditions, other ratios, other data.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad_data::Split;
use serde::Serialize;

use crate::Usage;
use crate::config::Config;
use crate::interrupt;
use crate::metrics::{Metrics, Score};
use crate::record::{Condition, MissingRatios};
use crate::run::{headline, missing_ratios};
use crate::session::Session;

/// What to test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Other data with the same classes.
    pub data: Option<String>,
    /// Conditions; none: those of a run.
    pub conditions: Vec<String>,
    /// Fractions of the test samples that lose a modality.
    pub missing_ratios: Vec<f64>,
    /// Seed of the impairments.
    pub seed: Option<u64>,
}

/// What the test showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Retested {
    /// The data set's name.
    pub dataset: String,
    /// The headline score.
    pub metric: Score,
    /// Seed of the impairments.
    pub seed: u64,
    /// Scores under each condition.
    pub test: BTreeMap<Condition, Metrics>,
    /// The headline score as samples lose a modality, where fractions were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_ratios: Option<MissingRatios>,
}

/// Tests the model of a run folder.
///
/// # Errors
/// An unknown condition, an unfinished run, unusable data, or classes that are not the model's.
pub(crate) fn retest(folder: &Path, request: &Request) -> Result<Retested> {
    let mut sets = Vec::new();
    if let Some(data) = &request.data {
        sets.push(("data".to_owned(), balgrad::Value::Word(data.clone())));
        sets.push(("layout".to_owned(), balgrad::Value::Word("auto".into())));
    }
    if let Some(seed) = request.seed {
        sets.push(("seed".to_owned(), balgrad::Value::Count(seed)));
    }
    crate::record::sums::verify(folder, "config.toml").with_context(|| folder.display().to_string())?;
    let config = Config::load(&[folder.join("config.toml")], &sets)?;
    let session = Session::resume(&config, folder)?;
    let modalities = session.modalities();
    let named = request.conditions.iter().map(|name| Condition::parse(name, &modalities));
    let mut conditions: Vec<Condition> = named.collect::<Result<_, _>>().map_err(|e| Usage(e.to_string()))?;
    if conditions.is_empty() {
        conditions = Condition::tested(&modalities);
    }
    let impairments = conditions.iter().map(|c| session.impairment(&config, c)).collect::<Result<Vec<_>>>()?;
    let (data, known) = (session.dataset(), &session.spec.classes);
    if data.classes != *known {
        let (found, known) = (data.classes.join(", "), known.join(", "));
        bail!("{} has the classes {found}, but the model was trained on {known}", data.name);
    }
    let (evaluator, metric) = (session.evaluator(&config)?, headline(data)?);
    let mut test = BTreeMap::new();
    for (condition, impairment) in conditions.into_iter().zip(impairments) {
        interrupt::check()?;
        let split = session.split(Split::Test, impairment)?;
        session.need(Split::Test, &split)?;
        test.insert(condition, evaluator.metrics(&evaluator.predict(&split)?.rows, &split));
    }
    let mut ratios = None;
    if !request.missing_ratios.is_empty() {
        let mut rows = BTreeMap::new();
        let clean = session.split(Split::Test, None)?;
        for condition in std::iter::once(Condition::Full).chain(modalities.iter().map(|m| Condition::missing(m))) {
            let split = session.split(Split::Test, session.impairment(&config, &condition)?)?;
            rows.insert(condition, evaluator.predict(&split)?.rows);
        }
        ratios = Some(missing_ratios(&evaluator, metric, config.seed, &clean, &rows, &request.missing_ratios));
    }
    Ok(Retested { dataset: data.name.clone(), metric, seed: config.seed, test, missing_ratios: ratios })
}
