//! Temperature scaling: confidence that means what it says, for every set of modalities that a sample may have.
//!
//! A probability `p_c` becomes `p_c^(1/T)`, normalised: the softmax of the logits over `T`, or of each label the sigmoid of its
//! logit over `T`. `T` minimises the loss on the validation split (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>). A model that
//! lost a modality is overconfident in another way than one that has all, so each set has a temperature of its own, and so has each
//! modality's own view. The order of the classes never changes.
//!
//! Truths are Platt's: of `n` decisions the true one counts `(n + 1) / (n + 2)`, so that a small split on which all is right does not
//! ask for certainty.

use std::collections::BTreeMap;

use anyhow::Result;
use balgrad_data::Task;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::evaluator::{Evaluator, Rows};
use crate::split_data::SplitData;

/// Temperatures that are possible; from 1e-3 to 1e3 as logarithms.
const RANGE: (f64, f64) = (-6.907_755_278_982_137, 6.907_755_278_982_137);

/// Halvings of that range: what is left is below single precision.
const HALVINGS: usize = 32;

/// Temperatures of a trained model; 1 where there is none, as of a regression.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// Of the model's prediction, by the modalities that a sample has, joined by `+`; `none` of them.
    #[serde(default)]
    sets: BTreeMap<String, f64>,
    /// Of each modality's own view.
    #[serde(default)]
    views: BTreeMap<String, f64>,
}

impl Calibration {
    /// Fits a temperature to each set of modalities, on the samples that have all of the set.
    ///
    /// # Errors
    /// A sample that cannot be read, or a device that fails.
    pub(crate) fn fit(evaluator: &Evaluator<'_>, val: &SplitData, modalities: &[&str]) -> Result<Self> {
        let mut found = Self::default();
        if evaluator.task == Task::Regression {
            return Ok(found);
        }
        for set in 0..1usize << modalities.len() {
            let has = |i: &usize| val.shown(*i) & set == set;
            let chosen: Vec<usize> = (0..val.len()).filter(has).collect();
            if chosen.is_empty() {
                continue;
            }
            let predictions = evaluator.predict(&val.showing(set))?;
            let temperature = |rows: &Rows| {
                let pairs: Vec<_> = chosen.iter().map(|&i| (rows[i].as_slice(), val.labels()[i].as_slice())).collect();
                fitted(evaluator.task, &pairs)
            };
            found.sets.insert(name_of(set, modalities), temperature(&predictions.rows));
            // A view depends on its own modality alone.
            if let Some(m) = (0..modalities.len()).find(|m| set == 1 << m)
                && let Some(rows) = &predictions.views[m]
            {
                found.views.insert(modalities[m].to_owned(), temperature(rows));
            }
        }
        Ok(found)
    }

    /// The temperature of samples that have these modalities: bit `m` of `set` stands for modality `m`.
    pub(crate) fn of(&self, set: usize, modalities: &[&str]) -> f64 {
        self.sets.get(&name_of(set, modalities)).copied().unwrap_or(1.0)
    }

    /// The temperature of a modality's own view.
    pub(crate) fn view(&self, modality: &str) -> f64 {
        self.views.get(modality).copied().unwrap_or(1.0)
    }

    /// Whether all temperatures can be used: what a file holds may be anything.
    pub(crate) fn is_sound(&self) -> bool {
        self.sets.values().chain(self.views.values()).all(|t| t.is_finite() && *t > 0.0)
    }

    /// Predictions for a split, calibrated by what each sample has.
    pub(crate) fn rows(&self, task: Task, rows: &Rows, data: &SplitData, modalities: &[&str]) -> Rows {
        let one = |(i, row): (usize, &Vec<f32>)| apply(task, self.of(data.shown(i), modalities), row);
        rows.iter().enumerate().map(one).collect()
    }
}

/// `image+text`, or `none`.
fn name_of(set: usize, modalities: &[&str]) -> String {
    let names: Vec<&str> = (0..).zip(modalities).filter(|(m, _)| set >> m & 1 == 1).map(|(_, name)| *name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join("+") }
}

/// Probabilities at a temperature.
pub(crate) fn apply(task: Task, temperature: f64, probs: &[f32]) -> Vec<f32> {
    if temperature == 1.0 || task == Task::Regression {
        return probs.to_vec();
    }
    scaled(task, 1.0 / temperature, &logits(task, probs)).into_iter().map(|p| p as f32).collect()
}

/// Logits, up to a constant where one class is asked for.
fn logits(task: Task, probs: &[f32]) -> Vec<f64> {
    let one = |p: &f32| {
        let p = f64::from(*p);
        match task {
            Task::MultiLabel => (p.max(1e-7) / (1.0 - p).max(1e-7)).ln(),
            _ => p.max(1e-30).ln(),
        }
    };
    probs.iter().map(one).collect()
}

/// The probabilities of logits times `beta`.
fn scaled(task: Task, beta: f64, logits: &[f64]) -> Vec<f64> {
    if task == Task::MultiLabel {
        return logits.iter().map(|z| 1.0 / (1.0 + (-beta * z).exp())).collect();
    }
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|z| (beta * (z - top)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

/// The temperature that minimises the loss of some predictions, `(probabilities, true classes)` each. The loss is convex in `1/T`, so its
/// slope changes sign once.
fn fitted(task: Task, pairs: &[(&[f32], &[u32])]) -> f64 {
    let classes = pairs.first().map_or(0, |(row, _)| row.len());
    if classes == 0 || classes == 1 && task != Task::MultiLabel {
        return 1.0;
    }
    let decisions = if task == Task::MultiLabel { pairs.len() * classes } else { pairs.len() } as f64;
    let (right, rest) = ((decisions + 1.0) / (decisions + 2.0), 1.0 / (decisions + 2.0));
    let wrong = if task == Task::MultiLabel { rest } else { rest / (classes - 1) as f64 };
    let all: Vec<(Vec<f64>, f64)> = pairs
        .par_iter()
        .map(|(row, labels)| {
            let logits = logits(task, row);
            let truth = |c: u32| if labels.contains(&c) { right } else { wrong };
            let expected = (0..).zip(&logits).map(|(c, z)| truth(c) * z).sum();
            (logits, expected)
        })
        .collect();
    let slope = |beta: f64| -> f64 {
        let one = |(logits, expected): &(Vec<f64>, f64)| {
            scaled(task, beta, logits).iter().zip(logits).map(|(p, z)| p * z).sum::<f64>() - expected
        };
        // The same sum whatever the number of threads.
        let parts: Vec<f64> = all.par_chunks(256).map(|some| some.iter().map(one).sum()).collect();
        parts.iter().sum()
    };
    let (mut cold, mut hot) = RANGE;
    for _ in 0..HALVINGS {
        let middle = (cold + hot) / 2.0;
        if slope((-middle).exp()) > 0.0 { cold = middle } else { hot = middle }
    }
    ((cold + hot) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{found:?} {expected:?}"));
    }

    /// Roots of the probabilities, normalised; of labels, of the odds.
    #[test]
    fn a_temperature_of_two_takes_the_root_of_the_odds() {
        close(&apply(Task::MultiClass, 2.0, &[0.64, 0.32, 0.04]), &[0.510_958_3, 0.361_302_1, 0.127_739_6]);
        close(&apply(Task::MultiLabel, 2.0, &[0.9, 0.2]), &[0.75, 1.0 / 3.0]);
        close(&apply(Task::MultiClass, 2.0, &[1.0, 0.0]), &[1.0, 0.0]);
        assert_eq!(apply(Task::Regression, 2.0, &[3.5]), [3.5]);
        assert_eq!(apply(Task::MultiClass, 1.0, &[0.3, 0.7]), [0.3, 0.7]);
    }

    /// Of ten decisions at 0.9, seven are right: Platt's truths have the mean 2/3, whose odds are 2 where 0.9's are 9.
    #[test]
    fn the_fitted_temperature_makes_confidence_the_fraction_that_is_right() {
        let row = [0.9f32, 0.1];
        let pairs: Vec<(&[f32], &[u32])> = (0..10).map(|i| (&row[..], if i < 7 { &[0][..] } else { &[1] })).collect();
        assert!((fitted(Task::Binary, &pairs) - 9f64.log2()).abs() < 1e-5);
        let pairs: Vec<(&[f32], &[u32])> = (0..10).map(|i| (&row[..1], if i < 7 { &[0][..] } else { &[] })).collect();
        assert!((fitted(Task::MultiLabel, &pairs) - 9f64.log2()).abs() < 1e-5);
    }

    /// The minimum of the loss by SciPy: `minimize_scalar(lambda t: -(truths * log_softmax(log(p) / t, 1)).sum(), bounds=(.01, 100))`
    /// with truths of 5/6 and 1/12.
    #[test]
    fn the_temperature_of_three_classes_is_scipys() {
        let rows = [[0.7f32, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]];
        let truth: [&[u32]; 4] = [&[0], &[1], &[1], &[2]];
        let pairs: Vec<(&[f32], &[u32])> = rows.iter().map(|row| &row[..]).zip(truth).collect();
        let found = fitted(Task::MultiClass, &pairs);
        assert!((found - 0.811_136_2).abs() < 1e-4, "{found}");
    }

    /// All right at near certainty, a single class, and a model that is worse than chance.
    #[test]
    fn temperatures_stay_finite() {
        let sure = [0.999f32, 0.001];
        let right: Vec<(&[f32], &[u32])> = vec![(&sure, &[0]); 12];
        let temperature = fitted(Task::Binary, &right);
        close(&apply(Task::Binary, temperature, &sure), &[13.0 / 14.0, 1.0 / 14.0]);
        assert_eq!(fitted(Task::MultiClass, &[(&[1.0], &[0])]), 1.0);
        let worse: Vec<(&[f32], &[u32])> = vec![(&sure, &[1]); 12];
        assert!((apply(Task::Binary, fitted(Task::Binary, &worse), &sure)[0] - 0.5).abs() < 0.01);
    }

    #[test]
    fn a_set_is_named_by_its_modalities() {
        let names = ["image", "text", "audio"];
        assert_eq!([0, 1, 6, 7].map(|set| name_of(set, &names)), ["none", "image", "text+audio", "image+text+audio"]);
        let calibration: Calibration = serde_json::from_str(r#"{"sets": {"text+audio": 2.5}}"#).unwrap_or_default();
        assert_eq!((calibration.of(6, &names), calibration.of(7, &names), calibration.view("text")), (2.5, 1.0, 1.0));
        let bad = |t: f64| Calibration { sets: [("none".to_owned(), t)].into(), ..Calibration::default() }.is_sound();
        assert_eq!([1.5, 0.0, -1.0, f64::NAN, f64::INFINITY].map(bad), [true, false, false, false, false]);
    }
}
