//! The three losses against plain f64 arithmetic and against central differences.

use crate::plain::model::{Model, matrix, tensor};
use crate::plain::{Matrix, Truth, random, rng};
use balgrad::Target;
use candle_core::{DType, Device, Tensor, Var};

fn near(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}: {a} against {b}");
}

fn scalar(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Truths of every form over a 5 × 3 batch.
fn truths() -> Vec<Model> {
    let forms = [(false, false), (false, true), (true, false), (true, true)];
    forms.iter().zip(0..).map(|((many, weighted), s)| Model::random(s, 3, *many, *weighted, false)).collect()
}

/// Logits that hit the kinks: zeros (a fresh head), equal rows, large and huge ones.
fn logits() -> Vec<Matrix> {
    let mut r = rng(7);
    let sparse = Matrix::from(5, 3, |i| if i % 2 == 0 { 0.0 } else { -1.5 });
    vec![Matrix::zeros(5, 3), sparse, random(&mut r, 5, 3, 1.0), random(&mut r, 5, 3, 30.0), random(&mut r, 5, 3, 1e4)]
}

#[test]
fn values_and_gradients_are_those_of_plain_arithmetic() {
    for dtype in [DType::F64, DType::F32] {
        let tolerance = if dtype == DType::F64 { 1e-12 } else { 2e-6 };
        for model in truths() {
            let labels = model.labels(dtype);
            for z in logits() {
                let z = z.map(|v| f64::from(v as f32));
                let var = Var::from_tensor(&tensor(&z, dtype)).unwrap();
                let loss = labels.nll(&var).unwrap();
                let (value, gradient) = crate::plain::cross_entropy(&z, &model.truth);
                near(scalar(&loss), value, tolerance, "cross-entropy");
                let got = matrix(loss.backward().unwrap().get(&var).unwrap());
                for (a, b) in got.data.iter().zip(&gradient.data) {
                    near(*a, *b, tolerance, "gradient of the cross-entropy");
                }
                let p = labels.true_class_probability(&var).unwrap().to_dtype(DType::F64).unwrap();
                for (a, b) in p.to_vec1::<f64>().unwrap().iter().zip(crate::plain::truth_probability(&z, &model.truth))
                {
                    near(*a, b, tolerance, "probability of the truth");
                }
            }
        }
    }
}

#[test]
fn divergence_is_that_of_plain_arithmetic() {
    for model in truths() {
        let labels = model.labels(DType::F64);
        for t in [0.5, 1.0, 4.0] {
            for (a, b) in logits().into_iter().zip(logits().into_iter().cycle().skip(2)) {
                let (va, vb) = (
                    Var::from_tensor(&tensor(&a, DType::F64)).unwrap(),
                    Var::from_tensor(&tensor(&b, DType::F64)).unwrap(),
                );
                let loss = labels.divergence(&va, &vb, t).unwrap();
                let (value, da, db) = crate::plain::kl(&a, &b, &model.truth, t);
                near(scalar(&loss), value, 1e-11, "divergence");
                assert!(scalar(&loss) >= -1e-12, "a divergence is not negative");
                let store = loss.backward().unwrap();
                for (var, expected) in [(&va, da), (&vb, db)] {
                    for (x, y) in matrix(store.get(var).unwrap()).data.iter().zip(&expected.data) {
                        near(*x, *y, 1e-9, "gradient of the divergence");
                    }
                }
            }
        }
    }
}

/// The hand-written gradients are themselves checked, so that both cannot be wrong in the same way.
#[test]
fn gradients_agree_with_central_differences() {
    let h = 1e-5;
    let (a, b) = (random(&mut rng(1), 5, 3, 2.0), random(&mut rng(2), 5, 3, 2.0));
    for model in truths() {
        let slope = |f: &dyn Fn(&Matrix) -> f64, at: &Matrix, i: usize| {
            let (mut up, mut down) = (at.clone(), at.clone());
            up.data[i] += h;
            down.data[i] -= h;
            (f(&up) - f(&down)) / (2.0 * h)
        };
        let labels = model.labels(DType::F64);
        let ce = |z: &Matrix| scalar(&labels.nll(&tensor(z, DType::F64)).unwrap());
        let from =
            |z: &Matrix| scalar(&labels.divergence(&tensor(z, DType::F64), &tensor(&b, DType::F64), 2.0).unwrap());
        let to = |z: &Matrix| scalar(&labels.divergence(&tensor(&a, DType::F64), &tensor(z, DType::F64), 2.0).unwrap());
        let (_, da, db) = crate::plain::kl(&a, &b, &model.truth, 2.0);
        let gradient = crate::plain::cross_entropy(&a, &model.truth).1;
        for i in 0..a.data.len() {
            near(gradient.data[i], slope(&ce, &a, i), 1e-8, "cross-entropy");
            near(da.data[i], slope(&from, &a, i), 1e-8, "divergence, target");
            near(db.data[i], slope(&to, &b, i), 1e-8, "divergence, prediction");
        }
    }
}

#[test]
fn huge_logits_and_weightless_batches_stay_finite() {
    let device = Device::Cpu;
    let z = Var::from_tensor(&Tensor::new(&[[1e4f32, -1e4, 0.0], [-1e4, 1e4, 1e4]], &device).unwrap()).unwrap();
    let flipped = z.neg().unwrap();
    let ids = Tensor::new(&[1u32, 0], &device).unwrap();
    let zero = Some(Tensor::new(&[0f32, 0.0, 1.0], &device).unwrap());
    let targets = Tensor::new(&[[1f32, 1.0, 0.0], [0.0, 0.0, 1.0]], &device).unwrap();
    for labels in [
        Target::class(ids.clone(), None),
        Target::class(ids, zero.clone()),
        Target::labels(targets.clone(), None),
        Target::labels(targets, zero),
    ] {
        for t in [1e-3, 1.0, 1e3] {
            let losses = [
                labels.nll(&z).unwrap(),
                labels.divergence(&flipped, &z, t).unwrap(),
                labels.divergence(&z, &flipped, t).unwrap(),
            ];
            for loss in losses {
                assert!(scalar(&loss).is_finite(), "{labels:?}: loss {loss}");
                let gradient = matrix(loss.backward().unwrap().get(&z).unwrap());
                assert!(gradient.data.iter().all(|v| v.is_finite()), "{labels:?}: {gradient:?}");
            }
        }
        let p = labels.true_class_probability(&z).unwrap().to_vec1::<f32>().unwrap();
        assert!(p.iter().all(|v| (0.0..=1.0).contains(v)), "{p:?}");
    }
    assert!(matches!(truths()[0].truth, Truth::Classes { .. }));
}
