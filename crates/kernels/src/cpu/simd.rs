//! One loop, compiled for several instruction sets, chosen at run time.
//!
//! A [`Kernel`] is generic over a [`Simd`]; [`dispatch`] inlines it into a function that has AVX-512 or AVX2 switched on. Most
//! kernels are plain loops that LLVM vectorises there; the one that keeps a dozen accumulators in registers says so, with [`Simd::Lanes`].
//! No `target-cpu`: one binary runs everywhere.

/// Lanes of a vector of f64, on every machine, as the order of a sum depends on it: element `e` goes to lane `e % LANES`.
pub const LANES: usize = 16;

/// A loop worth vectorising.
pub trait Kernel {
    type Output;

    /// The loop. Implementations are `#[inline(always)]`, which is what carries the instruction set into them.
    fn run<S: Simd>(self) -> Self::Output;
}

/// An instruction set. Its methods are called nowhere but inside [`Kernel::run`], where its features are switched on.
pub trait Simd {
    /// A fused multiply-add is one instruction here (otherwise it is a slow library call).
    const FMA: bool;

    /// Sixteen f64.
    type Lanes: Copy;

    fn zero() -> Self::Lanes;
    fn load_f32(values: &[f32; LANES]) -> Self::Lanes;
    fn load_f64(values: &[f64; LANES]) -> Self::Lanes;
    fn store(lanes: Self::Lanes) -> [f64; LANES];

    /// `a · b + c`, fused or not: for products that f64 holds exactly the bits are the same.
    fn multiply_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    /// `a · b + c` with the product rounded first.
    fn multiply_then_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    /// Copies whole lines past the caches, which need not read first what will be overwritten. Call [`drain`](Self::drain) before
    /// another thread may look.
    ///
    /// # Safety
    /// `to` must be on a multiple of [`LINE`] bytes, and `lines` of that size free to be written there.
    unsafe fn stream<const N: usize>(lines: &[Line; N], to: *mut Line);

    /// Waits for what was streamed.
    fn drain();
}

/// Bytes that a processor moves to and from memory at a time.
pub const LINE: usize = 64;

/// That many bytes, some floats.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [std::mem::MaybeUninit<u8>; LINE]);

/// Runs a kernel with the widest instruction set of this machine.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: each feature that it enables was found on this machine just above.
            return unsafe { x86::avx512(kernel) };
        }
        if x86::has_avx2() {
            // SAFETY: each feature that it enables was found on this machine just above.
            return unsafe { x86::avx2(kernel) };
        }
    }
    kernel.run::<Portable>()
}

/// What every processor of the target has.
pub struct Portable;

impl Simd for Portable {
    const FMA: bool = cfg!(target_arch = "aarch64");
    type Lanes = [f64; LANES];

    #[inline(always)]
    fn zero() -> Self::Lanes {
        [0.0; LANES]
    }

    #[inline(always)]
    fn load_f32(values: &[f32; LANES]) -> Self::Lanes {
        values.map(f64::from)
    }

    #[inline(always)]
    fn load_f64(values: &[f64; LANES]) -> Self::Lanes {
        *values
    }

    #[inline(always)]
    fn store(lanes: Self::Lanes) -> [f64; LANES] {
        lanes
    }

    #[inline(always)]
    fn multiply_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        if Self::FMA { std::array::from_fn(|l| a[l].mul_add(b[l], c[l])) } else { Self::multiply_then_add(a, b, c) }
    }

    #[inline(always)]
    fn multiply_then_add(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|l| a[l] * b[l] + c[l])
    }

    #[inline(always)]
    unsafe fn stream<const N: usize>(lines: &[Line; N], to: *mut Line) {
        // SAFETY: the caller's condition.
        unsafe { std::ptr::copy_nonoverlapping(lines.as_ptr(), to, N) }
    }

    #[inline(always)]
    fn drain() {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, LANES, LINE, Line, Simd};
    use std::arch::x86_64::*;

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && has_avx2()
    }

    pub(super) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx512>()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Avx2>()
    }

    /// The methods of an instruction set whose vectors hold `$width` f64. Each is called from inside `run` alone, which is inlined
    /// where the set's features were found; the arrays hold [`LANES`] values, which is what the loads and stores touch.
    macro_rules! instruction_set {
        ($Set:ident, $Vector:ty, $width:literal, $zero:ident, $convert:ident, $load_f32:ident, $load:ident, $store:ident, $fma:ident, $mul:ident, $add:ident, $stream:ident) => {
            struct $Set;

            impl Simd for $Set {
                const FMA: bool = true;
                type Lanes = [$Vector; LANES / $width];

                #[inline(always)]
                fn zero() -> Self::Lanes {
                    // SAFETY: the feature is there, see the macro.
                    [unsafe { $zero() }; LANES / $width]
                }

                #[inline(always)]
                fn load_f32(values: &[f32; LANES]) -> Self::Lanes {
                    let mut lanes = Self::zero();
                    for v in 0..LANES / $width {
                        // SAFETY: feature and bounds, see the macro.
                        lanes[v] = unsafe { $convert($load_f32(values.as_ptr().add(v * $width))) };
                    }
                    lanes
                }

                #[inline(always)]
                fn load_f64(values: &[f64; LANES]) -> Self::Lanes {
                    let mut lanes = Self::zero();
                    for v in 0..LANES / $width {
                        // SAFETY: feature and bounds, see the macro.
                        lanes[v] = unsafe { $load(values.as_ptr().add(v * $width)) };
                    }
                    lanes
                }

                #[inline(always)]
                fn store(lanes: Self::Lanes) -> [f64; LANES] {
                    let mut values = [0.0; LANES];
                    for v in 0..LANES / $width {
                        // SAFETY: feature and bounds, see the macro.
                        unsafe { $store(values.as_mut_ptr().add(v * $width), lanes[v]) };
                    }
                    values
                }

                #[inline(always)]
                fn multiply_add(a: Self::Lanes, b: Self::Lanes, mut c: Self::Lanes) -> Self::Lanes {
                    for v in 0..LANES / $width {
                        // SAFETY: the feature is there, see the macro.
                        c[v] = unsafe { $fma(a[v], b[v], c[v]) };
                    }
                    c
                }

                #[inline(always)]
                fn multiply_then_add(a: Self::Lanes, b: Self::Lanes, mut c: Self::Lanes) -> Self::Lanes {
                    for v in 0..LANES / $width {
                        // SAFETY: the feature is there, see the macro.
                        c[v] = unsafe { $add($mul(a[v], b[v]), c[v]) };
                    }
                    c
                }

                #[inline(always)]
                unsafe fn stream<const N: usize>(lines: &[Line; N], to: *mut Line) {
                    const STEP: usize = size_of::<$Vector>();
                    for v in 0..N * LINE / STEP {
                        // SAFETY: the feature is there, see the macro; both sides are aligned to a line and N lines long.
                        unsafe {
                            let vector = lines.as_ptr().cast::<$Vector>().add(v).read();
                            $stream(to.cast::<f64>().add(v * STEP / 8), vector);
                        }
                    }
                }

                #[inline(always)]
                fn drain() {
                    // SAFETY: part of SSE, which every x86-64 has.
                    unsafe { _mm_sfence() };
                }
            }
        };
    }

    instruction_set!(
        Avx512,
        __m512d,
        8,
        _mm512_setzero_pd,
        _mm512_cvtps_pd,
        _mm256_loadu_ps,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_mul_pd,
        _mm512_add_pd,
        _mm512_stream_pd
    );
    instruction_set!(
        Avx2,
        __m256d,
        4,
        _mm256_setzero_pd,
        _mm256_cvtps_pd,
        _mm_loadu_ps,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_mul_pd,
        _mm256_add_pd,
        _mm256_stream_pd
    );
}
