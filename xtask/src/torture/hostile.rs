//! Files that are made to hurt, given to the program as a user would.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::kills::{END_TO_END, arguments};
use super::world::{How, World};
use super::{corpus, flips};

/// The longest that the program may take over a file, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(world: &mut World) -> Result<String> {
    let good = crate::root().join("fuzz/corpus");
    let done = world.fresh("trial")?;
    flips::succeed(world, &done, &arguments(world, &["train", "--method", "joint", "--out", "run"], END_TO_END))?;
    let done = {
        let kept = world.root.join("kept/hostile");
        flips::copy(&done, &kept)?;
        kept
    };
    let mut cases = Vec::new();
    for (parser, name, bytes) in corpus::made() {
        cases.push((parser.to_owned(), name.to_owned(), extension_of(parser).to_owned(), bytes));
    }
    for (file, path) in super::state::files(&good)? {
        let (parser, file) = file.split_once('/').context("a file of the corpus without a parser")?;
        let bytes = fs::read(&path)?;
        for (how, spoil) in corpus::SPOILED {
            let extension = file.rsplit_once('.').map_or("", |(_, end)| end);
            cases.push((parser.to_owned(), format!("{file}, {how}"), extension.to_owned(), spoil(&bytes)));
        }
    }
    for i in (1..cases.len()).rev() {
        let j = world.below(i + 1);
        cases.swap(i, j);
    }
    let special = special(world)?;
    let (mut tried, mut slowest) = (special, Duration::ZERO);
    for (parser, name, extension, bytes) in &cases {
        if !world.has_time() {
            break;
        }
        let folder = world.fresh("hostile")?;
        let Some(command) = place(&good, &done, &folder, parser, extension, bytes)? else { continue };
        let ended = world.balgrad(&folder, &command, How { bounded: Some(PATIENCE), ..How::default() })?;
        tried += 1;
        slowest = slowest.max(ended.took);
        if let Some(fault) = ended.fault() {
            world.blame(format!("{parser}: {name}: {fault}"));
        }
    }
    Ok(format!("{tried} of {} files, the slowest took {:.1} s", cases.len() + special, slowest.as_secs_f64()))
}

fn extension_of(parser: &str) -> &'static str {
    match parser {
        "image" => "png",
        "weights" => "safetensors",
        "pth" => "pth",
        "config" => "toml",
        "csv" => "csv",
        "tsv" => "tsv",
        "jsonl" | "lines" => "jsonl",
        "parquet" => "parquet",
        _ => "json",
    }
}

/// Puts a file where the program will read it, and returns the command.
fn place(
    good: &Path,
    done: &Path,
    folder: &Path,
    parser: &str,
    extension: &str,
    bytes: &[u8],
) -> Result<Option<Vec<String>>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, bytes)
    };
    let model = |kind: &str, config: &str, weights: &str, end: &str| -> Result<Vec<String>> {
        let copy = |from: &str, to: &str| {
            fs::create_dir_all(folder.join("m")).and_then(|()| fs::copy(good.join(from), folder.join("m").join(to)))
        };
        copy(config, "config.json")?;
        copy(weights, &format!("model.{end}"))?;
        copy("tokenizer/wordpiece.json", "tokenizer.json")?;
        let side = if kind == "vit" { "image" } else { "text" };
        Ok(words(&format!(
            "train --quiet --data data/samples.csv --method joint --out run --set epochs=1 --set width=4 --set encoders.{side}={kind} --set weights.{side}=m"
        )))
    };
    let bert = || model("bert", "bert/config.json", "weights/bert.safetensors", "safetensors");
    let vit = || model("vit", "vit/config.json", "weights/vit.safetensors", "safetensors");
    let train = matches!(parser, "weights" | "pth" | "tokenizer" | "bert" | "vit" | "preprocessor");
    if train {
        super::fixtures::data(&folder.join("data"))?;
    }
    let run = |name: &str| -> Result<()> {
        flips::copy(done, folder)?;
        fs::remove_file(folder.join("run/SHA256SUMS"))?;
        Ok(write(&format!("run/{name}"), bytes)?)
    };
    Ok(Some(match parser {
        "csv" | "tsv" | "jsonl" | "parquet" => {
            write(&format!("data.{extension}"), bytes)?;
            words(&format!("check --data data.{extension}"))
        }
        "mmimdb" => {
            write("d/split.json", bytes)?;
            write("d/dataset/1.json", br#"{"plot":["a"],"genres":["b"]}"#)?;
            words("check --data d")
        }
        "image" => {
            write(&format!("bad.{extension}"), bytes)?;
            write("data.csv", format!("image,text,label\nbad.{extension},red,a\n,blue,b\n").as_bytes())?;
            words("check --data data.csv")
        }
        "weights" | "pth" => {
            let command = bert()?;
            fs::remove_file(folder.join("m/model.safetensors"))?;
            write(&format!("m/model.{extension}"), bytes)?;
            command
        }
        "tokenizer" => {
            let command = bert()?;
            write("m/tokenizer.json", bytes)?;
            command
        }
        "bert" | "vit" => {
            let command = if parser == "bert" { bert()? } else { vit()? };
            write("m/config.json", bytes)?;
            command
        }
        "preprocessor" => {
            let command = vit()?;
            write("m/preprocessor_config.json", bytes)?;
            command
        }
        "config" => {
            write("c.toml", bytes)?;
            words("train --config c.toml --data nothing --out run")
        }
        "results" => {
            run("results.json")?;
            words("report run --out r.html")
        }
        "model" => {
            run("model.json")?;
            words("predict run --text red")
        }
        "lines" => {
            run("lines.jsonl")?;
            words("predict run --jsonl run/lines.jsonl")
        }
        _ => return Ok(None),
    }))
}

/// Things that only look like files: pipes, devices, links in circles, folders.
fn special(world: &mut World) -> Result<usize> {
    let folder = world.fresh("special")?;
    let made = |line: &str| -> Result<()> {
        let mut command = std::process::Command::new("sh");
        crate::reproduce::succeed(command.args(["-c", line]).current_dir(&folder))
    };
    made(
        "mkfifo pipe.csv pipe.parquet pipe.png pipe.toml; ln -s circle.csv circle.csv; mkdir folder.csv; mkdir d; ln -s .. d/up; ln -s /dev/zero zero.csv; ln -s /dev/zero zero.png",
    )?;
    for image in ["pipe.png", "zero.png", "d", "d/up"] {
        fs::write(
            folder.join(format!("{}.csv", image.replace('/', "-"))),
            format!("image,text,label\n{image},red,a\n,blue,b\n"),
        )?;
    }
    let lines = [
        "check --data pipe.csv",
        "check --data pipe.parquet",
        "check --data circle.csv",
        "check --data folder.csv",
        "check --data d",
        "check --data zero.csv",
        "check --data pipe.png.csv",
        "check --data zero.png.csv",
        "check --data d.csv",
        "check --data d-up.csv",
        "check --data /dev/zero",
        "check --data /dev/stdin",
        "train --config pipe.toml --data data.csv --out run",
        "predict /dev/zero --text a",
        "predict d --jsonl pipe.csv",
        "report d --out r.html",
    ];
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = world.balgrad(&folder, &words, How { bounded: Some(PATIENCE), ..How::default() })?;
        if let Some(fault) = ended.fault() {
            world.blame(format!("balgrad {line}: {fault}"));
        }
    }
    Ok(lines.len())
}
