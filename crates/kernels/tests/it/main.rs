//! The crate's integration tests, as one binary.
#![allow(clippy::unwrap_used)]

mod laws;
