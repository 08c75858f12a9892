//! `manifest.jsonl` with an optional `dataset.toml`: our own layout, the one to convert others to.
//!
//! A line is `{"id", "image", "text", "label", "split", "group"}`. `image` is a path relative to the folder, `text` a text; any
//! other modality goes by its name, and each may be null or left out. `label` is a class or a list of classes, or for a
//! regression a number or a list of numbers. `group` is optional. `dataset.toml` may give `name`, `task`, `classes`, `metric`,
//! `licence` and `show_samples`; what it leaves out is read off the lines.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Answer, Draft, Found, Layout, Part, json_lines};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(crate) static LAYOUT: Layout = Layout {
    name: "manifest",
    about: "manifest.jsonl (id, image, text, label, split, group) and dataset.toml",
    paper: "BalGrad's own",
    detect: |folder| folder.join("manifest.jsonl").is_file().then(|| "it holds a manifest.jsonl".to_owned()),
    read,
};

#[derive(Deserialize)]
struct Line {
    id: Id,
    label: Label,
    split: String,
    #[serde(default)]
    group: Option<String>,
    /// A field for each modality.
    #[serde(flatten)]
    parts: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Number(f32),
    Numbers(Vec<f32>),
    One(String),
    Many(Vec<String>),
}

impl Label {
    fn answer(self) -> Answer {
        match self {
            Self::Number(value) => Answer::Values(vec![value]),
            Self::Numbers(values) if !values.is_empty() => Answer::Values(values),
            Self::Numbers(_) => Answer::Classes(Vec::new()),
            Self::One(name) => Answer::Classes(vec![name]),
            Self::Many(names) => Answer::Classes(names),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Card {
    name: Option<String>,
    task: Option<Task>,
    classes: Option<Vec<String>>,
    metric: Option<String>,
    licence: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
    show_samples: Option<bool>,
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let dot = options.variant.as_deref().map_or_else(String::new, |v| format!(".{v}"));
    let card = card(&folder.join(format!("dataset{dot}.toml")))?;
    let path = folder.join(format!("manifest{dot}.jsonl"));
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let lines: Vec<(String, Line)> = json_lines(&path, &mut draft.sieve)?;
    let lists = lines
        .iter()
        .any(|(_, l)| matches!(&l.label, Label::Many(_)) || matches!(&l.label, Label::Numbers(n) if n.is_empty()));
    draft.task = card.task.or(lists.then_some(Task::MultiLabel));
    let known = &options.modalities;
    for (place, line) in lines {
        let Some(split) = Split::ALL.into_iter().find(|s| s.name() == line.split) else {
            draft.sieve.bad(place, format!("unknown split `{}`; expected train, val or test", line.split))?;
            continue;
        };
        if let Some(field) = line.parts.keys().find(|name| !known.iter().any(|m| m.name == name.as_str())) {
            let names: Vec<&str> = known.iter().map(|m| m.name).collect();
            let what = format!(
                "unknown field `{field}`; expected id, label, split, group, or a modality: {}",
                names.join(", ")
            );
            draft.sieve.bad(place, what)?;
            continue;
        }
        let mut parts = Vec::new();
        for modality in known {
            let Some(Some(part)) = line.parts.get(modality.name) else { continue };
            if !draft.modalities.contains(modality) {
                draft.modalities.push(modality);
            }
            parts.push((*modality, if modality.inline { Part::Text(part.clone()) } else { Part::Path(part.clone()) }));
        }
        let id = match line.id {
            Id::Text(id) => id,
            Id::Number(id) => id.to_string(),
        };
        let answer = line.label.answer();
        draft.found.push(Found { place, id, parts, answer, split: Some(split), group: line.group });
    }
    draft.keep_used_modalities(known);
    draft.name = card.name.unwrap_or(draft.name);
    if let Some(variant) = options.variant.as_ref().filter(|_| !draft.name.contains(':')) {
        draft.name = format!("{}:{variant}", draft.name);
    }
    (draft.classes, draft.licence) = (card.classes, card.licence);
    draft.show_samples = card.show_samples.unwrap_or(false);
    draft.metric = card.metric;
    draft.finish(options.split_seed)
}

fn card(path: &Path) -> Result<Card, DataError> {
    match crate::read_regular(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Card::default()),
        Err(e) => Err(DataError::io(path, e)),
        Ok(text) => {
            toml::from_str(&text).map_err(|e| DataError::invalid(path.display().to_string(), e.message().to_owned()))
        }
    }
}
