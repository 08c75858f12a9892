//! Modalities as data: what a sample can be seen by, one file each in `modalities/`, one line each in [`MODALITIES`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::modalities::{image, text};
use crate::{DataError, Source};

/// A way in which a sample shows itself: a row of [`MODALITIES`], or one of another crate.
pub struct Modality {
    /// Name in data sets, configurations and results, such as `image`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether a table's column holds the content itself, as a text does, and not the path of a file.
    pub inline: bool,
    /// Kinds of noise, the default first. Severity runs from 1 to 5.
    pub noises: &'static [&'static str],
    /// Fails where a source cannot be decoded.
    pub check: fn(&Source) -> Result<(), DataError>,
}

impl fmt::Debug for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Modality {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Modality {}

/// The modalities of this crate, in the order in which models, logs and tables have them.
pub static MODALITIES: &[&Modality] = &[&image::MODALITY, &text::MODALITY];

/// What is asked of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One class of several.
    MultiClass,
    /// One class of two.
    Binary,
    /// Any number of classes.
    MultiLabel,
    /// One or several numbers.
    Regression,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Task {
    /// All four.
    pub const ALL: [Self; 4] = [Self::MultiClass, Self::Binary, Self::MultiLabel, Self::Regression];

    /// `multiclass`, `binary`, `multilabel` or `regression`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiClass => "multiclass",
            Self::Binary => "binary",
            Self::MultiLabel => "multilabel",
            Self::Regression => "regression",
        }
    }
}

/// The true answer for one sample.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// The index of its class.
    Class(u32),
    /// The indices of its classes, ascending.
    Labels(Vec<u32>),
    /// Its numbers, in their own units.
    Value(Vec<f32>),
}

impl Target {
    /// Class indices; none of a value.
    pub fn classes(&self) -> &[u32] {
        match self {
            Self::Class(class) => std::slice::from_ref(class),
            Self::Labels(classes) => classes,
            Self::Value(_) => &[],
        }
    }

    /// Numbers; none of classes.
    pub fn values(&self) -> &[f32] {
        if let Self::Value(values) = self { values } else { &[] }
    }
}
