//! One data set, whatever the layout it was read from.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

use crate::{DataError, Modality, Source, Target, Task, read_regular};

/// The part of a data set that a sample belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For learning.
    Train,
    /// For choosing.
    Val,
    /// For the final evaluation alone.
    Test,
}

impl Split {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        ["train", "val", "test"][self as usize]
    }

    /// The split of a name that is in use for it, in any case: `train`, `val`, `valid`, `validation`, `dev` or `test`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.trim().to_lowercase().as_str() {
            "train" => Self::Train,
            "val" | "valid" | "validation" | "dev" => Self::Val,
            "test" => Self::Test,
            _ => return None,
        })
    }

    /// The split that the first word of a name stands for, as in `train-00000` or `test_titles`.
    pub(crate) fn starting(name: &str) -> Option<Self> {
        Self::named(name.split(|c: char| !c.is_ascii_alphabetic()).next()?)
    }
}

/// One sample: a part for each modality of its data set, any of which may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Unique in the data set.
    pub id: String,
    /// What there is of each modality, in the order of [`Dataset::modalities`].
    pub parts: Vec<Option<Source>>,
    /// The true answer.
    pub target: Target,
    /// The split.
    pub split: Split,
    /// What the sample is a variant of: samples of a group are never in two splits, and are drawn together when
    /// uncertainty is estimated.
    pub group: Option<String>,
}

/// Something wrong with the data, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File and line, or the sample's id.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    /// What is wrong without what is told of one case alone: names in quotes, paths and numbers.
    pub fn kind(&self) -> String {
        let quoted = self.what.split('`').enumerate().map(|(i, part)| if i % 2 == 1 { "…" } else { part });
        let words = quoted.collect::<String>();
        let own = |word: &str| word.contains(['/', '\\']) || word.chars().any(|c| c.is_ascii_digit());
        words.split(' ').map(|word| if own(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
    }

    /// Problems by kind, the most frequent first: how many, and the first of them.
    pub fn by_kind(problems: &[Self]) -> Vec<(usize, &Self)> {
        let mut kinds: Vec<(usize, &Self)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for problem in problems {
            let place = *places.entry(problem.kind()).or_insert(kinds.len());
            match kinds.get_mut(place) {
                Some((count, _)) => *count += 1,
                None => kinds.push((1, problem)),
            }
        }
        kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        kinds
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A data set, read and checked; images are decoded later.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Name, such as `emoji`.
    pub name: String,
    /// The layout it was read from.
    pub layout: &'static str,
    /// What is asked.
    pub task: Task,
    /// What its samples are seen by, in the order of [`Sample::parts`].
    pub modalities: Vec<&'static Modality>,
    /// Names of the classes, in the order of probabilities; of a regression's numbers.
    pub classes: Vec<String>,
    /// All usable samples.
    pub samples: Vec<Sample>,
    /// One per sample that was skipped.
    pub problems: Vec<Problem>,
    /// What was decided while reading, such as a split that was made.
    pub notes: Vec<String>,
    /// SPDX expression, where known.
    pub licence: Option<String>,
    /// Whether a report may show samples.
    pub show_samples: bool,
    /// The headline metric that the data set asks for, if it does.
    pub metric: Option<String>,
}

/// Bytes of files that are read for a fingerprint.
const READ_FOR_FINGERPRINT: u64 = 64 << 20;

impl Dataset {
    /// Why a sample's first part that cannot be decoded cannot; nothing if all can.
    pub fn fault(&self, sample: &Sample) -> Option<DataError> {
        let parts = self.modalities.iter().zip(&sample.parts);
        parts.filter_map(|(modality, part)| (modality.check)(part.as_ref()?).err()).next()
    }

    /// One sample from outside any folder, of which nothing is asked.
    pub fn of(sample: Sample, modalities: Vec<&'static Modality>) -> Self {
        Self {
            name: sample.id.clone(),
            layout: "none",
            task: Task::MultiClass,
            modalities,
            classes: Vec::new(),
            samples: vec![sample],
            problems: Vec::new(),
            notes: Vec::new(),
            licence: None,
            show_samples: false,
            metric: None,
        }
    }

    /// Positions of a split's samples, in order.
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.samples.len()).filter(|&i| self.samples[i].split == split).collect()
    }

    /// The hash of ids, texts, targets, splits, groups and files. Files of less than 64 MiB together go in by their content, after
    /// `sha256:`; larger ones by name, size and time of change, after `size-and-time:`, so that 100,000 files are not read: a file
    /// that is replaced by one of the same size and time then goes unnoticed.
    pub fn fingerprint(&self) -> String {
        let read = self.is_small();
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.task.name().as_bytes());
        self.modalities.iter().for_each(|m| part(m.name.as_bytes()));
        self.classes.iter().for_each(|c| part(c.as_bytes()));
        for sample in &self.samples {
            part(sample.id.as_bytes());
            sample.target.classes().iter().for_each(|l| part(&l.to_le_bytes()));
            sample.target.values().iter().for_each(|v| part(&v.to_le_bytes()));
            part(sample.split.name().as_bytes());
            part(sample.group.as_deref().unwrap_or_default().as_bytes());
            for source in &sample.parts {
                match source {
                    None => part(b"\0none"),
                    Some(Source::Text(text)) => part(text.as_bytes()),
                    Some(Source::Bytes(bytes)) => part(bytes),
                    Some(Source::Packed { file, offset, len }) => {
                        part(stamp_of(file.path(), file.metadata()).as_bytes());
                        part(&offset.to_le_bytes());
                        part(&len.to_le_bytes());
                    }
                    Some(Source::File(path)) => match read.then(|| read_regular(path)) {
                        Some(Ok(bytes)) => part(&bytes),
                        _ => part(stamp(path).as_bytes()),
                    },
                }
            }
        }
        let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        format!("{}:{digest}", if read { "sha256" } else { "size-and-time" })
    }

    /// Whether the samples' own files are small enough to be read for a fingerprint, and none is packed with others.
    fn is_small(&self) -> bool {
        let mut left = READ_FOR_FINGERPRINT;
        self.samples.iter().flat_map(|sample| &sample.parts).flatten().all(|source| match source {
            Source::File(path) => {
                let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
                left.checked_sub(size).is_some_and(|rest| {
                    left = rest;
                    true
                })
            }
            source => !matches!(source, Source::Packed { .. }),
        })
    }
}

/// A file's name, size and time of change.
pub(crate) fn stamp(path: &std::path::Path) -> String {
    stamp_of(path, std::fs::metadata(path))
}

fn stamp_of(path: &std::path::Path, meta: std::io::Result<std::fs::Metadata>) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(meta) = meta else { return name };
    let changed = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{name}\0{}\0{}", meta.len(), changed.map_or(0, |d| d.as_nanos()))
}
