//! One plain loop, compiled for several instruction sets, chosen at run time.
//!
//! A [`Kernel`] is written as ordinary Rust over fixed-size arrays; [`dispatch`] inlines it into a function that has
//! AVX-512 or AVX2 switched on, where LLVM turns the arrays into registers. No intrinsics, no `target-cpu`.

/// A loop worth vectorising.
pub(crate) trait Kernel {
    type Output;

    /// The loop. `FMA`: a fused multiply-add is one instruction here (otherwise it is a slow library call).
    /// Implementations are `#[inline(always)]`, which is what carries the instruction set into them.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a kernel with the widest instruction set of this machine.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("fma")
        {
            // SAFETY: each feature that `avx512` enables was found on this machine just above.
            return unsafe { avx512(kernel) };
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: each feature that `avx2` enables was found on this machine just above.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}
