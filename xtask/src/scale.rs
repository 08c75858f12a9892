//! `cargo xtask ci --only scale`: ranks over MPI train what one process trains, with the same bits in shards, and end together.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::reproduce::succeed;

mod ends;
mod shards;

/// The feature of a build with MPI.
const FEATURE: &str = "balgrad-trainer/mpi";

/// Builds with MPI, and runs every method on two and four ranks.
pub(crate) fn check(scratch: &Path) -> Result<()> {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: this check installs OpenMPI on Debian");
        return Ok(());
    }
    install()?;
    let tests = built(&["test", "--workspace", "--features", FEATURE, "--lib", "--no-run"], "balgrad_trainer")?;
    for ranks in [2, 4] {
        let mut command = mpirun(ranks);
        command.arg(&tests).args(["--ignored", "--nocapture", "over_mpi"]);
        succeed(&mut command)?;
    }
    let program = built(&["build", "--workspace", "--features", FEATURE], "balgrad")?;
    let work = scratch.join("scale");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    shards::check(&program, &work)?;
    ends::check(&program, &work)
}

/// What Debian's packages bring, where it is missing.
fn install() -> Result<()> {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    let clang = || {
        Path::new("/usr/lib").read_dir().is_ok_and(|mut all| {
            all.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("llvm-")))
        })
    };
    if has("mpirun") && has("mpicc") && clang() {
        return Ok(());
    }
    let packages = ["openmpi-bin", "libopenmpi-dev", "libclang-dev"];
    let apt =
        |arguments: &[&str]| succeed(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"][..], &packages].concat())
        .with_context(|| format!("this check needs {}", packages.join(", ")))
}

/// A command on some ranks of this machine, which may have fewer cores than ranks.
pub(crate) fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-n"]);
    command.arg(ranks.to_string()).env("RAYON_NUM_THREADS", "1");
    command.env("BALGRAD_DATASETS", crate::root().join("datasets"));
    command
}

/// Runs cargo, and returns the executable that it makes of a target.
fn built(arguments: &[&str], target: &str) -> Result<PathBuf> {
    let mut command = crate::cargo();
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo {} ended with {}", arguments.join(" "), output.status);
    }
    let messages = String::from_utf8(output.stdout)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = messages.filter(|message| message["target"]["name"] == target);
    let mut paths = found.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    paths.next_back().with_context(|| format!("cargo names no executable of {target}"))
}
