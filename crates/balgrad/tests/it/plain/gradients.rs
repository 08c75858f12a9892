//! Gradients of the objectives by hand, and how close is close.

use candle_core::backprop::GradStore;

use super::model::{Cotangents, Gradient, Model, matrix};
use super::{Matrix, cross_entropy, kl};

/// Parameters of `Model` by role: two towers, two own heads, the fused head.
pub const PARTS: [&[usize]; 5] = [&[0, 1], &[2, 3], &[4], &[5], &[6, 7, 8, 9]];

pub fn task(model: &Model) -> Gradient {
    let fused = Some(cross_entropy(&model.logits().fused, &model.truth).1);
    model.backprop(&Cotangents { fused, ..Cotangents::default() })
}

pub fn own(model: &Model, m: usize) -> Gradient {
    let mut into = Cotangents::default();
    into.own[m] = Some(cross_entropy(&model.logits().own[m], &model.truth).1);
    model.backprop(&into)
}

/// The gradient of `KL(p_other ‖ p_m)`, which reaches the other modality as well if `symmetric`.
pub fn agree(model: &Model, m: usize, t: f64, symmetric: bool) -> Gradient {
    let z = model.logits().own;
    let (_, toward, back) = kl(&z[1 - m], &z[m], &model.truth, t);
    let mut into = Cotangents::default();
    into.own[m] = Some(back);
    into.own[1 - m] = symmetric.then_some(toward);
    model.backprop(&into)
}

pub fn plus(a: &Gradient, b: &Gradient) -> Gradient {
    let pair = |x: &[Matrix], y: &[Matrix]| x.iter().zip(y).map(|(x, y)| x.add(y)).collect::<Vec<_>>();
    let embeddings = [0, 1].map(|m| a.embeddings[m].add(&b.embeddings[m]));
    Gradient { parameters: pair(&a.parameters, &b.parameters), embeddings }
}

pub fn norm(matrices: &[Matrix], of: &[usize]) -> f64 {
    of.iter().map(|i| matrices[*i].dot(&matrices[*i])).sum::<f64>().sqrt()
}

/// What should come out: a gradient, and per part the size that rounding is measured by.
pub struct Expected {
    pub gradient: Vec<Matrix>,
    pub size: [f64; 5],
}

/// `Σ_i c_i[part] · g_i`.
pub fn combine(terms: &[([f64; 5], &Gradient)]) -> Expected {
    let mut gradient: Vec<Matrix> = terms[0].1.parameters.iter().map(|m| m.scale(0.0)).collect();
    let mut size = [0.0; 5];
    for (c, g) in terms {
        for (part, of) in PARTS.iter().enumerate() {
            size[part] += c[part].abs() * norm(&g.parameters, of);
            for i in *of {
                gradient[*i] = gradient[*i].add(&g.parameters[*i].scale(c[part]));
            }
        }
    }
    Expected { gradient, size }
}

pub fn assert_close(model: &Model, vars: &[candle_core::Var], store: &GradStore, expected: &Expected, what: &str) {
    for (part, of) in PARTS.iter().enumerate() {
        let mut squared = 0.0;
        for i in of.iter().filter(|i| **i != 9 || model.gated) {
            let shape = &model.parameters[*i];
            let got = store.get(vars[*i].as_tensor()).map_or_else(|| Matrix::zeros(shape.rows, shape.cols), matrix);
            squared += got.zip(&expected.gradient[*i], |a, b| (a - b).powi(2)).data.iter().sum::<f64>();
        }
        let bound = 1e-5 * expected.size[part] + 1e-12;
        assert!(squared.sqrt() <= bound, "{what}, part {part}: off by {} of {bound}", squared.sqrt());
    }
}
