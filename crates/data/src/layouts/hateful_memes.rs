//! Hateful Memes (Kiela et al., NeurIPS 2020): `img/<id>.png` and one `.jsonl` a split, with `id`, `img`, `label`, `text`.
//!
//! `dev_seen` and `test_seen` are read as validation and test split; `dev_unseen` overlaps `dev_seen`, and the two
//! `unseen` files are read only where the `seen` ones are missing. The first release's `dev.jsonl` and `test.jsonl` are
//! read too; its test file has no labels, and cannot be scored.

use std::path::Path;

use serde::Deserialize;

use super::{Answer, Draft, Found, Layout, Part, image_and_text, json_lines};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "hateful-memes",
    about: "img/ID.png and {train,dev_seen,test_seen,…}.jsonl with id, img, label (0 or 1), text",
    paper: "Kiela et al., The Hateful Memes Challenge, NeurIPS 2020",
    detect,
    read,
};

#[derive(Deserialize)]
struct Line {
    id: serde_json::Value,
    #[serde(default)]
    img: Option<String>,
    #[serde(default)]
    label: serde_json::Value,
    #[serde(default)]
    text: Option<String>,
}

const FILES: [(Split, &[&str]); 3] = [
    (Split::Train, &["train"]),
    (Split::Val, &["dev_seen", "dev_unseen", "dev"]),
    (Split::Test, &["test_seen", "test_unseen", "test"]),
];

fn detect(folder: &Path) -> Option<String> {
    let lines = super::first_lines(&folder.join("train.jsonl"))?;
    let lines: Vec<Line> = lines.iter().map_while(|line| serde_json::from_str(line).ok()).collect();
    let binary = lines.iter().filter(|line| matches!(code(&line.label), Some(0 | 1))).count();
    let meme = lines.first().is_some_and(|line| line.img.is_some()) && binary * 10 >= lines.len() * 9;
    meme.then(|| "its train.jsonl has images and labels of 0 or 1".to_owned())
}

/// A whole number, however it is written: 1, 1.0 (as beside missing ones) or "1".
fn code(label: &serde_json::Value) -> Option<i64> {
    let number = label.as_f64().or_else(|| label.as_str()?.trim().parse().ok())?;
    (number.fract() == 0.0).then_some(number as i64)
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::Binary);
    draft.classes = Some(vec!["not-hateful".to_owned(), "hateful".to_owned()]);
    let mut unlabelled = 0;
    for (split, names) in FILES {
        let Some(name) = names.iter().find(|name| folder.join(format!("{name}.jsonl")).is_file()) else { continue };
        for (place, line) in json_lines::<Line>(&folder.join(format!("{name}.jsonl")), &mut draft.sieve)? {
            let class = match code(&line.label) {
                Some(0) => "not-hateful",
                Some(1) => "hateful",
                None if !line.label.is_null() => {
                    draft.sieve.bad(place, format!("label {}; expected 0 or 1", line.label))?;
                    continue;
                }
                Some(other) if other != -1 => {
                    draft.sieve.bad(place, format!("label {other}; expected 0 or 1"))?;
                    continue;
                }
                _ => {
                    unlabelled += 1;
                    draft.sieve.bad(place, "no label")?;
                    continue;
                }
            };
            draft.found.push(Found {
                place,
                id: line.id.as_str().map_or_else(|| line.id.to_string(), str::to_owned),
                parts: image_and_text(line.img.map(Part::Path), line.text),
                answer: Answer::Classes(vec![class.to_owned()]),
                split: Some(split),
                group: None,
            });
        }
    }
    if unlabelled > 0 {
        let what = "the first release's test.jsonl has none and cannot be scored: add test_seen.jsonl of the later one";
        draft.notes.push(format!("{unlabelled} samples have no label; {what}"));
    }
    draft.finish(options.split_seed)
}
