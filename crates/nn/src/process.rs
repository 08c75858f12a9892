//! Settings of the process, for a program's `main`.

/// What [`tune_process`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessTuning {
    /// The allocator keeps freed memory for the allocations to come.
    pub keeps_freed_memory: bool,
    /// Candle's own thread pool stays empty.
    pub rests_candle_pool: bool,
}

/// Sets the process up for training on the CPU. Call it first thing in `main`, before there are other threads; returns what it did.
///
/// On two cores under glibc a plain candle training loop ran 2.4 times as fast with it, and a balanced one 3.1 times.
///
/// * *The allocator keeps freed memory.* Training allocates and frees tensors of the same sizes in every step. By default glibc
///   hands large ones back to the kernel, which zeroes their pages anew on the next touch: a cost of the order of the computation
///   itself. Afterwards the process holds on to the most memory that it has needed. Nothing happens with another C library.
/// * *Candle's own thread pool stays empty, where there are at most four cores.* The pool serves candle's elementwise operations,
///   and its threads spin between them: on two cores one of them takes the core that a matrix product on rayon's pool waits
///   for. Nothing happens on more cores, on other systems than Linux, where `CANDLE_NUM_THREADS` is set, or where the process
///   has other threads already.
///
/// ```
/// let tuned = balgrad_nn::tune_process();
/// if !tuned.keeps_freed_memory {
///     eprintln!("freed memory goes back to the system: training may be slower");
/// }
/// ```
pub fn tune_process() -> ProcessTuning {
    ProcessTuning { keeps_freed_memory: keep_freed_memory(), rests_candle_pool: rest_candle_pool() }
}

/// Never trims the heap, and takes nothing by `mmap`, which would be given back.
fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        // From <malloc.h>, where they are part of the stable interface.
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_MAX: c_int = -4;
        const M_ARENA_MAX: c_int = -8;
        unsafe extern "C" {
            safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // One arena, as the others are bounded and give back.
        let settings = [(M_TRIM_THRESHOLD, -1), (M_MMAP_MAX, 0), (M_ARENA_MAX, 1)];
        settings.into_iter().all(|(parameter, value)| mallopt(parameter, value) == 1)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// Cores up to which candle's own pool costs more than it gives; measured on two.
#[cfg(target_os = "linux")]
const FEW: usize = 4;

/// Makes candle start its pool with one thread, the caller's own.
fn rest_candle_pool() -> bool {
    #[cfg(target_os = "linux")]
    {
        const THREADS: &str = "CANDLE_NUM_THREADS";
        let few = std::thread::available_parallelism().is_ok_and(|cores| cores.get() <= FEW);
        let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
        if !few || !alone || std::env::var_os(THREADS).is_some() {
            return false;
        }
        // SAFETY: this is the process's only thread, so that no other can read the environment meanwhile.
        unsafe { std::env::set_var(THREADS, "1") };
        candle_core::utils::barrier_pool();
        true
    }
    #[cfg(not(target_os = "linux"))]
    false
}
