//! Gram, blend and AdamW on CUDA: tensors go into one table of pointers, and each kernel is launched once for a dtype.

#[cfg(feature = "cuda")]
mod adamw;
#[cfg(feature = "cuda")]
mod device;
mod table;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use adamw::{Step, adamw};
#[cfg(feature = "cuda")]
pub(crate) use device::{blend, gram};
