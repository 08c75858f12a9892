//! The command line: one file per command.

mod check;
mod compare;
mod diagnose;
mod doctor;
mod evaluate;
mod export;
mod features;
mod import;
mod lists;
mod predict;
mod progress;
mod report;
#[cfg(feature = "serve")]
mod serve;
mod shard;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Usage;
use crate::config::{Config, parse_set};
use anyhow::Result;
use balgrad::Value;
use balgrad_data::Problem;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// Train image-text classifiers in which neither modality dominates, and measure what happens when one is missing
/// or noisy.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Try:  balgrad train --data emoji --out runs/first\n      \
    balgrad report runs/first --out report.html\n\nDocumentation: docs/ in the source, `balgrad methods` for the methods."
)]
pub(crate) struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train one model, test it under every condition, and leave a run folder.
    Train(train::Train),
    /// Train a grid of methods and seeds; skips what is done.
    Compare(compare::Compare),
    /// Test a trained run again: other conditions, other data.
    Evaluate(evaluate::Evaluate),
    /// Classify images with text, one JSON line each.
    Predict(predict::Predict),
    /// Write a trained model as one folder that needs nothing else, with a model card.
    Export(export::Export),
    /// Answer over HTTP what a trained model predicts, with a page to try it.
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    /// Say which modality dominates a run, by how much, since when, and what to do about it.
    Diagnose(diagnose::Diagnose),
    /// Compute the frozen features of a data set ahead of training.
    Features(features::Features),
    /// Lay runs beside each other on one self-contained page.
    Report(report::Report),
    /// Read a data set, count it, and show what is wrong with it.
    Check(check::Check),
    /// Write down what was understood of a data set, as a manifest.
    Import(import::Import),
    /// Say what this build and this machine have, and what is missing.
    Doctor(doctor::Doctor),
    /// List the balancing methods.
    Methods(lists::Methods),
    /// List the folder layouts that can be read.
    Layouts(lists::List),
    /// List the encoders.
    Encoders(lists::List),
    /// List the fusions.
    Fusions(lists::List),
    /// List the keys of a config file, with defaults.
    Keys(lists::List),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Program {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Train(c) => c.run(),
            Command::Compare(c) => c.run(),
            Command::Evaluate(c) => c.run(),
            Command::Predict(c) => c.run(),
            Command::Export(c) => c.run(),
            #[cfg(feature = "serve")]
            Command::Serve(c) => c.run(),
            Command::Diagnose(c) => c.run(),
            Command::Features(c) => c.run(),
            Command::Report(c) => c.run(),
            Command::Check(c) => c.run(),
            Command::Import(c) => c.run(),
            Command::Doctor(c) => c.run(),
            Command::Methods(c) => c.run(),
            Command::Layouts(c) => c.layouts(),
            Command::Encoders(c) => c.encoders(),
            Command::Fusions(c) => c.fusions(),
            Command::Keys(c) => c.keys(),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "balgrad", &mut script);
                std::io::Write::write_all(&mut std::io::stdout(), &script)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Problems by kind, the most frequent first: how many, and one of them.
fn problems(all: &[Problem]) -> Vec<String> {
    let line = |(count, first): (usize, &Problem)| match count {
        1 => format!("problem: {first}"),
        _ => format!("problem, {count} times, such as {first}"),
    };
    Problem::by_kind(all).into_iter().map(line).collect()
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The command that this process was started with.
fn same_command() -> String {
    let words = std::env::args_os().skip(1).map(|word| shell(&word.to_string_lossy()));
    std::iter::once("balgrad".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// What says how a run is configured; the later wins: `--config`, `--set`, the other flags.
#[derive(Args, Clone)]
struct Configured {
    /// A bundled task (emoji, emoji:subgroup, icons, icons:tags, clipart, clipart:living, sentiment), a folder, or a file
    /// (CSV, TSV, JSON lines).
    #[arg(long, value_name = "NAME|DIR|FILE")]
    data: Option<String>,
    #[command(flatten)]
    columns: ColumnFlags,
    /// How the folder is laid out; `balgrad layouts` lists them. Default: auto.
    #[arg(long)]
    layout: Option<String>,
    /// A TOML file of settings, such as an earlier run's config.toml. May be repeated; the later wins.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One setting, such as `epochs=10` or `method.share=loss`; `balgrad keys` lists them. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, Value)>,
    /// Where to compute.
    #[arg(long, value_name = "auto|cpu|cuda|metal")]
    device: Option<String>,
    /// What to do with a file that cannot be read.
    #[arg(long, value_name = "skip|fail")]
    on_bad_sample: Option<String>,
    /// What to do with a sample that names a file which does not exist: skip it, take its modality as missing, or stop.
    #[arg(long, value_name = "skip|missing|fail")]
    on_missing_file: Option<String>,
    /// What to do with a step whose loss is not finite.
    #[arg(long, value_name = "stop|skip")]
    on_nan: Option<String>,
}

/// Columns of a table; those that are not named are found by names and content.
#[derive(Args, Clone)]
struct ColumnFlags {
    /// The column with paths of images.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns of a table")]
    image: Option<String>,
    /// The column with texts, or several, which are joined.
    #[arg(long, value_name = "COLUMN[,COLUMN]", help_heading = "Columns of a table")]
    text: Option<String>,
    /// The column with classes.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns of a table")]
    label: Option<String>,
    /// The column with splits (train, val, test).
    #[arg(long, value_name = "COLUMN", help_heading = "Columns of a table")]
    split: Option<String>,
    /// The column with what splits are not to part, such as a product of several photos.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns of a table")]
    group: Option<String>,
    /// The column with a number to predict, in place of classes.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns of a table")]
    target: Option<String>,
}

impl Configured {
    /// The settings given, in order, with `more` last.
    fn sets(&self, more: &[(&str, Option<Value>)]) -> Vec<(String, Value)> {
        let word = |v: &Option<String>| v.clone().map(Value::Word);
        let flags = [
            ("data", word(&self.data)),
            ("layout", word(&self.layout)),
            ("device", word(&self.device)),
            ("on_bad_sample", word(&self.on_bad_sample)),
            ("on_missing_file", word(&self.on_missing_file)),
            ("columns.image", word(&self.columns.image)),
            ("columns.text", word(&self.columns.text)),
            ("columns.label", word(&self.columns.label)),
            ("columns.split", word(&self.columns.split)),
            ("columns.group", word(&self.columns.group)),
            ("columns.target", word(&self.columns.target)),
            ("on_nan", word(&self.on_nan)),
        ];
        let flags = flags.into_iter().chain(more.iter().cloned());
        let flags = flags.filter_map(|(k, v)| v.map(|v| (k.to_owned(), v)));
        self.set.iter().cloned().chain(flags).collect()
    }

    /// Whether the command line itself says which data.
    fn names_data(&self) -> bool {
        self.data.is_some() || !self.config.is_empty() || self.set.iter().any(|(key, _)| key == "data")
    }

    fn load(&self, more: &[(&str, Option<Value>)]) -> Result<Config, Usage> {
        let config = self.resolve(&self.sets(more))?;
        config.tell_notes();
        Ok(config)
    }

    /// The config of these keys over the config file; one without data is a mistake.
    fn resolve(&self, sets: &[(String, Value)]) -> Result<Config, Usage> {
        let config = Config::load(&self.config, sets)?;
        if config.data.source.is_empty() {
            return Err(Usage(
                "no data: give --data NAME, --data DIR or --data FILE (bundled: emoji, icons, clipart)".into(),
            ));
        }
        Ok(config)
    }
}
