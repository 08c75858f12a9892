//! `kernels.metal` run on the CPU.
#![allow(clippy::unwrap_used)]

use crate::cpu::element::Element;
use crate::emulated::Library;
use half::{bf16, f16};
use std::iter::zip;

/// Elements that a group of threads sums, and threads of a group.
const CHUNK: usize = 4096;
const THREADS: usize = 256;

fn check<T: Element>(library: &Library, len: usize) {
    let value = |i: usize, e: usize| T::narrow(((e * 7 + i * 1009) as f64 * 0.37).sin() + 0.01 * i as f64);
    let rows: Vec<Vec<T>> = (0..8).map(|i| (0..len).map(|e| value(i, e)).collect()).collect();
    let addresses: Vec<*const T> = rows.iter().map(Vec::as_ptr).collect();
    let name = |op: &str| format!("{op}_{}", T::DTYPE.as_str());

    // SAFETY: the function's type.
    let gram: extern "C" fn(*const *const T, *mut f32, u32) = unsafe { library.function(&name("gram")) };
    let groups = len.div_ceil(CHUNK);
    let run = |seed| {
        let mut partial = vec![f32::NAN; groups * 16];
        let out = partial.as_mut_ptr();
        library.launch((groups as u32, 1), seed, || gram(addresses.as_ptr(), out, len as u32));
        partial
    };
    let partial = run(0);
    assert!(run(1) == partial, "the order of the threads shows in gram's bits");
    for (i, a) in rows[..4].iter().enumerate() {
        for (j, b) in rows[4..].iter().enumerate() {
            let sum: f64 = partial.iter().skip(i * 4 + j).step_by(16).map(|x| f64::from(*x)).sum();
            let products = zip(a, b).map(|(x, y)| x.widen() * y.widen());
            let (expected, scale) = products.fold((0.0, 0.0), |(sum, scale), p| (sum + p, scale + p.abs()));
            assert!((sum - expected).abs() <= 2e-6 * scale, "gram [{i}, {j}] of {len}: {sum}, in f64 {expected}");
        }
    }

    // SAFETY: the function's type.
    let blend: extern "C" fn(*const *const T, *mut T, *const f32, u32, u32) =
        unsafe { library.function(&name("blend")) };
    let coefficients = [0.5f32, -1.25, 3.0, 0.125];
    for count in 1..=4 {
        let mut out = vec![T::narrow(9.0); len + 1];
        let (to, c) = (out.as_mut_ptr(), coefficients.as_ptr());
        let groups = len.div_ceil(THREADS) as u32;
        library.launch((groups, 1), 0, || blend(addresses.as_ptr(), to, c, len as u32, count as u32));
        for (e, found) in out.iter().enumerate() {
            let terms =
                zip(&rows[..count], coefficients).map(|(row, c)| c * row.get(e).map_or(0.0, |x| x.widen() as f32));
            let sum = terms.reduce(|a, b| a + b).unwrap();
            let expected = if e < len { T::narrow(f64::from(sum)) } else { T::narrow(9.0) };
            assert!(*found == expected, "blend of {count}: element {e} of {len}");
        }
    }
}

#[test]
fn the_kernels_agree_with_plain_sums() {
    let Some(library) = Library::compile("metal.cpp") else { return };
    for len in [1, 255, CHUNK + 300] {
        check::<f32>(&library, len);
        check::<f16>(&library, len);
        check::<bf16>(&library, len);
    }
}
