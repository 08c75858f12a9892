//! `balgrad`: train, compare, diagnose and report balanced image-text classifiers.

mod commands;

use std::process::ExitCode;

use balgrad_trainer::Usage;
use balgrad_trainer::interrupt::{self, Interrupted};
use clap::Parser;

use commands::Program;

fn main() -> ExitCode {
    balgrad_nn::tune_process();
    let program = Program::parse();
    let outcome = interrupt::listen().map_err(anyhow::Error::from).and_then(|()| program.run());
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Whoever reads our output has gone: that is no failure of ours.
            if error
                .chain()
                .any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
            {
                return ExitCode::SUCCESS;
            }
            eprintln!("balgrad: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 2 for what can be decided from arguments and config, 128 + n for signal n, 1 for all else.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(Interrupted(signal)) = cause.downcast_ref() {
            return 128 + *signal as u8;
        }
        let usage = cause.downcast_ref::<Usage>().is_some()
            || cause.downcast_ref::<balgrad_data::DataError>().is_some_and(balgrad_data::DataError::is_usage);
        if usage {
            return 2;
        }
    }
    1
}
