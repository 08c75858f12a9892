//! Gram and blend on Metal.

#[cfg(feature = "metal")]
mod device;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(feature = "metal")]
pub(crate) use device::{blend, gram};
