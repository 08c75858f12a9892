//! `balgrad train`

mod auto;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::Usage;
use crate::config::Config;
use crate::interrupt::go_on_by;
use crate::ranks;
use crate::run::{self, Options};
use anyhow::Result;
use balgrad::{Communicator, Value};
use clap::Args;

use super::progress::Show;
use super::{Configured, same_command, shell};

#[derive(Args)]
pub(super) struct Train {
    #[command(flatten)]
    configured: Configured,
    /// The balancing method; `balgrad methods` lists them. Default: balgrad. `auto` picks one by cross-validation on the training
    /// split.
    #[arg(long)]
    method: Option<String>,
    /// Decides initialisation, order, dropout and impairments. Default: 0.
    #[arg(long)]
    seed: Option<u64>,
    /// The run folder to make. Default: runs/DATA, or the next such name that is free.
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, or in that of --out, by its own settings: none has to be given again.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// Print the final result only.
    #[arg(long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print a line for each epoch even on a terminal.
    #[arg(long)]
    verbose: bool,
}

impl Train {
    pub(super) fn run(self) -> Result<ExitCode> {
        ranks::among(|ranks| self.train(ranks))
    }

    /// One rank's part; the first speaks for all.
    fn train(mut self, ranks: &Arc<dyn Communicator>) -> Result<ExitCode> {
        let (first, alone) = (ranks.rank() == 0, ranks.size() == 1);
        let mut resume = self.resume.is_some();
        let named = self.named()?;
        let auto = self.takes_auto();
        if !alone && (named.is_none() || auto) {
            return Err(Usage("several ranks need --out RUN and one --method".to_owned()).into());
        }
        let out = match named {
            Some(out) => out,
            None => free_folder(&self.config(Path::new(""))?.data.source),
        };
        let folder = out.clone();
        go_on_by(move || go_on(&folder));
        if auto && !out.join("config.toml").is_file() {
            run::free(&out, resume)?;
            self.method = Some(auto::choose(&self.configured, self.seed, &out, self.quiet)?.to_owned());
            resume = true;
        }
        let config = self.config(&out)?;
        if first {
            config.tell_notes();
        }
        let mut show = Show::new(self.quiet || !first, self.verbose);
        let options = Options { resume, communicator: Arc::clone(ranks), ..Options::new(&out) };
        let record = run::train(&config, &options, &mut show);
        show.finish();
        let record = record?;
        if !first {
            return Ok(ExitCode::SUCCESS);
        }
        out!("{}", record.one_line());
        if !self.quiet {
            let out = shell(&out.to_string_lossy());
            say!("run folder: {out}");
            say!("next: balgrad report {out} --out report.html");
            say!("      balgrad predict {out} --image FILE --text TEXT   (either may be left out)");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Whether the method is to be chosen; the word is then taken away.
    fn takes_auto(&mut self) -> bool {
        let asked = |(key, value): &(String, Value)| key == "method" && value.to_string() == auto::NAME;
        let sets = &mut self.configured.set;
        let auto = self.method.as_ref().map_or_else(|| sets.iter().any(asked), |method| method == auto::NAME);
        if auto {
            self.method = None;
            sets.retain(|set| !asked(set));
        }
        auto
    }

    /// The run folder, if the command line names one.
    fn named(&self) -> Result<Option<PathBuf>, Usage> {
        match (self.out.clone(), self.resume.clone().flatten()) {
            (Some(out), Some(run)) if out != run => {
                Err(Usage("--resume and --out name different folders: give one of them".to_owned()))
            }
            (out, run) if self.resume.is_none() || out.is_some() || run.is_some() => Ok(out.or(run)),
            _ => Err(Usage("--resume needs the run to go on with: --resume RUN".to_owned())),
        }
    }

    /// The settings; those of the run that is to go on stand in for what is not given.
    fn config(&self, out: &Path) -> Result<Config, Usage> {
        let mut configured = self.configured.clone();
        if self.resume.is_some() {
            let own = out.join("config.toml");
            if own.is_file() {
                configured.config.insert(0, own);
            } else if self.resume.as_ref().is_some_and(Option::is_some) && !self.configured.names_data() {
                return Err(Usage(format!("{} holds no run to go on with", out.display())));
            }
        }
        let sets = [("method", self.method.clone().map(Value::Word)), ("seed", self.seed.map(Value::Count))];
        configured.resolve(&configured.sets(&sets))
    }
}

/// `runs/DATA`, or the next such name that is free.
fn free_folder(data: &str) -> PathBuf {
    let path = Path::new(data);
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let stem = stem.map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().replace(':', "-"));
    let mut folder = Path::new("runs").join(&stem);
    let mut count = 1;
    while folder.exists() {
        count += 1;
        folder = Path::new("runs").join(format!("{stem}-{count}"));
    }
    folder
}

/// The command that goes on with a run that was stopped.
fn go_on(out: &Path) -> String {
    if out.join("config.toml").is_file() {
        return format!("balgrad train --resume {}", shell(&out.to_string_lossy()));
    }
    match std::env::args_os().any(|word| word == "--resume") {
        false if out.exists() => format!("{} --resume {}", same_command(), shell(&out.to_string_lossy())),
        _ => same_command(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_its_data() {
        for (data, folder) in [
            ("emoji:subgroup", "emoji-subgroup"),
            ("shop/products.csv", "products"),
            ("hf:me/my-set", "my-set"),
            (".", "run"),
        ] {
            assert_eq!(free_folder(data), Path::new("runs").join(folder), "{data}");
        }
    }
}
