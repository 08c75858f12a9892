//! `cargo xtask optimisers`: baselines that scale a whole block, under optimisers that see the scale and that cancel it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::reproduce::{build, succeed};

pub(crate) const ABOUT: &str =
    "train block-scaling baselines under AdamW and SGD, factors on the gradient and on the step";

const USAGE: &str = "\
cargo xtask optimisers [--data NAME]… [--seeds N] [--out DIR]

  For each task (default: emoji, icons, sentiment) and optimiser the learning rate is that with which joint does best on
  the validation split, over three seeds. With it every baseline is trained with its factors on the gradient and on the
  step, over N seeds (default: 5), and a table of test scores is printed. Runs go to --out (default: target/optimisers);
  finished ones are not redone.";

/// Name in the table, config keys, and the learning rates that are tried.
const OPTIMISERS: [(&str, &str, [&str; 3]); 2] =
    [("AdamW", "optimizer=adamw", ["0.0003", "0.001", "0.003"]), ("SGD", "optimizer=sgd", ["0.01", "0.03", "0.1"])];

const BASELINES: [&str; 6] = ["mslr", "ogm", "ogm-ge", "agm", "cggm", "mmpareto"];

const APPLY: [&str; 2] = ["gradient", "step"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut tasks, mut seeds, mut out) = (Vec::new(), "5".to_owned(), crate::root().join("target/optimisers"));
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--data" => tasks.push(value()?),
            "--seeds" => seeds = value()?,
            "--out" => out = value()?.into(),
            other => bail!("unknown argument `{other}`\n\n{USAGE}"),
        }
    }
    if tasks.is_empty() {
        tasks = ["emoji", "icons", "sentiment"].map(String::from).to_vec();
    }
    let program = build()?;
    for task in &tasks {
        let folder = out.join(task.replace(':', "-"));
        let tried = |optimiser: &str, rate: &str| format!("joint:{optimiser}:lr={rate}");
        let all = OPTIMISERS.iter().flat_map(|(_, optimiser, rates)| rates.map(|rate| tried(optimiser, rate)));
        compare(&program, task, &all.collect::<Vec<_>>(), "3", &folder)?;
        let tuned = summary(&program, &folder)?;
        let mut rows = Vec::new();
        let mut best = Vec::new();
        for (name, optimiser, rates) in OPTIMISERS {
            let mut scored = Vec::new();
            for rate in rates {
                scored.push((tuned.validation(&tried(optimiser, rate), 3)?, rate));
            }
            // Ties go to the smaller rate: the last of several largest is taken, from the end.
            let from_the_end = scored.into_iter().rev();
            let (score, rate) = from_the_end.max_by(|a, b| a.0.total_cmp(&b.0)).context("no rate was tried")?;
            eprintln!("{task}: {name} at {rate} ({:.1} on validation)", 100.0 * score);
            let arm = |method: &str| format!("{method}:{optimiser}:lr={rate}");
            rows.push(arm("joint"));
            rows.extend(BASELINES.iter().flat_map(|m| APPLY.map(|apply| arm(&format!("{m}:apply={apply}")))));
            best.push((name, rate, optimiser));
        }
        compare(&program, task, &rows, &seeds, &folder)?;
        table(task, &summary(&program, &folder)?, &best)?;
    }
    Ok(())
}

fn compare(program: &Path, task: &str, rows: &[String], seeds: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["compare", "--data", task, "--seeds", seeds, "--methods", &rows.join(",")]);
    // A rate that diverges is a result too.
    succeed(command.args(["--set", "on_nan=skip", "--out"]).arg(folder))
}

/// The part of a report's `summary.json` that is read here.
#[derive(Deserialize)]
struct Summary {
    runs: Vec<Run>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Run {
    method: String,
    seed: usize,
    metric: String,
    val: Option<f64>,
}

#[derive(Deserialize)]
struct Row {
    method: String,
    condition: String,
    metric: String,
    mean: Option<f64>,
}

/// The numbers of the runs in a folder.
fn summary(program: &Path, folder: &Path) -> Result<Summary> {
    let path = folder.join("summary.json");
    let mut report = Command::new(program);
    succeed(report.arg("report").arg(folder).arg("--summary").arg(&path).stdout(Stdio::null()))?;
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

impl Summary {
    /// A row's mean score on the validation split over its first seeds.
    fn validation(&self, method: &str, seeds: usize) -> Result<f64> {
        let runs = self.runs.iter().filter(|r| r.method == method && r.seed < seeds);
        let scores: Vec<f64> = runs.map(|r| r.val).collect::<Option<_>>().context("a run without this score")?;
        if scores.len() != seeds {
            bail!("{method}: {} runs of {seeds}", scores.len());
        }
        Ok(scores.iter().sum::<f64>() / seeds as f64)
    }

    /// A row's mean headline score on the test split.
    fn test(&self, method: &str, condition: &str) -> Result<f64> {
        let metric = self.runs.first().map(|r| r.metric.as_str());
        let wanted = |r: &&Row| r.method == method && r.condition == condition && Some(r.metric.as_str()) == metric;
        let row = self.rows.iter().find(wanted).with_context(|| format!("no run of {method}"))?;
        row.mean.with_context(|| format!("{method}: a run without this score"))
    }
}

/// Full and Avg of every baseline under every optimiser.
fn table(task: &str, summary: &Summary, best: &[(&str, &str, &str)]) -> Result<()> {
    println!("\n## `{task}`\n");
    let head = |(name, rate, _): &(&str, &str, &str)| format!("{name} {rate}: gradient | {name} {rate}: step");
    println!("| method | {} |", best.iter().map(head).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|---|".repeat(best.len()));
    for method in ["joint"].iter().chain(&BASELINES) {
        let mut cells = Vec::new();
        for (_, rate, optimiser) in best {
            for apply in APPLY {
                let row = match *method {
                    "joint" => format!("joint:{optimiser}:lr={rate}"),
                    method => format!("{method}:apply={apply}:{optimiser}:lr={rate}"),
                };
                let (full, avg) = (summary.test(&row, "full")?, summary.test(&row, "missing-avg")?);
                cells.push(format!("{:.1} / {:.1}", 100.0 * full, 100.0 * avg));
            }
        }
        println!("| {method} | {} |", cells.join(" | "));
    }
    Ok(())
}
