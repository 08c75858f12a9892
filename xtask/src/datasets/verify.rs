//! `datasets verify`: every committed file against its hash, every manifest against the rules, the counts for reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::counts;
use super::manifest::{self, Dataset, Label, Split, Task};
use super::sums;

/// Width and height of every image, in pixels.
const SIDE: u32 = 64;

/// The SPDX identifiers that bundled data may come under: each allows shipping.
const SPDX: [&str; 5] = ["Apache-2.0", "CC-BY-SA-4.0", "CC-PDDC", "MIT", "Unicode-3.0"];

/// Checks the named folders, prints their counts, and fails if anything is wrong with any of them.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let mut wrong = 0;
    for name in names {
        let problems = folder(&crate::root().join("datasets").join(name), name)?;
        for problem in &problems {
            eprintln!("{name}: {problem}");
        }
        wrong += problems.len();
    }
    if wrong > 0 {
        bail!("{wrong} problem(s) in the bundled tasks");
    }
    Ok(())
}

/// Every problem of one folder, and its counts on stdout.
fn folder(path: &Path, name: &str) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let hashes = sums::measure(path)?;
    compare(&sums::read(path)?, &hashes, &mut problems);

    let mut datasets = Vec::new();
    for variant in manifest::variants(path)? {
        let dataset = Dataset::read(path, variant.as_deref())?;
        let expected = variant.map_or(name.to_owned(), |variant| format!("{name}:{variant}"));
        if dataset.description.name != expected {
            problems.push(format!("the name is `{}`, expected `{expected}`", dataset.description.name));
        }
        rules(&dataset, path, &mut problems);
        datasets.push(dataset);
    }

    let used: BTreeSet<&str> =
        datasets.iter().flat_map(|dataset| &dataset.samples).map(|sample| sample.image.as_str()).collect();
    for file in hashes.keys().filter(|file| file.starts_with("images/") && !used.contains(file.as_str())) {
        problems.push(format!("{file}: no manifest uses it"));
    }
    let readme = fs::read_to_string(path.join("README.md")).context("README.md")?;
    if counts::in_readme(&readme, &datasets)? != readme {
        problems.push("README.md: its counts are not those of the manifests".into());
    }

    println!("{name}: {} files match {}", hashes.len(), sums::FILE);
    for dataset in &datasets {
        println!("\n{}\n\n{}", dataset.description.name, counts::table(dataset));
    }
    Ok(problems)
}

fn compare(committed: &BTreeMap<String, String>, measured: &BTreeMap<String, String>, problems: &mut Vec<String>) {
    for (file, hash) in committed {
        match measured.get(file) {
            None => problems.push(format!("{file}: missing")),
            Some(found) if found != hash => {
                problems.push(format!("{file}: SHA-256 is {found}, expected {hash}"));
            }
            Some(_) => {}
        }
    }
    for file in measured.keys().filter(|file| !committed.contains_key(*file)) {
        problems.push(format!("{file}: not listed in {}", sums::FILE));
    }
}

/// What must hold for a task, whatever it shows.
fn rules(dataset: &Dataset, folder: &Path, problems: &mut Vec<String>) {
    let description = &dataset.description;
    let mut problem = |text: String| problems.push(format!("{}: {text}", description.name));

    for identifier in description.licence.split(" AND ") {
        let text = format!("LICENSES/{identifier}.txt");
        if !SPDX.contains(&identifier) || !folder.join(&text).is_file() {
            problem(format!("licence `{identifier}`: expected one of {SPDX:?} with its text in {text}"));
        }
    }
    let classes: BTreeSet<&String> = description.classes.iter().collect();
    if classes.len() != description.classes.len() {
        problem("a class is named twice".into());
    }
    if description.task == Task::Binary && classes.len() != 2 {
        problem(format!("a binary task has 2 classes, this one has {}", classes.len()));
    }
    for class in &description.classes {
        if counts::of_class(dataset, class).contains(&0) {
            problem(format!("class `{class}` has no sample in some split"));
        }
    }

    let mut ids = BTreeSet::new();
    let mut splits: BTreeMap<&str, Split> = BTreeMap::new();
    for sample in &dataset.samples {
        let id = &sample.id;
        if !ids.insert(id) {
            problem(format!("id `{id}` appears twice"));
        }
        if sample.text.trim().is_empty() {
            problem(format!("`{id}`: the text is empty"));
        }
        let names = sample.label.names();
        if matches!(sample.label, Label::Many(_)) != (description.task == Task::Multilabel) || names.is_empty() {
            problem(format!("`{id}`: the label does not have the form of a {:?} task", description.task));
        }
        for name in names.iter().filter(|name| !classes.contains(name)) {
            problem(format!("`{id}`: label `{name}` is not a class"));
        }
        if names.iter().collect::<BTreeSet<_>>().len() != names.len() {
            problem(format!("`{id}`: a label is named twice"));
        }
        let split = *splits.entry(&sample.group).or_insert(sample.split);
        if split != sample.split {
            problem(format!("group `{}` is in {split} and in {}", sample.group, sample.split));
        }
        if let Err(error) = check_image(folder, &sample.image) {
            problem(format!("`{id}`: {}: {error:#}", sample.image));
        }
    }
}

/// A path below `images/`, and a PNG whose header states the right size; its other bytes answer to `SHA256SUMS`.
fn check_image(folder: &Path, image: &str) -> Result<()> {
    let Some(file) = image.strip_prefix("images/") else { bail!("expected a path below images/") };
    if file.contains(['/', '\\']) {
        bail!("expected a file directly below images/");
    }
    let bytes = fs::read(folder.join(image))?;
    // Eight bytes of signature, the length and name of the first chunk, then width and height, big-endian.
    let Some((b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", size)) = bytes.get(..24).and_then(<[u8]>::split_first_chunk::<16>)
    else {
        bail!("not a PNG");
    };
    let expected = [SIDE.to_be_bytes(), SIDE.to_be_bytes()].concat();
    if size != expected {
        bail!("not {SIDE}x{SIDE}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
