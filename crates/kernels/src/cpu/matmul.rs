//! A checked door to `gemm`, with strides and with a destination that is added to.

use super::element::Float;
use super::simd::{Kernel, Simd, dispatch};
use super::{fused, parallel};
use candle_core::Tensor;
use gemm::Parallelism;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A strided view of a matrix: element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix of `rows` by `columns`.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// A matrix with strides of its own.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, row: usize, column: usize) -> Self {
        if rows > 0 && columns > 0 {
            assert!((rows - 1) * row + (columns - 1) * column < data.len(), "a matrix reaches past its data");
        }
        Self { data, rows, columns, row, column }
    }

    /// Element (i, j).
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> T
    where
        T: Copy,
    {
        self.data[i * self.row + j * self.column]
    }

    /// The transpose, of the same data.
    pub fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    /// The `rows` rows from `first` on.
    fn rows_from(self, first: usize, rows: usize) -> Self {
        Self::strided(&self.data[first * self.row..], rows, self.columns, self.row, self.column)
    }
}

/// `out ← scale · a b`, row-major and written in full.
pub fn multiply<T: Float>(out: &mut [MaybeUninit<T>], scale: T, a: Matrix<'_, T>, b: Matrix<'_, T>, threads: bool) {
    if a.columns == 0 {
        out.fill(MaybeUninit::new(T::zero()));
    } else {
        assert_eq!(out.len(), a.rows * b.columns, "destination of a product");
        // SAFETY: `run` checks the bounds, and writes without reading.
        unsafe { run(out, b.columns, false, scale, a, b, threads) }
    }
}

/// `out ← scale · a b` with `stride` elements from one row of `out` to the next; what lies between is left alone. The inner
/// dimension must not be empty.
pub fn multiply_into<T: Float>(
    out: &mut [MaybeUninit<T>],
    stride: usize,
    scale: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) {
    assert!(a.columns > 0, "inner dimension of a product");
    // SAFETY: `run` checks the bounds, and writes without reading.
    unsafe { run(out, stride, false, scale, a, b, false) }
}

/// `out ← out + a b`, row-major.
pub fn add_product<T: Float>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, threads: bool) {
    assert_eq!(out.len(), a.rows * b.columns, "destination of a product");
    // SAFETY: `run` checks the bounds; every element of `out` is initialised.
    unsafe { run(uninit(out), b.columns, true, T::one(), a, b, threads) }
}

/// `out ← a b`, row-major.
pub fn set_product<T: Float>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, threads: bool) {
    multiply(uninit(out), T::one(), a, b, threads);
}

/// Numbers as room for numbers, for functions of this file: they write nothing but floats there.
fn uninit<T: Float>(out: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: `MaybeUninit<T>` has T's layout, and whatever is written there here is a float.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<T>]) }
}

/// Multiplications under which a product is not worth a second thread.
const WORTH_A_THREAD: usize = 1 << 19;

/// Rows or columns of a tile; the pieces of a product are of whole tiles.
const TILE: usize = 16;

/// Tiles of a piece, at least, and how long its other side must be. Up to 64 rows and columns, and up to 256 elements, `gemm`
/// sums in another order: a piece is larger, its last tile cut short or not, so it has the bits of the whole.
const PIECE: usize = 5;
const NARROW: usize = 4;

/// Cuts the wider side of the result into a piece for each thread; `gemm` itself would pack an operand on one thread while
/// the others wait.
///
/// # Safety
/// `out` must be initialised if it is `read`.
unsafe fn run<T: Float>(
    out: &mut [MaybeUninit<T>],
    stride: usize,
    read: bool,
    scale: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    threads: bool,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions of a product");
    if a.rows == 0 || b.columns == 0 || a.columns == 0 {
        return;
    }
    assert!(stride >= b.columns && (a.rows - 1) * stride + b.columns <= out.len(), "destination of a product");
    let worth = threads && a.rows * b.columns * a.columns >= WORTH_A_THREAD;
    let workers = if worth { rayon::current_num_threads() } else { 1 };
    let by_rows = a.rows > b.columns;
    let (narrow, wide) = if by_rows { (b.columns, a.rows) } else { (a.rows, b.columns) };
    let tiles = wide.div_ceil(TILE);
    let pieces = if narrow < NARROW { 1 } else { workers.min(tiles / PIECE).max(1) };
    let start = |piece: usize| (TILE * (tiles * piece / pieces)).min(wide);
    let out = Destination(out.as_mut_ptr().cast::<T>());
    let piece = |i: usize| {
        let (first, len) = (start(i), start(i + 1) - start(i));
        let (a, b, offset) = match by_rows {
            true => (a.rows_from(first, len), b, first * stride),
            false => (a, b.t().rows_from(first, len).t(), first),
        };
        // SAFETY: `first` lies in the destination, as the bounds above say; pieces are disjoint.
        unsafe { gemm_into(out.at(offset), stride, read, scale, a, b, workers / pieces) }
    };
    if pieces == 1 {
        piece(0);
    } else {
        (0..pieces).into_par_iter().with_max_len(1).for_each(piece);
    }
}

/// Where a product is written, for pieces on several threads.
struct Destination<T>(*mut T);

// SAFETY: the pieces of `run` write disjoint elements.
unsafe impl<T: Send> Sync for Destination<T> {}

impl<T> Destination<T> {
    /// # Safety
    /// `offset` must lie within the destination.
    unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: the caller's condition.
        unsafe { self.0.add(offset) }
    }
}

/// # Safety
/// From `out` on there must be `a.rows` rows of `b.columns` elements, `stride` apart, that nothing else reads or writes;
/// initialised, if they are `read`.
unsafe fn gemm_into<T: Float>(
    out: *mut T,
    stride: usize,
    read: bool,
    scale: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    workers: usize,
) {
    let parallelism = if workers > 1 { Parallelism::Rayon(workers) } else { Parallelism::None };
    // SAFETY: the views were checked against their data when they were made, the destination is the caller's to vouch for; all
    // three are live for the call.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            read,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::one(),
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Whether products with this tensor are computed here. With a BLAS linked in, its matrix product is the faster one.
pub fn own_product(x: &Tensor) -> bool {
    !cfg!(any(feature = "mkl", feature = "accelerate")) && fused(x)
}

/// `a b`, row-major, of `len` elements.
pub fn product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, len: usize) -> Vec<T> {
    // SAFETY: there is one chunk, of all elements, and `multiply` writes each of them.
    unsafe { parallel::build(len, len, false, |_, out| multiply(out, T::one(), a, b, true)) }
}

/// Sums over the rows of a row-major matrix, in row order, in f64.
pub fn column_sums<T: Float>(data: &[T], columns: usize) -> Vec<T> {
    const BAND: usize = 128;
    let threads = parallel::worth(size_of_val(data));
    // SAFETY: `ColumnSums` writes each element of `out`.
    unsafe { parallel::build(columns, BAND, threads, |first, out| dispatch(ColumnSums { data, columns, first, out })) }
}

struct ColumnSums<'a, T> {
    data: &'a [T],
    columns: usize,
    first: usize,
    out: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for ColumnSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let mut sums = vec![0.0; self.out.len()];
        for row in self.data.chunks_exact(self.columns) {
            for (sum, x) in sums.iter_mut().zip(&row[self.first..]) {
                *sum += x.widen();
            }
        }
        for (out, sum) in self.out.iter_mut().zip(sums) {
            out.write(T::narrow(sum));
        }
    }
}
