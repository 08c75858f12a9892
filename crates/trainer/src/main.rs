//! `balgrad`: train, compare, diagnose and report balanced multimodal models.

use std::process::ExitCode;

fn main() -> ExitCode {
    balgrad_trainer::main(balgrad_trainer::Registry::default())
}
