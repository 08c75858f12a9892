//! `balgrad features`

use std::process::ExitCode;

use anyhow::Result;
use balgrad::Value;
use balgrad_data::Split;
use clap::Args;

use crate::Usage;
use crate::record::Condition;
use crate::session::Session;

use super::Configured;

#[derive(Args)]
pub(super) struct Features {
    #[command(flatten)]
    configured: Configured,
    /// Conditions of the test split, such as `full,noisy-image:blur:5`. Default: the five of a run.
    #[arg(long, value_delimiter = ',')]
    conditions: Vec<String>,
    /// Variants of each training sample, for runs with as many `feature_variants`.
    #[arg(long, value_name = "N")]
    variants: Option<u64>,
}

impl Features {
    pub(super) fn run(self) -> Result<ExitCode> {
        let config = self.configured.load(&[("feature_variants", self.variants.map(Value::Count))])?;
        let session = Session::new(&config)?;
        let modalities = session.modalities();
        let named = self.conditions.iter().map(|name| Condition::parse(name, &modalities));
        let mut conditions: Vec<Condition> = named.collect::<Result<_, _>>().map_err(|e| Usage(e.to_string()))?;
        if conditions.is_empty() {
            conditions = Condition::tested(&modalities);
        }
        let variants = config.encoders.feature_variants;
        out!("train: {} samples, {variants} variants", session.training_split()?.len());
        out!("val: {} samples", session.split(Split::Val, None)?.len());
        for condition in conditions {
            let split = session.split(Split::Test, session.impairment(&config, &condition)?)?;
            out!("test, {condition}: {} samples", split.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}
