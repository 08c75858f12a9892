//! The bootstrap over groups of test samples, the same draws for every score that is compared.
//!
//! Samples of one group (the same emoji, the same icon) are no independent observations, so whole groups are drawn
//! with replacement. A score is first reduced to sums per group, so that a draw costs no look at any prediction.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::metrics::{Counts, Task, decide, f1_macro, same_set};

/// A score of one set of predictions, ready to be computed again for any weights of the groups.
#[derive(Debug, Clone)]
pub enum Score {
    /// A mean over samples: `(sum, samples)` of each group.
    Mean(Vec<(f64, f64)>),
    /// F1-macro: the counts of each group, class by class where there are any.
    F1Macro {
        /// How many classes, present in the sample or not.
        classes: usize,
        /// `(class, counts)` of each group.
        groups: Vec<Vec<(usize, Counts)>>,
    },
    /// AUROC: for each class the samples from the highest score down, in runs of equal scores.
    Auroc(Vec<Vec<Vec<Ranked>>>),
}

/// A sample in an order by score.
#[derive(Debug, Clone, Copy)]
pub struct Ranked {
    group: usize,
    positive: bool,
}

impl Score {
    /// The score called `metric` (`accuracy`, `f1_macro`, `auroc`) of `probs` `[samples][classes]`, whose samples
    /// belong to `groups` `0..count`; `None` for another name, and for predictions that cannot be scored.
    pub fn new(
        metric: &str,
        task: Task,
        probs: &[Vec<f32>],
        labels: &[Vec<u32>],
        groups: &[usize],
        count: usize,
    ) -> Option<Self> {
        let classes = probs.first()?.len();
        let sound = probs.len() == labels.len()
            && probs.len() == groups.len()
            && probs.iter().all(|row| row.len() == classes && row.iter().all(|p| p.is_finite()))
            && labels.iter().flatten().all(|&c| (c as usize) < classes)
            && groups.iter().all(|&g| g < count);
        if !sound {
            return None;
        }
        let samples = || probs.iter().zip(labels).zip(groups);
        match metric {
            "accuracy" => {
                let mut sums = vec![(0.0, 0.0); count];
                for ((row, truth), &group) in samples() {
                    sums[group].0 += f64::from(u8::from(same_set(&decide(task, row), truth)));
                    sums[group].1 += 1.0;
                }
                Some(Self::Mean(sums))
            }
            "f1_macro" => {
                let mut all = vec![vec![Counts::default(); classes]; count];
                for ((row, truth), &group) in samples() {
                    crate::metrics::add_counts(&mut all[group], &decide(task, row), truth);
                }
                let some = |counts: Vec<Counts>| {
                    counts.into_iter().enumerate().filter(|(_, c)| *c != Counts::default()).collect()
                };
                Some(Self::F1Macro { classes, groups: all.into_iter().map(some).collect() })
            }
            "auroc" => {
                let ranked = if task == Task::Binary && classes == 2 { 1..2 } else { 0..classes };
                Some(Self::Auroc(ranked.map(|class| rank(class, probs, labels, groups)).collect()))
            }
            _ => None,
        }
    }

    /// The score when group `g` counts `weights[g]` times; NaN where it is undefined.
    pub fn at(&self, weights: &[f64]) -> f64 {
        match self {
            Self::Mean(groups) => {
                let add =
                    |(sum, size): (f64, f64), (&w, group): (&f64, &(f64, f64))| (sum + w * group.0, size + w * group.1);
                let (sum, size) = weights.iter().zip(groups).fold((0.0, 0.0), add);
                sum / size
            }
            Self::F1Macro { classes, groups } => {
                let mut counts = vec![Counts::default(); *classes];
                for (&weight, group) in weights.iter().zip(groups).filter(|(w, _)| **w != 0.0) {
                    for &(class, count) in group {
                        counts[class] += count * weight;
                    }
                }
                f1_macro(&counts).unwrap_or(f64::NAN)
            }
            Self::Auroc(classes) => {
                let areas: Vec<f64> = classes.iter().filter_map(|runs| weighted_auroc(runs, weights)).collect();
                super::mean(&areas).unwrap_or(f64::NAN)
            }
        }
    }

    /// Additions that one draw costs, roughly.
    pub fn cost(&self) -> usize {
        match self {
            Self::Mean(groups) => groups.len(),
            Self::F1Macro { classes, groups } => classes + 2 * groups.iter().map(Vec::len).sum::<usize>(),
            Self::Auroc(classes) => classes.iter().flatten().map(|run| run.len() + 4).sum(),
        }
    }
}

fn rank(class: usize, probs: &[Vec<f32>], labels: &[Vec<u32>], groups: &[usize]) -> Vec<Vec<Ranked>> {
    let mut order: Vec<usize> = (0..probs.len()).collect();
    order.sort_unstable_by(|&a, &b| probs[b][class].total_cmp(&probs[a][class]).then(a.cmp(&b)));
    let ranked = |&i: &usize| Ranked { group: groups[i], positive: labels[i].contains(&(class as u32)) };
    order.chunk_by(|&a, &b| probs[a][class] == probs[b][class]).map(|run| run.iter().map(ranked).collect()).collect()
}

fn weighted_auroc(runs: &[Vec<Ranked>], weights: &[f64]) -> Option<f64> {
    let (mut above, mut all_negatives, mut area) = (0.0, 0.0, 0.0);
    for run in runs {
        let (mut positives, mut negatives) = (0.0, 0.0);
        for sample in run {
            *(if sample.positive { &mut positives } else { &mut negatives }) += weights[sample.group];
        }
        area += negatives * (above + positives / 2.0);
        above += positives;
        all_negatives += negatives;
    }
    let pairs = above * all_negatives;
    (pairs > 0.0).then(|| area / pairs)
}

/// Draws of groups with replacement.
#[derive(Debug, Clone, Copy)]
pub struct Bootstrap {
    /// How many draws.
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// How many groups to draw from, and how many are drawn each time.
    pub groups: usize,
}

impl Bootstrap {
    /// Every score under every draw, `[draws][scores]`: entry `[d][i]` and `[d][j]` saw the same groups. The same
    /// numbers whatever the thread count, since each draw has a random stream of its own.
    pub fn run(&self, scores: &[Score]) -> Vec<Vec<f64>> {
        let one = |weights: &mut Vec<f64>, draw: usize| {
            self.draw(draw, weights);
            scores.iter().map(|score| score.at(weights)).collect()
        };
        (0..self.draws).into_par_iter().map_init(Vec::new, one).collect()
    }

    fn draw(&self, draw: usize, weights: &mut Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(draw as u64);
        weights.clear();
        weights.resize(self.groups, 0.0);
        for _ in 0..self.groups {
            weights[rng.random_range(0..self.groups as u32) as usize] += 1.0;
        }
    }
}

/// The central 95 % of some draws, with linear interpolation between neighbours.
///
/// `None` without draws, or where more than one in a hundred is undefined.
pub fn interval(draws: &[f64]) -> Option<[f64; 2]> {
    let mut sorted: Vec<f64> = draws.iter().copied().filter(|v| v.is_finite()).collect();
    if sorted.is_empty() || (draws.len() - sorted.len()) * 100 > draws.len() {
        return None;
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = q * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        low + (high - low) * at.fract()
    };
    Some([quantile(0.025), quantile(0.975)])
}
