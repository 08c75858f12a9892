//! Settings of the process, for a program's `main`.

/// Tells the C library's allocator to keep the memory that is freed, for the allocations to come. Call it first thing in `main`.
///
/// Training allocates and frees tensors of the same sizes in every step. By default glibc hands large ones back to the
/// kernel, which zeroes their pages anew on the next touch: a cost of the order of the computation itself. Afterwards the
/// process holds on to the most memory it has needed. Nothing happens with another C library; returns whether it did.
pub fn keep_freed_memory() -> bool {
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
        // Never trim; take nothing by mmap, which would be given back; one arena, as the others are bounded and give back.
        let settings = [(M_TRIM_THRESHOLD, -1), (M_MMAP_MAX, 0), (M_ARENA_MAX, 1)];
        settings.into_iter().all(|(parameter, value)| mallopt(parameter, value) == 1)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// Threads up to which candle's own pool costs more than it gives; measured on two.
#[cfg(target_os = "linux")]
const FEW: usize = 4;

/// Keeps candle's own thread pool empty where there are few cores. Call it first thing in `main`, before there are threads.
///
/// The pool serves candle's elementwise operations, and its threads spin between them: on two cores one of them takes the core
/// that a matrix product on rayon's pool waits for, and a training step takes up to 1.4 times as long. Does nothing on more
/// than four cores, where `CANDLE_NUM_THREADS` is set, or where the process has threads already; returns whether it did.
pub fn rest_candle_pool() -> bool {
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
