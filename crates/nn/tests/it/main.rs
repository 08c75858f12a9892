//! The crate's integration tests, as one binary.
#![allow(clippy::unwrap_used)]

mod convolutions;
mod ops;
mod optimizer;
mod process;
mod support;
