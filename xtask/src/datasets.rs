//! `cargo xtask datasets`: the bundled tasks in `datasets/`, checked (`verify`) or rebuilt from their packages (`build`).

#[cfg(any(feature = "datasets-build", test))]
mod base;
#[cfg(feature = "datasets-build")]
mod build;
mod counts;
mod manifest;
#[cfg(any(feature = "datasets-build", test))]
mod split;
mod sums;
#[cfg(any(feature = "datasets-build", test))]
mod titles;
mod verify;

use anyhow::{Result, bail};

/// The bundled folders below `datasets/`, in the order in which they are listed and checked.
const FOLDERS: [&str; 4] = ["emoji", "icons", "clipart", "sentiment"];

const USAGE: &str = "\
usage: cargo xtask datasets verify [NAME]   check every committed file against its hash, and the manifests' rules
       cargo xtask datasets build [NAME]    rebuild from the packages (npm's, and Debian's for clipart)
NAME is emoji, icons, clipart or sentiment; without it, all four.";

/// Runs `verify` or `build` on one bundled folder or on all.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["verify"] => verify::run(&FOLDERS),
        ["verify", name] if FOLDERS.contains(name) => verify::run(&[name]),
        ["build"] => build(&FOLDERS),
        ["build", name] if FOLDERS.contains(name) => build(&[name]),
        ["verify" | "build", name] => bail!("there is no bundled task `{name}`\n\n{USAGE}"),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("`datasets` needs `verify` or `build`\n\n{USAGE}"),
    }
}

#[cfg(feature = "datasets-build")]
fn build(names: &[&str]) -> Result<()> {
    build::run(names)
}

/// Reading archives and drawing icons takes a renderer that no other command needs, so this build of xtask lacks it:
/// ask cargo for one that has it.
#[cfg(not(feature = "datasets-build"))]
fn build(names: &[&str]) -> Result<()> {
    use std::process::Command;

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for name in names {
        let status = Command::new(&cargo)
            .args(["run", "--quiet", "--package", "xtask", "--features", "datasets-build"])
            .args(["--", "datasets", "build", name])
            .current_dir(crate::root())
            .status()?;
        if !status.success() {
            bail!("building `{name}` failed ({status})");
        }
    }
    Ok(())
}
