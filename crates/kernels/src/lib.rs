#![doc = include_str!("../README.md")]
#![allow(unsafe_code)] // As in balgrad-nn, and nowhere else; every block says why it is sound.

mod blend;
#[doc(hidden)]
pub mod cpu;
#[doc(hidden)]
pub mod cuda;
#[cfg(all(test, target_os = "linux"))]
mod emulated;
mod factored;
mod gram;
#[cfg(any(feature = "metal", all(test, target_os = "linux")))]
mod metal;
mod noise;
pub mod oracle;
mod rows;
mod threads;

pub use blend::blend;
pub use factored::{factored_gram, linear_gradients};
pub use gram::gram;
pub use noise::add_noise;
pub use rows::Row;
pub use threads::{map_on, run_on};
