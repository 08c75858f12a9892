use super::element::Element;
use super::floats;
use super::parallel;
use super::simd::{Kernel, LANES, Simd, dispatch};
use crate::rows::Slot;
use candle_core::{DType, Result, bail};
use half::{bf16, f16};

/// Elements of a chunk. A handful of rows of one chunk fit the second-level cache, so that only the first of the products of a
/// chunk reads memory.
const CHUNK: usize = 8192;
/// Rows whose products are summed at once: 6 products × 16 lanes fill 12 of AVX-512's 32 registers.
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
    fn run<S: Simd>(self) -> Self::Output {
        let rows = self.0.map(Blocks::new);
        let mut acc = [[S::zero(); A]; A];
        let mut x = [S::zero(); A];
        for b in 0..=rows[0].full.len() {
            for i in 0..A {
                x[i] = T::load::<S>(rows[i].at(b));
            }
            for i in 0..A {
                // From 0, not from i: a constant count lets the accumulators live in registers.
                for j in 0..A {
                    if j >= i {
                        acc[i][j] = multiply_add::<T, S>(x[i], x[j], acc[i][j]);
                    }
                }
            }
        }
        let mut sums = [[0.0; A]; A];
        for i in 0..A {
            for j in 0..A {
                sums[i][j] = if j >= i { sum::<S>(acc[i][j]) } else { 0.0 };
            }
        }
        sums
    }
}

/// The products of each row of one tile with each row of another.
struct Cross<'a, T, const A: usize, const B: usize>([&'a [T]; A], [&'a [T]; B]);

impl<T: Element, const A: usize, const B: usize> Kernel for Cross<'_, T, A, B> {
    type Output = [[f64; B]; A];

    #[inline(always)]
    fn run<S: Simd>(self) -> Self::Output {
        let (rows, columns) = (self.0.map(Blocks::new), self.1.map(Blocks::new));
        let mut acc = [[S::zero(); B]; A];
        let mut y = [S::zero(); B];
        for b in 0..=rows[0].full.len() {
            for j in 0..B {
                y[j] = T::load::<S>(columns[j].at(b));
            }
            for i in 0..A {
                let x = T::load::<S>(rows[i].at(b));
                for j in 0..B {
                    acc[i][j] = multiply_add::<T, S>(x, y[j], acc[i][j]);
                }
            }
        }
        acc.map(|row| row.map(sum::<S>))
    }
}

/// A row cut into vectors, the last, short one filled up with zeros.
struct Blocks<'a, T> {
    full: &'a [[T; LANES]],
    rest: [T; LANES],
}

impl<'a, T: Element> Blocks<'a, T> {
    #[inline(always)]
    fn new(row: &'a [T]) -> Self {
        let (full, tail) = row.as_chunks();
        let mut rest = [T::zero(); LANES];
        rest[..tail.len()].copy_from_slice(tail);
        Self { full, rest }
    }

    /// A vector; the one past the last is the rest.
    #[inline(always)]
    fn at(&self, i: usize) -> &[T; LANES] {
        self.full.get(i).unwrap_or(&self.rest)
    }
}

#[inline(always)]
fn multiply_add<T: Element, S: Simd>(a: S::Lanes, b: S::Lanes, c: S::Lanes) -> S::Lanes {
    if T::EXACT_PRODUCT { S::multiply_add(a, b, c) } else { S::multiply_then_add(a, b, c) }
}

#[inline(always)]
fn sum<S: Simd>(lanes: S::Lanes) -> f64 {
    let mut lanes = S::store(lanes);
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::simd::Portable;
    use super::*;

    fn row<T: Element>(seed: usize, len: usize) -> Vec<T> {
        (0..len).map(|i| T::from_f64(((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0)).collect()
    }

    /// The machine's best instruction set against the one that every processor has.
    fn check<T: Element>() {
        for len in [0, 1, 15, 16, 17, 4999] {
            let rows: Vec<Vec<T>> = (0..5).map(|seed| row(seed, len)).collect();
            let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|i| rows[i].as_slice());
            assert_eq!(dispatch(Own([a, b, c])), Own([a, b, c]).run::<Portable>());
            assert_eq!(dispatch(Cross([a, b, c], [d, e])), Cross([a, b, c], [d, e]).run::<Portable>());
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_instruction_set() {
        check::<f32>();
        check::<f64>();
        check::<bf16>();
        check::<f16>();
    }
}
