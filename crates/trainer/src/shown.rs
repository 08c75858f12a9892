//! What a sample shows of one modality, before any encoder sees it.

use balgrad_data::{DataError, Framing, Impairment, Modality, Sample, TextNoise, decode, decode_for};
use balgrad_encoders::{Augment, Draw, Expects, Input, Tokenizer};
use candle_core::Device;
use image::RgbImage;

/// What is done to an image or a text before an encoder sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// A corruption, with its seed.
    pub(crate) impairment: Option<(Impairment, u64)>,
    /// The number of a cached training variant: an image shifted and mirrored, a text with words dropped.
    pub(crate) variant: Option<u64>,
}

impl Look {
    /// What caches are keyed by.
    pub(crate) fn key(&self) -> String {
        match (self.impairment, self.variant) {
            (Some((impairment, seed)), _) => format!("{}:{seed}", impairment.key()),
            (None, Some(variant)) => format!("variant:{variant}"),
            (None, None) => "full".to_owned(),
        }
    }
}

/// What a tower reads of one sample.
pub(crate) enum Piece {
    /// Nothing: the modality is missing, or features are fetched when the batch is put together.
    Missing,
    /// RGB bytes of a square.
    Pixels(Box<[u8]>),
    /// Token ids, special tokens included.
    Tokens(Vec<u32>),
}

impl Piece {
    pub(crate) fn as_pixels(&self) -> Option<&[u8]> {
        if let Self::Pixels(pixels) = self { Some(pixels) } else { None }
    }

    fn as_tokens(&self) -> &[u32] {
        if let Self::Tokens(tokens) = self { tokens } else { &[] }
    }

    /// One batch of an encoder that reads pixels or tokens.
    pub(crate) fn batch(pieces: &[Self], expects: &Expects, device: &Device) -> candle_core::Result<Input> {
        match expects {
            Expects::Pixels { .. } => expects.pixels(&pieces.iter().map(Self::as_pixels).collect::<Vec<_>>(), device),
            _ => expects.tokens(&pieces.iter().map(Self::as_tokens).collect::<Vec<_>>(), device),
        }
    }
}

/// An image or a text.
pub(crate) enum Shown {
    Image(RgbImage),
    Text(String),
}

impl Shown {
    /// The square that an encoder sees, varied as the look asks.
    pub(crate) fn pixels(&self, framing: &Framing, look: &Look, sample: &Sample) -> Piece {
        let Self::Image(image) = self else { return Piece::Missing };
        let mut pixels = framing.of(image).into_raw();
        if let Some(seed) = look.variant {
            let side = framing.size as usize;
            let augment = Augment { shift: side / 12, flip: true, ..Augment::default() };
            augment.pixels(&mut pixels, side, Draw { seed, epoch: 0, id: &sample.id });
        }
        Piece::Pixels(pixels.into())
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, tokenizer: &Tokenizer) -> anyhow::Result<Piece> {
        let Self::Text(text) = self else { return Ok(Piece::Missing) };
        Ok(Piece::Tokens(tokenizer.encode(text)?))
    }
}

/// Whether the sample has the modality at all.
pub(crate) fn has(sample: &Sample, modality: Modality) -> bool {
    match modality {
        Modality::Image => sample.image.is_some(),
        Modality::Text => sample.text.is_some(),
    }
}

/// The sample's image or text under a look; `None` where it is missing. `mask_word` is what the encoder has for a hidden
/// word; `framing` is the square that will be made of the image: a large one need not be decoded in full for it.
pub(crate) fn show(
    sample: &Sample,
    modality: Modality,
    look: &Look,
    mask_word: Option<&str>,
    framing: Option<&Framing>,
) -> Result<Option<Shown>, DataError> {
    Ok(match modality {
        Modality::Image => {
            let Some(source) = &sample.image else { return Ok(None) };
            let image = match (look.impairment, framing) {
                (Some((impairment, seed)), _) => impairment.image(decode(source)?, seed, &sample.id),
                (None, Some(framing)) if *framing == Framing::whole(framing.size) => {
                    Some(decode_for(source, framing.size)?)
                }
                (None, _) => Some(decode(source)?),
            };
            image.map(Shown::Image)
        }
        Modality::Text => {
            let Some(text) = &sample.text else { return Ok(None) };
            let dropped = |seed| (Impairment::NoisyText { kind: TextNoise::Drop, severity: 1 }, seed);
            let text = match look.impairment.or(look.variant.map(dropped)) {
                Some((impairment, seed)) => impairment.text(text, mask_word, seed, &sample.id),
                None => Some(text.clone()),
            };
            text.map(Shown::Text)
        }
    })
}
