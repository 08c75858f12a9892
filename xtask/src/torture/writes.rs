//! Every call that changes a file fails once.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kills::{END_TO_END, arguments, leftovers};
use super::state;
use super::world::{Fault, How, World};

const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "SHORT"];

pub(super) fn run(world: &mut World) -> Result<String> {
    let commands = [
        ("a run on frozen features", arguments(world, &["train", "--method", "balgrad"], &[])),
        ("a run end to end", arguments(world, &["train", "--method", "umt"], END_TO_END)),
        ("a grid", arguments(world, &["compare", "--seeds", "1", "--methods", "joint,ogm"], &["epochs=1"])),
    ];
    let (mut errors, mut told) = (0, Vec::new());
    for (left, (name, command)) in (1..=commands.len() as u32).rev().zip(commands) {
        let now = std::time::Instant::now();
        let until = now + world.until.saturating_duration_since(now) / left;
        let folder = world.fresh("whole")?;
        let out = |folder: &Path| ["--out".to_owned(), folder.join("run").display().to_string()];
        let ended = world.balgrad(&folder, &[&command[..], &out(&folder)].concat(), How::default())?;
        anyhow::ensure!(ended.code == Some(0), "{name}: {}", ended.error);
        let expected = state::of(&folder.join("run"))?;
        // In an order that reaches all of them where there is time for all, and some of every kind where not.
        let (calls, mut reached) = (ended.calls, 0);
        let stride = (calls * 5 / 8..).find(|stride| gcd(*stride, calls) == 1).unwrap_or(1);
        let first = world.below(calls);
        for i in 0..calls {
            if std::time::Instant::now() > until {
                break;
            }
            let fault =
                Fault { how: ERRORS[(i + world.below(2)) % ERRORS.len()], at: 1 + (first + i * stride) % calls };
            let folder = world.fresh("trial")?;
            let arguments = [&command[..], &out(&folder)].concat();
            if let Some(problem) = fail(world, &folder, &arguments, fault, &expected)? {
                world.blame(format!("{name}, {fault:?}: {problem}"));
            }
            reached += 1;
        }
        errors += reached;
        told.push(format!("{reached} of {calls} calls of {name}"));
    }
    Ok(format!("{errors} errors ({})", told.join(", ")))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A run with one fault, and what was wrong with it: it must end in order, leave nothing half, and go on to the same bits.
fn fail(
    world: &World,
    folder: &Path,
    arguments: &[String],
    fault: Fault,
    expected: &std::collections::BTreeMap<String, String>,
) -> Result<Option<String>> {
    let run = folder.join("run");
    let ended = world.balgrad(folder, arguments, How { fault: Some(fault), ..How::default() })?;
    if let Some(problem) = ended.fault() {
        return Ok(Some(problem));
    }
    if let Some(half) = half(folder)? {
        return Ok(Some(format!("{half} is half a file under a final name (exit {:?})", ended.code)));
    }
    if ended.code == Some(0) {
        let mut found = state::of(&run)?;
        // What cannot be removed any more goes at the next start.
        found.retain(|name, _| !name.ends_with(".lock") && !name.contains("checkpoint/"));
        if let Some(difference) = state::difference(expected, &found) {
            return Ok(Some(format!("exit 0, and {difference}")));
        }
    }
    let mut again = arguments.to_vec();
    if arguments[0] == "train" && run.exists() {
        again.push("--resume".to_owned());
    }
    let said = ended.error.lines().next().unwrap_or_default().to_owned();
    let ended = world.balgrad(folder, &again, How::default())?;
    if ended.code != Some(0) {
        return Ok(Some(format!("`{said}`, then exit {:?}: {}", ended.code, ended.error)));
    }
    let found = state::of(&run).with_context(|| said.clone())?;
    Ok(state::difference(expected, &found).or_else(|| leftovers(folder)).map(|what| format!("`{said}`, then {what}")))
}

/// A file under its final name that is not whole. Logs grow by lines, and are cut back by the next start.
fn half(folder: &Path) -> Result<Option<String>> {
    for (name, path) in state::files(folder)? {
        let bytes = fs::read(&path)?;
        let whole = match name.rsplit('.').next() {
            _ if name.contains(".tmp-") || name.ends_with("metrics.jsonl") || name.contains("tfevents") => true,
            Some("json") => serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(),
            Some("jsonl" | "toml") => bytes.ends_with(b"\n"),
            Some("safetensors") => is_whole(&bytes).unwrap_or(false),
            _ => true,
        };
        if !whole {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether the last tensor of a safetensors file ends where the file does.
fn is_whole(bytes: &[u8]) -> Option<bool> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header: serde_json::Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
    let ends = header.as_object()?.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    Some(ends.max().unwrap_or(0) as usize + 8 + length == bytes.len())
}
