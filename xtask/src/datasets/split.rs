//! Splitting by group: near-duplicates stay together, and every class is spread as evenly as the groups allow.
//!
//! This is iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) with groups in place of samples. Large groups
//! are hard to place and go first, from the largest down. Of the others, the class with the fewest samples left is
//! served first, again from the largest group down. A group goes to the split that still wants most of the class for
//! which it is served; a large one is served for its rarest class. Equal sizes are ordered by a hash of a fixed seed
//! and the group's name: no generator is involved, so the split cannot change with a library's version. All arithmetic
//! is in integers.

use std::collections::BTreeMap;

use super::manifest::{Sample, Split};
use super::sums::sha256;

/// Per cent of the samples that train, val and test want.
const SHARES: [i64; 3] = [65, 15, 20];
/// The fewest samples of a group that is placed before all smaller ones.
const LARGE: i64 = 5;
const SEED: &str = "balgrad-datasets-1";

/// A place in a fixed pseudo-random order.
pub(crate) fn rank(name: &str) -> String {
    sha256(format!("{SEED}/{name}").as_bytes())
}

struct Group<'a> {
    name: &'a str,
    rank: String,
    size: i64,
    /// Samples of each class.
    labels: BTreeMap<&'a str, i64>,
}

/// How many hundredths of a sample train, val and test still want.
type Want = [i64; 3];

#[derive(Default)]
struct Wants<'a> {
    class: BTreeMap<&'a str, Want>,
    all: Want,
}

impl<'a> Wants<'a> {
    /// One more sample to share out.
    fn add(&mut self, labels: &'a [String]) {
        self.all = added(self.all, SHARES);
        for label in labels {
            let want = self.class.entry(label).or_default();
            *want = added(*want, SHARES);
        }
    }

    /// Gives the group to the split that wants most of `class`, then most of anything; on a tie the earlier one wins.
    fn place(&mut self, group: &Group<'a>, class: &'a str) -> Split {
        let want = self.class.entry(class).or_default();
        let mut best = 0;
        for at in 1..3 {
            if (want[at], self.all[at]) > (want[best], self.all[best]) {
                best = at;
            }
        }
        self.all[best] -= 100 * group.size;
        for (label, count) in &group.labels {
            self.class.entry(label).or_default()[best] -= 100 * count;
        }
        Split::ALL[best]
    }
}

fn added(a: Want, b: Want) -> Want {
    std::array::from_fn(|at| a[at] + b[at])
}

/// The split of every group. The order of the samples does not matter.
pub(crate) fn assign(samples: &[Sample]) -> BTreeMap<String, Split> {
    let mut wants = Wants::default();
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for sample in samples {
        let group = groups.entry(&sample.group).or_insert_with(|| Group {
            name: &sample.group,
            rank: rank(&sample.group),
            size: 0,
            labels: BTreeMap::new(),
        });
        group.size += 1;
        for label in sample.label.names() {
            *group.labels.entry(label).or_default() += 1;
        }
        wants.add(sample.label.names());
    }

    let mut splits = BTreeMap::new();
    let groups: Vec<Group<'_>> = groups.into_values().collect();
    let total = class_sizes(&groups);
    let (mut large, mut open): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.size >= LARGE);
    large.sort_by(|a, b| (b.size, &a.rank).cmp(&(a.size, &b.rank)));
    for group in &large {
        if let Some(class) = group.labels.keys().min_by_key(|class| (total[*class], **class)) {
            splits.insert(group.name.to_owned(), wants.place(group, class));
        }
    }
    while let Some((class, _)) = class_sizes(&open).into_iter().min_by_key(|(class, size)| (*size, *class)) {
        let (mut of_class, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|group| group.labels.contains_key(class));
        open = others;
        of_class.sort_by(|a, b| (b.labels[class], b.size, &a.rank).cmp(&(a.labels[class], a.size, &b.rank)));
        for group in &of_class {
            splits.insert(group.name.to_owned(), wants.place(group, class));
        }
    }
    splits
}

/// Samples of each class in the given groups.
fn class_sizes<'a>(groups: &[Group<'a>]) -> BTreeMap<&'a str, i64> {
    let mut sizes = BTreeMap::new();
    for group in groups {
        for (label, count) in &group.labels {
            *sizes.entry(*label).or_default() += count;
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Label;
    use super::*;

    fn sample(id: usize, group: &str, labels: &[&str]) -> Sample {
        Sample {
            id: id.to_string(),
            image: String::new(),
            text: String::new(),
            label: Label::Many(labels.iter().map(|name| (*name).to_owned()).collect()),
            split: Split::Train,
            group: group.to_owned(),
        }
    }

    fn sizes(samples: &[Sample], class: &str) -> [usize; 3] {
        let splits = assign(samples);
        Split::ALL.map(|split| {
            let of_class = samples.iter().filter(|sample| sample.label.names().iter().any(|name| name == class));
            of_class.filter(|sample| splits[&sample.group] == split).count()
        })
    }

    #[test]
    fn single_samples_meet_the_shares_in_every_class() {
        let mut samples = Vec::new();
        for id in 0..300 {
            samples.push(sample(id, &format!("g{id}"), &[if id < 200 { "a" } else { "b" }]));
        }
        assert_eq!(sizes(&samples, "a"), [130, 30, 40]);
        assert_eq!(sizes(&samples, "b"), [65, 15, 20]);
    }

    #[test]
    fn groups_stay_whole_and_cost_at_most_one_group_of_the_share() {
        let samples: Vec<Sample> = (0..300).map(|id| sample(id, &format!("g{}", id / 3), &["a"])).collect();
        assert_eq!(assign(&samples).len(), 100, "one split per group");
        for (got, wanted) in sizes(&samples, "a").into_iter().zip([195, 45, 60]) {
            assert!(got.abs_diff(wanted) <= 3, "{got} is more than a group away from {wanted}");
        }
    }

    #[test]
    fn a_rare_label_among_many_reaches_every_split() {
        let samples: Vec<Sample> = (0..200)
            .map(|id| sample(id, &format!("g{id}"), if id % 20 == 0 { &["common", "rare"] } else { &["common"] }))
            .collect();
        let rare = sizes(&samples, "rare");
        assert_eq!(rare.iter().sum::<usize>(), 10);
        assert!(rare[1] >= 1 && rare[2] >= 2, "{rare:?}");
        assert_eq!(sizes(&samples, "common"), [130, 30, 40]);
    }

    #[test]
    fn a_large_group_goes_where_there_is_room_for_it() {
        // Each rare class has one group, which goes to train. Served after them, the large group would find train
        // full of "common" and land in test.
        let mut samples: Vec<Sample> = (0..12).map(|id| sample(id, "large", &["common"])).collect();
        for rare in ["r1", "r2", "r3", "r4", "r5"] {
            samples.extend((0..4).map(|id| sample(id, rare, &["common", rare])));
        }
        assert_eq!(assign(&samples)["large"], Split::Train);
    }

    #[test]
    fn the_order_of_the_samples_does_not_matter() {
        let mut samples: Vec<Sample> = (0..90).map(|id| sample(id, &format!("g{}", id % 40), &["a"])).collect();
        let forward = assign(&samples);
        samples.reverse();
        assert_eq!(assign(&samples), forward);
    }
}
