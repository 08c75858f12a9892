#![doc = include_str!("../README.md")]

pub mod arms;
pub mod bank;
pub mod card;
pub mod checkpoint;
pub mod config;
pub mod environment;
pub mod evaluation;
pub mod events;
pub mod interrupt;
pub mod metrics;
pub mod model;
pub mod readable;
pub mod report;
pub mod retest;
pub mod run;
pub mod shown;
pub mod sight;
pub mod stage;
pub mod statistics;
pub mod training;

use std::fmt;

pub use model::Model;

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
