//! `balgrad train`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crate::ranks;
use crate::run::{self, Options};
use crate::training::Watcher;
use anyhow::Result;
use balgrad::{Communicator, Value};
use balgrad_data::{Dataset, Split};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Configured;

#[derive(Args)]
pub(super) struct Train {
    #[command(flatten)]
    configured: Configured,
    /// The balancing method; `balgrad methods` lists them. Default: balgrad.
    #[arg(long)]
    method: Option<String>,
    /// Decides initialisation, order, dropout and impairments. Default: 0.
    #[arg(long)]
    seed: Option<u64>,
    /// The run folder to make.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Continue a run that was interrupted.
    #[arg(long)]
    resume: bool,
    /// Print the final result only.
    #[arg(long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print a line for each epoch even without a terminal.
    #[arg(long)]
    verbose: bool,
}

impl Train {
    pub(super) fn run(self) -> Result<ExitCode> {
        ranks::among(|ranks| self.train(ranks))
    }

    /// One rank's part; the first speaks for all.
    fn train(&self, ranks: &Arc<dyn Communicator>) -> Result<ExitCode> {
        let sets = [("method", self.method.clone().map(Value::Word)), ("seed", self.seed.map(Value::Count))];
        let sets = self.configured.sets(&sets);
        let config = self.configured.resolve(&sets)?;
        let first = ranks.rank() == 0;
        if first {
            config.tell_notes();
        }
        let mut show = Show::new(self.quiet || !first, self.verbose);
        let options = Options { resume: self.resume, communicator: Arc::clone(ranks), ..Options::new(&self.out) };
        let record = run::train(&config, &options, &mut show)?;
        show.finish();
        if !first {
            return Ok(ExitCode::SUCCESS);
        }
        out!("{}", record.one_line());
        if !self.quiet {
            let out = self.out.display().to_string();
            let out = if out.contains(' ') { format!("'{out}'") } else { out };
            say!("run folder: {out}");
            say!("next: balgrad report {out} --out report.html");
            say!("      balgrad predict {out} --image FILE --text TEXT   (either may be left out)");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Progress: a bar on a terminal, plain lines elsewhere.
struct Show {
    bar: Option<ProgressBar>,
    quiet: bool,
    lines: bool,
    started: Instant,
}

impl Show {
    fn new(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let style =
                ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {pos}/{len} steps  {per_sec}  eta {eta}  {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, quiet, lines: !quiet && (!terminal || verbose), started: Instant::now() }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watcher for Show {
    fn data(&mut self, dataset: &Dataset) {
        if self.quiet {
            return;
        }
        let counts = Split::ALL.map(|split| format!("{} {}", dataset.indices(split).len(), split.name()));
        say!("{}: {}, {} samples ({})", dataset.name, dataset.task, dataset.samples.len(), counts.join(", "));
        dataset.notes.iter().for_each(|note| say!("  note: {note}"));
        super::problems(&dataset.problems).iter().for_each(|line| say!("  {line}"));
        if dataset.indices(Split::Test).is_empty() {
            say!("  note: no labelled test sample: the model is trained, and nothing is scored");
        }
    }

    fn step(&mut self, done: usize, total: usize, loss: f64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(format!("loss {loss:.4}"));
        }
    }

    fn epoch(&mut self, epoch: usize, epochs: usize, loss: f64, score: Option<f64>) {
        if self.lines {
            let score = score.map_or_else(|| "undefined".to_owned(), |s| format!("{s:.4}"));
            let seconds = self.started.elapsed().as_secs_f64();
            say!("epoch {epoch}/{epochs}  loss {loss:.4}  validation {score}  {seconds:.1} s");
        }
    }
}
