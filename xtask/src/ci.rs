//! `cargo xtask ci`: every check of the project, in the order in which they fail fastest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::reproduce::succeed;

pub(crate) const ABOUT: &str = "run the project's checks; --full adds those that take long or need extra tools";

const USAGE: &str = "\
cargo xtask ci [--full | --only WORD]

  Formatting, rules of this code, bundled data, tests, lints, documentation: what a change must pass.

  --full   also: 10,000 cases for every property test, the tests that need real weights (BALGRAD_TEST_WEIGHTS names
           their folder), the CUDA sources through nvcc (where one is found), the type check of the CUDA build,
           ranks over MPI (which installs OpenMPI and libclang on Debian), a grid on a Slurm that is installed for it
           (on Debian, as root), the docs as a book (mdBook from crates.io), their reader for MLflow (from PyPI),
           the short `torture`, cargo-deny (where it is installed), and one small pass of `reproduce`
  --only   those of all checks whose name contains this, such as CUDA";

/// One check: what it is called, whether `--full` alone runs it, and what it does.
struct Check {
    name: &'static str,
    full: bool,
    run: fn(&Path) -> Result<()>,
}

const CHECKS: &[Check] = &[
    Check { name: "formatting", full: false, run: |_| cargo(&["fmt", "--all", "--check"], &[]) },
    Check { name: "tidy", full: false, run: crate::tidy::check },
    Check { name: "bundled data", full: false, run: |_| cargo(&["xtask", "datasets", "verify"], &[]) },
    Check { name: "tests", full: false, run: |_| cargo(&["test", "--workspace"], &[]) },
    Check { name: "lints", full: false, run: |_| cargo(LINTS, &[]) },
    Check { name: "documentation", full: false, run: |_| cargo(DOCS, &[("RUSTDOCFLAGS", "-D warnings")]) },
    Check { name: "10,000 cases", full: true, run: |_| cargo(LAWS, &[("PROPTEST_CASES", "10000")]) },
    Check { name: "long tests", full: true, run: |_| cargo(&["test", "--workspace", "--", "--ignored"], &[]) },
    Check { name: "CUDA sources", full: true, run: cuda_sources },
    Check { name: "CUDA type check", full: true, run: cuda_types },
    Check { name: "scale", full: true, run: crate::scale::check },
    Check { name: "Slurm", full: true, run: crate::slurm::check },
    Check { name: "book", full: true, run: crate::pages::book },
    Check { name: "MLflow", full: true, run: crate::pages::mlflow },
    Check { name: "supply chain", full: true, run: supply_chain },
    Check { name: "torture", full: true, run: |_| cargo(&["xtask", "torture", "--short"], &[]) },
    Check { name: "reproduce", full: true, run: |_| cargo(&["xtask", "reproduce", "--quick"], &[]) },
];

const LINTS: &[&str] = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
const DOCS: &[&str] = &["doc", "--workspace", "--no-deps", "--lib"];
const LAWS: &[&str] = &["test", "--workspace", "--test", "it", "--", "laws::", "aggregators::", "evidence::"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (full, only) = match *words.as_slice() {
        [] => (false, ""),
        ["--full"] => (true, ""),
        ["--only", word] => (true, word),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return Ok(());
        }
        _ => bail!("unknown arguments\n\n{USAGE}"),
    };
    let checks: Vec<&Check> =
        CHECKS.iter().filter(|check| (full || !check.full) && contains(check.name, only)).collect();
    if checks.is_empty() {
        let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
        bail!("no check is called `{only}`; there are {}", names.join(", "));
    }
    let started = Instant::now();
    let mut failed = Vec::new();
    for check in checks {
        eprintln!("== {}", check.name);
        let began = Instant::now();
        let scratch = crate::root().join("target").join("ci");
        std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let outcome = (check.run)(&scratch);
        let seconds = began.elapsed().as_secs();
        match outcome {
            Ok(()) => eprintln!("== {}: passed, {seconds} s", check.name),
            Err(error) => {
                eprintln!("== {}: FAILED, {seconds} s: {error:#}", check.name);
                failed.push(check.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    eprintln!("all passed, {} s", started.elapsed().as_secs());
    Ok(())
}

fn contains(name: &str, word: &str) -> bool {
    name.to_lowercase().contains(&word.to_lowercase())
}

/// Licences, sources and doubles of all dependencies; advisories too, where their database can be fetched.
fn supply_chain(_: &Path) -> Result<()> {
    let deny = |check: &[&str]| crate::cargo().arg("deny").args(["--locked", "check"]).args(check).status();
    if !crate::cargo().args(["deny", "--version"]).output().is_ok_and(|found| found.status.success()) {
        eprintln!("skipped: no cargo-deny (`cargo install cargo-deny --locked`)");
        return Ok(());
    }
    if !deny(&["licenses", "bans", "sources"])?.success() {
        bail!("cargo deny found something");
    }
    let reachable = crate::cargo().args(["deny", "fetch", "db"]).output().is_ok_and(|found| found.status.success());
    if !reachable {
        eprintln!("skipped: advisories, as their database cannot be fetched");
    } else if !deny(&["advisories"])?.success() {
        bail!("cargo deny found an advisory");
    }
    Ok(())
}

fn cargo(args: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let mut command = crate::cargo();
    command.args(args).envs(variables.iter().copied());
    succeed(&mut command)
}

/// Compiles the CUDA sources to PTX for compute capability 8.0, which newer devices take too, and for 9.0.
fn cuda_sources(scratch: &Path) -> Result<()> {
    let Some(nvcc) = nvcc() else {
        eprintln!("skipped: no nvcc on PATH, nor under CUDA_HOME (PyPI's nvidia-cuda-nvcc brings one)");
        return Ok(());
    };
    let headers = crate::root().join("crates/kernels/src/cuda");
    for source in ["crates/kernels/src/cuda/kernels.cu", "crates/nn/src/cuda/adamw.cu"] {
        for architecture in ["compute_80", "compute_90"] {
            let mut command = Command::new(&nvcc);
            command.args(["-ptx", "--std=c++17", "-fmad=false", "-arch", architecture, "-I"]).arg(&headers);
            succeed(command.arg("-o").arg(scratch.join("kernels.ptx")).arg(crate::root().join(source)))?;
        }
    }
    Ok(())
}

fn nvcc() -> Option<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let named = homes.map(|home| Path::new(&home).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.chain(std::env::split_paths(&path)).map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file())
}

fn cuda_types(scratch: &Path) -> Result<()> {
    succeed(cuda_cargo(scratch)?.args(["check", "--package", "balgrad-trainer", "--features", "cuda"]))
}

/// Cargo for a CUDA build in a folder of its own. Where no toolkit is installed, candle's build script is content with a compiler
/// that says a version and writes nothing.
fn cuda_cargo(scratch: &Path) -> Result<Command> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    let folder = scratch.join("nvcc");
    std::fs::create_dir_all(&folder)?;
    if nvcc().is_none() {
        stand_in(&folder.join("nvcc"))?;
        let mut folders = vec![folder];
        folders.extend(std::env::split_paths(&path));
        path = std::env::join_paths(folders)?;
    }
    let mut command = crate::cargo();
    command.env("PATH", path).env("CUDA_COMPUTE_CAP", "80").env("CARGO_TARGET_DIR", scratch.join("cuda"));
    Ok(command)
}

/// A compiler that answers `--version`, on the fourth line as nvcc does, and writes an empty file wherever it is told to
/// write one, or PTX for a source.
fn stand_in(path: &Path) -> Result<()> {
    const SCRIPT: &str = "#!/bin/sh
case \"$*\" in *--version*) printf '\\n\\n\\nCuda compilation tools, release 13.0, V13.0.88\\n'; exit 0;; esac
sources=''
while [ $# -gt 0 ]; do
  case \"$1\" in
    -o|--output-file) shift; : > \"$1\";;
    --output-directory) shift; folder=$1;;
    *.cu) sources=\"$sources $1\";;
  esac
  shift
done
[ -z \"$folder\" ] || for source in $sources; do : > \"$folder/$(basename \"$source\" .cu).ptx\"; done
";
    std::fs::write(path, SCRIPT).with_context(|| format!("cannot write {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
