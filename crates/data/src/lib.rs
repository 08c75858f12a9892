#![doc = include_str!("../README.md")]

mod dataset;
mod decode;
mod error;
mod framing;
mod impairment;
mod layouts;
mod loader;
mod open;
mod seed;

pub use dataset::{Dataset, ImageSource, Modality, Problem, Sample, Split, Task};
pub use decode::{decode, decode_bytes, decode_for, resize};
pub use error::DataError;
pub use framing::{Filter, Framing};
pub use impairment::{Condition, ImageNoise, Impairment, TextNoise};
pub use layouts::{LAYOUTS, Layout};
pub use loader::{Ahead, LoadError, load};
pub use open::{OnBadSample, ReadOptions, open};
pub use seed::stable_hash;
