//! The optimizers against a plain f64 oracle, and exact resume.

use crate::support::gpu;
use balgrad_nn::{AdamW, OPTIMIZERS, Optimizer, Parameter, Sgd, clip_grad_norm, optimizer};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;

/// The two rules with their numbers.
#[derive(Clone, Copy, Debug)]
enum Kind {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Kind {
    fn over(self, parameters: Vec<Parameter>) -> candle_core::Result<Box<dyn Optimizer>> {
        match self {
            Self::AdamW(rule) => rule.over(parameters),
            Self::Sgd(rule) => rule.over(parameters),
        }
    }
}

const ADAM: Kind = Kind::AdamW(AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6 });
const SGD: Kind = Kind::Sgd(Sgd { momentum: 0.8 });

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
    fn step(&mut self, kind: Kind, g: f64, rate: f64, decay: f64) {
        self.t += 1;
        self.p -= rate * decay * self.p;
        match kind {
            Kind::AdamW(AdamW { beta1, beta2, eps }) => {
                self.m = beta1 * self.m + (1.0 - beta1) * g;
                self.v = beta2 * self.v + (1.0 - beta2) * g * g;
                let m = self.m / (1.0 - beta1.powi(self.t));
                let v = self.v / (1.0 - beta2.powi(self.t));
                self.p -= rate * m / (v.sqrt() + eps);
            }
            Kind::Sgd(Sgd { momentum }) => {
                self.m = momentum * self.m + g;
                self.p -= rate * self.m;
            }
        }
    }
}

#[test]
fn steps_agree_with_the_papers() {
    for kind in [ADAM, SGD, Kind::Sgd(Sgd { momentum: 0.0 })] {
        for (dtype, bound) in [(DType::F64, 1e-13), (DType::F32, 1e-5), (DType::BF16, 0.1)] {
            // More than a chunk, ending inside one and inside a vector.
            let n = if dtype == DType::F64 { 20_011 } else { 37 };
            let parameter = parameter("p", n, dtype);
            let var = parameter.var.clone();
            let mut plain: Vec<Plain> = f64s(&var).into_iter().map(|p| Plain { p, m: 0.0, v: 0.0, t: 0 }).collect();
            let mut optimizer = kind.over(vec![parameter]).unwrap();
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

/// Parameters of all sizes and types at once, on the device that the build is for, if it is for one.
#[test]
fn adamw_steps_on_a_gpu_as_on_the_cpu() {
    let Some(device) = gpu() else { return };
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
        let mut optimizer = ADAM.over(parameters).unwrap();
        for step in 0..3 {
            if step == 2 {
                let state = optimizer.state().unwrap();
                optimizer.load_state(&state).unwrap();
            }
            let mut grads = GradStore::default();
            for (i, ((dtype, n), var)) in kinds.iter().zip(&vars).enumerate() {
                grads.insert(var, tensor(30 + i + step, *n, *dtype).to_device(device).unwrap());
            }
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
    let mut optimizer = ADAM.over(vec![seen, unseen]).unwrap();
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
                    kind.over(vec![parameter]).unwrap()
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
            let mut optimizer = ADAM.over(vec![parameter]).unwrap();
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
    let mut optimizer = SGD.over(vec![a, b]).unwrap();
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
    let mut optimizer = ADAM.over(vec![parameter("a", 4, DType::F32)]).unwrap();
    let refused = |optimizer: &mut Box<dyn Optimizer>, state: &HashMap<String, Tensor>, what: &str| {
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
    let error = SGD.over(vec![parameter("a", 1, DType::F32), parameter("a", 1, DType::F32)]).unwrap_err();
    assert!(error.to_string().contains("`a`"), "{error}");
    let twice = parameter("a", 1, DType::F32);
    let error = SGD.over(vec![twice.clone(), Parameter { name: "b".into(), ..twice }]).unwrap_err();
    assert!(error.to_string().contains("`b`"), "{error}");
}

#[test]
fn an_optimizer_that_was_reset_is_a_new_one() {
    for kind in [ADAM, SGD] {
        let parameter = parameter("w", 9, DType::F32);
        let var = parameter.var.clone();
        let mut optimizer = kind.over(vec![parameter]).unwrap();
        let new = optimizer.state().unwrap();
        let mut grads = GradStore::default();
        grads.insert(&var, tensor(2, 9, DType::F32));
        optimizer.step(&grads, 0.1, &|_| 1.0).unwrap();
        optimizer.reset().unwrap();
        for (key, found) in optimizer.state().unwrap() {
            assert_eq!(f64s(&found), f64s(&new[&key]), "{key}");
        }
    }
}

#[test]
fn every_entry_of_the_table_builds_and_comes_back_from_its_state() {
    for entry in OPTIMIZERS {
        assert!(std::ptr::eq(optimizer(entry.name).unwrap(), *entry));
        let run = |given: Option<f64>, resume: bool| {
            let parameter = parameter("w", 21, DType::F32);
            let var = parameter.var.clone();
            let build = || entry.build(vec![parameter.clone()], |_| given).unwrap();
            let mut optimizer = build();
            for step in 0..4 {
                if resume && step == 2 {
                    let state = optimizer.state().unwrap();
                    optimizer = build();
                    optimizer.load_state(&state).unwrap();
                }
                let mut grads = GradStore::default();
                grads.insert(&var, tensor(step, 21, DType::F32));
                optimizer.step(&grads, 0.05, &|_| 1.0).unwrap();
            }
            f64s(&var)
        };
        assert_eq!(run(None, false), run(None, true), "{}", entry.name);
        assert_ne!(run(None, false), run(Some(0.25), false), "{}: its settings change nothing", entry.name);
    }
    let error = optimizer("adam").unwrap_err().to_string();
    assert!(error.contains("`adam`") && error.contains("adamw, sgd"), "{error}");
}

#[test]
fn clipping_bounds_the_norm_of_all_gradients_together() {
    let vars: Vec<Var> = (0..4).map(|i| parameter("v", 3 + i, DType::F32).var).collect();
    let filled = || {
        let mut grads = GradStore::default();
        // The last has none.
        for (i, var) in vars[..3].iter().enumerate() {
            grads.insert(var, tensor(5 + i, 3 + i, DType::F32));
        }
        grads
    };
    let all = |grads: &GradStore| vars.iter().filter_map(|var| grads.get(var)).flat_map(f64s).collect::<Vec<f64>>();
    let norm = all(&filled()).iter().map(|g| g * g).sum::<f64>().sqrt();

    let mut grads = filled();
    assert!((clip_grad_norm(&mut grads, &vars, norm / 2.0).unwrap() - norm).abs() < 1e-12);
    for (clipped, whole) in all(&grads).into_iter().zip(all(&filled())) {
        assert!((clipped - whole / 2.0).abs() < 1e-7);
    }
    assert!(grads.get(&vars[3]).is_none());

    let mut grads = filled();
    clip_grad_norm(&mut grads, &vars, norm * 1.01).unwrap();
    assert_eq!(all(&grads), all(&filled()), "gradients within the bound keep their bits");

    // Neither counted twice nor scaled twice.
    let mut grads = filled();
    let twice = [vars.clone(), vars.clone()].concat();
    assert!((clip_grad_norm(&mut grads, &twice, norm / 2.0).unwrap() - norm).abs() < 1e-12);

    let mut grads = filled();
    grads.insert(&vars[0], Tensor::new(&[f32::NAN, 1.0, 1.0], &Device::Cpu).unwrap());
    assert!(clip_grad_norm(&mut grads, &vars, 1e-3).unwrap().is_nan());
    assert_eq!(f64s(grads.get(&vars[1]).unwrap()), f64s(filled().get(&vars[1]).unwrap()));
    assert_eq!(clip_grad_norm(&mut GradStore::default(), &vars, 1.0).unwrap(), 0.0);
}
