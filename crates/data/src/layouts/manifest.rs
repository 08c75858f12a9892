//! `manifest.jsonl` with an optional `dataset.toml`: our own layout, the one to convert others to.
//!
//! A line is `{"id", "image", "text", "label", "split", "group"}`: `image` is a path relative to the folder and may be
//! null, `text` may be null, `label` is a class or a list of classes, `group` is optional. `dataset.toml` may give
//! `name`, `task`, `classes`, `metric`, `licence` and `show_samples`; what it leaves out is read off the lines.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Layout, Sieve, escapes};
use crate::{DataError, Dataset, ImageSource, ReadOptions, Sample, Split, Task};

/// The layout's entry.
pub(crate) struct Manifest;

/// The layout's entry.
pub(crate) static MANIFEST: Manifest = Manifest;

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

impl Layout for Manifest {
    fn name(&self) -> &'static str {
        "manifest"
    }

    fn about(&self) -> &'static str {
        "manifest.jsonl (id, image, text, label, split, group) and dataset.toml"
    }

    fn paper(&self) -> &'static str {
        "BalGrad's own"
    }

    fn detect(&self, folder: &Path) -> Option<String> {
        folder.join("manifest.jsonl").is_file().then(|| "it holds a manifest.jsonl".to_owned())
    }

    fn read(&self, folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
        let dot = options.variant.as_deref().map_or_else(String::new, |v| format!(".{v}"));
        let card = card(&folder.join(format!("dataset{dot}.toml")))?;
        let path = folder.join(format!("manifest{dot}.jsonl"));
        let text = std::fs::read_to_string(&path).map_err(|e| DataError::io(&path, e))?;
        let mut sieve = Sieve::new(options);
        let lines = parse(&path, text.trim_start_matches('\u{feff}'), &mut sieve)?;
        if lines.is_empty() {
            let what = "no sample could be read; each line must be a JSON object with id, image, text, label and split";
            return Err(DataError::invalid(path.display().to_string(), what));
        }
        let classes = card.classes.clone().unwrap_or_else(|| classes_of(&lines));
        let task = card.task.unwrap_or_else(|| task_of(&lines, classes.len()));
        if classes.len() < 2 || task == Task::Binary && classes.len() != 2 {
            let what = format!(
                "found {} class(es); a {} task needs two{}",
                classes.len(),
                task.name(),
                if task == Task::Binary { "" } else { " or more" }
            );
            return Err(DataError::invalid(path.display().to_string(), what));
        }
        let samples = samples(folder, lines, &classes, task, &mut sieve)?;
        let metric = card.metric.map(|m| metric(&m, &path)).transpose()?;
        let folder_name = || folder.file_name().map_or_else(|| "data".to_owned(), |n| n.to_string_lossy().into_owned());
        let name = card.name.unwrap_or_else(folder_name);
        let name = match &options.variant {
            Some(variant) if !name.contains(':') => format!("{name}:{variant}"),
            _ => name,
        };
        Ok(Dataset {
            name,
            layout: "manifest",
            task,
            classes,
            samples,
            problems: sieve.problems,
            notes: Vec::new(),
            licence: card.licence,
            show_samples: card.show_samples.unwrap_or(false),
            metric,
        })
    }
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

/// Each readable line with its place.
fn parse(path: &Path, text: &str, sieve: &mut Sieve) -> Result<Vec<(String, Line)>, DataError> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("{}:{}", path.display(), number + 1);
        match serde_json::from_str(line) {
            Ok(line) => lines.push((place, line)),
            Err(e) => sieve.bad(place, format!("not a sample: {e}"))?,
        }
    }
    Ok(lines)
}

fn names(label: &Label) -> &[String] {
    match label {
        Label::One(name) => std::slice::from_ref(name),
        Label::Many(names) => names,
    }
}

/// The classes of the training split, in order of name.
fn classes_of(lines: &[(String, Line)]) -> Vec<String> {
    let train = lines.iter().filter(|(_, l)| l.split == "train");
    let set: BTreeSet<&String> = train.flat_map(|(_, l)| names(&l.label)).collect();
    set.into_iter().cloned().collect()
}

fn task_of(lines: &[(String, Line)], classes: usize) -> Task {
    if lines.iter().any(|(_, l)| matches!(l.label, Label::Many(_))) {
        Task::MultiLabel
    } else if classes == 2 {
        Task::Binary
    } else {
        Task::MultiClass
    }
}

fn samples(
    folder: &Path,
    lines: Vec<(String, Line)>,
    classes: &[String],
    task: Task,
    sieve: &mut Sieve,
) -> Result<Vec<Sample>, DataError> {
    let index: HashMap<&str, u32> = classes.iter().zip(0..).map(|(c, i)| (c.as_str(), i)).collect();
    let mut samples = Vec::with_capacity(lines.len());
    for (place, line) in lines {
        match sample(folder, line, &index, classes, task, sieve) {
            Ok(sample) => samples.push(sample),
            Err(what) => sieve.bad(place, what)?,
        }
    }
    Ok(samples)
}

fn sample(
    folder: &Path,
    line: Line,
    index: &HashMap<&str, u32>,
    classes: &[String],
    task: Task,
    sieve: &mut Sieve,
) -> Result<Sample, String> {
    let id = match line.id {
        Id::Text(id) => id,
        Id::Number(id) => id.to_string(),
    };
    let split = Split::ALL.into_iter().find(|s| s.name() == line.split);
    let split = split.ok_or_else(|| format!("unknown split `{}`; expected train, val or test", line.split))?;
    let found = names(&line.label);
    if task != Task::MultiLabel && found.len() != 1 {
        return Err(format!("{} labels; a {} sample has one", found.len(), task.name()));
    }
    let class = |name: &String| {
        index.get(name.as_str()).copied().ok_or_else(|| {
            let near = crate::error::nearest(name, classes.iter().map(String::as_str));
            format!("unknown label `{name}`; did you mean `{near}`? (classes come from dataset.toml, or from the training split)")
        })
    };
    let mut labels = found.iter().map(class).collect::<Result<Vec<u32>, _>>()?;
    labels.sort_unstable();
    labels.dedup();
    let image = line.image.map(|path| image(folder, Path::new(&path))).transpose()?;
    let text = line.text.filter(|t| !t.trim().is_empty());
    if image.is_none() && text.is_none() {
        return Err("neither image nor text".to_owned());
    }
    if !sieve.is_new(&id) {
        return Err(format!("the id `{id}` was seen before"));
    }
    Ok(Sample { id, image, text, labels, split, group: line.group })
}

fn image(folder: &Path, path: &Path) -> Result<ImageSource, String> {
    if let Some(why) = escapes(folder, path) {
        return Err(why);
    }
    let full: PathBuf = folder.join(path);
    if full.is_file() {
        Ok(ImageSource::File(full))
    } else {
        Err(format!("the image `{}` does not exist", path.display()))
    }
}
