//! Scores of predicted probabilities against true labels.
//!
//! | score | multi-class and binary | multi-label |
//! |---|---|---|
//! | accuracy | the most probable class is the true one (ties to the lowest index) | the set of predicted labels is exactly the true set (subset accuracy) |
//! | F1-macro | mean of each class's F1 over *all* classes, 0 where a class has neither positives nor predictions | the same, a label being predicted from a probability of 0.5 on |
//! | F1-micro | equals accuracy | F1 of the pooled counts |
//! | AUROC | one against the rest, macro over classes with both outcomes; binary: class 1 | the same per label |
//! | mAP | average precision (a sum over steps, no interpolation), macro over classes with a positive | the same |
//! | ECE | 15 equal bins of the top class's confidence | 15 equal bins of every label's probability |
//! | Brier | ½ · mean Σ_c (p_c − y_c)², which for two classes is the mean of (p_1 − y_1)² | mean over samples and labels of (p − y)² |
//!
//! The formulas are those of scikit-learn (`accuracy_score`, `f1_score(zero_division=0)`, `roc_auc_score`,
//! `average_precision_score`, `brier_score_loss(scale_by_half=True)`); ECE is Guo et al. 2017, equation 3.

mod calibration;
mod counts;
mod ranking;

pub use balgrad_data::Task;
use serde::{Deserialize, Serialize};

pub use calibration::{BINS, brier, expected_calibration_error};
pub(crate) use counts::add as add_counts;
pub use counts::{Counts, f1_macro, f1_micro};
pub use ranking::{auroc, average_precision};

/// Scores in [0, 1]; `None` (null in JSON) is a score that is undefined on these samples, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Part of samples that are answered correctly.
    pub accuracy: Option<f64>,
    /// Mean F1 over all classes.
    pub f1_macro: Option<f64>,
    /// F1 of the pooled counts.
    pub f1_micro: Option<f64>,
    /// Area under the ROC curve, macro over classes with both outcomes.
    pub auroc: Option<f64>,
    /// Mean average precision over classes with a positive.
    pub map: Option<f64>,
    /// Expected calibration error.
    pub ece: Option<f64>,
    /// Brier score.
    pub brier: Option<f64>,
}

impl Metrics {
    /// Names of the scores, as results files write them.
    pub const NAMES: [&str; 7] = ["accuracy", "f1_macro", "f1_micro", "auroc", "map", "ece", "brier"];

    /// The score of that name; `None` for an unknown name and for a score that is undefined.
    pub fn get(&self, name: &str) -> Option<f64> {
        let all = [self.accuracy, self.f1_macro, self.f1_micro, self.auroc, self.map, self.ece, self.brier];
        all[Self::NAMES.iter().position(|n| *n == name)?]
    }
}

/// Predictions that can be scored: a rectangle of finite numbers, and labels that name its columns.
///
/// Every score of predictions that are not (a NaN, a ragged row, an unknown class, no sample at all) is undefined.
struct Scored<'a, P> {
    classes: usize,
    probs: &'a [Vec<P>],
    labels: &'a [Vec<u32>],
}

impl<'a, P: Copy + Into<f64>> Scored<'a, P> {
    fn new(task: Task, probs: &'a [Vec<P>], labels: &'a [Vec<u32>]) -> Option<Self> {
        let classes = probs.first()?.len();
        let sound = classes > 0
            && probs.len() == labels.len()
            && probs.iter().all(|row| row.len() == classes && row.iter().all(|&p| p.into().is_finite()))
            && labels.iter().all(|set| set.iter().all(|&c| (c as usize) < classes))
            && (task == Task::MultiLabel || labels.iter().all(|set| set.len() == 1));
        sound.then_some(Self { classes, probs, labels })
    }

    /// Probabilities and truths of one class.
    fn column(&self, class: usize) -> (Vec<f64>, Vec<bool>) {
        let scores = self.probs.iter().map(|row| row[class].into()).collect();
        (scores, self.labels.iter().map(|set| set.contains(&(class as u32))).collect())
    }

    fn macro_mean(
        &self,
        classes: impl Iterator<Item = usize>,
        score: fn(&[f64], &[bool]) -> Option<f64>,
    ) -> Option<f64> {
        let scores = classes.filter_map(|class| {
            let (scores, truths) = self.column(class);
            score(&scores, &truths)
        });
        let (sum, count) = scores.fold((0.0, 0), |(sum, count), s| (sum + s, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// The classes that a row `[classes]` of probabilities predicts: the most probable one, or every label from 0.5 on.
pub fn decide<P: Copy + Into<f64>>(task: Task, row: &[P]) -> Vec<u32> {
    if task == Task::MultiLabel {
        return (0u32..).zip(row).filter(|(_, p)| (**p).into() >= 0.5).map(|(c, _)| c).collect();
    }
    let mut best: Option<(u32, f64)> = None;
    for (class, p) in (0u32..).zip(row) {
        let p = (*p).into();
        if best.is_none_or(|(_, top)| p > top) {
            best = Some((class, p));
        }
    }
    best.map(|(class, _)| class).into_iter().collect()
}

/// All scores of `probs` `[samples][classes]` against `labels`, the set of class indices of each sample.
pub fn compute<P: Copy + Into<f64>>(task: Task, probs: &[Vec<P>], labels: &[Vec<u32>]) -> Metrics {
    let Some(scored) = Scored::new(task, probs, labels) else { return Metrics::default() };
    let mut counts = vec![Counts::default(); scored.classes];
    let mut right = 0usize;
    for (row, truth) in probs.iter().zip(labels) {
        let decided = decide(task, row);
        right += usize::from(same_set(&decided, truth));
        add_counts(&mut counts, &decided, truth);
    }
    let ranked = if task == Task::Binary && scored.classes == 2 { 1..2 } else { 0..scored.classes };
    Metrics {
        accuracy: Some(right as f64 / probs.len() as f64),
        f1_macro: f1_macro(&counts),
        f1_micro: f1_micro(&counts),
        auroc: scored.macro_mean(ranked, auroc),
        map: scored.macro_mean(0..scored.classes, average_precision),
        ece: expected_calibration_error(task, probs, labels),
        brier: brier(task, probs, labels),
    }
}

/// Whether two lists without repeats hold the same classes, in whatever order.
pub fn same_set(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && a.iter().all(|c| b.contains(c))
}
