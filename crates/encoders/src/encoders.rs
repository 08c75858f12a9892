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

use balgrad_data::{Framing, Source};

use crate::guard::guarded;
use crate::weights::Weights;
use crate::{Descriptor, Encoder, Error, Handcrafted, ModelFiles, NGrams, Parameters, Pixels, Result, Tokenizer, View};

/// What fitting an encoder to a training split may depend on, beside its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FitOptions {
    /// Height and width of images, in pixels; 0: the encoder's own.
    pub image_size: usize,
    /// How many entries a vocabulary may have.
    pub vocabulary: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { image_size: 0, vocabulary: 1024 }
    }
}

/// Fits an encoder to what its modality has in a training split. What it returns is saved with the model, for `build` to read.
pub type Fit = fn(&[&Source], &FitOptions) -> Result<String>;

/// How an encoder comes about.
#[derive(Clone, Copy)]
pub enum EncoderKind {
    /// Hand-crafted features: frozen, computed once and cached.
    Handcrafted {
        /// Fits it to a training split.
        fit: Fit,
        /// Builds it from what was fitted.
        build: fn(&str) -> Result<Box<dyn Encoder>>,
        /// Whether its features are to be standardised with the training split's statistics.
        standardize: bool,
    },
    /// Trained from scratch, together with the rest of the model.
    Scratch {
        /// Fits its form, such as a vocabulary, to a training split.
        fit: Fit,
        /// Builds it from what was fitted.
        build: fn(&str, &Parameters) -> Result<Box<dyn Encoder>>,
    },
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
    /// The name of the modality that it reads.
    pub modality: &'static str,
    /// One line.
    pub about: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// What the names of its parameters contain that come before the first block: embeddings, a first convolution or norm.
    pub stem: &'static [&'static str],
    /// How it is built.
    pub kind: EncoderKind,
}

/// How deep in an encoder a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Before the first block.
    Stem,
    /// In a block, counted from 0 at the input.
    Block(usize),
    /// After the last block.
    Head,
}

impl EncoderEntry {
    /// A pretrained encoder from the files of a model; `None` for one of another kind. What a hostile file makes the build panic
    /// over is an error that names it.
    ///
    /// # Errors
    /// Files that are missing, damaged, or do not fit together.
    pub fn pretrained(&self, files: &ModelFiles, p: &Parameters) -> Result<Option<Box<dyn Encoder>>> {
        let EncoderKind::Pretrained { build, .. } = self.kind else { return Ok(None) };
        guarded(files.place(), "the encoder", || build(files, p)).map(Some)
    }

    /// How deep a parameter stands, by its name below the encoder. Its block is the first number among the parts of the name.
    pub fn depth(&self, parameter: &str) -> Depth {
        match parameter.split('.').find_map(|part| part.parse().ok()) {
            Some(block) => Depth::Block(block),
            None if self.stem.iter().any(|stem| parameter.contains(stem)) => Depth::Stem,
            None => Depth::Head,
        }
    }
}

/// Every encoder.
pub static ENCODERS: &[EncoderEntry] = &[
    EncoderEntry {
        name: "descriptor",
        modality: "image",
        about: "hand-crafted: oriented gradients and colour",
        paper: "Dalal & Triggs 2005",
        stem: &[],
        kind: EncoderKind::Handcrafted {
            fit: |_, _| Ok(String::new()),
            build: |_| Ok(Box::new(Handcrafted::new(Descriptor))),
            standardize: true,
        },
    },
    EncoderEntry {
        name: "ngrams",
        modality: "text",
        about: "hand-crafted: words and character 3- to 5-grams, on a basis of training texts",
        paper: "Bojanowski et al. 2017; Bach & Jordan 2002",
        stem: &[],
        kind: EncoderKind::Handcrafted {
            fit: |sources, _| NGrams::fit(&texts(sources)?.iter().map(AsRef::as_ref).collect::<Vec<_>>()).to_json(),
            build: |json| Ok(Box::new(Handcrafted::new(NGrams::from_json(json)?))),
            standardize: false,
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
    let EncoderEntry { modality, about, paper, stem, kind, .. } = *entry;
    let kind = match kind {
        EncoderKind::Pretrained { build, .. } => EncoderKind::Pretrained { model, build },
        other => other,
    };
    EncoderEntry { name, modality, about, paper, stem, kind }
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
fn centred(size: usize) -> Pixels {
    Pixels { framing: Framing::whole(size as u32), mean: [0.5; 3], std: [0.5; 3] }
}

/// Pixels a side of small images.
const SMALL_IMAGE: usize = 64;

/// What is saved of an encoder of images that starts from scratch: their size.
const FIT_SIZE: Fit = |_, options| {
    let size = if options.image_size == 0 { SMALL_IMAGE } else { options.image_size };
    Ok(size.to_string())
};

/// Reads what [`FIT_SIZE`] saved.
fn fitted_size(fitted: &str) -> Result<usize> {
    let size = fitted.parse().ok().filter(|size| (1..=4096).contains(size));
    size.ok_or_else(|| {
        Error::invalid("an image encoder", format!("an image size from 1 to 4096 expected, found `{fitted}`"))
    })
}

/// What is saved of an encoder of texts that starts from scratch: the vocabulary, as a `tokenizer.json`.
const FIT_VOCABULARY: Fit = |sources, options| {
    let texts = texts(sources)?;
    Tokenizer::train(texts.iter().map(AsRef::as_ref), options.vocabulary)?.to_json()
};

/// The texts of some sources.
fn texts<'a>(sources: &[&'a Source]) -> Result<Vec<std::borrow::Cow<'a, str>>> {
    let text = |source: &&'a Source| match source.text() {
        Some(text) => Ok(text.into()),
        None => Ok(crate::reader::words(source, "", &View::default(), None)?.into()),
    };
    sources.iter().map(text).collect()
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
