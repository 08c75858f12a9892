use super::element::Element;
use super::floats;
use super::parallel;
use super::simd::{Kernel, LINE, Line, Simd, dispatch};
use crate::rows::Slot;
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use std::mem::MaybeUninit;

const CHUNK: usize = 16384;
/// Elements summed in registers at a time.
const LANES: usize = 32;
/// Lines streamed at a time.
const LINES: usize = 4;
/// Bytes of traffic past which no cache keeps the result until it is read: it is written around them.
const BEYOND_CACHE: usize = 32 << 20;

/// `Σ_i coefficients[i] · slot[i]` for each slot, in slot order; the rows to skip are already gone from the slots.
pub(crate) fn blend(slots: &[(usize, Slot)], coefficients: &[f64]) -> Result<Vec<Tensor>> {
    let bytes = slots.iter().map(|(_, slot)| slot.bytes()).sum();
    let (threads, stream) = (parallel::worth(bytes), bytes > BEYOND_CACHE);
    parallel::map(slots.len(), threads, |s| {
        let slot = &slots[s].1;
        match slot.dtype() {
            DType::F32 => slot_blend::<f32>(slot, coefficients, threads, stream),
            DType::F64 => slot_blend::<f64>(slot, coefficients, threads, stream),
            DType::BF16 => slot_blend::<bf16>(slot, coefficients, threads, stream),
            DType::F16 => slot_blend::<f16>(slot, coefficients, threads, stream),
            other => bail!("blend: dtype {} is not a float", other.as_str()),
        }
    })
    .into_iter()
    .collect()
}

fn slot_blend<T: Element>(slot: &Slot, coefficients: &[f64], threads: bool, stream: bool) -> Result<Tensor> {
    let guards: Vec<_> =
        slot.tensors.iter().map(|(i, tensor)| (coefficients[*i], tensor.storage_and_layout())).collect();
    let mut terms: Vec<(f64, &[T])> = Vec::with_capacity(guards.len());
    for (c, (storage, layout)) in &guards {
        terms.push((*c, floats(storage, layout)?));
    }
    let fill = |start: usize, out: &mut [MaybeUninit<T>]| sum(out, &terms, start, stream);
    // SAFETY: `sum` writes each element of `out`.
    let data = unsafe { parallel::build(slot.len, CHUNK, threads, fill) };
    Tensor::from_vec(data, slot.first().shape(), &Device::Cpu)
}

/// `Σ_i c_i · row_i[start..]`, as far as `out` goes: each element is written.
pub(crate) fn sum<T: Element>(out: &mut [MaybeUninit<T>], terms: &[(f64, &[T])], start: usize, stream: bool) {
    let terms: Vec<_> = terms.iter().map(|(c, row)| (*c, &row[start..start + out.len()])).collect();
    match terms.as_slice() {
        &[a] => dispatch(Sum { out, terms: [a], stream }),
        &[a, b] => dispatch(Sum { out, terms: [a, b], stream }),
        &[a, b, c] => dispatch(Sum { out, terms: [a, b, c], stream }),
        &[a, b, c, d] => dispatch(Sum { out, terms: [a, b, c, d], stream }),
        many => dispatch(SumMany(out, many)),
    }
}

struct Sum<'a, T, const K: usize> {
    out: &'a mut [MaybeUninit<T>],
    terms: [(f64, &'a [T]); K],
    stream: bool,
}

impl<T: Element, const K: usize> Kernel for Sum<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self { out, terms, stream } = self;
        if !stream {
            return sum_into(out, &terms, 0);
        }
        // SAFETY: a line is bytes of no meaning, initialised or not.
        let (head, body, tail) = unsafe { out.align_to_mut::<[Line; LINES]>() };
        let each = size_of::<[Line; LINES]>() / size_of::<T>();
        sum_into(head, &terms, 0);
        let mut from = head.len();
        for to in body {
            let mut lines = [Line([MaybeUninit::uninit(); LINE]); LINES];
            // SAFETY: that many elements fill the lines, which are aligned for any float.
            let room = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), each) };
            sum_into(room, &terms, from);
            // SAFETY: `to` is as many whole lines of `out`.
            unsafe { S::stream(&lines, to.as_mut_ptr()) };
            from += each;
        }
        sum_into(tail, &terms, from);
        S::drain();
    }
}

/// `Σ_i c_i · row_i[from..]`, as far as `out` goes.
#[inline(always)]
fn sum_into<T: Element, const K: usize>(out: &mut [MaybeUninit<T>], terms: &[(f64, &[T]); K], from: usize) {
    let terms = terms.map(|(c, row)| (c, &row[from..from + out.len()]));
    for (e, o) in out.iter_mut().enumerate() {
        let mut sum = terms[0].0 * terms[0].1[e].widen();
        for (c, row) in &terms[1..] {
            sum += c * row[e].widen();
        }
        o.write(T::narrow(sum));
    }
}

struct SumMany<'a, T>(&'a mut [MaybeUninit<T>], &'a [(f64, &'a [T])]);

impl<T: Element> Kernel for SumMany<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(out, terms) = self;
        for (b, piece) in out.chunks_mut(LANES).enumerate() {
            let mut sums = [0.0; LANES];
            for (t, (c, row)) in terms.iter().enumerate() {
                let row = &row[b * LANES..][..piece.len()];
                for (sum, x) in sums.iter_mut().zip(row) {
                    let product = c * x.widen();
                    *sum = if t == 0 { product } else { *sum + product };
                }
            }
            for (o, sum) in piece.iter_mut().zip(sums) {
                o.write(T::narrow(sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// From any address and of any length.
    #[test]
    fn streamed_or_not_the_bits_are_the_same() {
        fn check<T: Element + PartialEq>() {
            for len in [0, 1, 31, 64, 65, 129, 700] {
                for offset in [0, 1, 5, 16] {
                    let row =
                        |i: usize| (0..len).map(|e| T::narrow(((e * 7 + i) as f64 * 0.37).sin())).collect::<Vec<_>>();
                    let (a, b) = (row(1), row(2));
                    let run = |stream| {
                        let mut room: Vec<T> = vec![T::narrow(9.0); len + offset + 1];
                        // SAFETY: `Sum` writes floats alone.
                        let out =
                            unsafe { &mut *(std::ptr::from_mut(&mut room[offset..][..len]) as *mut [MaybeUninit<T>]) };
                        dispatch(Sum { out, terms: [(0.5, &a), (-1.25, &b)], stream });
                        room
                    };
                    let (plain, streamed) = (run(false), run(true));
                    assert!(plain == streamed, "{} of {}", len, T::DTYPE.as_str());
                    assert!(plain[..offset].iter().chain(&plain[offset + len..]).all(|x| *x == T::narrow(9.0)));
                }
            }
        }
        check::<f32>();
        check::<f64>();
        check::<bf16>();
        check::<f16>();
    }
}
