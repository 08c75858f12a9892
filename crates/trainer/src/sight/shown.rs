//! What a sample shows of one modality, before any encoder sees it.

use balgrad_data::{DataError, Impairment, Modality, Sample, decode, resize};
use balgrad_encoders::Tokenizer;
use image::RgbImage;

/// An image or a text.
pub(super) enum Shown {
    Image(RgbImage),
    Text(String),
}

impl Shown {
    /// RGB bytes of a square.
    pub(super) fn pixels(self, size: u32) -> Option<Box<[u8]>> {
        match self {
            Self::Image(image) => Some(resize(&image, size).into_raw().into()),
            Self::Text(_) => None,
        }
    }

    pub(super) fn tokens(self, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u32>> {
        match self {
            Self::Text(text) => Ok(tokenizer.encode(&text)?),
            Self::Image(_) => Ok(Vec::new()),
        }
    }
}

/// Whether the sample has the modality at all.
pub(super) fn has(sample: &Sample, modality: Modality) -> bool {
    match modality {
        Modality::Image => sample.image.is_some(),
        Modality::Text => sample.text.is_some(),
    }
}

/// The sample's image or text under a condition; `None` where it is missing.
pub(super) fn show(
    sample: &Sample,
    modality: Modality,
    impairment: Option<&Impairment>,
    mask_word: Option<&str>,
    seed: u64,
) -> Result<Option<Shown>, DataError> {
    Ok(match modality {
        Modality::Image => {
            let Some(source) = &sample.image else { return Ok(None) };
            let image = decode(source)?;
            let image = match impairment {
                Some(i) => i.image(image, seed, &sample.id),
                None => Some(image),
            };
            image.map(Shown::Image)
        }
        Modality::Text => {
            let Some(text) = &sample.text else { return Ok(None) };
            let text = match impairment {
                Some(i) => i.text(text, mask_word, seed, &sample.id),
                None => Some(text.clone()),
            };
            text.map(Shown::Text)
        }
    })
}

/// Why a sample's image cannot be read.
pub(super) fn reason(sample: &Sample) -> String {
    let error = sample.image.as_ref().and_then(|source| decode(source).err());
    error.map_or_else(|| "its features are not finite".to_owned(), |e| e.to_string())
}
