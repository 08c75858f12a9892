//! The table of encoders.
//!
//! An encoder is one file and one line of [`ENCODERS`].

mod bert;
mod blip;
mod clip;
mod distilbert;
mod efficientnet;
mod resnet;
mod small_bert;
mod small_cnn;
mod small_vit;
mod vit;

use std::sync::Arc;

use crate::weights::Weights;
use crate::{Descriptor, Encoder, Error, Featurizer, ModelFiles, NGrams, Parameters, Result};

/// The sizes that an encoder which starts from nothing is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchShape {
    /// Height and width of the images.
    pub image_size: usize,
    /// How many token ids there are.
    pub vocabulary: usize,
}

impl Default for ScratchShape {
    fn default() -> Self {
        Self { image_size: 64, vocabulary: 1024 }
    }
}

/// How an encoder comes about.
#[derive(Clone, Copy)]
pub enum EncoderKind {
    /// Frozen and unlearned: its features are computed once and cached.
    Featurizer(fn() -> Box<dyn Featurizer>),
    /// Frozen, and fitted to the training texts: what `fit` returns is saved with the model, for `build` to read.
    Fitted {
        /// Fits it to the texts of a training split.
        fit: fn(&[&str]) -> Result<String>,
        /// Makes of it what was fitted.
        build: fn(&str) -> Result<Box<dyn Featurizer>>,
    },
    /// Trained from nothing, together with the rest of the model.
    Scratch(fn(&ScratchShape, &Parameters) -> Result<Box<dyn Encoder>>),
    /// Starts from pretrained weights; frozen under [`Parameters::frozen`], fine-tuned otherwise.
    Pretrained {
        /// The usual model of the hub, or empty where the hub has none in this form.
        model: &'static str,
        /// Builds it from the files of a model.
        build: fn(&ModelFiles, &Parameters) -> Result<Box<dyn Encoder>>,
    },
}

/// One encoder of the table.
pub struct EncoderEntry {
    /// The name in configurations.
    pub name: &'static str,
    /// `image` or `text`.
    pub modality: &'static str,
    /// One line.
    pub about: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// How it is built.
    pub kind: EncoderKind,
}

/// Every encoder.
pub static ENCODERS: &[EncoderEntry] = &[
    EncoderEntry {
        name: "descriptor",
        modality: "image",
        about: "oriented gradients and colour; unlearned",
        paper: "Dalal & Triggs 2005",
        kind: EncoderKind::Featurizer(|| Box::new(Descriptor)),
    },
    EncoderEntry {
        name: "ngrams",
        modality: "text",
        about: "words and character 3- to 5-grams, on a basis of training texts; unlearned",
        paper: "Bojanowski et al. 2017; Bach & Jordan 2002",
        kind: EncoderKind::Fitted {
            fit: |texts| NGrams::fit(texts).to_json(),
            build: |json| Ok(Box::new(NGrams::from_json(json)?)),
        },
    },
    small_cnn::ENTRY,
    small_vit::ENTRY,
    small_bert::ENTRY,
    vit::ENTRY,
    sized(&vit::ENTRY, "vit-b16", "google/vit-base-patch16-224-in21k"),
    sized(&vit::ENTRY, "vit-l16", "google/vit-large-patch16-224-in21k"),
    resnet::ENTRY,
    sized(&resnet::ENTRY, "resnet-18", "microsoft/resnet-18"),
    sized(&resnet::ENTRY, "resnet-50", "microsoft/resnet-50"),
    efficientnet::ENTRY,
    clip::VISION,
    blip::VISION,
    bert::ENTRY,
    sized(&bert::ENTRY, "bert-base", "google-bert/bert-base-uncased"),
    sized(&bert::ENTRY, "bert-large", "google-bert/bert-large-uncased"),
    sized(&bert::ENTRY, "minilm", "sentence-transformers/all-MiniLM-L6-v2"),
    distilbert::ENTRY,
    sized(&distilbert::ENTRY, "distilbert-base", "distilbert/distilbert-base-uncased"),
    clip::TEXT,
    blip::TEXT,
];

/// The same encoder under a name that says which model of the hub is meant.
const fn sized(entry: &EncoderEntry, name: &'static str, model: &'static str) -> EncoderEntry {
    let EncoderEntry { modality, about, paper, kind, .. } = *entry;
    let kind = match kind {
        EncoderKind::Pretrained { build, .. } => EncoderKind::Pretrained { model, build },
        other => other,
    };
    EncoderEntry { name, modality, about, paper, kind }
}

/// The encoder called `name`.
///
/// # Errors
/// If there is none: the error lists those that exist.
pub fn encoder(name: &str) -> Result<&'static EncoderEntry> {
    let known = ENCODERS.iter().map(|entry| entry.name);
    ENCODERS.iter().find(|entry| entry.name == name).ok_or_else(|| Error::unknown("encoder", name, known))
}

/// Pixels of `size`, centred on the middle of their range.
fn centred(size: usize) -> crate::Expects {
    crate::Expects::Pixels { size, mean: [0.5; 3], std: [0.5; 3], framing: crate::Framing::default() }
}

/// Builds an encoder whose first values are `weights`; all must be used but those that contain one of `ignored`.
fn load(
    weights: Weights,
    ignored: &[&str],
    p: &Parameters,
    build: impl FnOnce(&Parameters) -> Result<Box<dyn Encoder>>,
) -> Result<Box<dyn Encoder>> {
    let weights = Arc::new(weights);
    let encoder = build(&p.pretrained(weights.clone()))?;
    weights.expect_used(ignored)?;
    Ok(encoder)
}
