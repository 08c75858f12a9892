//! Scores against scikit-learn's on random problems, and what is undefined.
#![allow(clippy::unwrap_used)]

use balgrad_trainer::metrics::{Metrics, Task, auroc, average_precision, compute, decide};
use serde::Deserialize;

#[derive(Deserialize)]
struct Problem {
    task: Task,
    probs: Vec<Vec<f64>>,
    labels: Vec<Vec<u32>>,
    expected: Metrics,
}

#[test]
fn every_score_is_scikit_learns() {
    let problems: Vec<Problem> = serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap();
    assert_eq!(problems.len(), 9);
    for (i, p) in problems.iter().enumerate() {
        let ours = compute(p.task, &p.probs, &p.labels);
        for name in Metrics::NAMES {
            match (ours.get(name), p.expected.get(name)) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "problem {i}, {name}: {a} against {b}"),
                (a, b) => assert_eq!(a, b, "problem {i}, {name}"),
            }
        }
    }
}

#[test]
fn single_precision_scores_alike() {
    let problems: Vec<Problem> = serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap();
    for p in &problems {
        let probs: Vec<Vec<f32>> = p.probs.iter().map(|r| r.iter().map(|&v| v as f32).collect()).collect();
        let (a, b) = (compute(p.task, &probs, &p.labels), compute(p.task, &p.probs, &p.labels));
        assert_eq!((a.accuracy, a.f1_macro), (b.accuracy, b.f1_macro));
        assert!(a.brier.unwrap() - b.brier.unwrap() < 1e-6);
    }
}

#[test]
fn what_is_undefined_is_null_and_not_zero() {
    let none = Metrics::default();
    let probs = vec![vec![0.2, 0.8], vec![0.7, 0.3]];
    let labels = vec![vec![1], vec![0]];
    assert_ne!(compute(Task::Binary, &probs, &labels), none);
    assert_eq!(compute(Task::Binary, &[vec![f64::NAN, 0.8], vec![0.7, 0.3]], &labels), none, "NaN");
    assert_eq!(compute(Task::Binary, &[vec![0.8], vec![0.7, 0.3]], &labels), none, "ragged");
    assert_eq!(compute(Task::Binary, &probs, &[vec![1], vec![2]]), none, "unknown class");
    assert_eq!(compute(Task::MultiClass, &probs, &[vec![1], vec![]]), none, "no label");
    assert_eq!(compute::<f64>(Task::MultiLabel, &[], &[]), none, "empty");
    let one_sided = compute(Task::Binary, &probs, &[vec![1], vec![1]]);
    assert_eq!((one_sided.auroc, one_sided.accuracy), (None, Some(0.5)));
    assert!(serde_json::to_string(&one_sided).unwrap().contains(r#""auroc":null"#));
    let silent = compute(Task::MultiLabel, &[vec![0.1, 0.1]], &[vec![]]);
    assert_eq!((silent.f1_macro, silent.f1_micro, silent.map), (Some(0.0), None, None));
}

#[test]
fn decisions_break_ties_the_same_way_always() {
    assert_eq!(decide(Task::MultiClass, &[0.4f32, 0.4, 0.2]), [0]);
    assert_eq!(decide(Task::MultiLabel, &[0.5f32, 0.49, 0.51]), [0, 2]);
    assert!(decide::<f32>(Task::MultiClass, &[]).is_empty());
}

#[test]
fn ties_count_half() {
    assert_eq!(auroc(&[0.5; 4], &[true, false, true, false]), Some(0.5));
    assert_eq!(auroc(&[0.1, 0.9], &[false, true]), Some(1.0));
    assert_eq!(auroc(&[0.1, 0.9], &[true, true]), None);
    assert_eq!(average_precision(&[0.5; 4], &[true, false, false, false]), Some(0.25));
    assert_eq!(average_precision(&[0.5], &[false]), None);
}
