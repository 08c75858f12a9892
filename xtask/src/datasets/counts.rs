//! Counts per class and split, and the table of them that a folder's README carries between two markers.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::manifest::{Dataset, Split};

const BEGIN: &str = "<!-- counts: written by `cargo xtask datasets build` -->\n";
const END: &str = "<!-- end of counts -->\n";

/// Samples of each split: `[train, val, test]`.
pub(crate) fn by_split(dataset: &Dataset) -> [usize; 3] {
    Split::ALL.map(|split| dataset.samples.iter().filter(|sample| sample.split == split).count())
}

/// Samples of one class in each split: `[train, val, test]`.
pub(crate) fn of_class(dataset: &Dataset, class: &str) -> [usize; 3] {
    Split::ALL.map(|split| {
        let has_class = |names: &[String]| names.iter().any(|name| name == class);
        dataset.samples.iter().filter(|sample| sample.split == split && has_class(sample.label.names())).count()
    })
}

/// A Markdown table: one row per class in class order, then the samples and the groups.
pub(crate) fn table(dataset: &Dataset) -> String {
    let mut text = String::from("| class | train | val | test | all |\n|---|--:|--:|--:|--:|\n");
    let mut row = |name: &str, [train, val, test]: [usize; 3]| {
        text += &format!("| {name} | {train} | {val} | {test} | {} |\n", train + val + test);
    };
    for class in &dataset.description.classes {
        row(class, of_class(dataset, class));
    }
    row("**samples**", by_split(dataset));
    row("**groups**", Split::ALL.map(|split| groups(dataset, split)));
    text
}

fn groups(dataset: &Dataset, split: Split) -> usize {
    let of_split = dataset.samples.iter().filter(|sample| sample.split == split);
    of_split.map(|sample| &sample.group).collect::<BTreeSet<_>>().len()
}

/// The README with its counts replaced by those of `datasets` (the task itself, then its variants).
pub(crate) fn in_readme(readme: &str, datasets: &[Dataset]) -> Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("README.md lacks the line that begins its counts")?;
    let (_, after) = rest.split_once(END).context("README.md lacks the line that ends its counts")?;
    let mut text = format!("{before}{BEGIN}");
    for dataset in datasets {
        text += &format!("\n`{}`\n\n{}", dataset.description.name, table(dataset));
    }
    Ok(format!("{text}\n{END}{after}"))
}
