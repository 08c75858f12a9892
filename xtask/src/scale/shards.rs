//! A batch in four shards has the same bits on one, two and four ranks.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::mpirun;
use crate::bits::{Bits, bits};
use crate::reproduce::succeed;

/// Runs: what is special about each, and its arguments.
const RUNS: &[(&str, &[&str])] = &[
    ("balgrad", &["--method", "balgrad"]),
    ("kept coefficients", &["--method", "balgrad", "--set", "method.refresh=4", "--set", "class_weights=balanced"]),
    ("a cut graph", &["--method", "balgrad", "--set", "method.scope=representation"]),
    ("noise", &["--method", "ogm-ge"]),
    ("a teacher", &["--method", "umt", "--set", "method.teacher_epochs=1"]),
    ("turns", &["--method", "mla"]),
    ("a probe", &["--method", "relearning", "--set", "method.every=1"]),
    ("rehearsals", &["--method", "resampling", "--set", "method.warm_up=1"]),
    ("prototypes", &["--method", "pmr"]),
    (
        "trained encoders",
        &["--set", "encoders.image=small-cnn", "--set", "encoders.text=small-bert", "--set", "lr=0.002"],
    ),
];

pub(crate) fn check(program: &Path, work: &Path) -> Result<()> {
    for (i, (what, arguments)) in RUNS.iter().enumerate() {
        let run = |name: &str, ranks: usize, flags: &[&str]| {
            let folder = work.join(format!("shards-{i}-{name}"));
            let mut command = mpirun(ranks);
            command.args(flags).arg(program).args(["train", "--data", "emoji", "--quiet", "--set", "shards=4"]);
            command.args(["--set", "epochs=2"]).args(*arguments).arg("--out").arg(&folder);
            command.env("BALGRAD_CACHE", work.join("cache")).stdout(std::process::Stdio::null());
            succeed(&mut command).map(|()| folder)
        };
        let one = run("1", 1, &[])?;
        same(&one, &run("2", 2, &[])?)?;
        same(&one, &run("4", 4, &[])?)?;
        if i == 0 {
            // Other algorithms of the library's own.
            same(&one, &run("untuned", 4, &["--mca", "coll", "^tuned"])?)?;
        }
        eprintln!("{what}: four shards have the same bits on 1, 2 and 4 ranks");
    }
    Ok(())
}

/// Whether two runs have the same weights, predictions, scores, and log but for its times.
pub(super) fn same(one: &Path, other: &Path) -> Result<()> {
    let (mut a, mut b) = (bits(one)?, bits(other)?);
    for (folder, bits) in [(one, &mut a), (other, &mut b)] {
        log(folder, bits)?;
    }
    ensure!(a.len() > 20, "{} holds {} files and scores to compare", one.display(), a.len());
    let different: Vec<&str> =
        a.iter().filter(|(name, hash)| b.get(*name) != Some(hash)).map(|(name, _)| &**name).collect();
    if !different.is_empty() || a.len() != b.len() {
        bail!("{} and {} differ in {}", one.display(), other.display(), different.join(", "));
    }
    Ok(())
}

/// The lines of `metrics.jsonl` without their times.
fn log(folder: &Path, bits: &mut Bits) -> Result<()> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl"))?;
    for (i, line) in text.lines().enumerate() {
        let mut line: Value = serde_json::from_str(line)?;
        line["seconds"] = Value::Null;
        bits.insert(format!("metrics.jsonl/{i}"), line.to_string());
    }
    Ok(())
}
