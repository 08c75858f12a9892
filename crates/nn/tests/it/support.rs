//! What the tests of training ops share: an op's values against a definition, its gradients against central differences, its
//! bits under different numbers of threads.

use candle_core::{DType, Device, Result, Tensor, Var};

/// Pseudo-random values in [−1, 1), told by the seed.
pub(crate) fn values(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) type Op<'a> = &'a (dyn Fn(&[Tensor]) -> Result<Tensor> + Sync);

/// `Σ out · weights` for fixed weights, in f64, so that each output element counts differently.
pub(crate) fn loss(out: &Tensor) -> Tensor {
    let weights = values(99, out.dims()).to_dtype(out.dtype()).unwrap().to_device(out.device()).unwrap();
    (out * weights).unwrap().sum_all().unwrap()
}

/// The device that the build is for, if it is for one.
pub(crate) fn gpu() -> Option<Device> {
    match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
        (true, _) => Some(Device::new_cuda(0).unwrap()),
        (_, true) => Some(Device::new_metal(0).unwrap()),
        _ => None,
    }
}

/// The gradient of every input agrees with central differences in f64, and that in f32 with the one in f64, on a GPU too.
pub(crate) fn check_gradients(op: Op<'_>, inputs: &[Tensor]) {
    let gradients = |dtype, device: &Device| -> Vec<Vec<f64>> {
        let cast = |x: &Tensor| x.to_dtype(dtype).unwrap().to_device(device).unwrap();
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(&cast(x)).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let grads = loss(&op(&tensors).unwrap()).backward().unwrap();
        vars.iter().map(|var| f64s(grads.get(var).expect("every input gets a gradient"))).collect()
    };
    let (double, single) = (gradients(DType::F64, &Device::Cpu), gradients(DType::F32, &Device::Cpu));
    for (i, found) in gpu().iter().flat_map(|device| gradients(DType::F32, device)).enumerate() {
        let scale = double[i].iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
        for (found, expected) in found.iter().zip(&double[i]) {
            assert!((found - expected).abs() <= 1e-4 * scale, "input {i} on a GPU: {found}, expected {expected}");
        }
    }
    let at = |inputs: &[Tensor]| f64s(&loss(&op(inputs).unwrap()))[0];
    for (i, input) in inputs.iter().enumerate() {
        let scale = double[i].iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
        for e in 0..input.elem_count() {
            let moved = |by: f64| {
                let mut data = f64s(input);
                data[e] += by;
                let mut inputs = inputs.to_vec();
                inputs[i] = Tensor::from_vec(data, input.shape(), &Device::Cpu).unwrap();
                at(&inputs)
            };
            let h = 1e-5;
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let (d, s) = (double[i][e], single[i][e]);
            assert!((d - difference).abs() <= 1e-7 * scale, "input {i} element {e}: {d}, by differences {difference}");
            assert!((s - d).abs() <= 2e-5 * scale, "input {i} element {e}: f32 {s}, f64 {d}");
        }
    }
}

/// The op agrees with its definition, in f64 and in f32; bf16 comes back as bf16 and near.
pub(crate) fn check_values(op: Op<'_>, plain: Op<'_>, inputs: &[Tensor]) {
    let expected = plain(inputs).unwrap();
    for (dtype, bound) in [(DType::F64, 1e-13), (DType::F32, 2e-6), (DType::BF16, 5e-2)] {
        let cast: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
        let found = op(&cast).unwrap();
        assert_eq!((found.dims(), found.dtype()), (expected.dims(), dtype));
        for (a, b) in f64s(&found).into_iter().zip(f64s(&expected)) {
            assert!((a - b).abs() <= bound * b.abs().max(1.0), "{dtype:?}: {a}, expected {b}");
        }
    }
}

/// Forward and backward have the same bits under any number of threads.
pub(crate) fn check_threads(op: Op<'_>, inputs: &[Tensor]) {
    let run = || {
        let vars: Vec<Var> =
            inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(DType::F32).unwrap()).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let out = op(&tensors).unwrap();
        let grads = loss(&out).backward().unwrap();
        let mut bits: Vec<f64> = f64s(&out);
        bits.extend(vars.iter().flat_map(|var| f64s(grads.get(var).unwrap())));
        bits
    };
    let under = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    let alone = under(1);
    for threads in [2, 3, 8] {
        assert!(alone == under(threads), "bits differ between 1 and {threads} threads");
    }
}
