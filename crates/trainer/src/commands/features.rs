//! `balgrad features`

use std::process::ExitCode;

use anyhow::Result;
use balgrad_data::Split;
use balgrad_trainer::run::Stage;
use clap::Args;

use super::Configured;

#[derive(Args)]
pub(super) struct Features {
    #[command(flatten)]
    configured: Configured,
}

impl Features {
    pub(super) fn run(self) -> Result<ExitCode> {
        let config = self.configured.load(&[])?;
        let stage = Stage::set(&config)?;
        for split in [Split::Train, Split::Val, Split::Test] {
            let bank = stage.bank(split, None, config.seed())?;
            println!("{}: {} samples", split.name(), bank.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}
