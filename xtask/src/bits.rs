//! `cargo xtask bits`: whether two builds of the program train the same weights and predict the same, to the bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::reproduce::succeed;

pub(crate) const ABOUT: &str = "compare two builds bit by bit: every method's weights, predictions and scores";

const USAGE: &str = "\
cargo xtask bits --old PROGRAM --new PROGRAM [--only WORD] [--out DIR]

  Trains every method of OLD on the bundled tasks with both programs, one seed each: with frozen features, and end to end for a
  few. Weights, predictions and scores must be the same bits.

  --only   those sets of runs whose name contains this, such as emoji or trained
  --out    where runs go (default: target/bits); OLD's are kept there and not done again";

/// A set of runs: its name, data, rows, and config keys for both programs.
const SETS: &[(&str, &str, &str, &[&str])] = &[
    ("emoji", "emoji", "all", &[]),
    ("icons", "icons", "all", &["epochs=6"]),
    ("sentiment", "sentiment", "all", &["epochs=6"]),
    (
        "emoji-attention",
        "emoji",
        "joint,ogm-ge,agm,mla,balgrad,balgrad:scope=representation",
        &["epochs=3", "fusion=attention"],
    ),
    ("emoji-sgd", "emoji", "joint,ogm-ge,balgrad,balgrad:refresh=4,cggm", &["epochs=3", "optimizer=sgd", "lr=0.03"]),
    (
        "emoji-variants",
        "emoji",
        "joint+dropout,balgrad+dropout",
        &["epochs=3", "feature_variants=2", "class_weights=balanced"],
    ),
    ("emoji-trained", "emoji", TRAINED, SMALL),
    ("icons-trained", "icons", TRAINED, SMALL),
    ("sentiment-trained", "sentiment", TRAINED, SMALL),
];

const TRAINED: &str = "joint,balgrad,ogm-ge,umt:teacher_epochs=1,relearning:every=1";

/// Small encoders trained end to end, augmented.
const SMALL: &[&str] = &["encoders.image=small-cnn", "encoders.text=small-bert", "epochs=2", "lr=0.002"];

/// What is compared of a folder of runs: a name, and bits.
pub(crate) type Bits = BTreeMap<String, String>;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut old, mut new, mut only, mut out) = (None, None, String::new(), crate::root().join("target/bits"));
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--old" => old = Some(value()?),
            "--new" => new = Some(value()?),
            "--only" => only = value()?,
            "--out" => out = value()?.into(),
            other => bail!("unknown argument `{other}`\n\n{USAGE}"),
        }
    }
    let (Some(old), Some(new)) = (old, new) else { bail!("two programs are needed\n\n{USAGE}") };
    let (mut compared, mut different) = (0, Vec::new());
    for (name, data, rows, sets) in SETS.iter().filter(|(name, ..)| name.contains(&only)) {
        let [before, after] = ["old", "new"].map(|side| out.join(side).join(name));
        let _ = std::fs::remove_dir_all(&after);
        for (program, folder) in [(&old, &before), (&new, &after)] {
            eprintln!("== {name}: {program}");
            train(program, data, rows, sets, folder)?;
        }
        let (before, after) = (bits(&before)?, bits(&after)?);
        compared += before.len();
        different.extend(
            before.iter().filter(|(file, hash)| after.get(*file) != Some(hash)).map(|(f, _)| format!("{name}/{f}")),
        );
    }
    if !different.is_empty() {
        bail!("{} of {compared} differ:\n{}", different.len(), different.join("\n"));
    }
    println!("{compared} files and scores, the same bits");
    Ok(())
}

fn train(program: &str, data: &str, rows: &str, sets: &[&str], folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["compare", "--data", data, "--methods", rows, "--seeds", "1", "--out"]).arg(folder);
    for set in sets {
        command.args(["--set", set]);
    }
    command.env("BALGRAD_CACHE", folder.with_extension("cache"));
    succeed(command.stdout(std::process::Stdio::null()))
}

/// Hashes of the weights and predictions below a folder, and every score.
pub(crate) fn bits(folder: &Path) -> Result<Bits> {
    let mut bits = Bits::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path: PathBuf = entry?.path();
            let name = path.strip_prefix(folder)?.display().to_string();
            let is = |end: &str| name.ends_with(end);
            if path.is_dir() {
                folders.push(path);
            } else if is("model.safetensors") {
                bits.insert(name, hash(&tensors(&path)?));
            } else if name.contains("predictions") && is(".jsonl") {
                bits.insert(name, hash(&std::fs::read(&path)?));
            } else if is("results.json") {
                let results: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
                for part in
                    ["test", "missing", "noisy", "val", "best_epoch", "missing_ratios", "contribution", "conflict"]
                {
                    scores(&format!("{name}/{part}"), &results[part], &mut bits);
                }
            }
        }
    }
    if bits.is_empty() {
        bail!("{} holds no run", folder.display());
    }
    Ok(bits)
}

/// Tensors by name with their bytes: the order and the metadata of the file do not count.
fn tensors(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let length = u64::from_le_bytes(bytes.get(..8).context("a short file")?.try_into()?) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(bytes.get(8..8 + length).context("a short file")?)?;
    let mut all = Vec::new();
    for (name, info) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let at = |i: usize| info["data_offsets"][i].as_u64().map(|at| at as usize + 8 + length).context("no offsets");
        all.extend_from_slice(format!("{name} {} {}", info["dtype"], info["shape"]).as_bytes());
        all.extend_from_slice(bytes.get(at(0)?..at(1)?).context("a short file")?);
    }
    Ok(all)
}

/// Every number of a part of a results file, as text.
fn scores(name: &str, value: &Value, bits: &mut Bits) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| scores(&format!("{name}/{key}"), value, bits)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| scores(&format!("{name}/{i}"), value, bits));
        }
        Value::Null => {}
        other => drop(bits.insert(name.to_owned(), other.to_string())),
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
