//! Settings of the process, for a program's `main`.

/// What [`tune_process`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessTuning {
    /// The allocator keeps freed memory for the allocations to come.
    pub keeps_freed_memory: bool,
    /// Candle's own thread pool stays empty.
    pub rests_candle_pool: bool,
    /// Threads are held to the CPUs that Slurm gave.
    pub heeds_slurm: bool,
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
/// * *Threads are held to the CPUs that Slurm gave*, where `SLURM_CPUS_PER_TASK` says fewer than the system shows and
///   `RAYON_NUM_THREADS` is not set: many clusters do not bind a task to its CPUs.
///
/// ```
/// let tuned = balgrad_nn::tune_process();
/// if !tuned.keeps_freed_memory {
///     eprintln!("freed memory goes back to the system: training may be slower");
/// }
/// ```
pub fn tune_process() -> ProcessTuning {
    ProcessTuning {
        keeps_freed_memory: keep_freed_memory(),
        heeds_slurm: heed_slurm(),
        rests_candle_pool: rest_candle_pool(),
    }
}

/// The cores that this process may use: those that the system shows, or fewer where `SLURM_CPUS_PER_TASK` says so.
pub fn cores() -> usize {
    let shown = std::thread::available_parallelism().map_or(1, usize::from);
    granted(shown, std::env::var("SLURM_CPUS_PER_TASK").ok().as_deref())
}

fn granted(shown: usize, slurm: Option<&str>) -> usize {
    let given = slurm.and_then(|text| text.trim().parse().ok()).filter(|given| *given > 0);
    given.map_or(shown, |given: usize| given.min(shown))
}

/// Sets a variable that other libraries read, where it is not set and no other thread can be reading the environment.
#[cfg(target_os = "linux")]
fn set_variable(name: &str, value: &str) -> bool {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if !alone || std::env::var_os(name).is_some() {
        return false;
    }
    // SAFETY: this is the process's only thread, so that no other can read the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
    true
}

fn heed_slurm() -> bool {
    #[cfg(target_os = "linux")]
    {
        let shown = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores();
        cores < shown && set_variable("RAYON_NUM_THREADS", &cores.to_string())
    }
    #[cfg(not(target_os = "linux"))]
    false
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
        // A pool of one is the caller's own thread.
        let few = std::thread::available_parallelism().is_ok_and(|cores| cores.get() <= FEW);
        let rests = few && set_variable("CANDLE_NUM_THREADS", "1");
        if rests {
            candle_core::utils::barrier_pool();
        }
        rests
    }
    #[cfg(not(target_os = "linux"))]
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn slurm_can_give_fewer_cores_than_there_are_and_never_more() {
        let cases = [(None, 8), (Some("2"), 2), (Some(" 4\n"), 4), (Some("64"), 8), (Some("0"), 8), (Some("x"), 8)];
        for (slurm, cores) in cases {
            assert_eq!(super::granted(8, slurm), cores, "{slurm:?}");
        }
    }
}
