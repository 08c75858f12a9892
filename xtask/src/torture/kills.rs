//! Runs, grids and feature caches that are killed and go on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::state;
use super::world::{Fault, How, World};

/// Every run, small and with a checkpoint after every step.
pub(super) const SETTINGS: &[&str] =
    &["epochs=3", "batch_size=8", "width=8", "checkpoint_seconds=0", "log_every=1", "image_size=16", "workers=1"];

/// Methods whose state is of many kinds, end to end too.
const TRAINED: &[&str] = &["joint", "balgrad", "ogm-ge", "mla", "pmr", "umt", "relearning", "recon-boost", "chorus"];

/// A run or a grid that is killed, and what it must come to.
struct Trial {
    arguments: Vec<String>,
    expected: BTreeMap<String, String>,
    /// Calls that change files, of a run that nothing happens to.
    calls: usize,
    seconds: f64,
}

/// The arguments of a command with these settings, on the scratch folder's data.
pub(super) fn arguments(world: &World, words: &[&str], settings: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = words.iter().map(ToString::to_string).collect();
    all.extend(["--quiet", "--data"].map(str::to_owned));
    all.push(world.root.join("data/samples.csv").display().to_string());
    for set in SETTINGS.iter().chain(settings) {
        all.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    all
}

pub(super) const END_TO_END: &[&str] =
    &["encoders.image=small-cnn", "encoders.text=small-bert", "lr=0.002", "epochs=2", "vocab_size=200"];

pub(super) fn run(world: &mut World) -> Result<String> {
    let mut trials: Vec<Option<Trial>> = Vec::new();
    let mut commands: Vec<Vec<String>> = Vec::new();
    for method in methods(world)? {
        commands.push(arguments(world, &["train", "--method", &method], &[]));
    }
    for method in TRAINED {
        commands.push(arguments(world, &["train", "--method", method], END_TO_END));
    }
    for rows in ["joint,balgrad", "ogm,balgrad+dropout"] {
        commands.push(arguments(world, &["compare", "--seeds", "2", "--jobs", "2", "--methods", rows], &["epochs=2"]));
    }
    trials.resize_with(commands.len(), || None);
    let (mut kills, mut finished) = (0, 0);
    // Each once, in an order of chance, and then again and again.
    let mut order: Vec<usize> = (0..commands.len()).collect();
    for i in (1..order.len()).rev() {
        let j = world.below(i + 1);
        order.swap(i, j);
    }
    for next in order.iter().cycle() {
        if !world.has_time() {
            break;
        }
        if trials[*next].is_none() {
            trials[*next] = Some(whole(world, commands[*next].clone())?);
        }
        if let Some(trial) = &trials[*next] {
            kills += kill(world, trial)?;
            finished += 1;
        }
    }
    let kinds = trials.iter().flatten().count();
    Ok(format!("{kills} kills of {finished} runs and grids, {kinds} of {} kinds", commands.len()))
}

/// The rows of the table of methods.
fn methods(world: &World) -> Result<Vec<String>> {
    let ended = world.balgrad(&world.root, &["methods"], How::default())?;
    let text = String::from_utf8_lossy(&ended.out).into_owned();
    let first = |line: &str| Some(line.split("  ").next()?.to_owned());
    Ok(text.lines().filter(|line| !line.starts_with(' ')).filter_map(first).filter(|name| !name.is_empty()).collect())
}

/// The run that nothing happens to.
fn whole(world: &World, mut arguments: Vec<String>) -> Result<Trial> {
    let folder = world.fresh("trial")?;
    arguments.extend(["--out".to_owned(), folder.join("run").display().to_string()]);
    let ended = world.balgrad(&folder, &arguments, How::default())?;
    if ended.code != Some(0) {
        bail!("balgrad {}: {}", arguments.join(" "), ended.error);
    }
    let expected = state::of(&folder.join("run"))?;
    Ok(Trial { arguments, expected, calls: ended.calls, seconds: ended.took.as_secs_f64() })
}

/// Kills a run up to four times, lets it end, and looks at what it left; returns how often it was killed.
fn kill(world: &mut World, trial: &Trial) -> Result<usize> {
    let folder = world.fresh("trial")?;
    let is_grid = trial.arguments[0] == "compare";
    let (mut kills, mut story) = (0, Vec::new());
    for _ in 0..=world.below(4) {
        let how = match world.below(3) {
            0 => {
                let part = world.below(1100) as f64 / 1000.0;
                How { kill: Some(Duration::from_secs_f64(0.02 + trial.seconds * part)), ..How::default() }
            }
            which => {
                let how = ["KILL", "TORN"][which - 1];
                How { fault: Some(Fault { how, at: 1 + world.below(trial.calls) }), ..How::default() }
            }
        };
        let ended = go(world, &folder, trial, how)?;
        story.push(format!("{:?} {:?}", how.fault, how.kill));
        match ended.code {
            None => kills += 1,
            Some(0) => break,
            // A grid whose run was killed says so, and goes on with the others.
            Some(1) if is_grid => kills += 1,
            Some(_) => {
                let fault = ended.error.lines().next().unwrap_or_default().to_owned();
                world.blame(format!("{} after {}: {fault}", trial.arguments.join(" "), story.join(", ")));
                return Ok(kills);
            }
        }
    }
    let mut ended = go(world, &folder, trial, How::default())?;
    if is_grid && ended.code == Some(0) && leftovers(&folder).is_some() {
        // Runs of a grid that was killed may have been at work until after the next had begun.
        ended = go(world, &folder, trial, How::default())?;
    }
    let found = match ended.code {
        Some(0) => state::of(&folder.join("run")),
        _ => Err(anyhow::anyhow!("exit {:?}: {}", ended.code, ended.error.lines().next().unwrap_or_default())),
    };
    let fault = match found {
        Ok(found) => state::difference(&trial.expected, &found),
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(fault) = fault.or_else(|| leftovers(&folder)) {
        world.blame(format!("{} after {}: {fault}", trial.arguments.join(" "), story.join(", ")));
    }
    Ok(kills)
}

/// Starts a run, or goes on with it.
fn go(world: &World, folder: &Path, trial: &Trial, how: How) -> Result<super::world::Ended> {
    let mut arguments = trial.arguments.clone();
    if trial.arguments[0] == "train" && folder.join("run").exists() {
        arguments.push("--resume".to_owned());
    }
    world.balgrad(folder, &arguments, how)
}

/// A temporary file below a folder that nobody will remove any more.
pub(super) fn leftovers(folder: &Path) -> Option<String> {
    let files = state::files(folder).ok()?;
    let found = files.into_iter().find(|(name, _)| name.contains(".tmp-"))?;
    Some(format!("{} was left over", found.0))
}
