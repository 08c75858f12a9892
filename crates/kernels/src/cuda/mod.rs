//! Gram and blend on CUDA: tensors go into one table of pointers, and each kernel is launched once for a dtype.
//!
//! Hidden from the documentation: what is public here is for `balgrad-nn` alone, and changes without notice.

#[cfg(feature = "cuda")]
pub mod device;
pub mod table;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use device::{blend, gram};
