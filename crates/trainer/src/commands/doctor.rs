//! `balgrad doctor`: what this build and this machine have, and what would mend the rest.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use candle_core::Device;
use clap::Args;

use crate::environment::cache_folder;

#[derive(Args)]
pub(super) struct Doctor {}

/// A line: what was looked at, and what is there, or what is missing and the fix.
type Finding = (&'static str, Result<String, String>);

impl Doctor {
    #[expect(clippy::unused_self, reason = "a command like the others")]
    pub(super) fn run(self) -> Result<ExitCode> {
        for (what, found) in findings() {
            match found {
                Ok(found) => out!("ok       {what}: {found}"),
                Err(missing) => out!("missing  {what}: {missing}"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn findings() -> Vec<Finding> {
    vec![
        ("version", Ok(format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("BALGRAD_REVISION")))),
        ("threads", Ok(rayon::current_num_threads().to_string())),
        ("memory", memory()),
        ("CUDA", gpu()),
        ("MPI", mpi()),
        ("mpirun", mpirun()),
        ("home folder", home()),
        ("cache of features", writable(&cache_folder(), "set BALGRAD_CACHE to a folder that can be written")),
    ]
}

fn memory() -> Result<String, String> {
    let all = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    let gib = kib.map(|kib| kib / 1024.0 / 1024.0).ok_or("this system does not say; nothing depends on it")?;
    if gib < 1.0 {
        return Err(format!("{gib:.1} GiB are free: close other programs, or take smaller batches (`batch_size`)"));
    }
    Ok(format!("{gib:.1} GiB free"))
}

fn gpu() -> Result<String, String> {
    if !candle_core::utils::cuda_is_available() {
        return Err("not in this build: build with `--features cuda` to train on an NVIDIA GPU".to_owned());
    }
    Device::new_cuda(0)
        .map(|_| "a device answers".to_owned())
        .map_err(|error| format!("no device answers ({error}): install NVIDIA's driver, or train with `--device cpu`"))
}

fn mpi() -> Result<String, String> {
    if balgrad_distributed::HAS_MPI {
        return Ok("in this build".to_owned());
    }
    Err("not in this build: build with `--features mpi` to train one run on several processes".to_owned())
}

fn mpirun() -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("mpirun")).find(|file| file.is_file());
    let fix = "not on PATH: install OpenMPI or MPICH (Debian: apt-get install openmpi-bin) to start several processes";
    found.map(|file| file.display().to_string()).ok_or_else(|| fix.to_owned())
}

fn home() -> Result<String, String> {
    const FIX: &str = "set HOME to a folder that can be written, or BALGRAD_CACHE and HF_HOME";
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => writable(Path::new(&home), FIX),
        None => Err(format!("HOME is not set: {FIX}")),
    }
}

/// Whether a folder can be written, or made.
fn writable(folder: &Path, fix: &str) -> Result<String, String> {
    let standing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(folder);
    let probe = standing.join(format!(".balgrad-doctor-{}", std::process::id()));
    let written = std::fs::File::options().write(true).create_new(true).open(&probe);
    let _ = std::fs::remove_file(&probe);
    let shown = folder.display();
    written.map(|_| shown.to_string()).map_err(|error| format!("{shown} cannot be written ({error}): {fix}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_said_with_its_fix() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(&folder.path().join("a/b"), "fix").is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let said = writable(Path::new("/proc/nowhere"), "set HOME").unwrap_err();
        assert!(said.starts_with("/proc/nowhere cannot be written") && said.ends_with("set HOME"), "{said}");
    }
}
