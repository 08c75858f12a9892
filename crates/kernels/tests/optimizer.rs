//! The optimizers against a plain f64 oracle, and exact resume.
#![allow(clippy::unwrap_used, missing_docs)]

use balgrad_kernels::{Gradients, Optimizer, OptimizerKind, Parameter, Row, blend};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, TensorId, Var};
use std::collections::HashMap;

const ADAM: OptimizerKind = OptimizerKind::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6 };
const SGD: OptimizerKind = OptimizerKind::Sgd { momentum: 0.8 };

fn value(seed: usize, i: usize) -> f64 {
    ((seed * 7919 + i * 104_729) % 2003) as f64 / 1001.0 - 1.0
}

fn tensor(seed: usize, n: usize, dtype: DType) -> Tensor {
    let values: Vec<f64> = (0..n).map(|i| value(seed, i)).collect();
    Tensor::from_vec(values, n, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn parameter(name: &str, n: usize, dtype: DType) -> Parameter {
    let var = Var::from_tensor(&tensor(1, n, dtype)).unwrap();
    Parameter { name: name.into(), var, lr_scale: 0.5, weight_decay: 0.1 }
}

/// The rules as their papers print them, one number at a time.
struct Plain {
    p: f64,
    m: f64,
    v: f64,
    t: i32,
}

impl Plain {
    fn step(&mut self, kind: OptimizerKind, g: f64, rate: f64, decay: f64) {
        self.t += 1;
        self.p -= rate * decay * self.p;
        match kind {
            OptimizerKind::AdamW { beta1, beta2, eps } => {
                self.m = beta1 * self.m + (1.0 - beta1) * g;
                self.v = beta2 * self.v + (1.0 - beta2) * g * g;
                let m = self.m / (1.0 - beta1.powi(self.t));
                let v = self.v / (1.0 - beta2.powi(self.t));
                self.p -= rate * m / (v.sqrt() + eps);
            }
            OptimizerKind::Sgd { momentum } => {
                self.m = momentum * self.m + g;
                self.p -= rate * self.m;
            }
        }
    }
}

#[test]
fn steps_agree_with_the_papers() {
    for kind in [ADAM, SGD, OptimizerKind::Sgd { momentum: 0.0 }] {
        for (dtype, bound) in [(DType::F64, 1e-13), (DType::F32, 1e-5), (DType::BF16, 0.1)] {
            // More than a chunk, ending inside one and inside a vector.
            let n = if dtype == DType::F64 { 20_011 } else { 37 };
            let parameter = parameter("p", n, dtype);
            let var = parameter.var.clone();
            let mut plain: Vec<Plain> = f64s(&var).into_iter().map(|p| Plain { p, m: 0.0, v: 0.0, t: 0 }).collect();
            let mut optimizer = Optimizer::new(vec![parameter], kind).unwrap();
            for step in 0..6 {
                let mut grads = GradStore::default();
                let grad = tensor(10 + step, n, dtype);
                grads.insert(&var, grad.clone());
                optimizer
                    .step(&grads, 0.02, &|name| {
                        if name == "p" { 1.5 } else { f64::NAN }
                    })
                    .unwrap();
                for (plain, g) in plain.iter_mut().zip(f64s(&grad)) {
                    plain.step(kind, g, 0.02 * 0.5 * 1.5, 0.1);
                }
            }
            for (found, plain) in f64s(&var).into_iter().zip(&plain) {
                assert!((found - plain.p).abs() <= bound, "{kind:?} {dtype:?}: {found}, expected {}", plain.p);
            }
        }
    }
}

/// The terms of each variable.
struct Each(HashMap<TensorId, Vec<(f64, Tensor)>>);

impl Gradients for Each {
    fn terms(&self, var: &Var) -> Vec<(f64, &Tensor)> {
        self.0[&var.as_tensor().id()].iter().map(|(c, g)| (*c, g)).collect()
    }
}

#[test]
fn terms_are_summed_as_blend_sums_them() {
    for kind in [ADAM, SGD] {
        for (dtype, n) in [(DType::F64, 40_011), (DType::F32, 250_003), (DType::F32, 7), (DType::BF16, 37)] {
            for k in [1, 2, 3, 6] {
                let terms: Vec<_> = (0..k).map(|i| (1.25 - 0.4 * i as f64, tensor(20 + i, n, dtype))).collect();
                let rows: Vec<_> = terms.iter().map(|(_, g)| vec![Some(g.clone())]).collect();
                let rows: Vec<Row<'_>> = rows.iter().map(Vec::as_slice).collect();
                let coefficients: Vec<f64> = terms.iter().map(|(c, _)| *c).collect();
                let run = |fused: bool, threads: usize| {
                    let steps = || {
                        let parameter = parameter("w", n, dtype);
                        let var = parameter.var.clone();
                        let mut optimizer = Optimizer::new(vec![parameter], kind).unwrap();
                        for _ in 0..2 {
                            if fused {
                                let grads = Each(HashMap::from([(var.as_tensor().id(), terms.clone())]));
                                optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
                                continue;
                            }
                            let mut grads = GradStore::default();
                            grads.insert(&var, blend(&rows, &coefficients).unwrap()[0].clone().unwrap());
                            optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
                        }
                        f64s(&var)
                    };
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(steps)
                };
                let whole = run(false, 1);
                assert!(whole == run(true, 1) && whole == run(true, 3), "{kind:?}: {k} terms of {n} {dtype:?}");
            }
        }
    }
}

/// Parameters of all sizes and types at once, on the device that the build is for, if it is for one.
#[test]
fn adamw_steps_on_a_gpu_as_on_the_cpu() {
    let device = match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
        (true, _) => Device::new_cuda(0).unwrap(),
        (_, true) => Device::new_metal(0).unwrap(),
        _ => return,
    };
    let kinds = [(DType::F32, 70_001), (DType::BF16, 300), (DType::F16, 5), (DType::F64, 33), (DType::F32, 1)];
    let kinds: Vec<_> = kinds.into_iter().filter(|(dtype, _)| device.is_cuda() || *dtype == DType::F32).collect();
    let run = |device: &Device| {
        let parameters: Vec<Parameter> = kinds
            .iter()
            .enumerate()
            .map(|(i, (dtype, n))| {
                let parameter = parameter(&i.to_string(), *n, *dtype);
                Parameter { var: Var::from_tensor(&parameter.var.to_device(device).unwrap()).unwrap(), ..parameter }
            })
            .collect();
        let vars: Vec<Var> = parameters.iter().map(|parameter| parameter.var.clone()).collect();
        let mut optimizer = Optimizer::new(parameters, ADAM).unwrap();
        for step in 0..3 {
            if step == 2 {
                let state = optimizer.state().unwrap();
                optimizer.load_state(&state).unwrap();
            }
            // Of one term, two, or three.
            let terms = |i: usize, dtype, n| {
                let term = |t| {
                    (1.0 - 0.3 * (i + t) as f64, tensor(30 + i + 7 * t + step, n, dtype).to_device(device).unwrap())
                };
                (0..1 + i % 3).map(term).collect()
            };
            let of = kinds.iter().zip(&vars).enumerate();
            let grads = Each(of.map(|(i, ((dtype, n), var))| (var.as_tensor().id(), terms(i, *dtype, *n))).collect());
            optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
        }
        vars.iter().map(|var| f64s(&var.to_device(&Device::Cpu).unwrap())).collect::<Vec<_>>()
    };
    for (there, here) in run(&device).iter().zip(run(&Device::Cpu)) {
        for (a, b) in there.iter().zip(here) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-2), "{a}, on the CPU {b}");
        }
    }
}

#[test]
fn a_parameter_without_gradient_is_left_alone() {
    let (seen, unseen) = (parameter("seen", 5, DType::F32), parameter("unseen", 5, DType::F32));
    let (seen_var, unseen_var) = (seen.var.clone(), unseen.var.clone());
    let before = f64s(&unseen_var);
    let mut optimizer = Optimizer::new(vec![seen, unseen], ADAM).unwrap();
    let initial = optimizer.state().unwrap();
    let mut grads = GradStore::default();
    grads.insert(&seen_var, tensor(3, 5, DType::F32));
    optimizer.step(&grads, 0.1, &|_| 1.0).unwrap();
    assert_eq!(f64s(&unseen_var), before);
    assert_ne!(f64s(&seen_var), before);
    let state = optimizer.state().unwrap();
    for key in ["steps", "first_moment", "second_moment"] {
        let unseen = format!("unseen.{key}");
        assert_eq!(f64s(&state[&unseen]), f64s(&initial[&unseen]));
        assert_ne!(f64s(&state[&format!("seen.{key}")]), f64s(&initial[&format!("seen.{key}")]));
    }
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    for kind in [ADAM, SGD] {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let run = |resume_at: Option<usize>| {
                let var = parameter("w", 33, dtype).var;
                let make = |var: &Var| {
                    let parameter = Parameter { name: "w".into(), var: var.clone(), lr_scale: 1.0, weight_decay: 0.01 };
                    Optimizer::new(vec![parameter], kind).unwrap()
                };
                let mut optimizer = make(&var);
                for step in 0..7 {
                    if resume_at == Some(step) {
                        let state = optimizer.state().unwrap();
                        optimizer = make(&var);
                        optimizer.load_state(&state).unwrap();
                    }
                    let mut grads = GradStore::default();
                    grads.insert(&var, tensor(step, 33, dtype));
                    optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
                }
                f64s(&var)
            };
            assert_eq!(run(None), run(Some(3)));
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let under = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let parameter = parameter("w", 200_003, DType::F32);
            let var = parameter.var.clone();
            let mut optimizer = Optimizer::new(vec![parameter], ADAM).unwrap();
            for step in 0..3 {
                let mut grads = GradStore::default();
                grads.insert(&var, tensor(step, 200_003, DType::F32));
                optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
            }
            f64s(&var)
        })
    };
    assert!(under(1) == under(3));
}

#[test]
fn a_gradient_that_does_not_fit_changes_nothing() {
    let (a, b) = (parameter("a", 4, DType::F32), parameter("b", 4, DType::F32));
    let (a_var, b_var) = (a.var.clone(), b.var.clone());
    let mut optimizer = Optimizer::new(vec![a, b], SGD).unwrap();
    let before = f64s(&a_var);
    let mut grads = GradStore::default();
    grads.insert(&a_var, tensor(1, 4, DType::F32));
    grads.insert(&b_var, tensor(1, 5, DType::F32));
    let error = optimizer.step(&grads, 0.1, &|_| 1.0).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("[4]") && error.contains("[5]"), "{error}");
    assert_eq!(f64s(&a_var), before);
}

#[test]
fn foreign_states_and_double_names_are_refused() {
    let mut optimizer = Optimizer::new(vec![parameter("a", 4, DType::F32)], ADAM).unwrap();
    let refused = |optimizer: &mut Optimizer, state: &HashMap<String, Tensor>, what: &str| {
        let error = optimizer.load_state(state).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    let good = optimizer.state().unwrap();
    let mut missing = good.clone();
    missing.remove("a.first_moment");
    refused(&mut optimizer, &missing, "a.first_moment");
    let mut shape = good.clone();
    shape.insert("a.second_moment".into(), tensor(1, 3, DType::F32));
    refused(&mut optimizer, &shape, "[3]");
    let mut extra = good;
    extra.insert("z.steps".into(), tensor(1, 1, DType::F32));
    refused(&mut optimizer, &extra, "another model");
    let error = Optimizer::new(vec![parameter("a", 1, DType::F32), parameter("a", 1, DType::F32)], SGD).unwrap_err();
    assert!(error.to_string().contains("`a`"), "{error}");
    let twice = parameter("a", 1, DType::F32);
    let error = Optimizer::new(vec![twice.clone(), Parameter { name: "b".into(), ..twice }], SGD).unwrap_err();
    assert!(error.to_string().contains("`b`"), "{error}");
}
