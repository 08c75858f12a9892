//! One step's gradients against central differences of losses written by hand in f64.

use std::collections::BTreeMap;

use balgrad::{Balancer, EpochSummary, Granularity, Outputs, Request, Value, find};
use candle_core::{DType, Var};

use super::model::{Model, NAMES, blocks, matrix, role};
use super::{Matrix, Truth, cross_entropy, sigmoid, softmax};

pub type Loss<'a> = &'a dyn Fn(&Model) -> f64;

pub fn balancer(name: &str, given: &[(&str, &str)], vars: &[Var]) -> Balancer {
    let given: BTreeMap<String, Value> = given.iter().map(|(k, v)| ((*k).to_owned(), Value::parse(v))).collect();
    Balancer::new(find(name).unwrap().with(&given).unwrap(), blocks(vars, Granularity::Role), 1)
}

/// Every form of task and fusion, a few seeds each.
pub fn problems() -> impl Iterator<Item = Model> {
    (0..12).map(|s| Model::random(s, 2 + s as usize % 3, s % 2 == 1, s % 3 == 1, s % 4 > 1))
}

/// One step, its gradients checked against the differences of what should flow into towers, own heads and fused head.
pub fn check(b: &mut Balancer, model: &Model, vars: &[Var], into: [Loss<'_>; 3], what: &str) {
    check_with(b, model, vars, |_| (), into, what);
}

pub fn check_with(
    b: &mut Balancer,
    model: &Model,
    vars: &[Var],
    arrange: impl FnOnce(&mut Outputs),
    into: [Loss<'_>; 3],
    what: &str,
) {
    let (off, place) = apart(b, model, vars, arrange, into);
    assert!(off <= 3e-4, "{what}: off by {off} at {place}");
}

/// How far one step's gradients are from the differences, as a part of 1 + their length, and where that is worst.
pub fn apart(
    b: &mut Balancer,
    model: &Model,
    vars: &[Var],
    arrange: impl FnOnce(&mut Outputs),
    into: [Loss<'_>; 3],
) -> (f64, &'static str) {
    let mut worst = (0.0, "");
    let mut outputs = model.outputs(vars, false).unwrap();
    arrange(&mut outputs);
    let store = b.backward(&outputs, &model.labels(DType::F32)).unwrap();
    for (i, var) in vars.iter().enumerate() {
        let loss = into[match role(NAMES[i]) {
            balgrad::Role::Tower(_) => 0,
            balgrad::Role::Head(_) => 1,
            balgrad::Role::Fused => 2,
        }];
        let slope = |j: usize| {
            let at = |h: f64| {
                let mut moved = model.clone();
                moved.parameters[i].data[j] += h;
                loss(&moved)
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        let expected = Matrix::from(model.parameters[i].rows, model.parameters[i].cols, slope);
        let found = match store.get(var.as_tensor()) {
            Some(g) => matrix(g),
            None => Matrix::zeros(expected.rows, expected.cols),
        };
        let off = found.zip(&expected, |a, b| a - b).norm();
        assert!(off.is_finite());
        if off / (1.0 + expected.norm()) > worst.0 {
            worst = (off / (1.0 + expected.norm()), NAMES[i]);
        }
    }
    worst
}

pub fn nothing(_: &Model) -> f64 {
    0.0
}

pub fn task(m: &Model) -> f64 {
    cross_entropy(&m.logits().fused, &m.truth).0
}

pub fn uni(m: &Model) -> f64 {
    m.logits().own.iter().map(|z| cross_entropy(z, &m.truth).0).sum()
}

pub fn is_many(m: &Model) -> bool {
    matches!(m.truth, Truth::Many { .. })
}

/// The modalities as the fused head sees them.
pub fn views(m: &Model) -> [Matrix; 2] {
    let z = m.logits();
    if m.gated { z.alone } else { z.slices }
}

/// Distributions of one sample: one over classes, or one over yes and no for each label.
pub fn distributions(row: &[f64], many: bool) -> Vec<Vec<f64>> {
    if many { row.iter().map(|z| vec![sigmoid(*z), sigmoid(-z)]).collect() } else { vec![softmax(row)] }
}

/// The mean over samples (and labels) of something of two distributions.
pub fn compare(a: &Matrix, b: &Matrix, many: bool, f: impl Fn(&[f64], &[f64]) -> f64) -> Vec<f64> {
    let one = |r: usize| {
        let (p, q) = (distributions(a.row(r), many), distributions(b.row(r), many));
        p.iter().zip(&q).map(|(p, q)| f(p, q)).sum::<f64>() / p.len() as f64
    };
    (0..a.rows).map(one).collect()
}

pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 }).sum()
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The fused logits of other embeddings.
pub fn fuse(m: &Model, e: [&Matrix; 2]) -> Matrix {
    let p = &m.parameters;
    let sum = e[0].mul(&p[6]).add(&e[1].mul(&p[7])).plus_row(&p[8]);
    if m.gated { sum.add(&e[0].zip(e[1], |a, b| a * b).mul(&p[9])) } else { sum }
}

pub fn targets(m: &Model) -> Matrix {
    match &m.truth {
        Truth::Many { targets, .. } => targets.clone(),
        Truth::Classes { ids, .. } => {
            let classes = m.parameters[4].cols;
            Matrix::from(ids.len(), classes, |i| f64::from(u8::from(ids[i / classes] == i % classes)))
        }
    }
}

pub fn ended(b: &mut Balancer, epoch: usize) -> Vec<Request> {
    b.epoch_ended(EpochSummary { epoch, ..EpochSummary::default() }).unwrap()
}
