//! Laws of the mix alone: what a method answers to evidence, whatever model it came from.

use crate::plain::model::{Model, blocks};
use crate::plain::table::{Given, cases, summary, variants};
use balgrad::{Block, BlockInfo, Clock, Entry, Evidence, GramScope, Granularity, Mix, Objectives, Role, find};
use candle_core::DType;
use proptest::prelude::*;

/// Numbers that arithmetic trips over.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -10.0..10.0f64,
        2 => Just(0.0),
        1 => Just(1.0),
        1 => Just(-1.0),
        1 => Just(1e-310),
        1 => Just(-1e-160),
        1 => Just(1e160),
        1 => Just(-1e300),
        1 => Just(f64::MAX),
    ]
}

fn mixes_are_finite(numbers: &[f64], psd: bool) {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let outputs = model.outputs(&vars, false).unwrap();
    let infos: Vec<BlockInfo> = blocks(&vars, Granularity::Layer).iter().map(Block::info).collect();
    for (entry, given) in cases() {
        let mut method = entry.with(&given).unwrap();
        let mut next = numbers.iter().cycle().copied();
        for step in 0..3 {
            let clock = Clock { step, epoch: step / 2, seed: 1, ..Clock::default() };
            let Objectives { losses, signals } =
                method.objectives(&outputs, &model.labels(DType::F32), &clock).unwrap();
            let k = losses.len();
            let losses: Vec<f64> = next.by_ref().take(k).collect();
            let mut table = |_| {
                let raw: Vec<f64> = next.by_ref().take(k * k).collect();
                let product = |i: usize| (0..k).map(|c| raw[(i / k) * k + c] * raw[(i % k) * k + c]).sum();
                if psd { (0..k * k).map(product).collect() } else { raw }
            };
            let gram: Vec<Vec<f64>> = infos.iter().map(&mut table).collect();
            let empty = method.needs().gram == GramScope::None;
            let none = vec![Vec::new(); infos.len()];
            let gram = if empty { &none } else { &gram };
            let evidence = Evidence { clock, modalities: 2, losses: &losses, signals: &signals, blocks: &infos, gram };
            let mix = method.mix(&evidence).unwrap();
            let all = mix.coefficients.iter().flatten().chain(&mix.step_scale);
            assert!(all.clone().all(|c| c.is_finite()), "{} {given:?} on {gram:?}, {losses:?}: {mix:?}", entry.name);
            assert!(mix.shares.iter().flatten().all(|w| w.is_finite()));
            method.epoch_ended(&summary(step + 1)).unwrap();
        }
    }
}

proptest! {
    // 256 cases, or as many as PROPTEST_CASES says.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_evidence_gives_nan(numbers in prop::collection::vec(number(), 1..97), psd in any::<bool>()) {
        mixes_are_finite(&numbers, psd);
    }
}

/// BalGrad's coefficients do not depend on the gradients' size: shares are ratios, and so are projections.
#[test]
fn balgrads_coefficients_are_free_of_scale() {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let outputs = model.outputs(&vars, false).unwrap();
    let entry = find("balgrad").unwrap();
    for given in variants(entry) {
        let granularity = entry.with(&given).unwrap().needs().granularity;
        let infos: Vec<BlockInfo> = blocks(&vars, granularity).iter().map(Block::info).collect();
        let coefficients = |s: f64| {
            let mut method = entry.with(&given).unwrap();
            let clock = Clock::default();
            let signals = method.objectives(&outputs, &model.labels(DType::F32), &clock).unwrap().signals;
            let table = |b: usize| -> Vec<f64> {
                let rows = [[1.0, 0.2, b as f64], [0.3, 1.5, -1.0], [-0.9, 0.1 * b as f64, -0.4]];
                let inner = |i: usize| (0..3).map(|c| s * rows[i / 3][c] * s * rows[i % 3][c]).sum();
                (0..9).map(inner).collect()
            };
            let gram: Vec<Vec<f64>> = (0..infos.len()).map(table).collect();
            let losses = [1.0, 1.0, 1.0];
            let (losses, blocks) = (&losses, &infos);
            let evidence = Evidence { clock, modalities: 2, losses, signals: &signals, blocks, gram: &gram };
            method.mix(&evidence).unwrap().coefficients.concat()
        };
        let at_one = coefficients(1.0);
        for s in [1e-6, 1e6] {
            let near = coefficients(s).iter().zip(&at_one).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs()));
            assert!(near, "{given:?}: {:?} against {at_one:?}", coefficients(s));
        }
    }
}

/// Mixes of a fresh method whose blocks all have the Gram matrix that `gram` makes for `k` objectives.
fn mix(entry: &Entry, given: &Given, gram: impl Fn(usize) -> Vec<f64>) -> (Mix, Vec<BlockInfo>) {
    let model = Model::random(3, 3, false, false, false);
    let vars = model.vars(DType::F32);
    let outputs = model.outputs(&vars, false).unwrap();
    let mut method = entry.with(given).unwrap();
    let infos: Vec<BlockInfo> = blocks(&vars, method.needs().granularity).iter().map(Block::info).collect();
    let clock = Clock::default();
    let Objectives { losses, signals } = method.objectives(&outputs, &model.labels(DType::F32), &clock).unwrap();
    let k = losses.len();
    let (losses, gram) = (vec![1.0; k], vec![gram(k); infos.len()]);
    let (losses, blocks) = (&losses, &infos);
    let evidence = Evidence { clock, modalities: 2, losses, signals: &signals, blocks, gram: &gram };
    (method.mix(&evidence).unwrap(), infos)
}

/// Coefficients of the towers' blocks.
fn towers((mix, infos): (Mix, Vec<BlockInfo>)) -> Vec<Vec<f64>> {
    let rows = mix.coefficients.into_iter().zip(infos);
    rows.filter(|(_, info)| matches!(info.role, Role::Tower(_))).map(|(row, _)| row).collect()
}

fn reading_gradients() -> impl Iterator<Item = (&'static Entry, Given)> {
    cases().filter(|(entry, given)| entry.with(given).unwrap().needs().gram != GramScope::None)
}

/// `k` gradients in conflict, times `s`.
fn conflicting(k: usize, s: f64) -> Vec<f64> {
    let rows: Vec<[f64; 4]> = (0..k)
        .map(|i| [(i as f64).cos(), (2.0 * i as f64).sin(), 0.3 * i as f64 - 0.5, if i % 2 == 0 { 1.0 } else { -0.9 }])
        .collect();
    let inner = |i: usize| rows[i / k].iter().zip(&rows[i % k]).map(|(a, b)| s * a * s * b).sum();
    (0..k * k).map(inner).collect()
}

/// All gradients times one number: the direction in each tower stays.
#[test]
fn scale_does_not_turn_the_mix() {
    for (entry, given) in reading_gradients() {
        let unit = |s: f64| -> Vec<Vec<f64>> {
            let rows = towers(mix(entry, &given, |k| conflicting(k, s)));
            let length = |row: &[f64]| row.iter().map(|c| c * c).sum::<f64>().sqrt();
            rows.iter().map(|row| row.iter().map(|c| c / length(row)).collect()).collect()
        };
        let at_one = unit(1.0).concat();
        for s in [2f64.powi(-20), 2f64.powi(20)] {
            let near = unit(s).concat().iter().zip(&at_one).all(|(a, b)| (a - b).abs() <= 1e-6);
            assert!(near, "{} {given:?}: {:?} against {at_one:?}", entry.name, unit(s));
        }
    }
}

/// Objectives that all say the same are followed, and none of them is turned against them.
#[test]
fn identical_gradients_are_followed() {
    for (entry, given) in reading_gradients() {
        for row in towers(mix(entry, &given, |k| vec![2.0; k * k])) {
            let sum: f64 = row.iter().sum();
            assert!(sum > 1e-3 && sum < 1e3, "{} {given:?}: {row:?}", entry.name);
        }
    }
}

/// Without any gradient there is nothing to divide by, and no coefficient is large.
#[test]
fn without_gradients_coefficients_stay_small() {
    for (entry, given) in reading_gradients() {
        let rows = towers(mix(entry, &given, |k| vec![0.0; k * k]));
        assert!(rows.iter().flatten().all(|c| c.abs() <= 10.0), "{} {given:?}: {rows:?}", entry.name);
    }
}

/// What promises that no objective loses to first order keeps it: `⟨d, g_i⟩ ≥ 0` for all `i`.
#[test]
fn who_promises_no_conflict_leaves_none() {
    // MMPareto promises it for task and own gradient, UPGrad, DualProj and MGDA for all.
    for (name, slack) in [("mmpareto", 1e-9), ("upgrad", 1e-12), ("dualproj", 1e-12), ("mgda", 1e-12)] {
        for row in towers(mix(find(name).unwrap(), &Given::new(), |k| conflicting(k, 1.0))) {
            let k = row.len();
            let gram = conflicting(k, 1.0);
            assert!(gram.iter().any(|v| *v < 0.0), "no conflict here");
            for i in 0..k {
                let inner: f64 = (0..k).map(|j| gram[i * k + j] * row[j]).sum();
                assert!(inner >= -slack, "{name}: {inner} with objective {i}, {row:?}");
            }
        }
    }
}
