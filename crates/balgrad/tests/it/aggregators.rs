//! The aggregators against TorchJD, against their own equations, and against laws that also hold where the Gram matrix
//! is singular.

use balgrad::aggregate::{Aggregation, Aggregator};
use balgrad::methods::{
    aligned_mtl, cagrad, dualproj, dwa, gradnorm, gradvac, imtl_g, mgda, nash_mtl, pcgrad, rlw, uncertainty, upgrad,
};
use balgrad::{BlockInfo, Clock, Evidence, Role, Signals};
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
    ("mgda", mgda::weights),
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
        for (name, rule) in RULES.iter().filter(|(name, _)| *name != "mgda") {
            if let Some(theirs) = case.directions.get(*name) {
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

/// TorchJD's MGDA comes near the shortest vector by Frank–Wolfe: from a point of the hull that is `d`, the shortest one is no
/// further than `√(‖d‖² − ‖shortest‖²)`.
#[test]
fn mgda_is_shorter_than_torchjds_and_near_it() {
    let mut shorter = 0;
    for case in fixture() {
        let ours = direction(&case.g, &mgda::weights(&gram(&case.g), case.g.len()));
        let (theirs, size) = (&case.directions["mgda"], largest(&case.g));
        let saved = dot(theirs, theirs) - dot(&ours, &ours);
        let apart = norm(&ours.iter().zip(theirs).map(|(a, b)| a - b).collect::<Vec<_>>());
        assert!(saved >= -1e-7 * size * size && apart <= 0.1 * size, "{}: {saved}, {apart}", case.kind);
        assert!(apart * apart <= saved + 1e-7 * size * size, "{}: {saved}, {apart}", case.kind);
        shorter += usize::from(saved > 1e-6 * size * size);
    }
    assert!(shorter > 50, "{shorter}");
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

/// Random gradients; `rank` below `k` makes the Gram matrix singular.
fn gradients(seed: u64, k: usize, rank: usize) -> Rows {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |rows: usize, cols: usize| -> Rows {
        (0..rows).map(|_| (0..cols).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
    };
    let (mixing, basis) = (draw(k, rank), draw(rank, 6));
    mixing.iter().map(|m| direction(&basis, m)).collect()
}

fn problems() -> impl Iterator<Item = Rows> {
    (0..120).map(|s| gradients(s, 2 + s as usize % 4, 1 + s as usize % 5))
}

type AnyRule = Box<dyn Fn(&[f64], usize) -> Vec<f64>>;

/// All rules, the drawn ones over the fixed order 0, 1, 2, …
fn all_rules() -> Vec<(&'static str, AnyRule)> {
    let orders = |k: usize| -> Vec<Vec<usize>> { (0..k).map(|i| (0..k).filter(|j| *j != i).collect()).collect() };
    let mut rules: Vec<(&'static str, AnyRule)> = Vec::new();
    for (name, rule) in RULES {
        rules.push((name, Box::new(rule)));
    }
    rules.push(("pcgrad", Box::new(move |g, k| pcgrad::weights(g, k, &orders(k)))));
    rules.push(("gradvac", Box::new(move |g, k| gradvac::weights(g, k, &orders(k), 0.1, &mut vec![0.3; k * k]))));
    rules
}

/// Multiplying every gradient by one number does not turn the direction.
#[test]
fn scale_does_not_turn_the_direction() {
    for rows in problems() {
        let (g, k) = (gram(&rows), rows.len());
        for (name, rule) in all_rules() {
            let d = direction(&rows, &rule(&g, k));
            for s in [1e-6, 1e5] {
                let scaled: Vec<f64> = g.iter().map(|v| v * s * s).collect();
                let e = direction(&rows, &rule(&scaled, k));
                let (nd, ne) = (norm(&d).max(1e-300), norm(&e).max(1e-300));
                let turned = norm(&d.iter().zip(&e).map(|(a, b)| a / nd - b / ne).collect::<Vec<_>>());
                // Where the answer is (nearly) no direction at all, there is nothing to compare.
                let vanishes = nd < 1e-4 * largest(&rows) || ne < 1e-4 * largest(&rows).min(1.0 / s);
                assert!(vanishes || turned < 1e-3, "{name}, k {k}, scale {s}: {turned}");
            }
        }
    }
}

/// The order of objectives does not matter (to rules that draw none).
#[test]
fn objectives_may_be_permuted() {
    for rows in problems() {
        let k = rows.len();
        let turned: Rows = (0..k).map(|i| rows[(i + 1) % k].clone()).collect();
        for (name, rule) in RULES {
            let d = direction(&rows, &rule(&gram(&rows), k));
            let e = direction(&turned, &rule(&gram(&turned), k));
            let off = norm(&d.iter().zip(&e).map(|(a, b)| a - b).collect::<Vec<_>>());
            assert!(off <= 1e-4 * (largest(&rows) + norm(&d)), "{name}, k {k}: {off}");
        }
    }
}

/// Gradients without conflict: UPGrad and DualProj give the mean, PCGrad the sum.
#[test]
fn without_conflict_nothing_is_projected() {
    for seed in 0..50 {
        let rows: Rows = gradients(seed, 4, 5).iter().map(|r| r.iter().map(|v| v.abs()).collect()).collect();
        let orders: Vec<Vec<usize>> = vec![vec![0, 1, 2, 3]; 4];
        assert_eq!(pcgrad::weights(&gram(&rows), 4, &orders), [1.0; 4]);
        for rule in [upgrad::weights, dualproj::weights] {
            assert!(rule(&gram(&rows), 4).iter().all(|w| (w - 0.25).abs() < 1e-12));
        }
    }
}

/// What each rule promises, on singular matrices too.
#[test]
fn promises_are_kept() {
    let mut conflicts = 0;
    for (s, rows) in problems().enumerate() {
        let (g, k, size) = (gram(&rows), rows.len(), largest(&rows));
        conflicts += usize::from(g.iter().any(|v| *v < 0.0));
        // No objective loses to first order.
        for (name, rule) in RULES.iter().filter(|(name, _)| ["upgrad", "dualproj"].contains(name)) {
            let d = direction(&rows, &rule(&g, k));
            for r in &rows {
                assert!(dot(&d, r) >= -1e-6 * size * norm(r), "{name}: {}", dot(&d, r));
            }
        }
        // CAGrad serves the worst objective no worse than the mean gradient does, and stays within its ball.
        let mean = direction(&rows, &vec![1.0 / k as f64; k]);
        let d = direction(&rows, &cagrad::weights(&g, k, 0.4));
        let worst = |d: &[f64]| rows.iter().map(|r| dot(d, r)).fold(f64::INFINITY, f64::min);
        if norm(&d) > 0.0 {
            let away = norm(&d.iter().zip(&mean).map(|(a, b)| a - b).collect::<Vec<_>>());
            assert!(worst(&d) >= worst(&mean) - 1e-9 * size * size);
            assert!(away <= 0.4 * norm(&mean) * (1.0 + 1e-6), "{away} of {}", norm(&mean));
        }
        // IMTL-G projects equally on every unit gradient (where they are independent).
        if 1 + s % 5 >= k {
            let d = direction(&rows, &imtl_g::weights(&g, k));
            let onto: Vec<f64> = rows.iter().map(|r| dot(&d, r) / norm(r)).collect();
            assert!(onto.iter().all(|p| (p - onto[0]).abs() < 1e-6 * (size + norm(&d))), "{onto:?}");
        }
    }
    assert!(conflicts > 60);
}

/// Zero, identical, opposed and missing gradients: finite weights, and a direction no longer than it should be.
#[test]
fn degenerate_gradients_have_an_answer() {
    let a = vec![1.0, 2.0, 0.0];
    let minus: Vec<f64> = a.iter().map(|v| -v).collect();
    let zero = vec![0.0; 3];
    let problems: Vec<Rows> = vec![
        vec![zero.clone(), zero.clone()],
        vec![a.clone(), a.clone(), a.clone()],
        vec![a.clone(), minus.clone()],
        vec![a.clone(), minus, zero.clone()],
        vec![a.clone(), zero],
        vec![a.clone()],
    ];
    for rows in &problems {
        let (g, k) = (gram(rows), rows.len());
        for (name, rule) in all_rules() {
            let w = rule(&g, k);
            let d = direction(rows, &w);
            assert!(w.iter().all(|w| w.is_finite()) && w.len() == k, "{name} on {rows:?}: {w:?}");
            assert!(norm(&d) <= 3.0 * norm(&a) + 2.0, "{name} on {rows:?}: {w:?}");
        }
    }
    // Identical gradients are their own consensus.
    let same = &problems[1];
    for (name, rule) in all_rules() {
        let d = direction(same, &rule(&gram(same), 3));
        assert!(dot(&d, &a) >= (1.0 - 1e-9) * norm(&d) * norm(&a) && norm(&d) > 0.0, "{name}: {d:?}");
    }
    // Opposed ones leave nothing to gain, for the rules that look for common descent.
    for (name, rule) in RULES.iter().filter(|(name, _)| ["mgda", "upgrad", "dualproj", "cagrad"].contains(name)) {
        assert!(norm(&direction(&problems[2], &rule(&gram(&problems[2]), 2))) < 1e-6, "{name}");
    }
}

/// MGDA for two gradients is the closed form.
#[test]
fn mgda_of_two_is_the_closed_form() {
    for seed in 0..100 {
        let rows = gradients(seed, 2, 4);
        let g = gram(&rows);
        let share = ((g[3] - g[1]) / (g[0] + g[3] - 2.0 * g[1])).clamp(0.0, 1.0);
        assert!((mgda::weights(&g, 2)[0] - share).abs() < 1e-9);
    }
}

/// The evidence of one shared block, given to `read`.
fn step<R>(gram: &[f64], losses: &[f64], clock: (usize, usize), read: impl FnOnce(&Evidence<'_>) -> R) -> R {
    let blocks = [BlockInfo { name: "shared".into(), role: Role::Fused }];
    let gram = [gram.to_vec()];
    let clock = Clock { step: clock.0, epoch: clock.1, seed: 3, ..Clock::default() };
    let signals = Signals::new();
    read(&Evidence { clock, modalities: 2, losses, signals: &signals, blocks: &blocks, gram: &gram })
}

fn weights(rule: &mut impl Aggregator, gram: &[f64], losses: &[f64], clock: (usize, usize)) -> Vec<f64> {
    step(gram, losses, clock, |evidence| rule.weights(evidence).unwrap())
}

#[test]
fn dwa_follows_the_last_two_epochs() {
    let mut rule = dwa::Dwa::new(2.0);
    let epochs = [[1.0, 2.0], [0.5, 1.8], [0.4, 1.0]];
    for (epoch, losses) in epochs.iter().enumerate() {
        for step in 0..2 {
            // Mean of the two steps is `losses`.
            let seen = losses.map(|l| l + 0.1 - 0.2 * step as f64);
            let w = weights(&mut rule, &[], &seen, (2 * epoch + step, epoch));
            if epoch < 2 {
                assert_eq!(w, [1.0, 1.0]);
            } else {
                let e = [(0.5f64 / 1.0 / 2.0).exp(), (1.8f64 / 2.0 / 2.0).exp()];
                let expected = e.map(|v| 2.0 * v / (e[0] + e[1]));
                assert!((w[0] - expected[0]).abs() < 1e-12 && (w[1] - expected[1]).abs() < 1e-12, "{w:?}");
            }
        }
    }
}

/// Constant losses: the weight of each settles where `e^{−s} L = ½`.
#[test]
fn uncertainty_settles_at_half_over_the_loss() {
    let mut rule = uncertainty::Uncertainty::new(0.1);
    assert_eq!(weights(&mut rule, &[], &[0.8, 3.0], (0, 0)), [1.0, 1.0]);
    let once = weights(&mut rule, &[], &[0.8, 3.0], (1, 0));
    assert!((once[0] - (0.1f64 * (0.5 - 0.8)).exp()).abs() < 1e-12);
    let settled = (0..2000).map(|i| weights(&mut rule, &[], &[0.8, 3.0], (i, 0))).last().unwrap();
    assert!((settled[0] - 0.5 / 0.8).abs() < 1e-6 && (settled[1] - 0.5 / 3.0).abs() < 1e-6, "{settled:?}");
}

/// One step of GradNorm by central differences of its loss, and the balance it settles in.
#[test]
fn gradnorm_descends_on_its_loss() {
    let (g, losses, first) = ([4.0, 0.3, 0.3, 0.25], [0.5, 0.9], [1.0, 1.0]);
    let norms = [2.0f64, 0.5];
    let unit = 1.25;
    let w = [0.7, 1.3];
    let level = (w[0] * norms[0] + w[1] * norms[1]) / 2.0 / unit;
    let loss = |w: [f64; 2]| -> f64 {
        let term = |i: usize| (w[i] * norms[i] / unit - level * (losses[i] / 0.7f64).powf(1.5)).abs();
        term(0) + term(1)
    };
    let h = 1e-6;
    let slope = [
        (loss([w[0] + h, w[1]]) - loss([w[0] - h, w[1]])) / (2.0 * h),
        (loss([w[0], w[1] + h]) - loss([w[0], w[1] - h])) / (2.0 * h),
    ];
    let moved = [w[0] - 0.01 * slope[0], w[1] - 0.01 * slope[1]];
    let expected = moved.map(|v| 2.0 * v / (moved[0] + moved[1]));
    let next = gradnorm::next(&w, &g, &losses, &first, 1.5, 0.01);
    assert!((next[0] - expected[0]).abs() < 1e-8 && (next[1] - expected[1]).abs() < 1e-8, "{next:?} {expected:?}");
    // With α = 0 all weighted norms become equal.
    let mut w = vec![1.0, 1.0];
    (0..3000).for_each(|_| w = gradnorm::next(&w, &g, &losses, &first, 0.0, 0.001));
    assert!((w[0] * norms[0] - w[1] * norms[1]).abs() < 0.01, "{w:?}");
}

#[test]
fn random_weights_are_a_seeded_softmax_of_normals() {
    let mut mean = [0.0; 3];
    for step in 0..4000 {
        let w = weights(&mut rlw::Rlw, &[], &[1.0; 3], (step, 0));
        assert_eq!(w, weights(&mut rlw::Rlw, &[], &[1.0; 3], (step, 0)));
        assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-12 && w.iter().all(|v| *v > 0.0));
        mean.iter_mut().zip(&w).for_each(|(m, w)| *m += w / 4000.0);
    }
    assert!(mean.iter().all(|m| (m - 1.0 / 3.0).abs() < 0.015), "{mean:?}");
}

/// Orders are drawn, differ from step to step, and are used.
#[allow(clippy::redundant_closure_for_method_calls, reason = "the method's lifetime is one, the closure's any")]
#[test]
fn every_order_is_drawn() {
    let losses = [1.0; 3];
    let orders = |at| step(&[], &losses, (at, 0), |evidence| evidence.orders());
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..200 {
        let drawn = orders(step);
        assert_eq!(drawn, orders(step));
        assert!(drawn.iter().enumerate().all(|(i, o)| o.len() == 2 && !o.contains(&i)));
        seen.insert(drawn);
    }
    assert_eq!(seen.len(), 8);
    // Three gradients in conflict: PCGrad's answer depends on the order that was drawn.
    let g = [1.0, -0.6, -0.3, -0.6, 1.0, -0.4, -0.3, -0.4, 1.0];
    let weights = |at| format!("{:?}", weights(&mut pcgrad::PcGrad, &g, &losses, (at, 0)));
    assert_eq!((0..200).map(weights).collect::<std::collections::BTreeSet<_>>().len(), 8);
}

/// On tensors: the shared gradient is the weighted sum, a head's the plain one, and what no loss reaches has no entry.
#[test]
fn any_losses_can_be_aggregated() {
    let device = Device::Cpu;
    let var = |v: &[f32]| Var::from_tensor(&Tensor::new(v, &device).unwrap()).unwrap();
    let (shared, head, stranger) = (var(&[1.0, -1.0, 0.5]), var(&[2.0]), var(&[1.0]));
    let loss = |a: &[f32], s: f64| {
        (shared.as_tensor() * Tensor::new(a, &device).unwrap()).unwrap().sum_all().unwrap().affine(s, 0.0).unwrap()
    };
    let rows: Rows = vec![vec![1.0, 2.0, 0.0], vec![-3.0, 0.5, 1.0]];
    let losses = [
        (loss(&[1.0, 2.0, 0.0], 1.0) + head.as_tensor().sqr().unwrap().sum_all().unwrap()).unwrap(),
        loss(&[-3.0, 0.5, 1.0], 1.0),
    ];
    let mut aggregation = Aggregation::new(Box::new(upgrad::UpGrad), vec![shared.clone(), stranger.clone()], 0);
    let store = aggregation.backward(&losses, std::slice::from_ref(&head)).unwrap();
    let expected = direction(&rows, &upgrad::weights(&gram(&rows), 2));
    let got: Vec<f32> = store.get(shared.as_tensor()).unwrap().to_vec1().unwrap();
    assert!(got.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{got:?} {expected:?}");
    assert!(expected.iter().zip(&direction(&rows, &[0.5, 0.5])).any(|(a, b)| (a - b).abs() > 0.1), "no conflict here");
    assert_eq!(store.get(head.as_tensor()).unwrap().to_vec1::<f32>().unwrap(), [4.0]);
    assert!(store.get(stranger.as_tensor()).is_none());
}

proptest! {
    // 256 cases, or as many as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any rank, any scale, rows that vanish: finite weights.
    #[test]
    fn no_gram_matrix_gives_nan(seed in any::<u64>(), k in 1usize..7, rank in 1usize..7, exponents in prop::collection::vec(-60i32..60, 6)) {
        let mut rows = gradients(seed, k, rank);
        for (r, e) in rows.iter_mut().zip(&exponents) {
            let s = if *e % 7 == 0 { 0.0 } else { 10f64.powi(*e) };
            r.iter_mut().for_each(|v| *v *= s);
        }
        let g = gram(&rows);
        for (name, rule) in all_rules() {
            let w = rule(&g, k);
            prop_assert!(w.len() == k && w.iter().all(|v| v.is_finite()), "{} on {:?}: {:?}", name, g, w);
        }
    }
}
