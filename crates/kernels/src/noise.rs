//! Normal noise on gradients, from a generator that counts: number `i` of a stream depends on the key and on `i` alone, so
//! that any thread can draw any part of it, as many at a time as a vector holds.

use crate::cpu::element::Element;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, parallel};
use candle_core::{DType, Device, Result, Tensor, bail};
use std::mem::MaybeUninit;

const CHUNK: usize = 16384;
/// Counters of a piece; each gives four numbers, which stand this far apart.
const WIDE: usize = 64;

/// `x` plus normal noise whose standard deviation is `factor` times the sample standard deviation of `like`'s elements.
///
/// The numbers are those of Philox4x32-10 (Salmon et al. 2011) under the key `seed` and counters that end in `stream`, made
/// normal by Box and Muller's transform in f32: the same bits under any number of threads, and on every device, since they
/// are drawn on the CPU. The result has `x`'s shape, dtype and device.
///
/// # Errors
/// When the two differ in shape, or `x` is not a float tensor.
pub fn add_noise(x: &Tensor, like: &Tensor, factor: f64, seed: u64, stream: [u32; 3]) -> Result<Tensor> {
    if x.shape() != like.shape() {
        bail!("add_noise: expected two tensors of one shape, found {:?} and {:?}", x.dims(), like.dims());
    }
    let on_cpu = |t: &Tensor| t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
    let (wide, like) = (on_cpu(x)?, on_cpu(like)?);
    let noisy = {
        let ((xs, xl), (likes, likel)) = (wide.storage_and_layout(), like.storage_and_layout());
        let (xs, likes) = (floats::<f32>(&xs, xl)?, floats::<f32>(&likes, likel)?);
        let threads = parallel::worth(16 * size_of_val(xs));
        let scale = (factor * deviation(likes, threads)) as f32;
        // SAFETY: `Noisy` writes each element of `out`.
        unsafe {
            parallel::build(xs.len(), CHUNK, threads, |start, out| {
                dispatch(Noisy { x: &xs[start..start + out.len()], scale, seed, stream, start, out });
            })
        }
    };
    Tensor::from_vec(noisy, x.shape(), &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())
}

/// The sample standard deviation; 0 for fewer than two elements.
fn deviation(x: &[f32], threads: bool) -> f64 {
    let chunks = parallel::map(x.len().div_ceil(CHUNK), threads, |c| {
        dispatch(Sums(&x[c * CHUNK..x.len().min((c + 1) * CHUNK)]))
    });
    let [sum, squares] = chunks.into_iter().fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
    let n = x.len() as f64;
    // In f64 the difference of f32 squares loses nothing that matters, and rounding must not make it negative.
    ((squares - sum * sum / n.max(1.0)).max(0.0) / (n - 1.0).max(1.0)).sqrt()
}

/// `[Σ x, Σ x²]`.
struct Sums<'a>(&'a [f32]);

impl Kernel for Sums<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<S: Simd>(self) -> [f64; 2] {
        let (full, rest) = self.0.as_chunks::<16>();
        let mut sums = [[0.0; 16]; 2];
        let mut add = |lane: usize, x: f32| {
            sums[0][lane] += x.widen();
            sums[1][lane] += x.widen() * x.widen();
        };
        for piece in full {
            (0..16).for_each(|l| add(l, piece[l]));
        }
        rest.iter().enumerate().for_each(|(l, &x)| add(l, x));
        sums.map(|lanes| lanes.iter().sum())
    }
}

struct Noisy<'a> {
    x: &'a [f32],
    scale: f32,
    seed: u64,
    stream: [u32; 3],
    /// Of the first element, in the stream.
    start: usize,
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Noisy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let [b, c, d] = self.stream;
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let mut noise = [[0.0; WIDE]; 4];
        let pieces = self.x.chunks(4 * WIDE).zip(self.out.chunks_mut(4 * WIDE));
        for (n, (x, out)) in pieces.enumerate() {
            let first = (self.start / 4 + n * WIDE) as u32;
            let [n0, n1, n2, n3] = &mut noise;
            // A plain loop over scalars is what the compiler makes vectors of.
            for l in 0..WIDE {
                let words = philox([first.wrapping_add(l as u32), b, c, d], key);
                (n0[l], n1[l]) = normal(words[0], words[1]);
                (n2[l], n3[l]) = normal(words[2], words[3]);
            }
            for ((out, &x), noise) in out.iter_mut().zip(x).zip(noise.as_flattened()) {
                out.write(x + self.scale * noise);
            }
        }
    }
}

/// Ten rounds of Philox.
#[inline(always)]
fn philox(mut x: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (p, q) = (u64::from(x[0]) * 0xd251_1f53, u64::from(x[2]) * 0xcd9e_8d57);
        x = [(q >> 32) as u32 ^ x[1] ^ key[0], q as u32, (p >> 32) as u32 ^ x[3] ^ key[1], p as u32];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    x
}

/// Box and Muller's transform: a radius from one word, an angle from the other.
#[inline(always)]
fn normal(radius: u32, angle: u32) -> (f32, f32) {
    let radius = (-2.0 * ln((radius as f32 + 1.0) * 2f32.powi(-32))).sqrt();
    // The angle is a quarter's, from the upper bits, turned by as many quarters as the lowest two say.
    let part = ((angle >> 8) as i32 as f32 * 2f32.powi(-24) - 0.5) * std::f32::consts::FRAC_PI_2;
    let square = part * part;
    let cos = 1.0 + square * (-0.5 + square * (1.0 / 24.0 + square * (-1.0 / 720.0 + square / 40320.0)));
    let sin = 1.0 + square * (-1.0 / 6.0 + square * (1.0 / 120.0 + square * (-1.0 / 5040.0 + square / 362_880.0)));
    let sin = part * sin;
    let (x, y) = if angle & 1 == 0 { (cos, sin) } else { (sin, cos) };
    // 1 and 2 turn the first to its negative, 2 and 3 the second.
    let sign = |on: u32| f32::from_bits(1f32.to_bits() | on << 31);
    (radius * x * sign((angle ^ angle >> 1) & 1), radius * y * sign(angle >> 1 & 1))
}

/// ln x for a normal x > 0: `x = 2^e m` with `m` about 1, and `ln m = 2 artanh((m − 1) / (m + 1))`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const ROOT_HALF: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let e = (bits - ROOT_HALF) >> 23;
    let m = f32::from_bits((bits - (e << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 2.0 + z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0))));
    e as f32 * std::f32::consts::LN_2 + s * series
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::cpu::erf::erfc_f64;

    /// The vectors that Random123 publishes for Philox4x32-10.
    #[test]
    fn words_are_the_published_ones() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn logarithm_is_exact_to_rounding() {
        for i in 0..32 {
            for m in [1.0f32, 1.1, 1.414, 1.415, 1.7, 1.999_999_9] {
                let x = m * 2f32.powi(-i);
                let exact = f64::from(x).ln();
                assert!((f64::from(ln(x)) - exact).abs() <= 2.5e-7 * exact.abs(), "ln {x}: {}, exactly {exact}", ln(x));
            }
        }
    }

    fn drawn(len: usize, stream: [u32; 3]) -> Vec<f32> {
        let like: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { 3.0 } else { -1.0 }).collect();
        let like = Tensor::from_vec(like, len, &Device::Cpu).unwrap();
        add_noise(&like.zeros_like().unwrap(), &like, 0.5, 7, stream).unwrap().to_vec1().unwrap()
    }

    /// Kolmogorov and Smirnov's distance, and the correlation of what one pair of words gives.
    #[test]
    fn numbers_are_normal_and_independent() {
        let len = 200_000;
        let noise = drawn(len, [1, 2, 3]);
        let mut sorted: Vec<f64> = noise.iter().map(|&x| f64::from(x)).collect();
        sorted.sort_by(f64::total_cmp);
        let distance = sorted.iter().enumerate().map(|(i, x)| {
            let cdf = 0.5 * erfc_f64(-x / std::f64::consts::SQRT_2);
            (cdf - i as f64 / len as f64).abs().max((cdf - (i + 1) as f64 / len as f64).abs())
        });
        // Exceeded by one honest sample in ten thousand.
        assert!(distance.fold(0.0, f64::max) < 2.23 / (len as f64).sqrt());
        for lag in [1, 4, 64, 128, 256] {
            let products: f64 = noise.iter().zip(&noise[lag..]).map(|(a, b)| f64::from(a * b)).sum();
            assert!((products / len as f64).abs() < 4.5 / (len as f64).sqrt(), "lag {lag}");
        }
    }

    #[test]
    fn a_number_depends_on_its_place_alone() {
        let noise = drawn(50_000, [1, 2, 3]);
        // But for the size of the sample whose deviation it has.
        let shorter = drawn(40_000, [1, 2, 3]);
        assert!(noise.iter().zip(&shorter).all(|(a, b)| (a - b).abs() <= 1e-4), "on the length");
        let under = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| drawn(50_000, [1, 2, 3]))
        };
        assert!(under(1) == noise && under(3) == noise, "on the threads");
        for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0]] {
            assert!(noise != drawn(50_000, other), "not on the stream");
        }
    }
}
