//! Tests of the crate as others use it.
#![allow(clippy::unwrap_used)]

mod dirt;
mod framing;
mod layouts;
mod tables;
mod written;
