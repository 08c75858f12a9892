//! Tests of the crate as others use it.
#![allow(clippy::unwrap_used)]

mod aggregators;
mod balancing;
mod degenerate;
mod docs;
mod evidence;
mod laws;
mod likelihoods;
mod modalities;
mod numeric;
mod oracle;
mod plain;
mod ranks;
mod stages;
mod taps;
