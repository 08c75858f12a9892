//! `clipart` and `clipart:living`: Open Clip Art as Debian packs it, by the folder that a picture is filed in.

mod work;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use resvg::usvg::roxmltree;

use super::package::{Files, OPEN_CLIP_ART};
use super::{Folder, drawing, finish};
use crate::datasets::manifest::{Dataset, Description, Label, Metric, Sample, Split, Task};
use crate::datasets::split::rank;
use crate::datasets::sums::sha256;
use crate::datasets::titles;

/// A folder with fewer pictures is not a class.
const FEWEST_OF_CLASS: usize = 60;
/// The most pictures of one class, author and stem.
const MOST_OF_SERIES: usize = 4;
/// Folders that say nothing of what is shown: patterns and gradients, and what nobody has filed yet.
const NO_CLASS: [&str; 2] = ["special", "unsorted"];

struct Clip<'a> {
    /// Below the package's folder, without the suffix.
    path: &'a str,
    svg: &'a [u8],
    title: String,
    author: String,
    drawing: Vec<u8>,
}

impl Clip<'_> {
    /// The top folder.
    fn class(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn id(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c.to_ascii_lowercase() } else { '-' };
        format!("{}-{}", self.class(), self.file().chars().map(plain).collect::<String>())
    }

    fn group(&self) -> String {
        format!("{}/{}", self.author, titles::stem(&self.title))
    }

    /// People, animals and plants; what people wear is filed under them, but does not live.
    fn lives(&self) -> bool {
        matches!(self.class(), "animals" | "people" | "plants") && !self.path.starts_with("people/clothing/")
    }
}

pub(super) fn build() -> Result<Folder> {
    let files = OPEN_CLIP_ART.read(&[""])?;
    let clips = select(&files)?;

    let mut images = BTreeMap::new();
    for clip in &clips {
        images.insert(format!("{}.png", clip.id()), drawing::colour_png(&clip.drawing)?);
    }
    let classes: BTreeSet<String> = clips.iter().map(|clip| clip.class().to_owned()).collect();
    let sample = |clip: &Clip<'_>| Sample {
        id: clip.id(),
        image: format!("images/{}.png", clip.id()),
        text: clip.title.clone(),
        label: Label::One(clip.class().to_owned()),
        split: Split::Train,
        group: clip.group(),
    };
    let description = |name: &str, task, metric, classes| Description {
        name: name.into(),
        task,
        metric,
        licence: "CC-PDDC".into(),
        source: "Debian openclipart-svg 1:0.18+dfsg-19 (Open Clip Art Library 0.18)".into(),
        show_samples: true,
        classes,
    };
    let filed = finish(
        description("clipart", Task::Multiclass, Metric::Accuracy, classes.into_iter().collect()),
        clips.iter().map(sample).collect(),
    );
    // The same samples in the same splits.
    let lives: BTreeMap<String, bool> = clips.iter().map(|clip| (clip.id(), clip.lives())).collect();
    let mut samples = filed.samples.clone();
    for sample in &mut samples {
        sample.label = Label::One(if lives[&sample.id] { "yes" } else { "no" }.into());
    }
    // Few live: accuracy would praise a model that says so of all.
    let classes = vec!["no".into(), "yes".into()];
    let living =
        Dataset { description: description("clipart:living", Task::Binary, Metric::F1Macro, classes), samples };
    Ok(Folder { datasets: vec![(None, filed), (Some("living"), living)], images })
}

/// The pictures that make the task, and on stdout how many were left out for what.
fn select(files: &Files) -> Result<Vec<Clip<'_>>> {
    let mut clips = Vec::new();
    for (path, svg) in files.iter().filter_map(|(path, svg)| Some((path.strip_suffix(".svg")?, svg))) {
        let text = std::str::from_utf8(svg).with_context(|| path.to_owned())?;
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(text, options).with_context(|| path.to_owned())?;
        let work = work::Work::of(&document);
        let title = if work.public_domain { titles::clean(&work.title) } else { String::new() };
        clips.push(Clip { path, svg, title, author: titles::author(&work.creator), drawing: Vec::new() });
    }
    println!("clipart: {} pictures", clips.len());
    let left_out = |clips: &mut Vec<Clip<'_>>, what: &str, keep: &mut dyn FnMut(&mut Clip<'_>) -> bool| {
        let before = clips.len();
        clips.retain_mut(keep);
        println!("clipart: {} left out: {what}", before - clips.len());
    };

    left_out(&mut clips, "in a folder that says nothing", &mut |clip| !NO_CLASS.contains(&clip.class()));
    left_out(&mut clips, "without a title of their own, or not said to be in the public domain", &mut |clip| {
        !titles::stem(&clip.title).is_empty() && clip.title.to_lowercase() != clip.author
    });
    // A picture that is filed twice keeps its name.
    let titled: BTreeSet<_> = clips.iter().map(|clip| (clip.title.to_lowercase(), clip.file())).collect();
    let titled = counted(titled.into_iter().map(|(title, _)| title));
    left_out(&mut clips, "of a collection, whose title says nothing of the picture", &mut |clip| {
        titled[&clip.title.to_lowercase()] == 1 || titles::names_file(&clip.title, clip.file())
    });
    left_out(&mut clips, "that cannot be drawn", &mut |clip| match drawing::on_white(clip.svg) {
        Ok(drawing) => {
            clip.drawing = drawing;
            true
        }
        Err(error) => {
            println!("  {}: {error:#}", clip.path);
            false
        }
    });
    let mut drawn = BTreeSet::new();
    left_out(&mut clips, "that look the same as one before", &mut |clip| drawn.insert(sha256(&clip.drawing)));
    // In the order of a hash, so that what a long series loses is arbitrary.
    clips.sort_by_cached_key(|clip| rank(clip.path));
    let mut series: BTreeMap<(String, String), usize> = BTreeMap::new();
    left_out(&mut clips, "beyond four of a series", &mut |clip| {
        let size = series.entry((clip.class().to_owned(), clip.group())).or_default();
        *size += 1;
        *size <= MOST_OF_SERIES
    });
    let classes = counted(clips.iter().map(|clip| clip.class().to_owned()));
    left_out(&mut clips, "in a folder of fewer than 60", &mut |clip| classes[clip.class()] >= FEWEST_OF_CLASS);
    println!("clipart: {} remain", clips.len());
    Ok(clips)
}

/// How often each name appears.
fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}
