//! F1 from true positives, false positives and false negatives.

use std::ops::AddAssign;

/// What became of one class's positives and predictions; fractional when samples carry weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Predicted and true.
    pub hits: f64,
    /// Predicted and not true.
    pub false_alarms: f64,
    /// True and not predicted.
    pub misses: f64,
}

impl Counts {
    /// F1 = 2·TP / (2·TP + FP + FN); `None` where the class has neither positives nor predictions.
    pub fn f1(&self) -> Option<f64> {
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

/// Counts one sample: the classes that were decided, and the true ones.
pub(crate) fn add(counts: &mut [Counts], decided: &[u32], truth: &[u32]) {
    for &class in decided {
        let count = &mut counts[class as usize];
        *(if truth.contains(&class) { &mut count.hits } else { &mut count.false_alarms }) += 1.0;
    }
    for &class in truth.iter().filter(|c| !decided.contains(c)) {
        counts[class as usize].misses += 1.0;
    }
}

/// Mean F1 over all classes, 0 where a class has neither positives nor predictions; `None` without classes.
pub fn f1_macro(counts: &[Counts]) -> Option<f64> {
    let sum: f64 = counts.iter().map(|c| c.f1().unwrap_or(0.0)).sum();
    (!counts.is_empty()).then(|| sum / counts.len() as f64)
}

/// F1 of the counts of all classes together; `None` where there is neither a positive nor a prediction.
pub fn f1_micro(counts: &[Counts]) -> Option<f64> {
    let mut all = Counts::default();
    counts.iter().for_each(|c| all += *c);
    all.f1()
}
