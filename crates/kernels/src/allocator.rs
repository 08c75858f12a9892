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
