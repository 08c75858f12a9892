use candle_core::{Device, Result};
use rayon::prelude::*;

/// Whether computations on this device share rayon's pool, and there is someone to share with.
fn shared(device: &Device) -> bool {
    device.is_cpu() && rayon::current_num_threads() > 1
}

/// `f` of each item, in order. On the CPU the items share the threads, each of which does more between two meetings than
/// inside one operation; elsewhere they take turns, as the device has threads of its own.
///
/// # Errors
/// The first of `f`.
pub fn map_on<T: Sync, R: Send>(
    device: &Device,
    items: &[T],
    f: impl Fn(&T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    if shared(device) { items.par_iter().with_max_len(1).map(f).collect() } else { items.iter().map(f).collect() }
}

/// Runs `f` on one of the pool's threads, where it is on the CPU: from outside, each parallel operation enters and leaves the
/// pool anew. For whole training steps.
///
/// ```
/// # use candle_core::Device;
/// let norm = balgrad_kernels::run_on(&Device::Cpu, || 3.0f64.hypot(4.0));
/// assert_eq!(norm, 5.0);
/// ```
pub fn run_on<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    if shared(device) { rayon::scope(|_| f()) } else { f() }
}
