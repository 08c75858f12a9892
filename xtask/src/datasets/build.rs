//! `datasets build`: the folders from their packages. What a person wrote (README, licence texts) is kept.

mod clipart;
mod drawing;
mod emoji;
mod icons;
mod package;
mod sentiment;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::manifest::{Dataset, Description, Sample, Split};
use super::{counts, split, sums};

/// What a builder makes: the tasks of one folder (the one without a variant first) and the images they use.
struct Folder {
    datasets: Vec<(Option<&'static str>, Dataset)>,
    /// PNG files by name, as `1f600.png`.
    images: BTreeMap<String, Vec<u8>>,
}

/// Rebuilds the named folders and says where they now differ from what was there.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    for name in names {
        let folder = match *name {
            "clipart" => clipart::build(),
            "emoji" => emoji::build(),
            "icons" => icons::build(),
            "sentiment" => sentiment::build(),
            other => bail!("nothing builds `{other}`"),
        }
        .with_context(|| format!("cannot build `{name}`"))?;
        let path = crate::root().join("datasets").join(name);
        let before = sums::read(&path).unwrap_or_default();
        write(folder, &path)?;
        let after = sums::read(&path)?;
        let changed: Vec<&String> =
            after.iter().filter(|(file, hash)| before.get(*file) != Some(hash)).map(|(file, _)| file).collect();
        let gone = before.keys().filter(|file| !after.contains_key(*file)).count();
        println!("{name}: {} files, {} new or changed, {gone} gone", after.len(), changed.len());
        for file in changed.iter().take(10) {
            println!("  {file}");
        }
    }
    Ok(())
}

fn write(folder: Folder, path: &Path) -> Result<()> {
    let images = path.join("images");
    if images.exists() {
        fs::remove_dir_all(&images)?;
    }
    fs::create_dir_all(&images)?;
    for (name, bytes) in folder.images {
        fs::write(images.join(name), bytes)?;
    }
    let mut datasets = Vec::new();
    for (variant, dataset) in folder.datasets {
        dataset.write(path, variant)?;
        datasets.push(dataset);
    }
    let readme = path.join("README.md");
    let text = fs::read_to_string(&readme).with_context(|| readme.display().to_string())?;
    fs::write(&readme, counts::in_readme(&text, &datasets)?)?;
    sums::write(path)
}

/// Gives every sample its split and puts the manifest in its order: by split, then by id.
fn finish(description: Description, mut samples: Vec<Sample>) -> Dataset {
    let splits = split::assign(&samples);
    for sample in &mut samples {
        sample.split = splits.get(&sample.group).copied().unwrap_or(Split::Train);
    }
    samples.sort_by(|a, b| (a.split, &a.id).cmp(&(b.split, &b.id)));
    Dataset { description, samples }
}
