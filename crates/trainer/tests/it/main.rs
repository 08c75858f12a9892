//! The trainer from outside: one binary, since each links candle.
#![allow(clippy::unwrap_used, missing_docs)]

mod cli;
mod configs;
mod deploy;
mod docs;
#[cfg(target_os = "linux")]
mod grids;
mod hub;
mod metrics;
mod own;
mod own_data;
mod paper;
mod pretrained;
mod report;
mod state;
mod statistics;
mod streaming;
mod synthetic;
mod world;

#[allow(dead_code, reason = "the encoders' tests need more of it")]
#[path = "../../../encoders/tests/hub_server/mod.rs"]
mod hub_server;
