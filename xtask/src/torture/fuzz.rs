//! Every parser on random input: the example `fuzz` of the trainer, started for each and held to memory and time.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::flips;
use super::kills::{END_TO_END, arguments};
use super::world::{How, World};

/// The corpus of the checkout, and what a run of today leaves.
fn corpus(world: &World) -> Result<PathBuf> {
    let (folder, corpus) = (world.fresh("trial")?, world.root.join("corpus"));
    flips::copy(&crate::root().join("fuzz/corpus"), &corpus)?;
    for (encoders, settings) in [("frozen", &[][..]), ("trained", END_TO_END)] {
        let train = arguments(world, &["train", "--method", "balgrad", "--out", encoders], settings);
        flips::succeed(world, &folder, &train)?;
        for (file, parser) in [("results.json", "results"), ("metrics.jsonl", "metrics"), ("model.json", "model")] {
            fs::create_dir_all(corpus.join(parser))?;
            let (name, end) = file.split_once('.').unwrap_or((file, ""));
            // The weights that lie beside are those of one of them.
            if encoders == "trained" || parser != "model" {
                fs::copy(
                    folder.join(encoders).join(file),
                    corpus.join(parser).join(format!("{name}-{encoders}.{end}")),
                )?;
            }
        }
    }
    fs::create_dir_all(corpus.join("run"))?;
    fs::copy(folder.join("trained/model.safetensors"), corpus.join("run/model.safetensors"))?;
    Ok(corpus)
}

pub(super) fn run(world: &mut World) -> Result<String> {
    let program = world.example("fuzz").display().to_string();
    let corpus = corpus(world)?.display().to_string();
    let list = world.start(&program, &world.root, &["list"], How::default())?;
    let parsers: Vec<String> = String::from_utf8_lossy(&list.out).lines().map(str::to_owned).collect();
    anyhow::ensure!(!parsers.is_empty(), "the example `fuzz` knows no parser: {}", list.error);
    let now = Instant::now();
    let seconds = (world.until.saturating_duration_since(now).as_secs_f64() / parsers.len() as f64).max(0.5);
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    for parser in &parsers {
        let (folder, end) = (world.fresh("fuzz")?, Instant::now() + Duration::from_secs_f64(seconds));
        // What aborts it is a fault; then it goes on with other input.
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
            let seed = world.below(usize::MAX).to_string();
            let (left, place) = (format!("{left:.2}"), folder.display().to_string());
            let patience = Some(Duration::from_secs_f64(seconds + 120.0));
            let how = How { bounded: patience, ..How::default() };
            let ended = world.start(&program, &folder, &[parser, &corpus, &place, &left, &seed], how)?;
            let out = String::from_utf8_lossy(&ended.out).into_owned();
            let figure =
                |name: &str| out.lines().rev().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            inputs += figure("inputs").unwrap_or(0);
            slowest = slowest.max(Duration::from_millis(figure("slowest").unwrap_or(0)));
            for line in out.lines().filter_map(|line| line.strip_prefix("fault ")) {
                world.blame(format!("{parser}: {line}"));
            }
            anyhow::ensure!(ended.code != Some(1), "the example `fuzz`, {parser}: {}", ended.error);
            if ended.code != Some(0) {
                let kept = crate::root().join(format!("target/torture-{parser}-{seed}"));
                let kept_at =
                    fs::copy(folder.join("input"), &kept).context("no input").map(|_| kept.display().to_string());
                let what = ended.fault().unwrap_or_default();
                world.blame(format!("{parser}, seed {seed}: {what}; input {}", kept_at.unwrap_or_default()));
            }
        }
    }
    Ok(format!("{inputs} inputs to {} parsers, the slowest took {} ms", parsers.len(), slowest.as_millis()))
}
