//! `balgrad report`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::storage::write_atomic;
use crate::{Usage, report};
use anyhow::Result;
use clap::Args;

#[derive(Args)]
pub(super) struct Report {
    /// Run folders, or folders that hold them.
    #[arg(required = true, value_name = "RUN|DIR")]
    folders: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Print every table too. Without --out they are printed anyway.
    #[arg(long)]
    verbose: bool,
    /// The numbers behind the page, as JSON.
    #[arg(long, value_name = "FILE.json")]
    summary: Option<PathBuf>,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode> {
        for folder in &self.folders {
            if !folder.exists() {
                return Err(Usage(format!("{} does not exist", folder.display())).into());
            }
        }
        let collected = report::collect(&self.folders)?;
        let summary = report::summary(&collected);
        let shown = match self.out.is_none() || self.verbose {
            true => report::tables(&summary),
            false => report::answer(&summary),
        };
        std::io::stdout().write_all(shown.as_bytes())?;
        if let Some(path) = &self.summary {
            write_atomic(path, format!("{}\n", serde_json::to_string_pretty(&summary)?).as_bytes())?;
        }
        if let Some(path) = &self.out {
            write_atomic(path, report::html(&collected, &summary).as_bytes())?;
            say!("wrote {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
