use super::element::Element;
use super::floats;
use super::parallel;
use super::simd::{Kernel, Simd, dispatch};
use crate::rows::Slot;
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};
use std::mem::MaybeUninit;

const CHUNK: usize = 16384;
/// Elements summed in registers at a time.
const LANES: usize = 32;

/// `Σ_i coefficients[i] · slot[i]` for each slot, in slot order; the rows to skip are already gone from the slots.
pub(crate) fn blend(slots: &[(usize, Slot)], coefficients: &[f64]) -> Result<Vec<Tensor>> {
    let threads = parallel::worth(slots.iter().map(|(_, slot)| slot.bytes()).sum());
    parallel::map(slots.len(), threads, |s| {
        let slot = &slots[s].1;
        match slot.dtype() {
            DType::F32 => slot_blend::<f32>(slot, coefficients, threads),
            DType::F64 => slot_blend::<f64>(slot, coefficients, threads),
            DType::BF16 => slot_blend::<bf16>(slot, coefficients, threads),
            DType::F16 => slot_blend::<f16>(slot, coefficients, threads),
            other => bail!("blend: dtype {} is not a float", other.as_str()),
        }
    })
    .into_iter()
    .collect()
}

fn slot_blend<T: Element>(slot: &Slot, coefficients: &[f64], threads: bool) -> Result<Tensor> {
    let guards: Vec<_> =
        slot.tensors.iter().map(|(i, tensor)| (coefficients[*i], tensor.storage_and_layout())).collect();
    let mut terms: Vec<(f64, &[T])> = Vec::with_capacity(guards.len());
    for (c, (storage, layout)) in &guards {
        terms.push((*c, floats(storage, layout)?));
    }
    let fill = |start: usize, out: &mut [MaybeUninit<T>]| {
        let terms: Vec<_> = terms.iter().map(|(c, row)| (*c, &row[start..start + out.len()])).collect();
        match terms.as_slice() {
            &[a] => dispatch(Sum(out, [a])),
            &[a, b] => dispatch(Sum(out, [a, b])),
            &[a, b, c] => dispatch(Sum(out, [a, b, c])),
            &[a, b, c, d] => dispatch(Sum(out, [a, b, c, d])),
            many => dispatch(SumMany(out, many)),
        }
    };
    // SAFETY: both kernels write each element of `out`.
    let data = unsafe { parallel::build(slot.len, CHUNK, threads, fill) };
    Tensor::from_vec(data, slot.first().shape(), &Device::Cpu)
}

struct Sum<'a, T, const K: usize>(&'a mut [MaybeUninit<T>], [(f64, &'a [T]); K]);

impl<T: Element, const K: usize> Kernel for Sum<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self(out, terms) = self;
        let len = out.len();
        let terms = terms.map(|(c, row)| (c, &row[..len]));
        for (e, o) in out.iter_mut().enumerate() {
            let mut sum = terms[0].0 * terms[0].1[e].widen();
            for (c, row) in &terms[1..] {
                sum += c * row[e].widen();
            }
            o.write(T::narrow(sum));
        }
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
