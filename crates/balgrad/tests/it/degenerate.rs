//! Twelve kinds of degenerate gradients, 25 of each, against exact arithmetic (`degenerate/make.py`); and what is refused.

use balgrad::aggregate::{Aggregation, Aggregator};
use balgrad::methods::{cagrad, dualproj, mgda, nash_mtl, upgrad};
use balgrad::{
    Balancer, Block, BlockInfo, Clock, Evidence, GramScope, Method, Mix, Needs, Objective, Objectives, Outputs, Role,
    Signals, Target, find,
};
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

type Rows = Vec<Vec<f64>>;
type Rule = fn(&[f64], usize) -> Vec<f64>;

#[derive(Deserialize)]
struct Case {
    kind: String,
    g: Rows,
    directions: std::collections::BTreeMap<String, Vec<f64>>,
}

const RULES: [(&str, Rule); 3] =
    [("upgrad", upgrad::weights), ("dualproj", dualproj::weights), ("mgda", mgda::weights)];

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("degenerate/cases.json")).unwrap();
    assert!(cases.chunks(25).all(|same| same.iter().all(|c| c.kind == same[0].kind)) && cases.len() == 12 * 25);
    cases
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

/// `Σ |w_i| ‖g_i‖`: what rounding of the direction is measured by.
fn size(rows: &Rows, weights: &[f64]) -> f64 {
    rows.iter().zip(weights).map(|(r, w)| w.abs() * norm(r)).sum()
}

#[test]
fn directions_are_those_of_exact_arithmetic() {
    for (i, case) in cases().iter().enumerate() {
        for (name, rule) in RULES {
            let weights = rule(&gram(&case.g), case.g.len());
            let apart: Vec<f64> =
                direction(&case.g, &weights).iter().zip(&case.directions[name]).map(|(a, b)| a - b).collect();
            let off = norm(&apart) / size(&case.g, &weights).max(f64::MIN_POSITIVE);
            assert!(off <= 1e-9, "{name}, case {i} ({}): off by {off:.1e}", case.kind);
        }
    }
}

/// `⟨d, g_i⟩ ≥ −10⁻⁶ ‖d‖ ‖g_i‖`, unless the exact `d` is zero beside its own terms.
#[test]
fn no_objective_loses() {
    for (i, case) in cases().iter().enumerate() {
        for (name, rule) in RULES {
            let weights = rule(&gram(&case.g), case.g.len());
            let (d, terms) = (direction(&case.g, &weights), size(&case.g, &weights));
            let vanishes = norm(&case.directions[name]) <= 1e-9 * terms;
            for r in &case.g {
                let (inner, allowed) = (dot(&d, r), if vanishes { 1e-12 * terms } else { 1e-6 * norm(&d) });
                assert!(inner >= -allowed * norm(r), "{name}, case {i} ({}): loses {inner:.1e}", case.kind);
            }
        }
    }
}

/// The conditions of Karush, Kuhn and Tucker, for the two rules that solve one programme each.
#[test]
fn weights_are_feasible_and_complementary() {
    for (i, case) in cases().iter().enumerate() {
        let (k, what) = (case.g.len(), format!("case {i} ({})", case.kind));
        let v = dualproj::weights(&gram(&case.g), k);
        let (d, terms) = (direction(&case.g, &v), size(&case.g, &v));
        for (v, r) in v.iter().zip(&case.g) {
            let added = v - 1.0 / k as f64;
            assert!(added >= 0.0 && added * dot(&d, r).abs() <= 1e-12 * terms * terms, "{what}: {v}");
        }
        let alpha = mgda::weights(&gram(&case.g), k);
        let (d, terms) = (direction(&case.g, &alpha), size(&case.g, &alpha));
        assert!(
            (alpha.iter().sum::<f64>() - 1.0).abs() < 1e-12 && alpha.iter().all(|a| *a >= 0.0),
            "{what}: {alpha:?}"
        );
        for (a, r) in alpha.iter().zip(&case.g) {
            let gain = dot(&d, r) - dot(&d, &d);
            assert!(gain >= -1e-12 * terms * (norm(r) + norm(&d)), "{what}: {gain}");
            assert!(a * gain.abs() <= 1e-12 * terms * terms, "{what}: {a} of {gain}");
        }
    }
}

#[test]
fn sixty_four_gradients_are_no_harder() {
    let mut rng = ChaCha8Rng::seed_from_u64(64);
    for (k, n) in [(16, 8), (32, 32), (64, 40), (64, 80)] {
        let rows: Rows = (0..k)
            .map(|_| {
                let scale = 10f64.powf(rng.random_range(-5.0..5.0));
                (0..n).map(|_| scale * rng.random_range(-1.0..1.0)).collect()
            })
            .collect();
        for (name, rule) in RULES {
            let weights = rule(&gram(&rows), k);
            let (d, terms) = (direction(&rows, &weights), size(&rows, &weights));
            let loss = rows.iter().map(|r| -dot(&d, r) / norm(r)).fold(0.0, f64::max);
            assert!(loss <= 1e-13 * terms, "{name}, {k} of {n}: loses {loss:.1e} of {terms:.1e}");
        }
    }
}

/// Through tensors in f32, where a ridge of old left the cone by up to 12 %.
#[test]
fn norms_may_differ_by_ten_orders() {
    for ratio in [1f32, 4e-6, 8e-8, 4e-10, 1e-10] {
        let rows = [[1.0, 0.4, -0.2, 0.3], [-0.9, 0.5, 0.1, 0.2], [-0.3, -0.8, 0.4, 0.1]];
        let rows: Vec<Vec<f32>> =
            rows.iter().enumerate().map(|(i, r)| r.map(|v| if i == 1 { v * ratio } else { v }).to_vec()).collect();
        let rules: [Box<dyn Aggregator>; 3] =
            [Box::new(upgrad::UpGrad), Box::new(dualproj::DualProj), Box::new(mgda::Mgda)];
        for rule in rules {
            let x = Var::zeros(4, DType::F32, &Device::Cpu).unwrap();
            let loss = |r: &Vec<f32>| (x.as_tensor() * Tensor::new(r.as_slice(), &Device::Cpu)?)?.sum_all();
            let losses = rows.iter().map(loss).collect::<Result<Vec<_>>>().unwrap();
            let mut aggregation = Aggregation::new(rule, vec![x.clone()], 0);
            let store = aggregation.backward(&losses, &[]).unwrap();
            let d: Vec<f32> = store.get(x.as_tensor()).unwrap().to_vec1().unwrap();
            let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            for r in &rows {
                let cosine = dot(&wide(&d), &wide(r)) / norm(&wide(&d)) / norm(&wide(r));
                assert!(cosine >= -1e-6, "ratio {ratio:e}: cosine {cosine:.1e}, weights {:?}", aggregation.weights());
            }
        }
    }
}

#[test]
fn cagrad_serves_those_that_have_a_gradient() {
    let mut beside_zero = 0;
    for case in cases() {
        let (g, k) = (gram(&case.g), case.g.len());
        let mean = direction(&case.g, &vec![1.0 / k as f64; k]);
        let d = direction(&case.g, &cagrad::weights(&g, k, 0.4));
        assert!(d.iter().all(|v| v.is_finite()), "{}", case.kind);
        let others: Rows = case.g.iter().filter(|r| norm(r) > 0.0).cloned().collect();
        if norm(&d) > 0.0 {
            let away = norm(&d.iter().zip(&mean).map(|(a, b)| a - b).collect::<Vec<_>>());
            let largest = others.iter().map(|r| norm(r)).fold(0.0, f64::max);
            // Of gradients that nearly cancel, the Gram matrix knows the mean to the root of its own rounding.
            let radius = 0.4 * norm(&mean) * (1.0 + 1e-6) + 1e-9 * largest;
            assert!(away <= radius, "{}: {away} of {}", case.kind, norm(&mean));
            let worst = |d: &[f64]| others.iter().map(|r| dot(d, r)).fold(f64::INFINITY, f64::min);
            assert!(worst(&d) >= worst(&mean) - 1e-9 * largest * largest, "{}", case.kind);
        }
        if others.len() < k && k > 2 {
            // A zero among `k` shortens the mean, and with it everything else.
            let alone = direction(&others, &cagrad::weights(&gram(&others), k - 1, 0.4));
            let share = (k - 1) as f64 / k as f64;
            let off = norm(&d.iter().zip(&alone).map(|(d, a)| d - share * a).collect::<Vec<_>>());
            assert!(off <= 1e-9 * norm(&alone) && norm(&d) > 0.0, "{off}");
            beside_zero += 1;
        }
    }
    assert!(beside_zero > 12);
}

/// What `nash_mtl` says of itself, in exactly opposed gradients too.
#[test]
fn nash_is_bounded_where_no_solution_exists() {
    for case in cases() {
        let (g, k) = (gram(&case.g), case.g.len());
        let alpha = nash_mtl::weights(&g, k);
        let live: Vec<usize> = (0..k).filter(|i| g[i * k + i] > 0.0).collect();
        let (root, d) = ((live.len() as f64).sqrt(), direction(&case.g, &alpha));
        let length = |i: usize| alpha[i] * norm(&case.g[i]);
        // Large weights magnify the rounding of the Gram matrix.
        let near = 1e-6 + 1e-14 * size(&case.g, &alpha).powi(2);
        let solved = live.iter().all(|i| (alpha[*i] * dot(&d, &case.g[*i]) - 1.0).abs() < near);
        if solved {
            assert!(case.kind != "opposite" && (norm(&d) - root).abs() < near, "{}: {alpha:?}", case.kind);
            continue;
        }
        assert!(["opposite", "rank-deficient"].contains(&case.kind.as_str()), "{}: {alpha:?}", case.kind);
        assert!(norm(&d) <= root * (1.0 + 1e-6), "{}", case.kind);
        for i in live {
            let residual = alpha[i] * dot(&d, &case.g[i]) + 1e-6 * length(i).powi(2) - 1.0;
            assert!(residual.abs() < 1e-6 && length(i) <= 1e3 * root, "{}: {alpha:?}", case.kind);
        }
    }
}

/// A method of one objective whose mix has other widths than it should.
struct Odd {
    rows: usize,
    width: usize,
    scales: usize,
}

impl Method for Odd {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let mut mix = Mix::uniform(evidence.blocks, &[]);
        mix.coefficients = vec![vec![1.0; self.width]; self.rows];
        mix.step_scale = vec![1.0; self.scales];
        Ok(mix)
    }
}

/// A method that reads a Gram matrix it did not ask for.
struct Curious;

impl Method for Curious {
    fn needs(&self) -> Needs {
        Needs { gram: GramScope::None, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[evidence.inner(0, 0, 0)?]))
    }
}

fn labels() -> Target {
    Target::class(Tensor::new(&[0u32, 1], &Device::Cpu).unwrap(), None)
}

fn refused(method: Box<dyn Method>, cut: bool) -> Option<String> {
    let var = Var::from_tensor(&Tensor::new(&[[0.1f32, 0.2], [0.3, -0.1]], &Device::Cpu).unwrap()).unwrap();
    let z = var.as_tensor().affine(1.0, 0.0).unwrap();
    let mut outputs = Outputs::new(z.clone(), vec![z.clone(), z]);
    outputs.leaves = cut.then(|| vec![var.clone()]);
    let blocks = vec![Block { name: "tower".into(), role: Role::Tower(0), vars: vec![var] }];
    Balancer::new(method, blocks, 0).backward(&outputs, &labels()).err().map(|e| e.to_string())
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let odd = |rows, width, scales| refused(Box::new(Odd { rows, width, scales }), false);
    assert_eq!(odd(1, 1, 1), None);
    let message = odd(1, 2, 1).unwrap();
    assert!(message.contains("2 coefficients for block `tower`, for 1 objectives"), "{message}");
    assert!(odd(1, 0, 1).unwrap().contains("0 coefficients"));
    assert!(odd(2, 1, 1).unwrap().contains("2 rows of coefficients and 1 step scales, for 1 blocks"));
    assert!(odd(1, 1, 0).is_some());
    let message = refused(Box::new(Curious), false).unwrap();
    assert!(message.contains("`tower`") && message.contains("`Needs::gram`"), "{message}");
    let pmr = find("pmr").unwrap().with(&std::collections::BTreeMap::new()).unwrap();
    let message = refused(pmr, false).unwrap();
    assert!(message.contains("`Outputs::embeddings` of all 2 modalities, found 0"), "{message}");
    let joint = find("joint").unwrap().with(&std::collections::BTreeMap::new()).unwrap();
    let message = refused(joint, true).unwrap();
    assert!(message.contains("1 leaves and 0 embeddings, for 2 modalities"), "{message}");
}

/// A rule that answers with too few weights.
struct Short;

impl Aggregator for Short {
    fn weights(&mut self, _: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(vec![1.0])
    }
}

#[test]
fn a_rule_gives_a_weight_for_each_objective_and_reads_what_it_asked_for() {
    let x = Var::from_tensor(&Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap()).unwrap();
    let loss = x.as_tensor().sqr().unwrap().sum_all().unwrap();
    let two = [loss.clone(), loss];
    let error = Aggregation::new(Box::new(Short), vec![x.clone()], 0).backward(&two, &[]).err().unwrap();
    assert!(error.to_string().contains("1 weights for 2 objectives"), "{error}");
    let blocks = [BlockInfo { name: "shared".into(), role: Role::Fused }];
    let (signals, gram) = (Signals::new(), [Vec::new()]);
    let clock = Clock::default();
    let evidence =
        Evidence { clock, modalities: 2, losses: &[1.0, 1.0], signals: &signals, blocks: &blocks, gram: &gram };
    let rules: [Box<dyn Aggregator>; 3] =
        [Box::new(upgrad::UpGrad), Box::new(dualproj::DualProj), Box::new(mgda::Mgda)];
    for mut rule in rules {
        assert!(rule.weights(&evidence).err().unwrap().to_string().contains("Needs::gram"));
    }
}

#[test]
fn pmr_refuses_classes_that_change() {
    let method = find("pmr").unwrap().with(&std::collections::BTreeMap::new()).unwrap();
    let var = Var::from_tensor(&Tensor::new(&[[0.1f32, 0.2, 0.4], [0.3, -0.1, 0.2]], &Device::Cpu).unwrap()).unwrap();
    let block = Block { name: "tower".into(), role: Role::Tower(0), vars: vec![var.clone()] };
    let mut balancer = Balancer::new(method, vec![block], 0);
    let mut step = |classes: usize| {
        let z = var.as_tensor().narrow(1, 0, classes).unwrap();
        let mut outputs = Outputs::new(z.clone(), vec![z.clone(), z.clone()]);
        outputs.embeddings = vec![z.clone(), z];
        balancer.backward(&outputs, &labels()).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(step(3), Ok(()));
    let message = step(2).unwrap_err();
    assert!(message.contains("2 sums after 3"), "{message}");
}
