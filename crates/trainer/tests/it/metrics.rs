//! Scores against scikit-learn's on random problems, and what is undefined.

use balgrad_data::Task;
use balgrad_trainer::metrics::{Metrics, Score, Truth, argmax, auroc, average_precision, compute, decide};
use serde::Deserialize;

#[derive(Deserialize)]
struct Problem {
    task: Task,
    probs: Vec<Vec<f64>>,
    #[serde(default)]
    labels: Vec<Vec<u32>>,
    #[serde(default)]
    values: Vec<Vec<f64>>,
    expected: Metrics,
}

impl Problem {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../fixtures/metrics.json")).unwrap()
    }

    fn truth(&self) -> Truth<'_> {
        if self.task == Task::Regression { Truth::from(&self.values) } else { Truth::from(&self.labels) }
    }
}

fn score(name: &str) -> Score {
    name.parse().unwrap()
}

#[test]
fn every_score_is_scikit_learns() {
    let problems = Problem::all();
    assert_eq!(problems.len(), 13);
    for (i, p) in problems.iter().enumerate() {
        let ours = compute(p.task, &p.probs, p.truth());
        let names = |metrics: &Metrics| metrics.iter().map(|(s, _)| s.name).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&p.expected), "problem {i}");
        for score in Score::of(p.task) {
            match (ours.get(score), p.expected.get(score)) {
                (Some(a), Some(b)) => {
                    assert!((a - b).abs() < 1e-12 * b.abs().max(1.0), "problem {i}, {score}: {a} against {b}");
                }
                (a, b) => assert_eq!(a, b, "problem {i}, {score}"),
            }
        }
    }
}

#[test]
fn single_precision_scores_alike() {
    for p in Problem::all() {
        let probs: Vec<Vec<f32>> = p.probs.iter().map(|r| r.iter().map(|&v| v as f32).collect()).collect();
        let (a, b) = (compute(p.task, &probs, p.truth()), compute(p.task, &p.probs, p.truth()));
        for name in ["accuracy", "f1_macro"] {
            assert_eq!(a.get(score(name)), b.get(score(name)));
        }
        for (score, value) in b.iter().filter(|(s, _)| matches!(s.name, "brier" | "mae")) {
            let (a, b) = (a.get(score).unwrap(), value.unwrap());
            assert!((a - b).abs() < 1e-6 * b.max(1.0), "{score}: {a} against {b}");
        }
    }
}

#[test]
fn what_is_undefined_is_null_and_not_zero() {
    let none = Metrics::undefined(Task::Binary);
    let probs = vec![vec![0.2, 0.8], vec![0.7, 0.3]];
    let labels = vec![vec![1], vec![0]];
    assert_ne!(compute(Task::Binary, &probs, &labels), none);
    assert_eq!(compute(Task::Binary, &[vec![f64::NAN, 0.8], vec![0.7, 0.3]], &labels), none, "NaN");
    assert_eq!(compute(Task::Binary, &[vec![0.8], vec![0.7, 0.3]], &labels), none, "ragged");
    assert_eq!(compute(Task::Binary, &probs, &vec![vec![1], vec![2]]), none, "unknown class");
    assert_eq!(compute(Task::MultiClass, &probs, &vec![vec![1], vec![]]), none, "no label");
    assert_eq!(compute::<f64>(Task::MultiLabel, &[], &Vec::<Vec<u32>>::new()), none, "empty");
    assert_eq!(compute(Task::Binary, &probs, &probs), none, "values where labels belong");
    assert_eq!(
        compute(Task::Regression, &probs, &vec![vec![1.0]; 2]),
        Metrics::undefined(Task::Regression),
        "another width"
    );
    let one_sided = compute(Task::Binary, &probs, &vec![vec![1], vec![1]]);
    assert_eq!((one_sided.get(score("auroc")), one_sided.get(score("accuracy"))), (None, Some(0.5)));
    assert!(serde_json::to_string(&one_sided).unwrap().contains(r#""auroc":null"#));
    let silent = compute(Task::MultiLabel, &[vec![0.1, 0.1]], &vec![Vec::<u32>::new()]);
    let of = |name| silent.get(score(name));
    assert_eq!((of("f1_macro"), of("f1_micro"), of("map")), (Some(0.0), None, None));
    let constant = compute(Task::Regression, &[[2.0; 1]; 2].map(Vec::from), &vec![vec![1.0], vec![3.0]]);
    let of = |name| constant.get(score(name));
    assert_eq!((of("mae"), of("rmse"), of("r2"), of("pearson")), (Some(1.0), Some(1.0), Some(0.0), None));
}

#[test]
fn scores_are_written_by_name_in_the_order_of_the_table_and_read_back() {
    let probs = vec![vec![0.25, 0.75], vec![0.5, 0.5]];
    let metrics = compute(Task::Binary, &probs, &vec![vec![1], vec![0]]);
    let text = serde_json::to_string(&metrics).unwrap();
    assert!(text.starts_with(r#"{"accuracy":1.0,"f1_macro":1.0,"f1_micro":1.0,"auroc":"#), "{text}");
    assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), metrics);
    let unknown = serde_json::from_str::<Metrics>(r#"{"acuracy":1.0}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown metric `acuracy` (known: accuracy, "), "{unknown}");
}

#[test]
fn decisions_break_ties_the_same_way_always() {
    assert_eq!(decide(Task::MultiClass, &[0.4f32, 0.4, 0.2]), [0]);
    assert_eq!(decide(Task::MultiLabel, &[0.5f32, 0.49, 0.51]), [0, 2]);
    assert!(decide::<f32>(Task::MultiClass, &[]).is_empty());
    assert_eq!((argmax(&[0.1f32, 0.7, 0.7]), argmax::<f32>(&[])), (Some(1), None));
}

#[test]
fn ties_count_half() {
    assert_eq!(auroc(&[0.5; 4], &[true, false, true, false]), Some(0.5));
    assert_eq!(auroc(&[0.1, 0.9], &[false, true]), Some(1.0));
    assert_eq!(auroc(&[0.1, 0.9], &[true, true]), None);
    assert_eq!(average_precision(&[0.5; 4], &[true, false, false, false]), Some(0.25));
    assert_eq!(average_precision(&[0.5], &[false]), None);
}
