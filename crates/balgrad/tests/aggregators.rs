//! The aggregators against TorchJD, against their own equations, and against laws that also hold where the Gram matrix
//! is singular.
#![allow(clippy::unwrap_used)]

use balgrad::aggregate::{Aggregation, Aggregator, Round};
use balgrad::methods::{
    aligned_mtl, cagrad, dualproj, dwa, gradnorm, gradvac, imtl_g, mgda, nash_mtl, pcgrad, rlw, uncertainty, upgrad,
};
use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

type Rows = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    g: Rows,
    directions: std::collections::BTreeMap<String, Vec<f64>>,
    pcgrad: PcGradCase,
    gradvac: GradVacCase,
}

#[derive(Deserialize)]
struct PcGradCase {
    orders: Vec<Vec<usize>>,
    d: Vec<f64>,
}

#[derive(Deserialize)]
struct GradVacCase {
    orders: [Vec<Vec<usize>>; 2],
    d: Vec<f64>,
}

fn fixture() -> Vec<Case> {
    let fixture: Fixture = serde_json::from_str(include_str!("torchjd/aggregators.json")).unwrap();
    assert!(fixture.cases.len() >= 200);
    fixture.cases
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn gram(rows: &Rows) -> Vec<f64> {
    rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect()
}

fn direction(rows: &Rows, weights: &[f64]) -> Vec<f64> {
    (0..rows[0].len()).map(|c| rows.iter().zip(weights).map(|(r, w)| w * r[c]).sum()).collect()
}

fn largest(rows: &Rows) -> f64 {
    rows.iter().map(|r| norm(r)).fold(0.0, f64::max)
}

type Rule = fn(&[f64], usize) -> Vec<f64>;

/// The rules that are functions of the Gram matrix alone.
const RULES: [(&str, Rule); 7] = [
    ("mgda", |g, k| mgda::weights(g, k, 1e-3, 100)),
    ("cagrad", |g, k| cagrad::weights(g, k, 0.4)),
    ("upgrad", upgrad::weights),
    ("dualproj", dualproj::weights),
    ("aligned-mtl", aligned_mtl::weights),
    ("imtl-g", imtl_g::weights),
    ("nash-mtl", nash_mtl::weights),
];

#[test]
fn directions_are_torchjds() {
    let mut wrong = Vec::new();
    for (i, case) in fixture().iter().enumerate() {
        let (g, k) = (gram(&case.g), case.g.len());
        let mut compare = |name: &str, weights: &[f64], theirs: &[f64]| {
            let ours = direction(&case.g, weights);
            let off = norm(&ours.iter().zip(theirs).map(|(a, b)| a - b).collect::<Vec<_>>());
            if off.is_nan() || off > 1e-4 * largest(&case.g) {
                wrong.push(format!("{name}, case {i} ({}): off by {:.2e}", case.kind, off / largest(&case.g)));
            }
        };
        for (name, rule) in RULES {
            if let Some(theirs) = case.directions.get(name) {
                compare(name, &rule(&g, k), theirs);
            }
        }
        compare("pcgrad", &pcgrad::weights(&g, k, &case.pcgrad.orders), &case.pcgrad.d);
        let mut targets = vec![0.0; k * k];
        gradvac::weights(&g, k, &case.gradvac.orders[0], 0.5, &mut targets);
        let second = gradvac::weights(&g, k, &case.gradvac.orders[1], 0.5, &mut targets);
        compare("gradvac", &second, &case.gradvac.d);
        assert_eq!(case.directions.len(), 6);
    }
    assert!(wrong.is_empty(), "{} disagree:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nash_solves_its_equation() {
    for case in fixture() {
        let (g, k) = (gram(&case.g), case.g.len());
        let alpha = nash_mtl::weights(&g, k);
        for i in 0..k {
            let residual = alpha[i] * dot(&g[i * k..(i + 1) * k], &alpha) - 1.0;
            assert!(alpha[i] > 0.0 && residual.abs() <= 1e-6, "{}: residual {residual}", case.kind);
        }
    }
}
