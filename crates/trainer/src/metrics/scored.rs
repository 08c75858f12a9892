//! Predictions beside the truth, checked once.

use super::{Counts, Task};

/// The truth of each sample.
#[derive(Debug, Clone, Copy)]
pub enum Truth<'a> {
    /// The set of class indices of each sample.
    Labels(&'a [Vec<u32>]),
    /// The numbers `[samples][numbers]` of each sample, on their original scale.
    Values(&'a [Vec<f64>]),
}

impl<'a> From<&'a [Vec<u32>]> for Truth<'a> {
    fn from(labels: &'a [Vec<u32>]) -> Self {
        Self::Labels(labels)
    }
}

impl<'a> From<&'a Vec<Vec<u32>>> for Truth<'a> {
    fn from(labels: &'a Vec<Vec<u32>>) -> Self {
        Self::Labels(labels)
    }
}

impl<'a> From<&'a [Vec<f64>]> for Truth<'a> {
    fn from(values: &'a [Vec<f64>]) -> Self {
        Self::Values(values)
    }
}

impl<'a> From<&'a Vec<Vec<f64>>> for Truth<'a> {
    fn from(values: &'a Vec<Vec<f64>>) -> Self {
        Self::Values(values)
    }
}

/// Predictions that can be scored.
#[derive(Debug)]
pub enum Scored<'a> {
    /// Probabilities against labels.
    Classes(Classified<'a>),
    /// Numbers against numbers.
    Values(Measured),
}

/// Probabilities `[samples][classes]` with the labels of each sample.
#[derive(Debug)]
pub struct Classified<'a> {
    /// What is asked: one class, or any number of them.
    pub form: Task,
    /// How many classes.
    pub classes: usize,
    /// The set of class indices of each sample.
    pub labels: &'a [Vec<u32>],
    probs: Vec<f64>,
}

/// Predicted numbers `[samples][numbers]` with the true ones.
#[derive(Debug)]
pub struct Measured {
    /// How many numbers a sample has.
    pub numbers: usize,
    predictions: Vec<f64>,
    truth: Vec<f64>,
}

impl<'a> Scored<'a> {
    /// Sets predictions beside the truth.
    ///
    /// `None` for what cannot be scored: no sample at all, a NaN or an infinity, a ragged row, an unknown class, a sample
    /// of a single-label task without exactly one label, or a truth of another form.
    pub fn new<P: Copy + Into<f64>>(form: Task, predictions: &[Vec<P>], truth: Truth<'a>) -> Option<Self> {
        let width = predictions.first()?.len();
        let even = width > 0 && predictions.iter().all(|row| row.len() == width);
        let flat: Vec<f64> = predictions.iter().flatten().map(|&p| p.into()).collect();
        if !even || !flat.iter().all(|p| p.is_finite()) {
            return None;
        }
        match truth {
            Truth::Labels(labels) => {
                let sound = form != Task::Regression
                    && labels.len() == predictions.len()
                    && labels.iter().flatten().all(|&c| (c as usize) < width)
                    && (form == Task::MultiLabel || labels.iter().all(|set| set.len() == 1));
                sound.then_some(Self::Classes(Classified { form, classes: width, labels, probs: flat }))
            }
            Truth::Values(values) => {
                let sound = form == Task::Regression
                    && values.len() == predictions.len()
                    && values.iter().all(|row| row.len() == width && row.iter().all(|v| v.is_finite()));
                let truth = values.iter().flatten().copied().collect();
                sound.then_some(Self::Values(Measured { numbers: width, predictions: flat, truth }))
            }
        }
    }

    /// How many samples.
    pub fn samples(&self) -> usize {
        match self {
            Self::Classes(c) => c.labels.len(),
            Self::Values(v) => v.samples(),
        }
    }
}

impl Classified<'_> {
    /// The probabilities of each sample.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.probs.chunks_exact(self.classes)
    }

    /// The probabilities of each sample with its labels.
    pub fn samples(&self) -> impl Iterator<Item = (&[f64], &[u32])> {
        self.rows().zip(self.labels.iter().map(Vec::as_slice))
    }

    /// Probabilities and truths of one class.
    pub fn column(&self, class: usize) -> (Vec<f64>, Vec<bool>) {
        let truths = self.labels.iter().map(|set| set.contains(&(class as u32)));
        (self.rows().map(|row| row[class]).collect(), truths.collect())
    }

    /// The classes that are ranked one against the rest: all, or class 1 of two.
    pub(crate) fn ranked(&self) -> std::ops::Range<usize> {
        if self.form == Task::Binary && self.classes == 2 { 1..2 } else { 0..self.classes }
    }

    /// What was decided of each class against the truth.
    pub(super) fn counts(&self) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.classes];
        for (row, truth) in self.samples() {
            Counts::add(&mut counts, &decide(self.form, row), truth);
        }
        counts
    }

    /// Mean over some classes of a score of each, over those for which it is defined.
    pub(super) fn macro_mean(
        &self,
        classes: impl Iterator<Item = usize>,
        score: fn(&[f64], &[bool]) -> Option<f64>,
    ) -> Option<f64> {
        let scores = classes.filter_map(|class| {
            let (scores, truths) = self.column(class);
            score(&scores, &truths)
        });
        mean_of_defined(scores)
    }
}

impl Measured {
    /// How many samples.
    pub fn samples(&self) -> usize {
        self.truth.len() / self.numbers
    }

    /// Predicted and true values of one of the numbers.
    pub fn column(&self, number: usize) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
        let every = |values: &'_ [f64]| values.iter().skip(number).step_by(self.numbers).copied().collect::<Vec<_>>();
        every(&self.predictions).into_iter().zip(every(&self.truth))
    }

    /// Mean over the numbers of a score of each, over those for which it is defined.
    pub(super) fn mean(&self, score: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        mean_of_defined((0..self.numbers).filter_map(score))
    }
}

fn mean_of_defined(scores: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = scores.fold((0.0, 0), |(sum, count), s| (sum + s, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The position of the largest entry, ties to the lowest; `None` of nothing.
pub fn argmax<P: Copy + Into<f64>>(row: &[P]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, p) in row.iter().enumerate() {
        let p = (*p).into();
        if best.is_none_or(|(_, top)| p > top) {
            best = Some((place, p));
        }
    }
    best.map(|(place, _)| place)
}

/// The classes that a row `[classes]` of probabilities predicts: the most probable one, or every label from 0.5 on.
pub fn decide<P: Copy + Into<f64>>(form: impl Into<Task>, row: &[P]) -> Vec<u32> {
    if form.into() == Task::MultiLabel {
        return (0u32..).zip(row).filter(|(_, p)| (**p).into() >= 0.5).map(|(c, _)| c).collect();
    }
    argmax(row).map(|class| class as u32).into_iter().collect()
}

/// Whether two lists without repeats hold the same classes, in whatever order.
pub(crate) fn same_set(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && a.iter().all(|c| b.contains(c))
}
