//! A worker: a process with one case set up, which times a block when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::Bench;
use super::cases::DEVICE;
use crate::reproduce::succeed;

/// What a worker says of a block.
#[derive(Deserialize)]
pub(super) struct Reading {
    /// Of one iteration.
    pub(super) seconds: f64,
    /// Bytes above what was resident before the first iteration.
    pub(super) peak: f64,
    pub(super) parameters: u64,
    /// Mean absolute difference of pixels from the reference, where there are any, in parts of their range.
    #[serde(default)]
    pub(super) difference: f64,
}

/// A running worker; ended when dropped.
pub(super) struct Worker {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Worker {
    /// One of our own cases.
    pub(super) fn ours(arguments: &[&str], bench: &Bench) -> Result<Self> {
        let program =
            crate::root().join("target/release/examples").join(format!("bench{}", std::env::consts::EXE_SUFFIX));
        Self::start(Command::new(program), arguments, bench)
    }

    /// One of the peer's.
    pub(super) fn peer(python: &Path, arguments: &[&str], bench: &Bench) -> Result<Self> {
        Self::start(peer(python), arguments, bench)
    }

    /// Starts it and waits until it is set up and warm.
    fn start(mut command: Command, arguments: &[&str], bench: &Bench) -> Result<Self> {
        for argument in arguments {
            match (argument.strip_prefix("MODELS/"), &bench.plan.device) {
                (Some(name), _) => command.arg(bench.models.join(name)),
                (None, Some(device)) if *argument == DEVICE => command.arg(device),
                (None, _) => command.arg(argument),
            };
        }
        command.env("RAYON_NUM_THREADS", bench.plan.threads.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = arguments.join(" ");
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipe to {name}") };
        let mut worker = Self { child, ask, answers: BufReader::new(answers), name };
        worker.answer()?;
        Ok(worker)
    }

    /// Times one block.
    pub(super) fn block(&mut self) -> Result<Reading> {
        writeln!(self.ask).with_context(|| format!("`{}` has ended", self.name))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Reading> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("`{}` ended without an answer", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("`{}` answered {line}", self.name))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(crate::root().join("xtask/peers/bench.py")).env("TRANSFORMERS_VERBOSITY", "error");
    command
}

/// The versions of what the peer runs on.
pub(super) fn peer_versions(python: &Path) -> Result<Value> {
    let output = peer(python).arg("versions").stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        bail!("{} lacks what xtask/peers/bench.py imports; leave --peer out to do without", python.display());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Lets the peer write random models and JPEGs, once.
pub(super) fn make_models(python: &Path, folder: &Path) -> Result<()> {
    succeed(peer(python).arg("make").arg(folder))
}

/// The processor's name, where the system says it.
pub(super) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// How many processes wanted to run in the last minute, where the system says it.
pub(super) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
