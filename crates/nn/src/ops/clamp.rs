//! What a convolution ends with: a shift for each channel, and a clamp to `[0, ceiling]`.

use super::real::Real;
use super::{CHUNK, row_chunk};
use crate::cpu::parallel;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use std::borrow::Cow;

/// `y ← clamp(y + shift)` for rows `[.., channels]`.
pub(super) fn finish<T: Real>(y: &mut [T], shift: &[T], ceiling: Option<f64>) {
    let ceiling = ceiling.map(T::from_f64);
    parallel::for_chunks(y, row_chunk(shift.len()), parallel::worth(2 * size_of_val(y)), |_, y| {
        dispatch(Finish { y, shift, ceiling });
    });
}

/// The gradient of what `y` was before it was clamped: `dy` where nothing was cut off, 0 elsewhere.
pub(super) fn unclamped<'a, T: Real>(y: &[T], dy: &'a [T], ceiling: Option<f64>) -> Cow<'a, [T]> {
    let Some(ceiling) = ceiling.map(T::from_f64) else { return Cow::Borrowed(dy) };
    // SAFETY: `Unclamp` writes each element of `out`.
    let g = unsafe {
        parallel::build(dy.len(), CHUNK, parallel::worth(3 * size_of_val(dy)), |start, out| {
            let range = start..start + out.len();
            dispatch(Unclamp { y: &y[range.clone()], dy: &dy[range], ceiling, out });
        })
    };
    Cow::Owned(g)
}

struct Finish<'a, T> {
    y: &'a mut [T],
    shift: &'a [T],
    ceiling: Option<T>,
}

impl<T: Real> Kernel for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for row in self.y.chunks_exact_mut(self.shift.len().max(1)) {
            match self.ceiling {
                None => row.iter_mut().zip(self.shift).for_each(|(y, &shift)| *y += shift),
                // Comparisons let a NaN through, as the sum alone would.
                Some(ceiling) => row.iter_mut().zip(self.shift).for_each(|(y, &shift)| {
                    let z = *y + shift;
                    let z = if z < T::zero() { T::zero() } else { z };
                    *y = if z > ceiling { ceiling } else { z };
                }),
            }
        }
    }
}

struct Unclamp<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    ceiling: T,
    out: &'a mut [std::mem::MaybeUninit<T>],
}

impl<T: Real> Kernel for Unclamp<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for ((out, &y), &dy) in self.out.iter_mut().zip(self.y).zip(self.dy) {
            out.write(if y > T::zero() && y < self.ceiling { dy } else { T::zero() });
        }
    }
}
