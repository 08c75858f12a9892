#![doc = include_str!("../README.md")]
#![allow(unsafe_code)] // As in balgrad-kernels, and nowhere else; every block says why it is sound.

#[cfg(any(feature = "cuda", all(test, target_os = "linux")))]
mod cuda;
#[cfg(all(test, target_os = "linux"))]
#[path = "../../kernels/src/emulated/mod.rs"]
mod emulated;
mod error;
mod layers;
mod mapped;
pub mod ops;
mod optimizer;
mod parameters;
mod process;
mod schedule;

use balgrad_kernels::cpu;

pub use error::{Error, Result};
pub use layers::{Embedding, LayerNorm, Linear};
pub use mapped::MappedFile;
pub use ops::{
    Window, add_relu, attention, conv2d, depthwise_conv2d, embedding, gelu, layer_norm, linear, log_softmax,
    max_pool2d, residual_linear, softmax,
};
pub use optimizer::{
    AdamW, OPTIMIZERS, Optimizer, OptimizerEntry, OptimizerSetting, Parameter, Sgd, clip_grad_norm, optimizer,
};
pub use parameters::{Init, InitialValues, Parameters};
pub use process::{ProcessTuning, cores, tune_process};
pub use schedule::{Decay, Schedule};
