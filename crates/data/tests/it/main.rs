//! Tests of the crate as others use it.
#![allow(clippy::unwrap_used)]

mod bounds;
mod dirt;
mod framing;
mod layouts;
mod parquet;
mod tables;
mod written;
