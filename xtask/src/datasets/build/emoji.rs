//! `emoji` and `emoji:subgroup`: Noto pictures, CLDR labels, the groups of Unicode's emoji list.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::package::{EMOJI_IMAGES, EMOJI_LABELS, Files};
use super::{Folder, finish};
use crate::datasets::base;
use crate::datasets::manifest::{Description, Label, Metric, Sample, Split, Task};
use crate::datasets::split::rank;

/// `emoji:subgroup`: the fewest and the most pairs of a class.
const SUBGROUP_SIZES: (usize, usize) = (16, 60);

/// One emoji of the list, without its skin tones.
pub(super) struct Emoji {
    /// Code points in hexadecimal, joined by `-`, without variation selectors.
    pub(super) code: String,
    /// `face-smiling.png` and the like, below `img/google/64/`.
    pub(super) image: String,
    pub(super) label: String,
    group: String,
    subgroup: String,
    order: u32,
}

impl Emoji {
    pub(super) fn sample(&self, label: &str) -> Sample {
        Sample {
            id: self.image.trim_end_matches(".png").to_owned(),
            image: format!("images/{}", self.image),
            text: self.label.clone(),
            label: Label::One(label.to_owned()),
            split: Split::Train,
            group: base::emoji(&self.code),
        }
    }
}

/// Every emoji that has a Noto picture and a label, in the order of Unicode's list, and the files with the pictures.
pub(super) struct Emojis {
    pub(super) list: Vec<Emoji>,
    files: Files,
}

impl Emojis {
    pub(super) fn read() -> Result<Self> {
        #[derive(Deserialize)]
        struct Listed {
            unified: String,
            image: String,
            category: String,
            subcategory: String,
            sort_order: u32,
            has_img_google: bool,
        }
        #[derive(Deserialize)]
        struct Labelled {
            hexcode: String,
            label: String,
        }
        let labels: Vec<Labelled> = EMOJI_LABELS.read(&["en/data.json"])?.json("en/data.json")?;
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|entry| (without_selectors(&entry.hexcode), entry.label)).collect();

        let files = EMOJI_IMAGES.read(&["emoji.json", "img/google/64/"])?;
        let mut list = Vec::new();
        for entry in files.json::<Vec<Listed>>("emoji.json")? {
            // Skin tones and hair alone: parts of emoji, not emoji.
            if entry.category == "Component" || !entry.has_img_google {
                continue;
            }
            let code = without_selectors(&entry.unified);
            let label = labels.get(&code).with_context(|| format!("no label for {code}"))?.clone();
            let Listed { image, category: group, subcategory: subgroup, sort_order: order, .. } = entry;
            list.push(Emoji { code, image, label, group, subgroup, order });
        }
        list.sort_by_key(|emoji| emoji.order);
        Ok(Self { list, files })
    }

    /// The picture, byte for byte as in the package.
    pub(super) fn picture(&self, file: &str) -> Result<Vec<u8>> {
        Ok(self.files.bytes(&format!("img/google/64/{file}"))?.to_vec())
    }
}

fn without_selectors(code: &str) -> String {
    code.split('-').filter(|part| *part != "FE0F").collect::<Vec<_>>().join("-")
}

pub(super) fn build() -> Result<Folder> {
    let emojis = Emojis::read()?;
    let description = |name: &str, classes: Vec<String>| Description {
        name: name.into(),
        task: Task::Multiclass,
        metric: Metric::Accuracy,
        licence: "Apache-2.0 AND Unicode-3.0 AND MIT".into(),
        source: "npm emoji-datasource-google 16.0.0 (Noto Emoji) and npm emojibase-data 17.0.0 (CLDR)".into(),
        show_samples: true,
        classes,
    };

    let grouped: Vec<&Emoji> = emojis.list.iter().filter(|emoji| emoji.group != "Flags").collect();
    let samples = grouped.iter().map(|emoji| emoji.sample(&emoji.group)).collect();
    let by_group = finish(description("emoji", in_order(grouped.iter().map(|emoji| &emoji.group))), samples);

    let (fewest, most) = SUBGROUP_SIZES;
    let mut samples = Vec::new();
    let mut classes = in_order(emojis.list.iter().map(|emoji| &emoji.subgroup));
    classes.retain(|class| {
        let mut members: Vec<Sample> =
            emojis.list.iter().filter(|emoji| emoji.subgroup == *class).map(|emoji| emoji.sample(class)).collect();
        let keep = members.len() >= fewest;
        if keep {
            // In the order of a hash of the base, so that what a full class loses is arbitrary but whole bases.
            members.sort_by_cached_key(|sample| (rank(&sample.group), sample.id.clone()));
            members.truncate(most);
            samples.append(&mut members);
        }
        keep
    });
    let by_subgroup = finish(description("emoji:subgroup", classes), samples);

    let mut images = BTreeMap::new();
    for sample in by_group.samples.iter().chain(&by_subgroup.samples) {
        let file = sample.image.trim_start_matches("images/");
        images.insert(file.to_owned(), emojis.picture(file)?);
    }
    Ok(Folder { datasets: vec![(None, by_group), (Some("subgroup"), by_subgroup)], images })
}

/// Each name once, where it appears first.
fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(name) {
            seen.push(name.clone());
        }
    }
    seen
}
