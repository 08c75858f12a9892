//! Cross-validation: a part of the training split takes the test split's place.

use std::collections::BTreeMap;

use balgrad_data::{Dataset, Split, stable_hash};

use crate::Usage;

/// Part I of N, from 0; none of nothing.
///
/// # Errors
/// Text of another form.
pub(crate) fn parse(text: &str) -> Result<Option<(usize, usize)>, Usage> {
    let part = |(i, n): (&str, &str)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?));
    match text.split_once('/').and_then(part) {
        Some((i, n)) if i < n && n > 1 => Ok(Some((i, n))),
        None if text.is_empty() => Ok(None),
        _ => Err(Usage(format!("`fold = {text}`: expected I/N with I < N, such as 0/5"))),
    }
}

/// Makes part `part` of `parts` of the training split the test split. The test split that was there is gone, so that nothing can
/// read it. Groups stay whole, and classes are spread evenly.
pub(crate) fn hold_out(dataset: &mut Dataset, (part, parts): (usize, usize), seed: u64) {
    dataset.samples.retain(|sample| sample.split != Split::Test);
    let mut units = BTreeMap::new();
    for (i, sample) in dataset.samples.iter().enumerate().filter(|(_, sample)| sample.split == Split::Train) {
        units.entry(sample.group.clone().unwrap_or_else(|| sample.id.clone())).or_insert_with(Vec::new).push(i);
    }
    let mut units: Vec<_> = units.into_iter().collect();
    units.sort_by_cached_key(|(name, samples)| {
        let classes = dataset.samples[samples[0]].target.classes().to_vec();
        (classes, stable_hash(&[b"fold", &seed.to_le_bytes(), name.as_bytes()]))
    });
    for (_, samples) in units.into_iter().skip(part).step_by(parts) {
        samples.into_iter().for_each(|i| dataset.samples[i].split = Split::Test);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use balgrad_data::{Sample, Target};

    use super::*;

    fn data() -> Dataset {
        let sample = |i: u32| Sample {
            id: format!("s{i}"),
            parts: Vec::new(),
            target: Target::Class(i % 3),
            split: [Split::Train, Split::Train, Split::Train, Split::Val, Split::Test][i as usize / 3 % 5],
            group: (i % 30 < 3).then(|| format!("g{}", i % 3)),
        };
        Dataset { samples: (0..150).map(sample).collect(), ..Dataset::of(sample(0), Vec::new()) }
    }

    #[test]
    fn folds_part_the_training_split_by_group_and_class_and_nothing_reads_the_test_split() {
        let whole = data();
        let train: Vec<&str> = whole.indices(Split::Train).iter().map(|&i| &*whole.samples[i].id).collect();
        let mut held = Vec::new();
        for part in 0..3 {
            let mut fold = data();
            hold_out(&mut fold, (part, 3), 7);
            assert_eq!(fold.indices(Split::Val).len(), 30);
            let test: Vec<&Sample> = fold.samples.iter().filter(|s| s.split == Split::Test).collect();
            for class in 0..3 {
                let count = test.iter().filter(|s| s.target.classes() == [class]).count();
                assert!((8..=14).contains(&count), "{class}: {count}");
            }
            let learnt = || fold.samples.iter().filter(|s| s.split == Split::Train);
            assert!(test.iter().all(|t| t.group.is_none() || learnt().all(|l| l.group != t.group)));
            held.extend(test.iter().map(|s| s.id.clone()));
        }
        held.sort();
        let mut all: Vec<String> = train.iter().map(|id| (*id).to_owned()).collect();
        all.sort();
        assert_eq!(held, all, "each training sample is held out once");
    }

    #[test]
    fn a_fold_is_a_part_of_several() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("2/3").unwrap(), Some((2, 3)));
        for wrong in ["3/3", "0/1", "1", "x/2"] {
            assert!(parse(wrong).unwrap_err().0.contains("such as 0/5"), "{wrong}");
        }
    }
}
