//! `balgrad report`

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::storage::{create_folder, write_atomic};
use crate::{Usage, report};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

#[derive(Args)]
pub(super) struct Report {
    /// Run folders, or folders that hold them.
    #[arg(required = true, value_name = "RUN|DIR")]
    folders: Vec<PathBuf>,
    /// The page or table to write.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to write [default: by the ending of --out, else the page].
    #[arg(long, value_enum, requires = "out")]
    format: Option<Format>,
    /// Print every table too. Without --out they are printed anyway.
    #[arg(long)]
    verbose: bool,
    /// Every table, as text.
    #[arg(long, value_name = "FILE.txt")]
    tables: Option<PathBuf>,
    /// The numbers behind the page, as JSON.
    #[arg(long, value_name = "FILE.json")]
    summary: Option<PathBuf>,
}

/// What `--out` holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The whole report as one page.
    Html,
    /// The page on paper, through Chromium.
    Pdf,
    /// The picture at the top of the page.
    Svg,
    /// Table 1 with the rules of booktabs.
    Latex,
    /// Table 1 as CSV.
    Csv,
    /// Table 1 as Markdown.
    Md,
}

impl Format {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("pdf") => Self::Pdf,
            Some("svg") => Self::Svg,
            Some("tex") => Self::Latex,
            Some("csv") => Self::Csv,
            Some("md") => Self::Md,
            _ => Self::Html,
        }
    }
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
        if let Some(path) = &self.tables {
            write_atomic(path, report::tables(&summary).as_bytes())?;
        }
        if let Some(path) = &self.summary {
            write_atomic(path, format!("{}\n", serde_json::to_string_pretty(&summary)?).as_bytes())?;
        }
        if let Some(path) = &self.out {
            match self.format.unwrap_or_else(|| Format::of(path)) {
                Format::Html => write_atomic(path, report::html(&collected, &summary).as_bytes())?,
                Format::Pdf => print_page(&report::html(&collected, &summary), path)?,
                Format::Svg => write_atomic(path, report::picture(&summary).as_bytes())?,
                Format::Latex => write_atomic(path, report::latex(&summary).as_bytes())?,
                Format::Csv => write_atomic(path, report::csv(&summary).as_bytes())?,
                Format::Md => write_atomic(path, report::markdown(&summary).as_bytes())?,
            }
            say!("wrote {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints a page to a PDF through the first Chromium that is found.
fn print_page(page: &str, path: &Path) -> Result<()> {
    const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let folder = path.with_extension("pdf.in-work");
    create_folder(&folder)?;
    let done = (|| {
        let source = std::path::absolute(folder.join("report.html"))?;
        let printed = std::path::absolute(folder.join("report.pdf"))?;
        std::fs::write(&source, page)?;
        let mut print = String::from("--print-to-pdf=");
        print += &printed.to_string_lossy();
        for browser in BROWSERS {
            let mut command = Command::new(browser);
            command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", &print]);
            match command.arg(&source).stdout(Stdio::null()).stderr(Stdio::null()).status() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(_) if printed.is_file() => return write_atomic(path, &std::fs::read(&printed)?),
                _ => bail!("{browser} could not print the page: write it by --out FILE.html and print it by hand"),
            }
        }
        Err(Usage("a PDF is printed by Chromium, and there is none: install it, or write --out FILE.html".into())
            .into())
    })();
    let _ = std::fs::remove_dir_all(&folder);
    done
}
