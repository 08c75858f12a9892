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
    killed(program, work)?;
    resumed(program, work)
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
        let status = ended(&mut child, &ranks)?;
        ensure!(status != Some(0), "a rank was killed, and mpirun calls it a success");
        eprintln!("rank {rank} killed: all ended (exit {status:?})");
    }
    Ok(())
}

/// How often a run is stopped.
const STOPS: u64 = 30;

/// Ranks of a run that is stopped again and again, each time taken up by another number of them.
const RANKS: [usize; 3] = [2, 4, 1];

/// A run in shards that is stopped at moments of chance has the bits of one that is not: by SIGKILL of any rank, by SIGTERM to
/// `mpirun`.
fn resumed(program: &Path, work: &Path) -> Result<()> {
    let cache = work.join("cache");
    let start = |ranks: usize, folder: &Path| {
        let mut command = long(program, ranks, folder, &cache);
        command.args(["--set", "shards=4", "--set", "epochs=24"]);
        command
    };
    let (whole, stopped) = (work.join("whole"), work.join("stopped"));
    let output = start(4, &whole).output().context("cannot start mpirun")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let (mut chance, mut slowest, mut stops) = (clock as u64, Duration::ZERO, 0);
    for stop in 0..STOPS {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let ranks = RANKS[stop as usize % RANKS.len()];
        let mut child = start(ranks, &stopped).spawn().context("cannot start mpirun")?;
        std::thread::sleep(Duration::from_millis(600 + (chance >> 33) % 2400));
        let pids = ranks_of(&child)?;
        if child.try_wait()?.is_some() || pids.is_empty() {
            let status = ended(&mut child, &pids)?;
            ensure!(status == Some(0), "a run that nobody stopped ended with {status:?}");
            break;
        }
        let (name, pid) = match stop % 4 {
            3 => ("TERM", child.id()),
            _ => ("KILL", pids[(chance >> 20) as usize % pids.len()]),
        };
        // It may end by itself at this very moment.
        let _ = signal(name, pid);
        let began = Instant::now();
        ended(&mut child, &pids)?;
        slowest = slowest.max(began.elapsed());
        stops += 1;
    }
    let output = start(2, &stopped).output().context("cannot start mpirun")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    super::shards::same(&whole, &stopped)?;
    eprintln!(
        "{stops} times stopped and taken up by other numbers of ranks: the bits of an unbroken run; all ended within {slowest:.1?}"
    );
    ensure!(stops >= 3, "the run was over before it was stopped three times");
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

/// The exit code, once `mpirun` and its ranks have ended; an error if that takes too long.
pub(super) fn ended(child: &mut Child, ranks: &[u32]) -> Result<Option<i32>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()?
            && !ranks.iter().any(|pid| lives(*pid))
        {
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
