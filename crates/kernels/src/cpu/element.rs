//! The storage types that gradients come in, and their way to f64 and back.

use super::simd::{LANES, Simd};
use candle_core::{CpuStorage, Result, WithDType, bail};
use half::{bf16, f16};

/// A stored float. The conversions are branch-free integer arithmetic, so that loops over them vectorise.
pub trait Element: WithDType + Send + Sync {
    /// The product of two values is exact in f64, so a fused and an unfused multiply-add agree to the bit.
    const EXACT_PRODUCT: bool = true;

    /// The value, exactly.
    fn widen(self) -> f64;

    /// Eight values, exactly.
    fn load<S: Simd>(values: &[Self; LANES]) -> S::Lanes;

    /// The value rounded to nearest even (by way of f32 for the 16-bit types).
    fn narrow(value: f64) -> Self;
}

/// The two floats that matrix products and the training ops compute in.
pub trait Float: Element {
    /// √self.
    fn root(self) -> Self;

    /// The elements of a storage of this type.
    ///
    /// # Errors
    /// When it is of another type.
    fn elements(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! float {
    ($T:ident, $Variant:ident) => {
        impl Float for $T {
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }

            fn elements(storage: &mut CpuStorage) -> Result<&mut [Self]> {
                match storage {
                    CpuStorage::$Variant(data) => Ok(data),
                    _ => bail!("expected {}", Self::DTYPE.as_str()),
                }
            }
        }
    };
}
float!(f32, F32);
float!(f64, F64);

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; LANES]) -> S::Lanes {
        S::load_f32(values)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value as f32
    }
}

impl Element for f64 {
    const EXACT_PRODUCT: bool = false;

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; LANES]) -> S::Lanes {
        S::load_f64(values)
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        value
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(widen_bf16(self))
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; LANES]) -> S::Lanes {
        S::load_f32(&values.map(widen_bf16))
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        let bits = (value as f32).to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded } as u16)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(widen_f16(self))
    }

    #[inline(always)]
    fn load<S: Simd>(values: &[Self; LANES]) -> S::Lanes {
        S::load_f32(&values.map(widen_f16))
    }

    #[inline(always)]
    fn narrow(value: f64) -> Self {
        let bits = (value as f32).to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let normal = magnitude.wrapping_add(0x0fff + ((magnitude >> 13) & 1)).wrapping_sub(112 << 23) >> 13;
        // Adding 0.5 leaves the subnormal's digits, rounded by the adder, at the bottom of the significand.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
        let large = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        let result = if magnitude >= 0x4780_0000 { large } else { finite };
        f16::from_bits((result | (bits >> 16) & 0x8000) as u16)
    }
}

#[inline(always)]
fn widen_bf16(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[inline(always)]
fn widen_f16(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    // The exponent field moved over and scaled by 2^(127 - 15): right for subnormals too.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((254 - 15) << 23);
    let special = (bits & 0x7c00) == 0x7c00;
    let magnitude = magnitude.to_bits() | if special { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(a.widen() == a.to_f64() || (a.is_nan() && a.widen().is_nan()), "f16 {bits:#06x}");
            assert!(b.widen() == b.to_f64() || (b.is_nan() && b.widen().is_nan()), "bf16 {bits:#06x}");
            assert_eq!(a.widen().is_sign_negative(), a.is_sign_negative());
        }
    }

    #[test]
    fn floats_narrow_as_the_half_crate_does() {
        // Every 4093rd bit pattern of f32 reaches each exponent, subnormals, ties, infinities and NaNs.
        let ties = (0..0x7c00u32).map(|h| f16::from_bits(h as u16).to_f32().to_bits() + 0x1000);
        for bits in (0..=u32::MAX).step_by(4093).chain(ties) {
            let x = f32::from_bits(bits);
            let (a, b) = (<f16 as Element>::narrow(f64::from(x)), <bf16 as Element>::narrow(f64::from(x)));
            if x.is_nan() {
                assert!(a.is_nan() && b.is_nan(), "{bits:#010x}");
            } else {
                assert_eq!(a.to_bits(), f16::from_f32(x).to_bits(), "f16 {x:e}");
                assert_eq!(b.to_bits(), bf16::from_f32(x).to_bits(), "bf16 {x:e}");
            }
        }
    }
}
