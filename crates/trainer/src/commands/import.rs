//! `balgrad import`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use balgrad_data::write_manifest;
use clap::Args;

use super::Configured;
use crate::Usage;
use crate::session::open_data;

#[derive(Args)]
pub(super) struct Import {
    /// A folder or a file, as for --data.
    #[arg(value_name = "DIR|FILE")]
    from: Option<String>,
    #[command(flatten)]
    configured: Configured,
    /// The manifest to write, in the data folder or above it; a card (.toml) is written beside it.
    #[arg(long, value_name = "manifest.jsonl")]
    out: PathBuf,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.out.exists() {
            return Err(Usage(format!("{} exists: choose another --out", self.out.display())).into());
        }
        let from = self.from.clone().map(balgrad::Value::Word);
        let config = self.configured.load(&[("data", from)])?;
        let data = open_data(&config)?;
        data.notes.iter().for_each(|note| say!("  note: {note}"));
        super::problems(&data.problems).iter().for_each(|line| say!("  {line}"));
        write_manifest(&data, &self.out)?;
        out!("{}: {} samples, {} skipped", self.out.display(), data.samples.len(), data.problems.len());
        say!("next: balgrad train --data {}", super::shell(&self.out.to_string_lossy()));
        Ok(ExitCode::SUCCESS)
    }
}
