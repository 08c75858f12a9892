#![doc = include_str!("../README.md")]
#![allow(unsafe_code)] // The one crate where it is allowed; every block says why it is sound.

mod blend;
mod cpu;
#[cfg(any(feature = "cuda", all(test, target_os = "linux")))]
mod cuda;
#[cfg(all(test, target_os = "linux"))]
mod emulated;
mod gram;
mod mapped;
#[cfg(any(feature = "metal", all(test, target_os = "linux")))]
mod metal;
mod noise;
pub mod ops;
pub mod optimizer;
pub mod oracle;
mod process;
mod rows;
mod threads;

pub use blend::blend;
pub use gram::gram;
pub use mapped::MappedFile;
pub use noise::add_noise;
pub use ops::{
    Window, add_relu, attention, conv2d, depthwise_conv2d, embedding, factored_gram, gelu, layer_norm, linear,
    linear_gradients, log_softmax, max_pool2d, residual_linear, softmax,
};
pub use optimizer::{Gradients, Optimizer, OptimizerKind, Parameter};
pub use process::{keep_freed_memory, rest_candle_pool};
pub use rows::Row;
pub use threads::{map_on, run_on};
