//! Scores reduced to sums per group of samples, to be computed again for any weights of the groups.

use crate::metrics::{Classified, Counts, Measured, Score, Scored, decide, same_set};

/// A score of one set of predictions, ready to be computed again for any weights of the groups.
#[derive(Debug, Clone)]
pub struct Resampled(Sums);

#[derive(Debug, Clone)]
enum Sums {
    /// A mean over samples: `(sum, samples)` of each group.
    Mean(Vec<(f64, f64)>),
    /// For each number of a sample its errors as under `Mean`; the score is the mean over numbers, perhaps of the roots.
    Errors { root: bool, numbers: Vec<Vec<(f64, f64)>> },
    /// F1-macro: for each class the groups that have anything to count.
    F1Macro(Vec<Vec<Tally>>),
    /// AUROC: for each class the samples from the highest score down.
    Auroc(Vec<Vec<Ranked>>),
}

/// A group's contribution to a class's F1 = 2·TP / (2·TP + FP + FN).
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

impl Resampled {
    /// The mean of something: its sum and the number of samples, for each group.
    pub fn mean(groups: Vec<(f64, f64)>) -> Self {
        Self(Sums::Mean(groups))
    }

    /// A score of predictions whose samples belong to `groups` `0..count`; `None` where the score cannot be reduced to
    /// sums, or a sample is in no group.
    pub fn new(score: Score, scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Self> {
        let sound = groups.len() == scored.samples() && groups.iter().all(|&g| g < count);
        score.resample.filter(|_| sound)?(scored, groups, count)
    }

    /// The score when group `g` counts `weights[g]` times; NaN where it is undefined.
    pub fn at(&self, weights: &[f64]) -> f64 {
        let weights: Vec<[f64; 1]> = weights.iter().map(|&w| [w]).collect();
        self.lanes(&weights)[0]
    }

    /// The same for several weights of each group at once.
    pub(super) fn lanes<const N: usize>(&self, weights: &[[f64; N]]) -> [f64; N] {
        match &self.0 {
            Sums::Mean(groups) => mean(groups, weights),
            Sums::Errors { root, numbers } => {
                let mut total = [0.0; N];
                for groups in numbers {
                    let errors = mean(groups, weights);
                    (0..N).for_each(|lane| total[lane] += if *root { errors[lane].sqrt() } else { errors[lane] });
                }
                total.map(|t| t / numbers.len() as f64)
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
            Sums::Errors { numbers, .. } => numbers.iter().map(Vec::len).sum(),
            Sums::F1Macro(classes) => classes.iter().map(|c| c.len() + 1).sum(),
            Sums::Auroc(classes) => classes.iter().map(|c| 4 * c.len()).sum(),
        }
    }
}

fn classes<'s, 'a>(scored: &'s Scored<'a>) -> Option<&'s Classified<'a>> {
    if let Scored::Classes(classes) = scored { Some(classes) } else { None }
}

pub(crate) fn accuracy(scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Resampled> {
    let scored = classes(scored)?;
    let mut sums = vec![(0.0, 0.0); count];
    for ((row, truth), &group) in scored.samples().zip(groups) {
        sums[group].0 += f64::from(u8::from(same_set(&decide(scored.form, row), truth)));
        sums[group].1 += 1.0;
    }
    Some(Resampled::mean(sums))
}

pub(crate) fn f1_macro(scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Resampled> {
    let scored = classes(scored)?;
    let mut all = vec![vec![Counts::default(); scored.classes]; count];
    for ((row, truth), &group) in scored.samples().zip(groups) {
        Counts::add(&mut all[group], &decide(scored.form, row), truth);
    }
    let tally = |class: usize| {
        let one = |(group, counts): (usize, &Vec<Counts>)| {
            let Counts { hits, false_alarms, misses } = counts[class];
            Tally { group, numerator: 2.0 * hits, denominator: 2.0 * hits + false_alarms + misses }
        };
        all.iter().enumerate().map(one).filter(|t| t.denominator > 0.0).collect()
    };
    Some(Resampled(Sums::F1Macro((0..scored.classes).map(tally).collect())))
}

pub(crate) fn auroc(scored: &Scored<'_>, groups: &[usize], _: usize) -> Option<Resampled> {
    let scored = classes(scored)?;
    Some(Resampled(Sums::Auroc(scored.ranked().map(|class| rank(scored, class, groups)).collect())))
}

pub(crate) fn mae(scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Resampled> {
    errors(scored, groups, count, false)
}

pub(crate) fn rmse(scored: &Scored<'_>, groups: &[usize], count: usize) -> Option<Resampled> {
    errors(scored, groups, count, true)
}

fn errors(scored: &Scored<'_>, groups: &[usize], count: usize, root: bool) -> Option<Resampled> {
    let Scored::Values(measured) = scored else { return None };
    let number = |n| by_group(measured, n, groups, count, root);
    Some(Resampled(Sums::Errors { root, numbers: (0..measured.numbers).map(number).collect() }))
}

fn by_group(measured: &Measured, number: usize, groups: &[usize], count: usize, squared: bool) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0.0); count];
    for ((p, y), &group) in measured.column(number).zip(groups) {
        sums[group].0 += if squared { (p - y).powi(2) } else { (p - y).abs() };
        sums[group].1 += 1.0;
    }
    sums
}

fn mean<const N: usize>(groups: &[(f64, f64)], weights: &[[f64; N]]) -> [f64; N] {
    let (mut sum, mut size) = ([0.0; N], [0.0; N]);
    for (weight, group) in weights.iter().zip(groups) {
        for lane in 0..N {
            sum[lane] += weight[lane] * group.0;
            size[lane] += weight[lane] * group.1;
        }
    }
    divide(sum, size)
}

fn divide<const N: usize>(a: [f64; N], b: [f64; N]) -> [f64; N] {
    std::array::from_fn(|lane| a[lane] / b[lane])
}

fn rank(scored: &Classified<'_>, class: usize, groups: &[usize]) -> Vec<Ranked> {
    let (probs, truths) = scored.column(class);
    let mut order: Vec<usize> = (0..probs.len()).collect();
    order.sort_unstable_by(|&a, &b| probs[b].total_cmp(&probs[a]).then(a.cmp(&b)));
    let ranked = |(place, &i): (usize, &usize)| Ranked {
        group: groups[i],
        positive: truths[i],
        last_of_run: order.get(place + 1).is_none_or(|&next| probs[next] != probs[i]),
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
