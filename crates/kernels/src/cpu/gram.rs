use super::element::Element;
use super::floats;
use super::parallel;
use super::simd::{Kernel, dispatch};
use crate::rows::Slot;
use candle_core::{DType, Result, bail};
use half::{bf16, f16};
use std::array::from_fn;

/// Elements of a chunk. A handful of rows of one chunk fit the second-level cache, so that only the first of the products of a
/// chunk reads memory.
const CHUNK: usize = 8192;
/// Independent partial sums of one product: element `e` of a chunk goes to lane `e % LANES`, on every machine.
const LANES: usize = 16;
/// Rows whose products are summed at once: 6 products × 16 lanes fill 12 of AVX-512's registers.
const TILE: usize = 3;

/// The k × k inner products of checked, contiguous slots on the CPU.
pub(crate) fn gram(k: usize, slots: &[Slot]) -> Result<Vec<f64>> {
    let threads = parallel::worth(slots.iter().map(Slot::bytes).sum());
    let partial = parallel::map(slots.len(), threads, |s| {
        let slot = &slots[s];
        match slot.dtype() {
            DType::F32 => slot_gram::<f32>(k, slot, threads),
            DType::F64 => slot_gram::<f64>(k, slot, threads),
            DType::BF16 => slot_gram::<bf16>(k, slot, threads),
            DType::F16 => slot_gram::<f16>(k, slot, threads),
            other => bail!("gram: dtype {} is not a float", other.as_str()),
        }
    });
    let mut total = vec![0.0; k * k];
    for sums in partial {
        for (t, s) in total.iter_mut().zip(sums?) {
            *t += s;
        }
    }
    Ok(total)
}

fn slot_gram<T: Element>(k: usize, slot: &Slot, threads: bool) -> Result<Vec<f64>> {
    let guards: Vec<_> = slot.tensors.iter().map(|(_, tensor)| tensor.storage_and_layout()).collect();
    let mut rows = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        rows.push(floats::<T>(storage, layout)?);
    }
    let chunks = parallel::map(slot.len.div_ceil(CHUNK), threads, |c| {
        let range = c * CHUNK..slot.len.min((c + 1) * CHUNK);
        let rows: Vec<&[T]> = rows.iter().map(|row| &row[range.clone()]).collect();
        chunk_gram(&rows)
    });
    let n = rows.len();
    let mut sums = vec![0.0; k * k];
    for chunk in chunks {
        for (a, (i, _)) in slot.tensors.iter().enumerate() {
            for (b, (j, _)) in slot.tensors.iter().enumerate() {
                sums[i * k + j] += chunk[a.min(b) * n + a.max(b)];
            }
        }
    }
    Ok(sums)
}

/// The upper triangle of the products of one chunk, `[n, n]` row-major, tile by tile.
fn chunk_gram<T: Element>(rows: &[&[T]]) -> Vec<f64> {
    let n = rows.len();
    let mut sums = vec![0.0; n * n];
    for i in (0..n).step_by(TILE) {
        let a = &rows[i..n.min(i + TILE)];
        match *a {
            [x, y, z] => put(&mut sums, n, i, i, dispatch(Own([x, y, z]))),
            [x, y] => put(&mut sums, n, i, i, dispatch(Own([x, y]))),
            [x] => put(&mut sums, n, i, i, dispatch(Own([x]))),
            _ => {}
        }
        for j in (i + TILE..n).step_by(TILE) {
            // Only the last tile is short, so `a` is full here.
            match (a, &rows[j..n.min(j + TILE)]) {
                (&[p, q, r], &[x, y, z]) => put(&mut sums, n, i, j, dispatch(Cross([p, q, r], [x, y, z]))),
                (&[p, q, r], &[x, y]) => put(&mut sums, n, i, j, dispatch(Cross([p, q, r], [x, y]))),
                (&[p, q, r], &[x]) => put(&mut sums, n, i, j, dispatch(Cross([p, q, r], [x]))),
                _ => {}
            }
        }
    }
    sums
}

fn put<const A: usize, const B: usize>(sums: &mut [f64], n: usize, i: usize, j: usize, tile: [[f64; B]; A]) {
    for (a, row) in tile.iter().enumerate() {
        sums[(i + a) * n + j..][..B].copy_from_slice(row);
    }
}

/// The products of a tile with itself; below the diagonal the result is zero.
struct Own<'a, T, const A: usize>([&'a [T]; A]);

impl<T: Element, const A: usize> Kernel for Own<'_, T, A> {
    type Output = [[f64; A]; A];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let len = self.0[0].len();
        let rows = self.0.map(|row| &row[..len]);
        let mut acc = [[[0.0; LANES]; A]; A];
        for e in (0..len).step_by(LANES) {
            let x: [[f64; LANES]; A] = from_fn(|i| load(rows[i], e));
            for i in 0..A {
                for j in i..A {
                    multiply_add::<T, FMA>(&mut acc[i][j], &x[i], &x[j]);
                }
            }
        }
        acc.map(|row| row.map(|lanes| sum_lanes(&lanes)))
    }
}

/// The products of each row of one tile with each row of another.
struct Cross<'a, T, const A: usize, const B: usize>([&'a [T]; A], [&'a [T]; B]);

impl<T: Element, const A: usize, const B: usize> Kernel for Cross<'_, T, A, B> {
    type Output = [[f64; B]; A];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let len = self.0[0].len();
        let (rows, columns) = (self.0.map(|row| &row[..len]), self.1.map(|row| &row[..len]));
        let mut acc = [[[0.0; LANES]; B]; A];
        for e in (0..len).step_by(LANES) {
            let y: [[f64; LANES]; B] = from_fn(|j| load(columns[j], e));
            for i in 0..A {
                let x = load(rows[i], e);
                for j in 0..B {
                    multiply_add::<T, FMA>(&mut acc[i][j], &x, &y[j]);
                }
            }
        }
        acc.map(|row| row.map(|lanes| sum_lanes(&lanes)))
    }
}

/// `LANES` elements from `start`, zeros past the end.
#[inline(always)]
fn load<T: Element>(row: &[T], start: usize) -> [f64; LANES] {
    match row[start..].first_chunk::<LANES>() {
        Some(full) => full.map(Element::widen),
        None => from_fn(|l| row.get(start + l).map_or(0.0, |x| x.widen())),
    }
}

#[inline(always)]
fn multiply_add<T: Element, const FMA: bool>(acc: &mut [f64; LANES], x: &[f64; LANES], y: &[f64; LANES]) {
    for l in 0..LANES {
        acc[l] = if FMA && T::EXACT_PRODUCT { x[l].mul_add(y[l], acc[l]) } else { acc[l] + x[l] * y[l] };
    }
}

#[inline(always)]
fn sum_lanes(lanes: &[f64; LANES]) -> f64 {
    let half: [f64; 8] = from_fn(|l| lanes[l] + lanes[l + 8]);
    let quarter: [f64; 4] = from_fn(|l| half[l] + half[l + 4]);
    (quarter[0] + quarter[2]) + (quarter[1] + quarter[3])
}
