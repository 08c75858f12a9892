//! `cargo xtask bench`: what a balanced step costs, as a ratio to a plain one in the same run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::reproduce::{build, succeed};

pub(crate) const ABOUT: &str = "time methods against a plain step; --baseline compares with a stored result";

const USAGE: &str = "\
cargo xtask bench [--pairs N] [--data NAME] [--out FILE.json] [--baseline FILE.json] [--kernels]

  Trains each method beside `joint`, turn by turn, on the same threads, and prints the ratio of their step times: the
  median over pairs, the least and the greatest.

  --pairs      pairs a method (default: 5)
  --data       bundled task (default: emoji)
  --out        where the JSON goes (default: target/bench/bench.json)
  --baseline   an earlier JSON: fails where a ratio is more than 1.25 times the stored one
  --kernels    also gram and blend against memcpy and plain tensor operations";

/// What is timed: a name, and the arguments that make it.
const CASES: &[(&str, &[&str])] = &[
    ("multi-loss", &["--method", "multi-loss"]),
    ("balgrad", &["--method", "balgrad"]),
    ("balgrad, scope = representation", &["--method", "balgrad", "--set", "method.scope=representation"]),
    ("balgrad, refresh = 4", &["--method", "balgrad", "--set", "method.refresh=4"]),
    ("mmpareto", &["--method", "mmpareto"]),
    ("agm", &["--method", "agm"]),
    ("ogm-ge", &["--method", "ogm-ge"]),
    ("pcgrad", &["--method", "pcgrad"]),
    ("upgrad", &["--method", "upgrad"]),
];

/// A ratio that grew by more than this against the baseline is a failure.
const SLACK: f64 = 1.25;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut given = BTreeMap::new();
    let mut kernels = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--kernels" => kernels = true,
            "--pairs" | "--data" | "--out" | "--baseline" => {
                let value = args.next().with_context(|| format!("{arg} needs a value\n\n{USAGE}"))?;
                given.insert(arg.as_str(), value.clone());
            }
            other => bail!("unknown argument `{other}`\n\n{USAGE}"),
        }
    }
    let pairs: usize = given.get("--pairs").map_or(Ok(5), |n| n.parse()).context("--pairs takes a whole number")?;
    let data = given.get("--data").map_or("emoji", String::as_str);
    let program = build()?;
    let scratch = crate::root().join("target").join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let time = |arguments: &[&str]| step_seconds(&program, &scratch.join("run"), data, arguments);
    // The first run fills the feature cache.
    time(&["--method", "joint"])?;
    let mut table = format!("{:<34} {:>8} {:>8} {:>8}\n", "step time ÷ joint's", "median", "least", "most");
    let mut cases = serde_json::Map::new();
    for (name, arguments) in CASES {
        let mut ratios = Vec::with_capacity(pairs);
        for _ in 0..pairs {
            let plain = time(&["--method", "joint"])?;
            ratios.push(time(arguments)? / plain);
        }
        ratios.sort_by(f64::total_cmp);
        let (median, least, most) = (ratios[pairs / 2], ratios[0], ratios[pairs - 1]);
        writeln!(table, "{name:<34} {median:>8.2} {least:>8.2} {most:>8.2}")?;
        eprintln!("{name}: {median:.2}");
        cases.insert((*name).to_owned(), json!({"median": median, "least": least, "most": most, "pairs": pairs}));
    }
    print!("{table}");
    let out = given.get("--out").map_or_else(|| scratch.join("bench.json"), PathBuf::from);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let result = json!({"schema": 1, "data": data, "threads": cores, "step_time_over_joint": cases});
    std::fs::write(&out, format!("{result:#}\n")).with_context(|| format!("cannot write {}", out.display()))?;
    if kernels {
        let mut example = crate::cargo();
        example.args(["run", "--release", "--package", "balgrad-kernels", "--example", "kernels_bench"]);
        succeed(&mut example)?;
    }
    given.get("--baseline").map_or(Ok(()), |path| compare(Path::new(path), &result))
}

/// Seconds a step of one training run.
fn step_seconds(program: &Path, folder: &Path, data: &str, arguments: &[&str]) -> Result<f64> {
    let _ = std::fs::remove_dir_all(folder);
    let mut command = Command::new(program);
    command.args(["train", "--quiet", "--data", data, "--set", "epochs=5", "--out"]).arg(folder).args(arguments);
    succeed(command.stdout(std::process::Stdio::null()))?;
    let results: Value = serde_json::from_slice(&std::fs::read(folder.join("results.json"))?)?;
    let rate = results["steps_per_second"].as_f64().filter(|rate| *rate > 0.0);
    Ok(1.0 / rate.context("the run took no step")?)
}

fn compare(baseline: &Path, now: &Value) -> Result<()> {
    let text = std::fs::read(baseline).with_context(|| format!("cannot read {}", baseline.display()))?;
    let before: Value = serde_json::from_slice(&text).with_context(|| format!("{}", baseline.display()))?;
    let median = |value: &Value, name: &str| value["step_time_over_joint"][name]["median"].as_f64();
    let slower = CASES.iter().filter_map(|(name, _)| {
        let (before, now) = (median(&before, name)?, median(now, name)?);
        (now > SLACK * before).then(|| format!("{name}: {before:.2} before, {now:.2} now"))
    });
    let slower: Vec<String> = slower.collect();
    if !slower.is_empty() {
        bail!("slower than the baseline: {}", slower.join("; "));
    }
    Ok(())
}
