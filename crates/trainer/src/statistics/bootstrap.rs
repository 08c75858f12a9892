//! The bootstrap over groups of test samples, the same draws for every score that is compared.
//!
//! Samples of one group (the same emoji, the same icon) are no independent observations, so whole groups are drawn
//! with replacement. A score is first reduced to sums per group, so that a draw costs no look at any prediction.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::metrics::{Counts, Task, decide, same_set};

/// A score of one set of predictions, ready to be computed again for any weights of the groups.
#[derive(Debug, Clone)]
pub struct Score(Sums);

#[derive(Debug, Clone)]
enum Sums {
    /// A mean over samples: `(sum, samples)` of each group.
    Mean(Vec<(f64, f64)>),
    /// F1-macro: for each class the groups that have anything to count.
    F1Macro(Vec<Vec<Tally>>),
    /// AUROC: for each class the samples from the highest score down.
    Auroc(Vec<Vec<Ranked>>),
}

/// A group's part of a class's F1 = 2·TP / (2·TP + FP + FN).
#[derive(Debug, Clone, Copy)]
struct Tally {
    group: usize,
    numerator: f64,
    denominator: f64,
}

/// A sample in an order by score.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    group: usize,
    positive: bool,
    /// Whether the next sample scores less: ties share a midrank.
    last_of_run: bool,
}

/// Draws that are computed side by side, so that every step of a sum is one vector instruction or two.
const LANES: usize = 8;

impl Score {
    /// The mean of something: its sum and the number of samples, for each group.
    pub fn mean(groups: Vec<(f64, f64)>) -> Self {
        Self(Sums::Mean(groups))
    }

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
                Some(Self::mean(sums))
            }
            "f1_macro" => {
                let mut all = vec![vec![Counts::default(); classes]; count];
                for ((row, truth), &group) in samples() {
                    crate::metrics::add_counts(&mut all[group], &decide(task, row), truth);
                }
                let tally = |class: usize| {
                    let one = |(group, counts): (usize, &Vec<Counts>)| {
                        let Counts { hits, false_alarms, misses } = counts[class];
                        Tally { group, numerator: 2.0 * hits, denominator: 2.0 * hits + false_alarms + misses }
                    };
                    all.iter().enumerate().map(one).filter(|t| t.denominator > 0.0).collect()
                };
                Some(Self(Sums::F1Macro((0..classes).map(tally).collect())))
            }
            "auroc" => {
                let ranked = if task == Task::Binary && classes == 2 { 1..2 } else { 0..classes };
                Some(Self(Sums::Auroc(ranked.map(|class| rank(class, probs, labels, groups)).collect())))
            }
            _ => None,
        }
    }

    /// The score when group `g` counts `weights[g]` times; NaN where it is undefined.
    pub fn at(&self, weights: &[f64]) -> f64 {
        let weights: Vec<[f64; 1]> = weights.iter().map(|&w| [w]).collect();
        self.lanes(&weights)[0]
    }

    fn lanes<const N: usize>(&self, weights: &[[f64; N]]) -> [f64; N] {
        match &self.0 {
            Sums::Mean(groups) => {
                let (mut sum, mut size) = ([0.0; N], [0.0; N]);
                for (weight, group) in weights.iter().zip(groups) {
                    for lane in 0..N {
                        sum[lane] += weight[lane] * group.0;
                        size[lane] += weight[lane] * group.1;
                    }
                }
                divide(sum, size)
            }
            Sums::F1Macro(classes) => {
                let mut total = [0.0; N];
                for class in classes {
                    let (mut above, mut below) = ([0.0; N], [0.0; N]);
                    for tally in class {
                        let weight = &weights[tally.group];
                        for lane in 0..N {
                            above[lane] += weight[lane] * tally.numerator;
                            below[lane] += weight[lane] * tally.denominator;
                        }
                    }
                    // A class without positives and predictions has F1 0.
                    (0..N).for_each(|lane| {
                        total[lane] += if below[lane] > 0.0 { above[lane] / below[lane] } else { 0.0 }
                    });
                }
                total.map(|t| t / classes.len() as f64)
            }
            Sums::Auroc(classes) => {
                let (mut total, mut defined) = ([0.0; N], [0.0; N]);
                for class in classes {
                    let (areas, pairs) = roc(class, weights);
                    for lane in (0..N).filter(|&lane| pairs[lane] > 0.0) {
                        total[lane] += areas[lane] / pairs[lane];
                        defined[lane] += 1.0;
                    }
                }
                divide(total, defined)
            }
        }
    }

    /// Additions that one draw costs, roughly.
    pub fn cost(&self) -> usize {
        match &self.0 {
            Sums::Mean(groups) => groups.len(),
            Sums::F1Macro(classes) => classes.iter().map(|c| c.len() + 1).sum(),
            Sums::Auroc(classes) => classes.iter().map(|c| 4 * c.len()).sum(),
        }
    }
}

fn divide<const N: usize>(a: [f64; N], b: [f64; N]) -> [f64; N] {
    std::array::from_fn(|lane| a[lane] / b[lane])
}

fn rank(class: usize, probs: &[Vec<f32>], labels: &[Vec<u32>], groups: &[usize]) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..probs.len()).collect();
    order.sort_unstable_by(|&a, &b| probs[b][class].total_cmp(&probs[a][class]).then(a.cmp(&b)));
    let ranked = |(place, &i): (usize, &usize)| Ranked {
        group: groups[i],
        positive: labels[i].contains(&(class as u32)),
        last_of_run: order.get(place + 1).is_none_or(|&next| probs[next][class] != probs[i][class]),
    };
    order.iter().enumerate().map(ranked).collect()
}

/// Positives above negatives, ties counting half, and the number of such pairs.
fn roc<const N: usize>(samples: &[Ranked], weights: &[[f64; N]]) -> ([f64; N], [f64; N]) {
    let (mut positives, mut negatives, mut above, mut all_negatives, mut area) =
        ([0.0; N], [0.0; N], [0.0; N], [0.0; N], [0.0; N]);
    for sample in samples {
        let (weight, side) = (&weights[sample.group], if sample.positive { &mut positives } else { &mut negatives });
        (0..N).for_each(|lane| side[lane] += weight[lane]);
        if sample.last_of_run {
            for lane in 0..N {
                area[lane] += negatives[lane] * (above[lane] + positives[lane] / 2.0);
                above[lane] += positives[lane];
                all_negatives[lane] += negatives[lane];
            }
            (positives, negatives) = ([0.0; N], [0.0; N]);
        }
    }
    (area, std::array::from_fn(|lane| above[lane] * all_negatives[lane]))
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
        let block = |weights: &mut Vec<[f64; LANES]>, block: usize| {
            let first = block * LANES;
            self.draw(first, weights);
            let found: Vec<[f64; LANES]> = scores.iter().map(|score| score.lanes(weights)).collect();
            let lanes = LANES.min(self.draws - first);
            (0..lanes).map(|lane| found.iter().map(|f| f[lane]).collect()).collect::<Vec<Vec<f64>>>()
        };
        let blocks = (0..self.draws.div_ceil(LANES)).into_par_iter().map_init(Vec::new, block);
        blocks.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// How often each group is drawn, in the draws from `first` on.
    fn draw(&self, first: usize, weights: &mut Vec<[f64; LANES]>) {
        weights.clear();
        weights.resize(self.groups, [0.0; LANES]);
        for (lane, stream) in (first as u64..).enumerate().take(LANES) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(stream);
            for _ in 0..self.groups {
                weights[rng.random_range(0..self.groups as u32) as usize][lane] += 1.0;
            }
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
