//! The program: arguments in, exit code out.

use std::process::ExitCode;

use balgrad_data::DataError;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::commands::Program;
use crate::config::find_key;
use crate::interrupt::{self, Interrupted, LEASH};
use crate::output::told;
use crate::run::Busy;
use crate::{Registry, Usage};

/// How a run of a grid ends whose folder another process writes: the system's own code for what may go well later.
pub(crate) const BUSY: u8 = 75;

/// `balgrad` with these tables: the whole of a program that adds a method, a modality or an encoder of its own.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     let mut registry = balgrad_trainer::Registry::default();
///     // registry.methods.push(&MY_METHOD);
///     balgrad_trainer::main(registry)
/// }
/// ```
///
/// Call it first thing in `main`, before there are threads: it sets the process up for training.
pub fn main(registry: Registry) -> ExitCode {
    balgrad_nn::tune_process();
    let program = Program::try_parse().unwrap_or_else(|error| wrong_use(error));
    let ready = registry.install().map_err(anyhow::Error::from);
    let ready = ready.and_then(|()| interrupt::listen().map_err(anyhow::Error::from));
    match ready.and_then(|()| program.run()) {
        Ok(code) => code,
        // Whoever reads our output has gone: that is no failure of ours.
        Err(error) if error.chain().any(is_broken_pipe) => ExitCode::SUCCESS,
        // A grid that started this process says it, and tries again.
        Err(error) if error.is::<Busy>() && std::env::var_os(LEASH).is_some() => ExitCode::from(BUSY),
        // So does it when it has stopped all of them.
        Err(error) if is_stopped(&error) && std::env::var_os(LEASH).is_some() => ExitCode::from(exit_code(&error)),
        Err(error) => {
            say!("balgrad: {}", text(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Leaves with what is wrong on the command line; who gives a setting as a flag is told how it is given.
fn wrong_use(mut error: clap::Error) -> ! {
    let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let key = flag.filter(|_| error.kind() == ErrorKind::UnknownArgument);
    if let Some(key) = key.and_then(|flag| find_key(&flag.trim_start_matches('-').replace('-', "_"))) {
        error.remove(ContextKind::SuggestedArg);
        let how = format!("settings are given as `--set {}=VALUE`", key.name);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![how.into()]));
    }
    error.exit()
}

fn is_stopped(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error + 'static>::is::<Interrupted>)
}

/// An error in one line, with the command that goes on where a signal is its cause.
pub(crate) fn text(error: &anyhow::Error) -> String {
    format!("{}{}", told(error), if is_stopped(error) { interrupt::to_go_on() } else { String::new() })
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// 2 for what can be decided from arguments and config, 128 + n for signal n, 1 for all else.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(Interrupted(signal)) = cause.downcast_ref() {
            return 128 + *signal as u8;
        }
        let usage = cause.downcast_ref::<Usage>().is_some()
            || cause.downcast_ref::<DataError>().is_some_and(DataError::is_usage);
        if usage {
            return 2;
        }
    }
    1
}
