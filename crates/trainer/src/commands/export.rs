//! `balgrad export`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::Usage;
use crate::export::export;

#[derive(Args)]
pub(super) struct Export {
    /// The run folder of a trained model.
    run: PathBuf,
    /// The folder to write, new or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Export {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        let files = export(&self.run, &self.to)?;
        let to = self.to.display();
        out!("{to}: {}", files.join(", "));
        say!("try it:  balgrad predict {to} --text \"…\"");
        Ok(ExitCode::SUCCESS)
    }
}
