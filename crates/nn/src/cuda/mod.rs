//! AdamW on CUDA: all parameters of a dtype in one launch.

#[cfg(feature = "cuda")]
mod adamw;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use adamw::{Step, adamw};
