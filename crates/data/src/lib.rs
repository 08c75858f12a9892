#![doc = include_str!("../README.md")]

pub mod atomic;
pub mod caught;
mod columns;
mod dataset;
mod error;
mod impairment;
mod layouts;
mod loader;
pub mod modalities;
mod modality;
mod open;
mod seed;
mod source;
mod written;

pub use columns::Columns;
pub use dataset::{Dataset, Problem, Sample, Split};
pub use error::DataError;
pub use impairment::{Impairment, ImpairmentKind};
pub use layouts::{LAYOUTS, Layout, Unlabelled, UnlabelledSamples, unlabelled, unlabelled_record};
pub use loader::{Ahead, LoadError, load};
pub use modalities::image::{Filter, Framing};
pub use modality::{MODALITIES, Modality, Target, Task};
pub use open::{OnBadSample, OnMissingFile, ReadOptions, open};
pub use seed::stable_hash;
pub use source::{Pack, Source, open_regular, read_regular};
pub use written::write_manifest;
