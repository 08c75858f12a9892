#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[macro_use]
mod output;

pub mod arms;
mod by_name;
mod calibration;
mod channel;
pub mod checkpoint;
mod commands;
pub mod config;
mod environment;
mod evaluator;
mod events;
mod export;
mod folds;
mod interrupt;
pub mod metrics;
mod model;
mod model_spec;
mod program;
mod ranks;
mod readable;
pub mod record;
mod registry;
pub mod report;
mod retest;
pub mod run;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod split_data;
pub mod statistics;
mod storage;
mod targets;
mod training;

use std::fmt;

pub use export::export;
pub use model::{Answer, Model, OwnView, Parts};
pub use program::main;
pub use registry::Registry;
pub use targets::{Batch, Scaling, TARGETS, TargetEntry};
pub use training::{Watcher, forward};

/// A mistake that can be seen from arguments and config alone: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl From<balgrad::SettingError> for Usage {
    fn from(error: balgrad::SettingError) -> Self {
        Self(error.0)
    }
}
