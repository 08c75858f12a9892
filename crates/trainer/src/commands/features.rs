//! `balgrad features`

use std::process::ExitCode;

use anyhow::Result;
use balgrad::Value;
use balgrad_data::{Condition, Split};
use balgrad_trainer::stage::{Stage, impairment};
use clap::Args;

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
        let all = || Condition::ALL.map(|condition| condition.name().to_owned()).to_vec();
        let names = if self.conditions.is_empty() { all() } else { self.conditions };
        let conditions = names.iter().map(|name| impairment(&config, name)).collect::<Result<Vec<_>>>()?;
        let stage = Stage::set(&config)?;
        println!("train: {} samples, {} variants", stage.lessons(&config)?.len(), config.count("feature_variants"));
        println!("val: {} samples", stage.bank(&config, Split::Val, None)?.len());
        for (name, condition) in names.iter().zip(conditions) {
            println!("test, {name}: {} samples", stage.bank(&config, Split::Test, condition)?.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}
