//! Bits that flip in files that are read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::kills::{END_TO_END, arguments};
use super::state;
use super::world::{Fault, How, World};

/// What a flip in one of the files of `folder` must not change: what a command gives.
struct Scene {
    name: &'static str,
    folder: PathBuf,
    /// Files whose bits are flipped.
    files: Vec<String>,
    /// Commands that read them.
    commands: Vec<Vec<String>>,
    /// What each gives, where nothing is flipped.
    expected: Vec<BTreeMap<String, String>>,
}

pub(super) fn run(world: &mut World) -> Result<String> {
    let scenes = scenes(world)?;
    let (mut flips, mut refused, mut kinds) = (0, 0, BTreeMap::<String, usize>::new());
    while world.has_time() {
        for (s, scene) in scenes.iter().enumerate() {
            let file = scene.files[world.below(scene.files.len())].clone();
            let command = world.below(scene.commands.len());
            let problem = flip(world, scene, command, &file)?;
            flips += 1;
            *kinds.entry(format!("{s} {}", kind(&file))).or_default() += 1;
            match problem {
                None => {}
                Some(Outcome::Refused) => refused += 1,
                Some(Outcome::Fault(fault)) => world.blame(fault),
            }
        }
    }
    Ok(format!("{flips} bits flipped in {} kinds of files, {refused} refused, the others harmless", kinds.len()))
}

enum Outcome {
    Refused,
    Fault(String),
}

/// A file's name without what is its own.
fn kind(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(name, end)| if name.contains("cache") { end } else { file })
}

fn scenes(world: &World) -> Result<Vec<Scene>> {
    let mut scenes = Vec::new();
    for (name, settings) in [("frozen", &[][..]), ("end to end", END_TO_END)] {
        let train = arguments(world, &["train", "--method", "balgrad", "--out", "run"], settings);
        // A finished run, read by everything that reads one.
        let folder = world.fresh(&format!("scenes/{name} done"))?;
        succeed(world, &folder, &train)?;
        let files = state::files(&folder)?.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let in_run = |file: &&String| file.starts_with("run/") && !file.contains("tfevents");
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut predict = words("predict run --text");
        predict.push("a red sun".to_owned());
        let resume = [&train[..], &["--resume".to_owned()]].concat();
        let image = world.root.join("data/images/3.bmp").display().to_string();
        predict.extend(["--image".to_owned(), image]);
        let commands = vec![
            predict,
            words("evaluate run"),
            words("diagnose run"),
            words("report run --out report.html"),
            resume.clone(),
        ];
        scenes.push(scene(world, "a finished run", &folder, files.iter().filter(in_run), commands)?);
        // The features that it left.
        if files.iter().any(|file| file.starts_with("cache/")) {
            fs::remove_dir_all(folder.join("run"))?;
            let cached = |file: &&String| file.starts_with("cache/");
            let again = files.iter().filter(cached);
            scenes.push(scene(world, "a feature cache", &folder, again, vec![train.clone()])?);
        }
        // A run that was killed in its last step.
        let folder = world.fresh(&format!("scenes/{name} stopped"))?;
        let whole = world.balgrad(&folder, &train, How::default())?;
        let mut at = whole.calls;
        loop {
            fs::remove_dir_all(folder.join("run"))?;
            let fault = Some(Fault { how: "KILL", at });
            world.balgrad(&folder, &train, How { fault, ..How::default() })?;
            if folder.join("run/checkpoint/state.previous.safetensors").exists() {
                break;
            }
            at = at * 9 / 10;
            ensure!(at > 0, "no run could be stopped with two checkpoints");
        }
        let files = state::files(&folder)?.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        // An event file is not read back: TensorBoard checks its records.
        let others = [".lock", ".tmp-", "tfevents"];
        let kept = |file: &&String| file.starts_with("run/") && !others.iter().any(|other| file.contains(other));
        scenes.push(scene(world, "a stopped run", &folder, files.iter().filter(kept), vec![resume])?);
    }
    Ok(scenes)
}

/// Runs a command that must succeed.
pub(super) fn succeed(world: &World, folder: &Path, arguments: &[String]) -> Result<()> {
    let ended = world.balgrad(folder, arguments, How::default())?;
    if ended.code != Some(0) {
        bail!("balgrad {}: {}", arguments.join(" "), ended.error);
    }
    Ok(())
}

/// A scene, its folder from now on a copy that is taken for every flip.
fn scene<'a>(
    world: &World,
    name: &'static str,
    folder: &Path,
    files: impl Iterator<Item = &'a String>,
    commands: Vec<Vec<String>>,
) -> Result<Scene> {
    let files: Vec<String> = files.cloned().collect();
    let kept = world.root.join(format!("kept/{name} {}", folder.file_name().unwrap_or_default().display()));
    copy(folder, &kept)?;
    let mut scene = Scene { name, folder: kept, files, commands, expected: Vec::new() };
    for command in &scene.commands {
        match result(world, &scene, command)? {
            Ok(given) => scene.expected.push(given),
            Err(ended) => bail!("{name}: balgrad {}: {}", command.join(" "), ended.error),
        }
    }
    Ok(scene)
}

/// Copies all files below a folder.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(to);
    for (name, path) in state::files(from)? {
        let place = to.join(name);
        fs::create_dir_all(place.parent().unwrap_or(to))?;
        fs::copy(path, place)?;
    }
    Ok(())
}

/// What a command gives: what it prints, and the bits of what it writes.
fn result(
    world: &World,
    scene: &Scene,
    command: &[String],
) -> Result<std::result::Result<BTreeMap<String, String>, super::world::Ended>> {
    let folder = world.root.join("flipped");
    if !folder.exists() {
        copy(&scene.folder, &folder)?;
    }
    let ended = world.balgrad(&folder, command, How::default())?;
    let given = if ended.code == Some(0) && ended.fault().is_none() {
        let mut given = BTreeMap::new();
        if command[0] == "train" && scene.name != "a finished run" {
            given = state::of(&folder.join("run"))?;
            given.remove("config.toml");
        } else {
            given
                .insert("what was printed".to_owned(), String::from_utf8_lossy(&ended.out).into_owned() + &ended.error);
            let report = folder.join("report.html");
            if report.exists() {
                given.insert("report.html".to_owned(), fs::read_to_string(report)?);
            }
        }
        Ok(given)
    } else {
        Err(ended)
    };
    fs::remove_dir_all(&folder)?;
    Ok(given)
}

/// Flips one bit; none where it did no harm.
fn flip(world: &mut World, scene: &Scene, command: usize, file: &str) -> Result<Option<Outcome>> {
    let folder = world.root.join("flipped");
    copy(&scene.folder, &folder)?;
    let path = folder.join(file);
    let mut bytes = fs::read(&path)?;
    if bytes.is_empty() {
        fs::remove_dir_all(&folder)?;
        return Ok(None);
    }
    // Half of them where lengths, names and versions stand.
    let near = if world.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
    let (at, bit) = (world.below(near), world.below(8));
    bytes[at] ^= 1 << bit;
    fs::write(&path, bytes)?;
    let words = &scene.commands[command];
    let place = format!("{}: bit {bit} of byte {at} of {file}, then `{}`", scene.name, words[0]);
    Ok(match result(world, scene, words)? {
        Err(ended) => Some(ended.fault().map_or(Outcome::Refused, |what| Outcome::Fault(format!("{place}: {what}")))),
        Ok(given) => {
            let expected = &scene.expected[command];
            if given != *expected && given.values().any(|text| text.contains("does not match SHA256SUMS")) {
                return Ok(Some(Outcome::Refused));
            }
            state::difference(expected, &given).map(|what| Outcome::Fault(format!("{place}: {what}, without a word")))
        }
    })
}
