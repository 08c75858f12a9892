//! `cargo xtask dist`: the program with all that it needs, to be unpacked anywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::reproduce::{build, succeed};

pub(crate) const ABOUT: &str = "pack the program, the bundled tasks and the licences into one archive";

const USAGE: &str = "\
cargo xtask dist

  Builds the program and packs target/dist/balgrad-VERSION-ARCH-OS.tar.gz: bin/balgrad, the bundled tasks under
  share/balgrad/datasets (where the program looks for them), completions for shells, README and licences.";

/// Files at the top of the archive.
const TOP: &[&str] = &["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Shells that get a completion script.
const SHELLS: &[&str] = &["bash", "zsh", "fish"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    match args {
        [] => {}
        [one] if one == "--help" || one == "-h" => {
            println!("{USAGE}");
            return Ok(());
        }
        _ => bail!("unknown arguments\n\n{USAGE}"),
    }
    let root = crate::root();
    let program = build()?;
    let name = format!("balgrad-{}-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
    let parent = root.join("target").join("dist");
    let folder = parent.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    let file = program.file_name().context("the program has a name")?;
    copy(&program, &folder.join("bin").join(file))?;
    for name in TOP {
        copy(&root.join(name), &folder.join(name))?;
    }
    copy_all(&root.join("datasets"), &folder.join("share/balgrad/datasets"))?;
    let scripts = folder.join("share/balgrad/completions");
    fs::create_dir_all(&scripts).with_context(|| format!("cannot create {}", scripts.display()))?;
    for shell in SHELLS {
        let output =
            Command::new(&program).args(["completions", shell]).output().context("cannot start the program")?;
        fs::write(scripts.join(format!("balgrad.{shell}")), output.stdout)?;
    }
    // Found beside the program and nowhere else: the archive is whole.
    let mut check = Command::new(folder.join("bin").join(file));
    check.args(["check", "--fast", "--data", "emoji"]).current_dir(&folder).env_remove("BALGRAD_DATASETS");
    succeed(check.stdout(std::process::Stdio::null()))?;
    let archive = parent.join(format!("{name}.tar.gz"));
    succeed(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&parent).arg(&name))?;
    println!("{}", archive.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() { copy_all(&path, &target)? } else { copy(&path, &target)? }
    }
    Ok(())
}
