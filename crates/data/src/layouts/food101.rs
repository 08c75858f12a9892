//! UPMC Food-101 (Wang et al., ICMEW 2015), in its two forms: `images/{train,test}/<class>/*.jpg` with
//! `texts/{train,test}_titles.csv`, and MMBT's `{train,dev,test}.jsonl` with `id`, `label`, `text`, `img`.
//!
//! The CSV files have the columns image path, text, label, with or without a header. The data brings no validation
//! split: 5,000 samples of train are held out, or 15 % where that is fewer.

use std::path::Path;

use serde::Deserialize;

use super::{Answer, Draft, Found, HeldOut, Layout, Part, csv_rows, image_and_text, json_lines};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "food101",
    about: "images/{train,test}/CLASS/*.jpg with texts/{train,test}_titles.csv; or {train,dev,test}.jsonl with img",
    paper: "Wang et al., UPMC Food-101, ICMEW 2015",
    detect,
    read,
};

#[derive(Deserialize)]
struct Line {
    id: serde_json::Value,
    label: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    img: Option<String>,
}

const TITLES: [(&str, Split); 2] = [("train", Split::Train), ("test", Split::Test)];
const LINES: [(&str, Split); 3] = [("train", Split::Train), ("dev", Split::Val), ("test", Split::Test)];

fn detect(folder: &Path) -> Option<String> {
    if folder.join("texts/train_titles.csv").is_file() {
        return Some("it holds texts/train_titles.csv".to_owned());
    }
    let first = super::first_line(&folder.join("train.jsonl"))?;
    let line: Line = serde_json::from_str(&first).ok()?;
    line.img.is_some().then(|| "its train.jsonl has images and named labels".to_owned())
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::MultiClass);
    draft.held_out = HeldOut { val: 5000, ..HeldOut::default() };
    if folder.join("train.jsonl").is_file() {
        for (name, split) in LINES {
            let path = folder.join(format!("{name}.jsonl"));
            if !path.is_file() {
                continue;
            }
            for (place, line) in json_lines::<Line>(&path, &mut draft.sieve)? {
                let parts = image_and_text(line.img.map(Part::Path), line.text);
                let id = line.id.as_str().map_or_else(|| line.id.to_string(), str::to_owned);
                let answer = Answer::Classes(vec![line.label]);
                draft.found.push(Found { place, id, parts, answer, split: Some(split), group: None });
            }
        }
        return draft.finish(options.split_seed);
    }
    for (name, split) in TITLES {
        let path = folder.join(format!("texts/{name}_titles.csv"));
        for (number, (place, fields)) in csv_rows(&path, &mut draft.sieve)?.into_iter().enumerate() {
            let [image, text, label] = &fields[..] else {
                draft.sieve.bad(place, format!("{} columns; expected image path, text, label", fields.len()))?;
                continue;
            };
            if number == 0 && label.trim().eq_ignore_ascii_case("label") {
                continue;
            }
            let file = image.rsplit('/').next().unwrap_or(image);
            let image = match image.contains('/') {
                true => image.clone(),
                false => format!("images/{name}/{label}/{file}"),
            };
            let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
            draft.found.push(Found {
                place,
                id: format!("{name}/{stem}"),
                parts: image_and_text(Some(Part::Path(image)), Some(text.clone())),
                answer: Answer::Classes(vec![label.clone()]),
                split: Some(split),
                group: None,
            });
        }
    }
    draft.finish(options.split_seed)
}
