//! A rank that fails, is killed or is told to stop ends all, soon; none is left waiting.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::mpirun;

/// Within which all ranks must have ended.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn check(program: &Path, work: &Path) -> Result<()> {
    wrong_use(program, work)?;
    killed(program, work)
}

/// A run of some ranks that takes long enough to be stopped.
pub(super) fn long(program: &Path, ranks: usize, folder: &Path, cache: &Path) -> Command {
    let mut command = mpirun(ranks);
    command.arg(program).args(["train", "--data", "emoji", "--quiet", "--resume", "--set", "epochs=400"]);
    command.args(["--set", "checkpoint_seconds=0.2", "--out"]).arg(folder);
    command.env("BALGRAD_CACHE", cache).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A mistake that every rank makes is said once, with the exit code of a mistake.
fn wrong_use(program: &Path, work: &Path) -> Result<()> {
    let mut command = mpirun(4);
    command.arg(program).args(["train", "--data", "emoji", "--method", "balgard", "--out"]).arg(work.join("wrong"));
    let output = command.output().context("cannot start mpirun")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "wrong use ended with {}:\n{said}", output.status);
    ensure!(said.matches("balgrad:").count() == 1, "wrong use was not said once:\n{said}");
    Ok(())
}

/// SIGKILL of any rank, in the middle of training.
fn killed(program: &Path, work: &Path) -> Result<()> {
    for rank in [0, 1] {
        let folder = work.join(format!("killed-{rank}"));
        let mut child = long(program, 2, &folder, &work.join("cache")).spawn().context("cannot start mpirun")?;
        wait_for(&folder.join("checkpoint/state.safetensors"), &mut child)?;
        let ranks = ranks_of(&child)?;
        signal("KILL", *ranks.get(rank).context("there is no such rank")?)?;
        let status = ended(&mut child)?;
        ensure!(status != Some(0), "a rank was killed, and mpirun calls it a success");
        ensure!(ranks.iter().all(|pid| !lives(*pid)), "a rank outlived another that was killed");
        eprintln!("rank {rank} killed: all ended (exit {status:?})");
    }
    Ok(())
}

/// Waits until a file is there.
pub(super) fn wait_for(path: &Path, child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while !path.exists() {
        if let Some(status) = child.try_wait()? {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            bail!("mpirun ended with {status} before there was {}:\n{said}", path.display());
        }
        ensure!(began.elapsed() < Duration::from_secs(120), "there is still no {}", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The exit code, once all has ended; an error if that takes too long.
pub(super) fn ended(child: &mut Child) -> Result<Option<i32>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            bail!("ranks still run {PATIENCE:?} after one was stopped");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Process ids of the ranks, in order of rank.
pub(super) fn ranks_of(mpirun: &Child) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let parent = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent = parent.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        let rank = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"OMPI_COMM_WORLD_RANK="));
        let rank = rank.and_then(|rank| std::str::from_utf8(rank).ok()?.parse::<usize>().ok());
        if let (Some(rank), true) = (rank, parent == Some(mpirun.id())) {
            found.push((rank, pid));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, pid)| pid).collect())
}

pub(super) fn signal(name: &str, pid: u32) -> Result<()> {
    crate::reproduce::succeed(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]))
}

fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}
