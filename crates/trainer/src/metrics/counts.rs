//! Accuracy, and F1 from true positives, false positives and false negatives.

use std::ops::AddAssign;

use super::{Classified, decide, same_set};

/// What became of one class's positives and predictions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Counts {
    /// Predicted and true.
    pub(crate) hits: f64,
    /// Predicted and not true.
    pub(crate) false_alarms: f64,
    /// True and not predicted.
    pub(crate) misses: f64,
}

impl Counts {
    /// Counts one sample: the classes that were decided, and the true ones.
    pub(crate) fn add(counts: &mut [Self], decided: &[u32], truth: &[u32]) {
        for &class in decided {
            let count = &mut counts[class as usize];
            *(if truth.contains(&class) { &mut count.hits } else { &mut count.false_alarms }) += 1.0;
        }
        for &class in truth.iter().filter(|c| !decided.contains(c)) {
            counts[class as usize].misses += 1.0;
        }
    }

    /// F1 = 2·TP / (2·TP + FP + FN); `None` where the class has neither positives nor predictions.
    fn f1(&self) -> Option<f64> {
        let all = 2.0 * self.hits + self.false_alarms + self.misses;
        (all > 0.0).then(|| 2.0 * self.hits / all)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.false_alarms += other.false_alarms;
        self.misses += other.misses;
    }
}

/// The fraction of samples whose decided classes are exactly the true ones.
pub(super) fn accuracy(scored: &Classified<'_>) -> Option<f64> {
    let right = scored.samples().filter(|(row, truth)| same_set(&decide(scored.form, row), truth)).count();
    Some(right as f64 / scored.labels.len() as f64)
}

/// Mean F1 over all classes, 0 where a class has neither positives nor predictions.
pub(super) fn f1_macro(scored: &Classified<'_>) -> Option<f64> {
    let counts = scored.counts();
    let sum: f64 = counts.iter().map(|c| c.f1().unwrap_or(0.0)).sum();
    Some(sum / counts.len() as f64)
}

/// F1 of the counts of all classes together; `None` where there is neither a positive nor a prediction.
pub(super) fn f1_micro(scored: &Classified<'_>) -> Option<f64> {
    let mut all = Counts::default();
    scored.counts().iter().for_each(|c| all += *c);
    all.f1()
}
