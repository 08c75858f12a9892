//! `kernels.cu` run on the CPU, from the tables that the device gets.
#![allow(clippy::unwrap_used)]

use super::table::Table;
use crate::cpu::element::Element;
use crate::emulated::Library;
use crate::{blend, oracle};
use candle_core::{Device, Tensor};
use half::{bf16, f16};

/// Orders of the threads that are tried, beside that of their numbers.
const SEEDS: u32 = 1;
/// Elements of the tensors: a chunk and a rest, less than a warp, one, none.
const LENS: [usize; 4] = [65536 + 777, 19, 1, 0];

/// Values of `[row][slot]`, `None` where `missing` says so.
struct Gradients<T>(Vec<Vec<Option<Vec<T>>>>);

impl<T: Element> Gradients<T> {
    fn new(k: usize, missing: impl Fn(usize, usize) -> bool) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            T::narrow((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        };
        let mut tensor = |i, s| (!missing(i, s)).then(|| (0..LENS[s]).map(&mut next).collect());
        Self((0..k).map(|i| (0..LENS.len()).map(|s| tensor(i, s)).collect()).collect())
    }

    fn tensors(&self) -> Vec<Vec<Option<Tensor>>> {
        let tensor = |v: &Vec<T>| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
        self.0.iter().map(|row| row.iter().map(|v| v.as_ref().map(tensor)).collect()).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new(self.0.len(), &LENS);
        for s in 0..LENS.len() {
            let address = |(i, row): (usize, &Vec<Option<Vec<T>>>)| Some((i, row[s].as_ref()?.as_ptr() as u64));
            table.push_rows(self.0.iter().enumerate().filter_map(address));
        }
        table
    }

    fn gram(&self, library: &Library, seed: u32) -> Vec<f64> {
        type Gram = extern "C" fn(*const u64, u32, u32, *mut f64);
        type Finish = extern "C" fn(*const f64, u32, u32, *mut f64);
        let name = format!("gram_{}", T::DTYPE.as_str());
        // SAFETY: the kernels' types.
        let (gram, finish): (Gram, Finish) = unsafe { (library.function(&name), library.function("gram_finish")) };
        let table = self.table();
        let mut partial = vec![f64::NAN; table.partials()];
        let mut sums = vec![0.0; self.0.len().pow(2)];
        let (words, partial, out) = (table.words().as_ptr(), partial.as_mut_ptr(), sums.as_mut_ptr());
        library.launch(table.gram_grid(), seed, || gram(words, table.k(), table.slots(), partial));
        library.launch(table.finish_grid(), seed, || finish(partial, table.k(), table.chunks(), out));
        sums
    }

    fn blend(&self, library: &Library, coefficients: &[f64], seed: u32) -> Vec<Vec<T>> {
        type Blend = extern "C" fn(*const u64, u32, u32);
        // SAFETY: the kernel's type.
        let blend: Blend = unsafe { library.function(&format!("blend_{}", T::DTYPE.as_str())) };
        let mut table = self.table();
        // One element more than it may write.
        let mut outs = LENS.map(|len| vec![T::narrow(9.0); len + 1]);
        table.push_addresses(outs.iter_mut().map(|out| out.as_mut_ptr() as u64));
        table.push_numbers(coefficients);
        library.launch(table.chunk_grid(), seed, || blend(table.words().as_ptr(), table.k(), table.slots()));
        outs.map(|mut out| {
            assert!(out.pop() == Some(T::narrow(9.0)), "blend writes past the end");
            out
        })
        .into()
    }
}

fn check<T: Element>(library: &Library, k: usize, missing: impl Fn(usize, usize) -> bool) {
    let gradients = Gradients::<T>::new(k, missing);
    let tensors = gradients.tensors();
    let rows: Vec<_> = tensors.iter().map(Vec::as_slice).collect();

    let (found, expected) = (gradients.gram(library, 0), oracle::gram(&rows).unwrap());
    for (e, (found, sum)) in found.iter().zip(&expected).enumerate() {
        let (i, j) = (e / k, e % k);
        let scale = (expected[i * k + i] * expected[j * k + j]).sqrt();
        assert!((found - sum).abs() <= 1e-13 * scale, "gram [{i}, {j}]: {found}, oracle {sum}");
    }
    let coefficients: Vec<f64> = (0..k).map(|i| 1.5 - 0.37 * i as f64).collect();
    let expected = blend(&rows, &coefficients).unwrap();
    for seed in 0..=SEEDS {
        assert!(gradients.gram(library, seed) == found, "the order of the threads shows in gram's bits");
        for (s, out) in gradients.blend(library, &coefficients, seed).into_iter().enumerate() {
            let Some(expected) = &expected[s] else { continue };
            assert!(expected.to_vec1::<T>().unwrap() == out, "blend of slot {s}: other bits than on the CPU");
        }
    }
}

fn library() -> Option<Library> {
    Library::compile("cuda.cpp")
}

#[test]
fn the_kernels_agree_with_the_oracle_and_with_the_cpu() {
    let Some(library) = library() else { return };
    check::<f32>(&library, 3, |_, _| false);
    check::<f64>(&library, 3, |i, s| (i + s) % 3 == 0);
    check::<f16>(&library, 1, |_, _| false);
    // Three tiles of rows: pairs on and off the diagonal.
    check::<bf16>(&library, 9, |i, s| (i * 5 + s) % 4 == 1);
}

#[test]
fn what_is_not_finite_stays_in_its_row_and_column() {
    let Some(library) = library() else { return };
    // Row 0 has no gradient where row 1 is not finite.
    let mut gradients = Gradients::<f32>::new(6, |i, s| i == 0 && s == 0);
    gradients.0[1][0].as_mut().unwrap()[66_000] = f32::NAN;
    gradients.0[5][1].as_mut().unwrap()[3] = f32::INFINITY;
    let tensors = gradients.tensors();
    let rows: Vec<_> = tensors.iter().map(Vec::as_slice).collect();
    for (e, (found, expected)) in gradients.gram(&library, 0).iter().zip(oracle::gram(&rows).unwrap()).enumerate() {
        let same =
            if expected.is_nan() { found.is_nan() } else { *found == expected || (found - expected).abs() < 1e-8 };
        assert!(same, "[{}, {}]: {found}, oracle {expected}", e / 6, e % 6);
    }
}
