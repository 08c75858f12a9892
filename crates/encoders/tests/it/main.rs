//! The crate's integration tests, as one binary.
#![allow(clippy::unwrap_used)]

mod candle_reference;
mod encoders;
mod hub;
#[allow(dead_code, reason = "the trainer's tests need more of it")]
#[path = "../hub_server/mod.rs"]
mod hub_server;
mod parity;
mod real;
mod support;
mod tower;
