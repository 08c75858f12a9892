//! The project's own commands, run as `cargo xtask COMMAND`. One file per command; a command is a row of [`COMMANDS`].

mod bench;
mod bits;
mod ci;
mod datasets;
mod dist;
mod optimisers;
mod pages;
mod reproduce;
mod scale;
mod slurm;
mod tidy;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

/// One command: what it is called, one line about it, and what it does with the arguments that follow its name.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "bench", about: bench::ABOUT, run: bench::run },
    Command { name: "bits", about: bits::ABOUT, run: bits::run },
    Command { name: "ci", about: ci::ABOUT, run: ci::run },
    Command { name: "optimisers", about: optimisers::ABOUT, run: optimisers::run },
    Command { name: "reproduce", about: reproduce::ABOUT, run: reproduce::run },
    Command {
        name: "datasets",
        about: "check the bundled tasks against their hashes and rules, or rebuild them from their packages",
        run: datasets::run,
    },
    Command { name: "dist", about: dist::ABOUT, run: dist::run },
    Command { name: "torture", about: torture::ABOUT, run: torture::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("error: there is no command `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND [ARGUMENTS]\n\ncommands:\n");
    for command in COMMANDS {
        text += &format!("  {:<10} {}\n", command.name, command.about);
    }
    text
}

/// The checkout this binary was built from.
fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Cargo in the checkout, without what `cargo run` has told this program of itself: build scripts that watch those
/// variables would run again, and half of the dependencies with them, whenever cargo is started the other way.
fn cargo() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}
