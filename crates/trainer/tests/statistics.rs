//! Tests and intervals against scipy, and the interval's coverage by simulation.
#![allow(clippy::unwrap_used)]

use balgrad_data::Task;
use balgrad_trainer::metrics::{Score, Scored, Truth, compute};
use balgrad_trainer::statistics::{
    Bootstrap, Resampled, holm, interval, mean, paired_t, standard_deviation, student_two_sided,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn the_t_test_is_scipys() {
    for pair in fixture()["pairs"].as_array().unwrap() {
        let found = paired_t(&floats(&pair["a"]), &floats(&pair["b"])).unwrap();
        assert!((found.t - pair["t"].as_f64().unwrap()).abs() < 1e-9, "{found:?}");
        assert!((found.p - pair["p"].as_f64().unwrap()).abs() < 1e-12, "{found:?}");
    }
}

#[test]
fn a_t_test_without_spread_or_pairs_says_nothing() {
    assert_eq!(paired_t(&[0.5], &[0.4]), None);
    assert_eq!(paired_t(&[0.5, 0.6], &[0.5, 0.6]), None);
    assert_eq!(paired_t(&[0.5, 0.6, 0.7], &[0.4, 0.5, 0.6]), None);
    assert_eq!(paired_t(&[0.5, f64::NAN], &[0.4, 0.5]), None);
    assert_eq!(paired_t(&[0.5, 0.6], &[0.4]), None);
}

#[test]
fn the_tails_of_students_t_are_scipys() {
    for row in fixture()["tails"].as_array().unwrap() {
        let [t, degrees, expected] = floats(row)[..] else { panic!("three numbers") };
        let found = student_two_sided(t, degrees);
        assert!(
            (found - expected).abs() < 1e-12 + 1e-10 * expected,
            "P(|T| ≥ {t}), {degrees}: {found}, not {expected}"
        );
    }
    assert!(student_two_sided(f64::NAN, 3.0).is_nan());
}

#[test]
fn holm_follows_its_definition() {
    for family in fixture()["holm"].as_array().unwrap() {
        let found = holm(&floats(&family["p"]));
        for (a, b) in found.iter().zip(floats(&family["adjusted"])) {
            assert!((a - b).abs() < 1e-12, "{found:?}");
        }
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn moments_of_little_are_undefined() {
    assert_eq!((mean(&[]), standard_deviation(&[1.0])), (None, None));
    assert_eq!((mean(&[1.0, 3.0]), standard_deviation(&[1.0, 3.0])), (Some(2.0), Some(2f64.sqrt())));
}

/// Random predictions that know a little of the truth.
fn problem(rng: &mut ChaCha8Rng, task: Task, n: usize, classes: usize) -> (Vec<Vec<f32>>, Vec<Vec<u32>>) {
    let mut probs = Vec::new();
    let mut labels = Vec::new();
    for _ in 0..n {
        let truth: Vec<u32> = match task {
            Task::MultiLabel => (0..classes as u32).filter(|_| rng.random_bool(0.3)).collect(),
            _ => vec![rng.random_range(0..classes as u32)],
        };
        let row: Vec<f32> = (0..classes as u32)
            .map(|c| rng.random::<f32>() * 0.8 + if truth.contains(&c) { 0.2 } else { 0.0 })
            .collect();
        let sum = if task == Task::MultiLabel { 1.0 } else { row.iter().sum() };
        // Two digits make ties.
        probs.push(row.iter().map(|p| (p / sum * 100.0).round() / 100.0).collect());
        labels.push(truth);
    }
    (probs, labels)
}

#[test]
fn a_draw_scores_what_the_resampled_predictions_score() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (task, classes) in [(Task::MultiClass, 4), (Task::Binary, 2), (Task::MultiLabel, 5)] {
        let (probs, labels) = problem(&mut rng, task, 90, classes);
        let groups: Vec<usize> = (0..90).map(|_| rng.random_range(0..30)).collect();
        let weights: Vec<f64> = (0..30).map(|_| f64::from(rng.random_range(0..3u32))).collect();
        let (mut more_probs, mut more_labels) = (Vec::new(), Vec::new());
        for (i, &group) in groups.iter().enumerate() {
            for _ in 0..weights[group] as usize {
                more_probs.push(probs[i].clone());
                more_labels.push(labels[i].clone());
            }
        }
        let expected = compute(task, &more_probs, &more_labels);
        let scored = Scored::new(task, &probs, Truth::from(&labels)).unwrap();
        let resampled = |name: &str, count| Resampled::new(name.parse().unwrap(), &scored, &groups, count);
        for metric in ["accuracy", "f1_macro", "auroc"] {
            let (found, expected) =
                (resampled(metric, 30).unwrap().at(&weights), expected.get(metric.parse().unwrap()).unwrap());
            assert!((found - expected).abs() < 1e-12, "{task:?} {metric}: {found} against {expected}");
        }
        assert!(resampled("map", 30).is_none());
        assert!(resampled("accuracy", 3).is_none(), "a group out of range");
        assert!(resampled("mae", 30).is_none(), "no numbers here");
    }
}

#[test]
fn a_draw_scores_what_the_resampled_numbers_score() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut draw = || (0..60).map(|_| vec![rng.random::<f64>(), 10.0 * rng.random::<f64>()]).collect::<Vec<_>>();
    let (values, truth) = (draw(), draw());
    let groups: Vec<usize> = (0..60).map(|i| i / 3).collect();
    let weights: Vec<f64> = (0..20).map(|g| f64::from(g % 3)).collect();
    let again = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let times = |i: usize| weights[groups[i]] as usize;
        (0..60).flat_map(|i| std::iter::repeat_n(rows[i].clone(), times(i))).collect()
    };
    let expected = compute(Task::Regression, &again(&values), &again(&truth));
    let scored = Scored::new(Task::Regression, &values, Truth::from(&truth)).unwrap();
    for name in ["mae", "rmse"] {
        let score: Score = name.parse().unwrap();
        let found = Resampled::new(score, &scored, &groups, 20).unwrap().at(&weights);
        assert!((found - expected.get(score).unwrap()).abs() < 1e-12, "{name}: {found}");
    }
}

#[test]
fn draws_do_not_depend_on_the_thread_count() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (probs, labels) = problem(&mut rng, Task::MultiLabel, 40, 4);
    let groups: Vec<usize> = (0..40).collect();
    let scored = Scored::new(Task::MultiLabel, &probs, Truth::from(&labels)).unwrap();
    let resampled = |name: &str| Resampled::new(name.parse().unwrap(), &scored, &groups, 40).unwrap();
    let scores: Vec<Resampled> = ["accuracy", "f1_macro", "auroc"].map(resampled).into();
    let bootstrap = Bootstrap { draws: 300, seed: 1, groups: 40 };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap.run(&scores))
    };
    assert_eq!(on(1), on(3));
    assert_ne!(on(1), Bootstrap { seed: 2, ..bootstrap }.run(&scores));
}

#[test]
fn an_interval_holds_the_central_95_percent() {
    let values: Vec<f64> = (0..=1000).map(f64::from).collect();
    assert_eq!(interval(&values), Some([25.0, 975.0]));
    assert_eq!(interval(&[]), None);
    assert_eq!(interval(&[1.0, f64::NAN]), None);
}

/// Over repeated test sets, the interval holds the true difference about 95 % of the time, and would not if it drew
/// samples instead of groups.
#[test]
fn coverage_is_what_the_interval_claims() {
    const GROUPS: usize = 60;
    const PER_GROUP: usize = 4;
    const REPEATS: usize = 400;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut by_group, mut by_sample) = (0, 0);
    for repeat in 0..REPEATS {
        // Members of a group succeed or fail together: method A with chance .7, method B with .6.
        let mut outcome =
            |chance: f64| -> Vec<bool> { (0..GROUPS).flat_map(|_| [rng.random_bool(chance); PER_GROUP]).collect() };
        let (a, b) = (outcome(0.7), outcome(0.6));
        let covers = |groups: usize| {
            let sums = |right: &[bool]| {
                let size = right.len() / groups;
                Resampled::mean(
                    right.chunks(size).map(|g| (g.iter().filter(|r| **r).count() as f64, size as f64)).collect(),
                )
            };
            let draws = Bootstrap { draws: 400, seed: repeat as u64, groups }.run(&[sums(&a), sums(&b)]);
            let differences: Vec<f64> = draws.iter().map(|d| d[0] - d[1]).collect();
            let [low, high] = interval(&differences).unwrap();
            u32::from(low <= 0.1 && 0.1 <= high)
        };
        by_group += covers(GROUPS);
        by_sample += covers(GROUPS * PER_GROUP);
    }
    let (by_group, by_sample) = (f64::from(by_group) / REPEATS as f64, f64::from(by_sample) / REPEATS as f64);
    assert!((0.92..=0.975).contains(&by_group), "coverage {by_group}");
    assert!(by_sample < 0.8, "samples of a group are not independent: {by_sample}");
}
