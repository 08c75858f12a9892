//! Threads, used only where they pay, over chunks whose bounds depend on the length alone.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Bytes of memory traffic under which one thread is faster than waking a second.
const WORTH_A_THREAD: usize = 512 << 10;

/// Whether `bytes` of traffic are worth more than one thread of the current pool.
#[inline]
pub fn worth(bytes: usize) -> bool {
    bytes >= WORTH_A_THREAD && rayon::current_num_threads() > 1
}

/// `[f(0), …, f(count - 1)]`, in order; `threads` says whether to spread the calls over the pool.
pub fn map<R: Send>(count: usize, threads: bool, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if threads { (0..count).into_par_iter().map(f).collect() } else { (0..count).map(f).collect() }
}

/// A vector of `len` elements written chunk by chunk: `fill(start, chunk)` once for each chunk of `chunk` elements.
///
/// # Safety
/// `fill` must write every element of the slice it is given.
pub unsafe fn build<T: Copy + Send>(
    len: usize,
    chunk: usize,
    threads: bool,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync + Send,
) -> Vec<T> {
    // SAFETY: the same condition.
    unsafe { build_and_map(len, chunk, threads, fill) }.0
}

/// As [`build`], of as many elements as `beside` has; `fill` may change the chunk of those.
///
/// # Safety
/// `fill` must write every element of the second slice it is given.
pub unsafe fn build_beside<T: Copy + Send>(
    beside: &mut [T],
    chunk: usize,
    threads: bool,
    fill: impl Fn(usize, &mut [T], &mut [MaybeUninit<T>]) + Sync + Send,
) -> Vec<T> {
    let len = beside.len();
    let mut out: Vec<T> = Vec::with_capacity(len);
    let pieces = beside.chunks_mut(chunk).zip(out.spare_capacity_mut()[..len].chunks_mut(chunk));
    let mut pieces: Vec<_> = pieces.collect();
    for_chunks(&mut pieces, 1, threads, |i, piece| {
        for (beside, out) in piece {
            fill(i * chunk, beside, out);
        }
    });
    // SAFETY: the chunks cover `0..len`, and the caller's `fill` has written each of them.
    unsafe { out.set_len(len) };
    out
}

/// As [`build`], and with what `fill` returned for each chunk, in order.
///
/// # Safety
/// `fill` must write every element of the slice it is given.
pub unsafe fn build_and_map<T: Copy + Send, R: Send>(
    len: usize,
    chunk: usize,
    threads: bool,
    fill: impl Fn(usize, &mut [MaybeUninit<T>]) -> R + Sync + Send,
) -> (Vec<T>, Vec<R>) {
    let mut out: Vec<T> = Vec::with_capacity(len);
    let results = for_chunks(&mut out.spare_capacity_mut()[..len], chunk, threads, |i, piece| fill(i * chunk, piece));
    // SAFETY: the chunks cover `0..len`, and the caller's `fill` has written each of them.
    unsafe { out.set_len(len) };
    (out, results)
}

/// `f(i, chunk)` for each chunk of `chunk` elements of `data`, the last of which may be shorter; the results in order.
pub fn for_chunks<T: Send, R: Send>(
    data: &mut [T],
    chunk: usize,
    threads: bool,
    f: impl Fn(usize, &mut [T]) -> R + Sync + Send,
) -> Vec<R> {
    let chunk = chunk.max(1);
    if threads {
        data.par_chunks_mut(chunk).enumerate().map(|(i, piece)| f(i, piece)).collect()
    } else {
        data.chunks_mut(chunk).enumerate().map(|(i, piece)| f(i, piece)).collect()
    }
}
