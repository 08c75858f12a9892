//! `manifest.jsonl` with an optional `dataset.toml`: our own layout, the one to convert others to.
//!
//! A line is `{"id", "image", "text", "label", "split", "group"}`: `image` is a path relative to the folder and may be
//! null, `text` may be null, `label` is a class or a list of classes, `group` is optional. `dataset.toml` may give
//! `name`, `task`, `classes`, `metric`, `licence` and `show_samples`; what it leaves out is read off the lines.

use std::path::Path;

use serde::Deserialize;

use super::{Draft, Found, Layout, Picture, json_lines};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(crate) static LAYOUT: Layout = Layout {
    name: "manifest",
    about: "manifest.jsonl (id, image, text, label, split, group) and dataset.toml",
    paper: "BalGrad's own",
    detect: |folder| folder.join("manifest.jsonl").is_file().then(|| "it holds a manifest.jsonl".to_owned()),
    read,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Id,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    text: Option<String>,
    label: Label,
    split: String,
    #[serde(default)]
    group: Option<String>,
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
    One(String),
    Many(Vec<String>),
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

const METRICS: &[&str] = &["accuracy", "f1_macro", "f1_micro", "auroc", "map"];

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let dot = options.variant.as_deref().map_or_else(String::new, |v| format!(".{v}"));
    let card = card(&folder.join(format!("dataset{dot}.toml")))?;
    let path = folder.join(format!("manifest{dot}.jsonl"));
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let lines: Vec<(String, Line)> = json_lines(&path, &mut draft.sieve)?;
    let lists = lines.iter().any(|(_, l)| matches!(l.label, Label::Many(_)));
    draft.task = card.task.or(lists.then_some(Task::MultiLabel));
    for (place, line) in lines {
        let Some(split) = Split::ALL.into_iter().find(|s| s.name() == line.split) else {
            draft.sieve.bad(place, format!("unknown split `{}`; expected train, val or test", line.split))?;
            continue;
        };
        draft.found.push(Found {
            place,
            id: match line.id {
                Id::Text(id) => id,
                Id::Number(id) => id.to_string(),
            },
            image: line.image.map(Picture::Path),
            text: line.text,
            labels: match line.label {
                Label::One(name) => vec![name],
                Label::Many(names) => names,
            },
            split: Some(split),
            group: line.group,
        });
    }
    draft.name = card.name.unwrap_or(draft.name);
    if let Some(variant) = options.variant.as_ref().filter(|_| !draft.name.contains(':')) {
        draft.name = format!("{}:{variant}", draft.name);
    }
    (draft.classes, draft.licence) = (card.classes, card.licence);
    draft.show_samples = card.show_samples.unwrap_or(false);
    draft.metric = card.metric.map(|m| metric(&m, &path)).transpose()?;
    draft.finish(options.split_seed)
}

fn card(path: &Path) -> Result<Card, DataError> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Card::default()),
        Err(e) => Err(DataError::io(path, e)),
        Ok(text) => {
            toml::from_str(&text).map_err(|e| DataError::invalid(path.display().to_string(), e.message().to_owned()))
        }
    }
}

fn metric(name: &str, path: &Path) -> Result<&'static str, DataError> {
    METRICS.iter().find(|m| **m == name).copied().ok_or_else(|| {
        DataError::invalid(
            path.display().to_string(),
            format!("unknown metric `{name}`; known: {}", METRICS.join(", ")),
        )
    })
}
