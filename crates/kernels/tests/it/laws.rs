//! Gram and blend on every device of the build: agreement with the oracle, the laws of linear algebra, and the same bits under
//! any number of threads.

use balgrad_kernels::{Row, blend, gram, oracle};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use std::sync::OnceLock;

/// The CPU, and the device that the build is for: without one, tests of such a build fail.
fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let mut devices = vec![Device::Cpu];
        if cfg!(feature = "cuda") {
            devices.push(Device::new_cuda(0).unwrap());
        }
        if cfg!(feature = "metal") {
            devices.push(Device::new_metal(0).unwrap());
        }
        devices
    })
}

fn on(rows: &[Vec<Option<Tensor>>], device: &Device) -> Vec<Vec<Option<Tensor>>> {
    let moved = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(device).unwrap());
    rows.iter().map(|row| row.iter().map(moved).collect()).collect()
}

/// Relative error of a Gram matrix: Metal has no f64.
fn gram_bound(device: &Device) -> f64 {
    if device.is_metal() { 2e-6 } else { 1e-13 }
}

/// Rows of gradients with values drawn from a counter, so that a seed tells them all; `mask` says which are missing.
fn rows(
    seed: u64,
    k: usize,
    sizes: &[usize],
    dtype: DType,
    missing: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<Option<Tensor>>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    (0..k)
        .map(|i| {
            sizes
                .iter()
                .enumerate()
                .map(|(j, &n)| {
                    let values: Vec<f64> = (0..n).map(|_| next()).collect();
                    let tensor = Tensor::from_vec(values, n, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                    (!missing(i, j)).then_some(tensor)
                })
                .collect()
        })
        .collect()
}

fn views(rows: &[Vec<Option<Tensor>>]) -> Vec<Row<'_>> {
    rows.iter().map(Vec::as_slice).collect()
}

fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `|a - b| ≤ bound · scale`, or both the same non-finite value.
fn close(a: f64, b: f64, scale: f64, bound: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= bound * scale.max(1e-300)
}

fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 2f64.powi(-52),
        DType::F32 => 2f64.powi(-23),
        DType::F16 => 2f64.powi(-10),
        _ => 2f64.powi(-7),
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), Just(2), Just(15), Just(16), Just(17), Just(31), Just(4999), 1usize..5000]
}

fn dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F64), Just(DType::BF16), Just(DType::F16)]
}

fn check(rows: &[Vec<Option<Tensor>>], coefficients: &[f64], dtype: DType) {
    let (sums, blended) = (oracle::gram(&views(rows)).unwrap(), oracle::blend(&views(rows), coefficients).unwrap());
    for device in devices().iter().filter(|device| !(device.is_metal() && dtype == DType::F64)) {
        let rows = on(rows, device);
        check_gram(&gram(&views(&rows)).unwrap(), &sums, gram_bound(device));
        let reach: f64 = coefficients.iter().map(|c| c.abs()).sum();
        // Sums that cancel are exact, but for Metal's.
        let reach = if device.is_metal() { reach } else { reach * 1e-4 };
        let fast = blend(&views(&rows), coefficients).unwrap();
        assert_eq!(fast.len(), blended.len());
        for (fast, slow) in fast.iter().zip(&blended) {
            assert_eq!(fast.is_some(), slow.is_some());
            let (Some(fast), Some(slow)) = (fast, slow) else {
                continue;
            };
            assert_eq!((fast.dtype(), fast.dims()), (dtype, slow.dims()));
            assert!(fast.device().same_device(device));
            for (a, b) in f64s(fast).into_iter().zip(f64s(slow)) {
                // Rounded to the type's own grid: half a unit, and a whisker of f64. f16's subnormals are 2⁻²⁴ apart.
                let grid = if dtype == DType::F16 { 2f64.powi(-25) / unit(dtype) } else { 0.0 };
                assert!(close(a, b, b.abs().max(reach).max(grid), unit(dtype)), "{a} {b} on {device:?}");
            }
        }
    }
}

fn check_gram(fast: &[f64], slow: &[f64], bound: f64) {
    assert_eq!(fast.len(), slow.len());
    let k = slow.len().isqrt();
    for i in 0..k {
        for j in 0..k {
            let scale = (slow[i * k + i] * slow[j * k + j]).sqrt();
            assert!(close(fast[i * k + j], slow[i * k + j], scale, bound), "[{i}, {j}] {fast:?} {slow:?}");
            assert_eq!(fast[i * k + j].to_bits(), fast[j * k + i].to_bits(), "symmetry");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_the_oracle(
        seed in any::<u64>(),
        k in 1usize..=7,
        sizes in prop::collection::vec(size(), 0..5),
        missing in any::<u64>(),
        dtype in dtype(),
        coefficients in prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), Just(-1.0), -3.0..3.0f64], 7),
    ) {
        let rows = rows(seed, k, &sizes, dtype, |i, j| missing >> (i * 8 + j) & 3 == 3);
        check(&rows, &coefficients[..k], dtype);
    }

    #[test]
    fn permuting_rows_permutes_the_gram_matrix(seed in any::<u64>(), n in size()) {
        let forward = rows(seed, 5, &[n, 3], DType::F32, |_, _| false);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        let (a, b) = (gram(&views(&forward)).unwrap(), gram(&views(&backward)).unwrap());
        for i in 0..25 {
            prop_assert_eq!(a[i].to_bits(), b[24 - i].to_bits());
        }
    }

    #[test]
    fn powers_of_two_scale_exactly(seed in any::<u64>(), n in size(), e in -8i32..8) {
        let s = 2f64.powi(e);
        let plain = rows(seed, 2, &[n], DType::F32, |_, _| false);
        let mut scaled = plain.clone();
        scaled[1][0] = scaled[1][0].as_ref().map(|t| (t * s).unwrap());
        let (a, b) = (gram(&views(&plain)).unwrap(), gram(&views(&scaled)).unwrap());
        prop_assert_eq!([a[0], a[1] * s, a[3] * s * s].map(f64::to_bits), [b[0], b[1], b[3]].map(f64::to_bits));
    }

    #[test]
    fn the_norm_of_a_blend_is_a_quadratic_form(seed in any::<u64>(), n in 1usize..5000, c in prop::array::uniform3(-2.0..2.0f64)) {
        let rows = rows(seed, 3, &[n], DType::F64, |_, _| false);
        let g = gram(&views(&rows)).unwrap();
        let blended = blend(&views(&rows), &c).unwrap();
        let norm = gram(&[&blended]).unwrap()[0];
        let form: f64 = (0..9).map(|e| c[e / 3] * g[e] * c[e % 3]).sum();
        let scale: f64 = (0..9).map(|e| (c[e / 3] * g[e] * c[e % 3]).abs()).sum();
        prop_assert!((norm - form).abs() <= 1e-12 * scale, "{norm} {form}");
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    // Enough for many chunks, and sizes that end inside a chunk and inside a vector.
    let rows = rows(7, 5, &[300_007, 1, 8192, 65_537], DType::F32, |i, j| i == 2 && j == 1);
    let c = [0.3, -1.7, 0.0, 2.5, 1e-3];
    let under = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let gram: Vec<u64> = gram(&views(&rows)).unwrap().iter().map(|x| x.to_bits()).collect();
            let blend: Vec<Vec<f64>> = blend(&views(&rows), &c).unwrap().iter().flatten().map(f64s).collect();
            (gram, blend)
        })
    };
    let one = under(1);
    assert_eq!(one, under(2));
    assert_eq!(one, under(7));
}

#[test]
fn a_mixed_block_keeps_each_slots_dtype() {
    let mut block = rows(1, 2, &[100], DType::F32, |_, _| false);
    for (row, other) in block.iter_mut().zip(rows(2, 2, &[50], DType::BF16, |_, _| false)) {
        row.extend(other);
    }
    let slow = oracle::gram(&views(&block)).unwrap();
    for device in devices() {
        let block = on(&block, device);
        let blended = blend(&views(&block), &[0.5, 2.0]).unwrap();
        let dtypes: Vec<_> = blended.iter().flatten().map(Tensor::dtype).collect();
        assert_eq!(dtypes, [DType::F32, DType::BF16]);
        check_gram(&gram(&views(&block)).unwrap(), &slow, gram_bound(device));
    }
}

#[test]
fn strided_tensors_are_read_as_they_are_seen() {
    for device in devices() {
        let base = Tensor::arange(0f32, 12.0, device).unwrap().reshape((3, 4)).unwrap();
        let (turned, narrow) = (base.t().unwrap(), base.narrow(0, 1, 2).unwrap());
        let rows =
            [vec![Some(turned.clone()), Some(narrow.clone())], vec![Some(turned.contiguous().unwrap()), Some(narrow)]];
        let g = gram(&views(&rows)).unwrap();
        assert!(g.iter().all(|&x| x == g[0]) && g[0] == 506.0 + (4..12).map(|x| x * x).sum::<i32>() as f64, "{g:?}");
        let doubled = blend(&views(&rows), &[1.0, 1.0]).unwrap();
        assert_eq!(f64s(doubled[0].as_ref().unwrap()), f64s(&(turned * 2.0).unwrap()));
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    let of = |device: &Device, bad: f32| {
        let tensor = |x: f32| Some(Tensor::new(&[x, 1.0], device).unwrap());
        let rows = [vec![tensor(bad)], vec![tensor(2.0)], vec![tensor(3.0)]];
        let g = gram(&views(&rows)).unwrap();
        let poisoned: Vec<bool> = g.iter().map(|x| !x.is_finite()).collect();
        assert_eq!(poisoned, [true, true, true, true, false, false, true, false, false]);
        // A coefficient of 0, of either sign, skips the row; any other lets the NaN through.
        for zero in [0.0, -0.0] {
            assert_eq!(f64s(blend(&views(&rows), &[zero, 2.0, 1.0]).unwrap()[0].as_ref().unwrap()), [7.0, 3.0]);
        }
        let through = f64s(blend(&views(&rows), &[1e-9, 2.0, 1.0]).unwrap()[0].as_ref().unwrap());
        assert!(!through[0].is_finite() && through[1].is_finite());
    };
    for device in devices() {
        of(device, f32::NAN);
        of(device, f32::INFINITY);
    }
}

/// The order of the sums is told by the shapes.
#[test]
fn a_second_run_has_the_same_bits() {
    let rows = rows(13, 5, &[300_007, 1, 65_537], DType::F32, |i, j| i == 2 && j == 1);
    for device in devices() {
        let rows = on(&rows, device);
        let run = || gram(&views(&rows)).unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(run(), run());
    }
}

/// A gradient of many chunks, with a length that fills no vector.
#[test]
fn large_gradients_blend_as_small_ones_do() {
    let len = (16 << 20) / 2 + 5;
    for dtype in [DType::F32, DType::BF16] {
        let rows = rows(11, 3, &[len], dtype, |_, _| false);
        for device in devices() {
            let rows = on(&rows, device);
            let blended = blend(&views(&rows), &[1.0, 0.5, -0.25]).unwrap()[0].clone().unwrap();
            for start in [0, len / 2 + 1, len - 5000] {
                let part =
                    |row: &Vec<Option<Tensor>>| vec![Some(row[0].as_ref().unwrap().narrow(0, start, 5000).unwrap())];
                let parts: Vec<Vec<Option<Tensor>>> = rows.iter().map(part).collect();
                let expected = blend(&views(&parts), &[1.0, 0.5, -0.25]).unwrap()[0].clone().unwrap();
                assert!(f64s(&blended.narrow(0, start, 5000).unwrap()) == f64s(&expected), "{dtype:?} from {start}");
            }
        }
    }
}

#[test]
fn edges_of_blend() {
    let rows = rows(3, 2, &[4, 4, 4], DType::F32, |i, j| j == 1 || (i == 0 && j == 2));
    // Nothing there: none. All skipped: zeros. One row at coefficient 1: that gradient.
    let blended = blend(&views(&rows), &[1.0, 0.0]).unwrap();
    assert_eq!(f64s(blended[0].as_ref().unwrap()), f64s(rows[0][0].as_ref().unwrap()));
    assert!(blended[1].is_none());
    assert_eq!(f64s(blended[2].as_ref().unwrap()), [0.0; 4]);
    assert!(gram(&[]).unwrap().is_empty() && blend(&[], &[]).unwrap().is_empty());
    assert_eq!(gram(&[&[None], &[None]]).unwrap(), [0.0; 4]);
}

#[test]
fn errors_name_row_and_tensor() {
    let tensor = |n: usize, dtype| Some(Tensor::zeros(n, dtype, &Device::Cpu).unwrap());
    let message = |rows: &[Vec<Option<Tensor>>]| gram(&views(rows)).unwrap_err().to_string();
    let shapes = message(&[vec![None, tensor(3, DType::F32)], vec![None, tensor(4, DType::F32)]]);
    for part in ["row 1", "tensor 1", "[3]", "[4]", "f32"] {
        assert!(shapes.contains(part), "{part}: {shapes}");
    }
    let dtypes = message(&[vec![tensor(3, DType::F32)], vec![tensor(3, DType::F64)]]);
    assert!(dtypes.contains("f32") && dtypes.contains("f64"), "{dtypes}");
    let lengths = message(&[vec![None], vec![None, None]]);
    assert!(lengths.contains("row 1 has 2 tensors"), "{lengths}");
    let ids = message(&[vec![tensor(3, DType::U32)]]);
    assert!(ids.contains("u32"), "{ids}");
    assert!(blend(&[&[None]], &[]).unwrap_err().to_string().contains("1 rows, found 0"));
}
