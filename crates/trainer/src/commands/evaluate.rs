//! `balgrad evaluate`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Usage;
use crate::retest::{Request, retest};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub(super) struct Evaluate {
    /// The run folder of a trained model.
    run: PathBuf,
    /// Other data with the same classes. Default: what the run was trained on.
    #[arg(long, value_name = "NAME|DIR")]
    data: Option<String>,
    /// Conditions, such as `full,missing-image,noisy-text:drop:5`. Default: the five of a run.
    #[arg(long, value_delimiter = ',')]
    conditions: Vec<String>,
    /// Parts of the test samples that lose a modality, such as `0,0.1,0.5,1`. Default: none but what conditions say.
    #[arg(long, value_delimiter = ',')]
    missing_ratios: Vec<f64>,
    /// Seed of the impairments. Default: the run's.
    #[arg(long)]
    seed: Option<u64>,
}

impl Evaluate {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        if let Some(bad) = self.missing_ratios.iter().find(|r| !(0.0..=1.0).contains(*r)) {
            return Err(Usage(format!("--missing-ratios {bad}: expected parts from 0 to 1")).into());
        }
        let request = Request {
            data: self.data,
            conditions: self.conditions,
            missing_ratios: self.missing_ratios,
            seed: self.seed,
        };
        out!("{}", serde_json::to_string_pretty(&retest(&self.run, &request)?)?);
        Ok(ExitCode::SUCCESS)
    }
}
