//! f32 and f64 arithmetic for the training ops: branch-free, so that loops over it vectorise.

use crate::cpu::element::Float;
use crate::cpu::simd::Simd;
use std::array::from_fn;

/// Partial sums of a row: element `e` goes to lane `e % LANES`, on every machine.
const LANES: usize = 16;

/// The two dtypes that the fused training ops compute in.
pub(super) trait Real: Float {
    /// e^self, within two units in the last place; 0 for −∞, NaN for NaN.
    fn exp<S: Simd>(self) -> Self;

    /// ln(self).
    fn ln(self) -> Self;

    /// 1 / √self.
    fn rsqrt(self) -> Self;

    /// Whether self is a NaN.
    fn not_a_number(self) -> bool;

    /// self · b + c.
    fn multiply_add<S: Simd>(self, b: Self, c: Self) -> Self;

    /// The normal distribution function and density at self: (Φ, φ).
    fn gaussian<S: Simd>(self) -> (Self, Self);
}

/// Φ and φ at `x` from `φ = e^(−x²/2) / √2π` and `Φ(−z) = e^(−z²/2) · p(s) / (z + c)` with `s = (z − c) / (z + c)`, `z = |x|`;
/// `p` interpolates `erfcx(z/√2) (z + c) / 2` at the Chebyshev nodes of `s` in [−1, 1]. Its relative error is that of the type,
/// in the tail too, where `1 + erf` would cancel.
macro_rules! gaussian {
    ($T:ty, $c:literal, $p:expr) => {
        #[inline(always)]
        fn gaussian<S: Simd>(self) -> (Self, Self) {
            const P: &[$T] = &$p;
            let z = self.abs();
            let bell = Real::exp::<S>(-0.5 * self * self);
            let inverse = 1.0 / (z + $c);
            // At infinity 1 - 2c · 0 is 1, where (z - c) · 0 would be NaN.
            let s = 1.0 - 2.0 * $c * inverse;
            let mut p = P[P.len() - 1];
            for &coefficient in P[..P.len() - 1].iter().rev() {
                p = p.multiply_add::<S>(s, coefficient);
            }
            let tail = bell * p * inverse;
            // `self <= 0` is false for NaN, which `tail` carries.
            (if self <= 0.0 { tail } else { 1.0 - tail }, bell * (0.398_942_280_401_432_7_f64 as $T))
        }
    };
}

impl Real for f32 {
    /// `2^n · e^r` with `|r| ≤ ln 2 / 2`; the exponent is set in two factors, so that subnormal results come out right.
    #[inline(always)]
    fn exp<S: Simd>(self) -> Self {
        /// Adding 1.5 · 2²³ rounds to an integer, which then sits in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -104.0 { -104.0 } else { x };
        let shifted = x.multiply_add::<S>(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        // ln 2 in two parts, the first with trailing zeros: n · 355/512 is exact.
        let r = n.multiply_add::<S>(-0.693_359_4, x);
        let r = n.multiply_add::<S>(2.121_944_4e-4, r);
        let mut p = 1.392_619_9e-3f32;
        for c in [8.363_191e-3, 4.166_655_6e-2, 0.166_665_77, 0.5, 1.0, 1.0] {
            p = p.multiply_add::<S>(r, c);
        }
        let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let half = n >> 1;
        let power = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
        p * power(half) * power(n.wrapping_sub(half))
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn rsqrt(self) -> Self {
        1.0 / self.sqrt()
    }

    #[inline(always)]
    fn not_a_number(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(self, b: Self, c: Self) -> Self {
        if S::FMA { self.mul_add(b, c) } else { self * b + c }
    }

    gaussian!(
        f32,
        3.5,
        [
            0.744_416_1,
            -0.565_561_9,
            0.315_425_07,
            -0.116_049_05,
            0.017_406_06,
            0.006_465_234,
            -0.003_178_986,
            -0.000_417_768_6,
            0.000_452_693_9,
            3.463_52e-5,
            -4.976_689e-5,
        ]
    );
}

impl Real for f64 {
    #[inline(always)]
    fn exp<S: Simd>(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn rsqrt(self) -> Self {
        1.0 / self.sqrt()
    }

    #[inline(always)]
    fn not_a_number(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(self, b: Self, c: Self) -> Self {
        if S::FMA { self.mul_add(b, c) } else { self * b + c }
    }

    gaussian!(
        f64,
        4.0,
        [
            0.755_285_130_415_751_5,
            -0.607_896_641_971_893_1,
            0.387_137_400_742_216_5,
            -0.186_521_857_959_567_2,
            0.060_396_574_890_762_4,
            -0.007_540_188_969_137_313,
            -0.003_479_692_362_890_356,
            0.001_630_818_487_882_364_4,
            0.000_133_344_258_903_728_4,
            -0.000_231_095_150_787_687_43,
            -1.907_907_488_393_677e-6,
            3.514_564_458_482_386e-5,
            7.152_737_509_308_873e-7,
            -5.922_979_827_674_772e-6,
            -6.262_068_766_959_729e-7,
            1.027_094_880_711_450_3e-6,
            2.662_327_898_883_745e-7,
            -1.623_191_768_047_495_3e-7,
            -7.989_850_752_563_824e-8,
            1.960_833_914_094_61e-8,
            1.653_604_477_551_382e-8,
            -1.284_581_886_993_853_8e-9,
            -1.773_740_504_396_405_4e-9,
        ]
    );
}

/// Σ f(x) over a row, in lanes.
#[inline(always)]
pub(super) fn sum<T: Real>(row: &[T], f: impl Fn(T) -> T) -> T {
    fold(row, T::zero(), |acc, x| acc + f(x), |a, b| a + b)
}

/// Σ f(a, b) over two rows, in lanes.
#[inline(always)]
pub(super) fn sum2<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    let (a_full, a_rest) = a.as_chunks::<LANES>();
    let (b_full, b_rest) = b.as_chunks::<LANES>();
    let mut acc = [T::zero(); LANES];
    for (a, b) in a_full.iter().zip(b_full) {
        for l in 0..LANES {
            acc[l] += f(a[l], b[l]);
        }
    }
    for (l, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        acc[l] += f(a, b);
    }
    tree(acc, |a, b| a + b)
}

/// The largest element of a row; −∞ for an empty one, NaNs passed over.
#[inline(always)]
pub(super) fn max<T: Real>(row: &[T]) -> T {
    let larger = |a, b| if b > a { b } else { a };
    fold(row, T::narrow(f64::NEG_INFINITY), larger, larger)
}

#[inline(always)]
fn fold<T: Real>(row: &[T], start: T, step: impl Fn(T, T) -> T, join: impl Fn(T, T) -> T) -> T {
    let (full, rest) = row.as_chunks::<LANES>();
    let mut acc = [start; LANES];
    for x in full {
        for l in 0..LANES {
            acc[l] = step(acc[l], x[l]);
        }
    }
    for (l, &x) in rest.iter().enumerate() {
        acc[l] = step(acc[l], x);
    }
    tree(acc, join)
}

#[inline(always)]
fn tree<T: Real>(lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let a: [T; 8] = from_fn(|l| join(lanes[l], lanes[l + 8]));
    let b: [T; 4] = from_fn(|l| join(a[l], a[l + 4]));
    join(join(b[0], b[2]), join(b[1], b[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::Portable;
    use candle_core::cpu::erf::erfc_f64;

    fn grid(reach: f64) -> impl Iterator<Item = f64> {
        (-20_000..=20_000).map(move |i| f64::from(i) / 20_000.0 * reach)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in grid(103.0) {
            let x = x as f32;
            let exact = f64::from(x).exp();
            if exact > f64::from(f32::MAX) {
                assert_eq!(Real::exp::<Portable>(x), f32::INFINITY, "{x}");
                continue;
            }
            let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
            let y = Real::exp::<Portable>(x);
            assert!((f64::from(y) - exact).abs() <= 2.0 * unit, "exp({x}) = {y:e}, exactly {exact:e}");
        }
        assert_eq!(Real::exp::<Portable>(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp::<Portable>(f32::INFINITY), f32::INFINITY);
        assert!(Real::exp::<Portable>(f32::NAN).is_nan());
        assert_eq!(Real::exp::<Portable>(0f32), 1.0);
    }

    #[test]
    fn gaussian_agrees_with_erfc() {
        for x in grid(12.0) {
            // The rounding of x² / 2 costs as many units of its exponential: that is what the tail's bounds allow.
            let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            let exact = 0.5 * erfc_f64(-x / std::f64::consts::SQRT_2);
            let (cdf, pdf) = x.gaussian::<Portable>();
            assert!((cdf - exact).abs() <= (2e-15 + 2.3e-16 * x * x) * exact, "Φ({x}) = {cdf:e}, exactly {exact:e}");
            assert!((pdf - density).abs() <= (2e-15 + 2.3e-16 * x * x) * density, "φ({x})");

            let x = x as f32;
            let exact = 0.5 * erfc_f64(-f64::from(x) / std::f64::consts::SQRT_2);
            let (cdf, _) = x.gaussian::<Portable>();
            let bound = (5e-7 + 6e-8 * f64::from(x * x)) * exact;
            assert!((f64::from(cdf) - exact).abs() <= bound, "Φ({x}) = {cdf:e}, exactly {exact:e}");
        }
        assert_eq!(f32::INFINITY.gaussian::<Portable>(), (1.0, 0.0));
        assert_eq!(f32::NEG_INFINITY.gaussian::<Portable>(), (0.0, 0.0));
        assert!(f32::NAN.gaussian::<Portable>().0.is_nan());
    }

    #[test]
    fn reductions_reach_every_element() {
        for len in 0..70 {
            let row: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(sum(&row, |x| x), (len * (len.max(1) - 1) / 2) as f32);
            assert_eq!(sum2(&row, &row, |a, b| a * b), row.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(max(&row), row.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
