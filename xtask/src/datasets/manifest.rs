//! The two files that describe a task: `dataset.toml` ([`Description`]) and `manifest.jsonl` ([`Sample`]).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where a sample belongs. The order is the order of files, tables and tie-breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    pub(crate) const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        })
    }
}

/// One class for a multi-class or binary task; one or more for a multi-label task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Label {
    One(String),
    Many(Vec<String>),
}

impl Label {
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Label::One(name) => std::slice::from_ref(name),
            Label::Many(names) => names,
        }
    }
}

/// One line of a manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    pub(crate) id: String,
    /// Relative to the manifest's folder, `/` between the parts.
    pub(crate) image: String,
    pub(crate) text: String,
    pub(crate) label: Label,
    pub(crate) split: Split,
    /// Near-duplicates share a group, and a group never leaves its split.
    pub(crate) group: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    Multiclass,
    Multilabel,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    Accuracy,
    F1Macro,
}

/// `dataset.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) metric: Metric,
    /// An SPDX expression: identifiers joined by ` AND `, each with its text in `LICENSES/`.
    pub(crate) licence: String,
    pub(crate) source: String,
    /// Whether a report may show samples of it.
    pub(crate) show_samples: bool,
    /// The order fixes the class indices.
    pub(crate) classes: Vec<String>,
}

/// A task as read from, or written to, a folder.
pub(crate) struct Dataset {
    pub(crate) description: Description,
    pub(crate) samples: Vec<Sample>,
}

impl Dataset {
    /// Reads `dataset[.VARIANT].toml` and the manifest of the same variant.
    pub(crate) fn read(folder: &Path, variant: Option<&str>) -> Result<Self> {
        let (toml_path, manifest_path) = paths(folder, variant);
        let text = fs::read_to_string(&toml_path).with_context(|| toml_path.display().to_string())?;
        let description = toml::from_str(&text).with_context(|| toml_path.display().to_string())?;
        let text = fs::read_to_string(&manifest_path).with_context(|| manifest_path.display().to_string())?;
        let samples = text
            .lines()
            .enumerate()
            .map(|(at, line)| {
                serde_json::from_str(line).with_context(|| format!("{}:{}", manifest_path.display(), at + 1))
            })
            .collect::<Result<_>>()?;
        Ok(Self { description, samples })
    }

    /// Writes both files, every line ended by `\n`.
    #[cfg(any(feature = "datasets-build", test))]
    pub(crate) fn write(&self, folder: &Path, variant: Option<&str>) -> Result<()> {
        let (toml_path, manifest_path) = paths(folder, variant);
        fs::write(toml_path, toml::to_string_pretty(&self.description)?)?;
        let mut lines = String::new();
        for sample in &self.samples {
            lines += &serde_json::to_string(sample)?;
            lines.push('\n');
        }
        fs::write(manifest_path, lines)?;
        Ok(())
    }
}

fn paths(folder: &Path, variant: Option<&str>) -> (PathBuf, PathBuf) {
    let dot_variant = variant.map(|name| format!(".{name}")).unwrap_or_default();
    (folder.join(format!("dataset{dot_variant}.toml")), folder.join(format!("manifest{dot_variant}.jsonl")))
}

/// The variants of a folder: `None` for `dataset.toml` itself, then `Some("tags")` for `dataset.tags.toml` and so on.
pub(crate) fn variants(folder: &Path) -> Result<Vec<Option<String>>> {
    let mut named = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let variant = name.strip_prefix("dataset.").and_then(|rest| rest.strip_suffix(".toml"));
        named.extend(variant.map(|variant| Some(variant.to_owned())));
    }
    named.sort();
    named.insert(0, None);
    Ok(named)
}
