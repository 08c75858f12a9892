#![doc = include_str!("../README.md")]

pub mod atomic;
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

pub use dataset::{Dataset, Problem, Sample, Split};
pub use error::DataError;
pub use impairment::{Impairment, ImpairmentKind};
pub use layouts::{LAYOUTS, Layout};
pub use loader::{Ahead, LoadError, load};
pub use modalities::image::{Filter, Framing};
pub use modality::{MODALITIES, Modality, Target, Task};
pub use open::{OnBadSample, ReadOptions, open};
pub use seed::stable_hash;
pub use source::Source;
