//! Diagnosing and re-learning (Wei et al., "Diagnosing and Re-learning for Balanced Multimodal Learning", ECCV 2024).
//!
//! Every few epochs each tower's embeddings are clustered by k-means, on the training and on the validation split; the
//! purity is the part of samples whose class is the commonest of their cluster. A tower whose purity differs between
//! the splits has memorised, and is moved towards its first values: `θ_m ← w θ_m⁰ + (1 − w) θ_m`, `w = tanh(λ ·
//! |purity_train − purity_val|)`. In between the task alone trains, as for `joint`.
//!
//! Deviations. Every 4 epochs, three times (paper: every 20, in longer runs). Clusters start from seeded samples far
//! from each other; features are scaled to [−1, 1] as in public code. Multi-label: a sample's class is its first label.
//! Needs `EpochSummary::probe` and a training loop that answers `Request::Relearn`.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Request, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, SplitProbe, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "relearning",
    about: "moves a tower that has memorised back towards its first values",
    paper: "Wei et al., ECCV 2024",
    when: "in long runs, where a tower memorises the training split",
    cost: "1F 1B, and now and then a pass over the data",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[
        Setting {
            name: "every",
            default: "4",
            kind: Kind::Count { min: 1, max: 1_000_000 },
            about: "epochs between diagnoses",
        },
        Setting {
            name: "times",
            default: "3",
            kind: Kind::Count { min: 0, max: 1_000_000 },
            about: "how many diagnoses",
        },
        Setting {
            name: "lambda",
            default: "3",
            kind: Kind::Number { min: 0.0, max: 1e3 },
            about: "how much a gap in purity makes forget, λ",
        },
    ],
    build: |_, s| Box::new(Relearning { every: s.count("every"), times: s.count("times"), lambda: s.number("lambda") }),
};

/// Rounds of k-means.
const ROUNDS: usize = 20;

struct Relearning {
    every: usize,
    times: usize,
    lambda: f64,
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// Features scaled to [−1, 1], each by its own range; one that does not vary is 0.
fn scaled(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut out = rows.to_vec();
    for c in 0..rows.first().map_or(0, Vec::len) {
        let column = rows.iter().map(|r| r[c]);
        let (low, high) = column.fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let scale = |v: f32| if high > low { 2.0 * (v - low) / (high - low) - 1.0 } else { 0.0 };
        out.iter_mut().for_each(|r| r[c] = scale(r[c]));
    }
    out
}

/// The cluster of each row. Centres start at the first row and then at the row farthest from all centres so far.
fn k_means(rows: &[Vec<f32>], k: usize) -> Vec<usize> {
    let Some(first) = rows.first() else { return Vec::new() };
    let mut centres = vec![first.clone()];
    let mut nearest: Vec<f64> = rows.iter().map(|r| squared(r, first)).collect();
    while centres.len() < k.min(rows.len()) {
        let far = (0..rows.len()).max_by(|i, j| nearest[*i].total_cmp(&nearest[*j])).unwrap_or(0);
        centres.push(rows[far].clone());
        for (n, row) in nearest.iter_mut().zip(rows) {
            *n = n.min(squared(row, &rows[far]));
        }
    }
    let mut clusters = vec![0; rows.len()];
    for _ in 0..ROUNDS {
        let before = clusters.clone();
        for (cluster, row) in clusters.iter_mut().zip(rows) {
            let far = |c: &usize| squared(row, &centres[*c]);
            *cluster = (0..centres.len()).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0);
        }
        if clusters == before {
            break;
        }
        for (c, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&Vec<f32>> =
                rows.iter().zip(&clusters).filter(|(_, m)| **m == c).map(|(r, _)| r).collect();
            for (d, value) in centre.iter_mut().enumerate().filter(|_| !members.is_empty()) {
                *value = members.iter().map(|r| r[d]).sum::<f32>() / members.len() as f32;
            }
        }
    }
    clusters
}

/// The part of samples whose class is the commonest of their cluster.
fn purity(panel: &SplitProbe, m: usize, classes: usize) -> Option<f64> {
    let rows = panel.embeddings.get(m).filter(|rows| !rows.is_empty() && rows.len() == panel.labels.len())?;
    let mut counts = vec![vec![0usize; classes]; classes];
    for (cluster, labels) in k_means(&scaled(rows), classes).into_iter().zip(&panel.labels) {
        counts[cluster][labels.first().map_or(0, |c| *c as usize)] += 1;
    }
    let agreeing: usize = counts.iter().map(|of| of.iter().max().copied().unwrap_or(0)).sum();
    Some(agreeing as f64 / rows.len() as f64)
}

impl Method for Relearning {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }

    fn probes(&self, epoch: usize) -> bool {
        epoch.is_multiple_of(self.every) && epoch / self.every <= self.times
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        let Some(survey) = summary.probe.as_ref().filter(|_| self.probes(summary.epoch)) else {
            return Ok(Vec::new());
        };
        let labels = survey.train.labels.iter().chain(&survey.val.labels).flatten();
        let classes = labels.max().map_or(1, |c| *c as usize + 1);
        let diagnose = |modality: usize| {
            let gap = purity(&survey.train, modality, classes)? - purity(&survey.val, modality, classes)?;
            Some(Request::Relearn { modality, weight: (self.lambda * gap.abs()).tanh() })
        };
        Ok((0..survey.train.embeddings.len()).filter_map(diagnose).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Probe;

    /// Points around `corners`, a few each.
    fn points(corners: &[[f32; 2]], of: impl Fn(usize) -> usize) -> Vec<Vec<f32>> {
        (0..40).map(|i| corners[of(i)].iter().map(|v| v + 0.01 * (i as f32 * 0.7).sin()).collect()).collect()
    }

    #[test]
    fn a_tower_that_memorised_is_moved_and_a_steady_one_is_not() {
        let corners = [[0.0, 0.0], [0.0, 5.0], [5.0, 0.0], [5.0, 5.0]];
        let labels: Vec<Vec<u32>> = (0..40).map(|i| vec![i % 4]).collect();
        // The first modality separates the classes on both splits, the second on the training split alone.
        let apart = points(&corners, |i| i % 4);
        let mixed = points(&corners, |i| i / 10);
        let panel = |second: &Vec<Vec<f32>>| SplitProbe {
            labels: labels.clone(),
            embeddings: vec![apart.clone(), second.clone()],
            correct: Vec::new(),
        };
        let survey = Probe { train: panel(&apart), val: panel(&mixed) };
        assert_eq!(purity(&survey.train, 0, 4), Some(1.0));
        let mut method = Relearning { every: 2, times: 1, lambda: 3.0 };
        assert!(method.probes(2) && !method.probes(1) && !method.probes(4));
        let summary = |epoch| EpochSummary { epoch, probe: Some(survey.clone()), ..EpochSummary::default() };
        let asked = method.epoch_ended(&summary(2)).unwrap();
        // Ten samples a cluster, whose classes go around: three of the commonest in each.
        let expected = [0.0, (3.0f64 * (1.0 - 0.3)).tanh()];
        for (m, (request, expected)) in asked.iter().zip(expected).enumerate() {
            let Request::Relearn { modality, weight } = request else { panic!("{request:?}") };
            assert!(*modality == m && (weight - expected).abs() < 1e-12);
        }
        assert_eq!(asked.len(), 2);
        assert!(method.epoch_ended(&summary(3)).unwrap().is_empty());
    }
}
