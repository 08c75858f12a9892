//! From a sample's part to what an encoder reads: items made on worker threads, batches collated from them.

use balgrad_data::modalities::{image, text};
use balgrad_data::{DataError, Framing, Impairment, ImpairmentKind, Source};
use candle_core::{Device, Tensor, bail};
use rayon::prelude::*;

use crate::{Augment, Draw, Error, Input, Result, Tokenizer};

/// How a part is shown: as it is, corrupted, or as one of its cached training variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// A corruption, with the run's seed.
    pub impairment: Option<(Impairment, u64)>,
    /// The number of a training variant: an image shifted and mirrored, a text with words dropped.
    pub variant: Option<u64>,
}

impl View {
    /// What caches are keyed by.
    pub fn key(&self) -> String {
        match (self.impairment, self.variant) {
            (Some((impairment, seed)), _) => format!("{}:{seed}", impairment.key()),
            (None, Some(variant)) => format!("variant:{variant}"),
            (None, None) => "full".to_owned(),
        }
    }

    /// The kind and severity of noise with its generator, if there is any.
    pub fn noise(&self, id: &str) -> Option<(&'static str, u8, rand_chacha::ChaCha8Rng)> {
        match self.impairment {
            Some((impairment, seed)) => match impairment.kind {
                ImpairmentKind::Noise { kind, severity } => Some((kind, severity, impairment.rng(seed, id))),
                ImpairmentKind::Missing => None,
            },
            None => None,
        }
    }
}

/// What an encoder reads of one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Nothing: the modality is missing.
    Missing,
    /// RGB bytes of a square, rows from the top.
    Pixels(Box<[u8]>),
    /// Token ids, special tokens included.
    Tokens(Vec<u32>),
    /// Numbers.
    Features(Vec<f32>),
}

/// Turns parts of samples into what an encoder reads. One for each encoder; shared by worker threads.
pub trait Reader: Send + Sync {
    /// Everything that decides what is read, beside the part itself: caches are keyed by it.
    ///
    /// # Errors
    /// When a fitted state cannot be written down.
    fn key(&self) -> Result<String>;

    /// What the encoder reads of the part of sample `id`.
    ///
    /// # Errors
    /// [`Error::Data`] for a part that cannot be decoded.
    fn item(&self, source: &Source, id: &str, view: &View) -> Result<Item>;

    /// Changes an item a little, for training: seeded by the draw.
    fn augment(&self, _item: &mut Item, _draw: Draw<'_>) {}

    /// One batch. A missing item becomes what the encoder knows as missing.
    ///
    /// # Errors
    /// Items of another kind or size, or a device that refuses the memory.
    fn collate(&self, items: &[Item], device: &Device) -> Result<Input>;
}

/// Reads square RGB images: each channel of `0..=1` less `mean`, over `std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// How an image of any size becomes a square.
    pub framing: Framing,
    /// Per channel, of values in `0..=1`.
    pub mean: [f32; 3],
    /// Per channel, of values in `0..=1`.
    pub std: [f32; 3],
}

impl Pixels {
    /// The square of an image under a view, as bytes.
    ///
    /// # Errors
    /// An image that cannot be decoded.
    pub fn square(&self, source: &Source, id: &str, view: &View) -> Result<Box<[u8]>, DataError> {
        let side = self.framing.size;
        let image = match view.noise(id) {
            Some((kind, severity, mut rng)) => {
                let noisy = image::corrupt(image::decode(source)?, kind, severity, &mut rng);
                self.framing.of(&noisy)
            }
            // A large image need not be decoded in full for a small square.
            None if self.framing == Framing::whole(side) => self.framing.of(&image::decode_for(source, side)?),
            None => self.framing.of(&image::decode(source)?),
        };
        let mut pixels = image.into_raw();
        if let Some(seed) = view.variant {
            self.changes().pixels(&mut pixels, side as usize, Draw { seed, epoch: 0, id });
        }
        Ok(pixels.into())
    }

    fn changes(&self) -> Augment {
        Augment { shift: self.framing.size as usize / 12, flip: true, ..Augment::default() }
    }
}

impl Reader for Pixels {
    fn key(&self) -> Result<String> {
        Ok(format!("{self:?}"))
    }

    fn item(&self, source: &Source, id: &str, view: &View) -> Result<Item> {
        Ok(Item::Pixels(self.square(source, id, view)?))
    }

    fn augment(&self, item: &mut Item, draw: Draw<'_>) {
        if let Item::Pixels(pixels) = item {
            self.changes().pixels(pixels, self.framing.size as usize, draw);
        }
    }

    /// `[batch, 3, size, size]`; a missing image is the zero tensor after normalisation.
    fn collate(&self, items: &[Item], device: &Device) -> Result<Input> {
        let size = self.framing.size as usize;
        let plane = size * size;
        let mut values = vec![0f32; items.len() * 3 * plane];
        items.par_iter().zip(values.par_chunks_exact_mut(3 * plane)).try_for_each(|(item, out)| {
            let image = match item {
                Item::Missing => return Ok(()),
                Item::Pixels(image) => image,
                other => bail!("this encoder reads pixels, found {}", other.kind()),
            };
            if image.len() != 3 * plane {
                bail!("an image has {} bytes, expected {size} x {size} x 3", image.len());
            }
            for channel in 0..3 {
                let (scale, shift) = (1.0 / (255.0 * self.std[channel]), self.mean[channel] / self.std[channel]);
                let out = &mut out[channel * plane..][..plane];
                for (out, pixel) in out.iter_mut().zip(image.chunks_exact(3)) {
                    *out = f32::from(pixel[channel]) * scale - shift;
                }
            }
            Ok(())
        })?;
        Ok(Input::Pixels(Tensor::from_vec(values, (items.len(), 3, size, size), device)?))
    }
}

/// Reads texts as at most `limit` tokens.
#[derive(Clone)]
pub struct Tokens {
    /// Where the tokenizer is from: a folder, or a model of the hub. Errors name it.
    pub place: String,
    /// Splits texts; without one, texts cannot be read, and tokens can be collated.
    pub tokenizer: Option<Tokenizer>,
    /// The longest sequence, special tokens included.
    pub limit: usize,
    /// The ids of the empty text, special tokens included.
    pub empty: Vec<u32>,
    /// Whether the vocabulary was learnt from the training split: augmentation then splits pieces, too. Pieces of a pretrained
    /// vocabulary stay as its encoder knows them.
    pub learnt: bool,
}

impl Reader for Tokens {
    fn key(&self) -> Result<String> {
        let tokenizer = self.tokenizer.as_ref().map(Tokenizer::key).transpose()?.unwrap_or_default();
        Ok(format!("tokens:{tokenizer}:{}:{:?}", self.limit, self.empty))
    }

    fn item(&self, source: &Source, id: &str, view: &View) -> Result<Item> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::invalid(&self.place, "no tokenizer.json and no vocab.txt"));
        };
        Ok(Item::Tokens(tokenizer.encode(&words(source, id, view, tokenizer.mask_word())?)?))
    }

    fn augment(&self, item: &mut Item, draw: Draw<'_>) {
        if let (Item::Tokens(tokens), Some(tokenizer)) = (item, &self.tokenizer) {
            let split_tokens = if self.learnt { 0.3 } else { 0.0 };
            let changes = Augment { split_tokens, drop_tokens: 0.1, ..Augment::default() };
            changes.tokens(tokens, tokenizer.splits(), draw);
        }
    }

    /// `[batch, longest]`, cut at the limit; a missing text is the empty one.
    fn collate(&self, items: &[Item], device: &Device) -> Result<Input> {
        let sequence = |item: &Item| -> Result<Vec<u32>> {
            let given = match item {
                Item::Missing => &[][..],
                Item::Tokens(ids) => ids,
                other => {
                    return Err(Error::invalid(
                        "a batch",
                        format!("this encoder reads tokens, found {}", other.kind()),
                    ));
                }
            };
            let whole = if given.is_empty() { self.empty.as_slice() } else { given };
            let mut kept = whole[..whole.len().min(self.limit)].to_vec();
            // The closing special token survives a cut.
            if let (true, Some(last), Some(end)) = (whole.len() > self.limit, kept.last_mut(), whole.last()) {
                *last = *end;
            }
            Ok(kept)
        };
        let sequences = items.iter().map(sequence).collect::<Result<Vec<_>>>()?;
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for sequence in &sequences {
            ids.extend(sequence);
            ids.resize(ids.len() + longest - sequence.len(), 0);
            mask.extend(std::iter::repeat_n(1f32, sequence.len()));
            mask.resize(ids.len(), 0f32);
        }
        let shape = (sequences.len(), longest);
        Ok(Input::Tokens { ids: Tensor::from_vec(ids, shape, device)?, mask: Tensor::from_vec(mask, shape, device)? })
    }
}

/// A text under a view; `mask` is what the encoder has for a hidden word.
pub(crate) fn words(source: &Source, id: &str, view: &View, mask: Option<&str>) -> Result<String, DataError> {
    let whole = match source {
        Source::Text(text) => text.clone(),
        other => {
            let (bytes, place) = other.bytes()?;
            String::from_utf8(bytes.into_owned())
                .map_err(|e| DataError::Invalid { place, what: format!("not UTF-8: {e}") })?
        }
    };
    Ok(match (view.noise(id), view.variant) {
        (Some((kind, severity, mut rng)), _) => text::corrupt(&whole, kind, severity, mask, &mut rng),
        (None, Some(variant)) => {
            let kind = ImpairmentKind::Noise { kind: "drop", severity: 1 };
            let mut rng = Impairment { modality: &text::MODALITY, kind }.rng(variant, id);
            text::corrupt(&whole, "drop", 1, mask, &mut rng)
        }
        (None, None) => whole,
    })
}

/// Collates vectors of `dim` numbers that were made before; reads no parts. A missing one is zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors(pub(crate) usize);

impl Reader for Vectors {
    fn key(&self) -> Result<String> {
        Ok(format!("vectors:{}", self.0))
    }

    fn item(&self, _: &Source, _: &str, _: &View) -> Result<Item> {
        Err(Error::invalid("precomputed features", "they are read from a table, not from a sample"))
    }

    fn collate(&self, items: &[Item], device: &Device) -> Result<Input> {
        let mut values = Vec::with_capacity(items.len() * self.0);
        for item in items {
            match item {
                Item::Missing => values.resize(values.len() + self.0, 0f32),
                Item::Features(row) if row.len() == self.0 => values.extend_from_slice(row),
                Item::Features(row) => {
                    let problem = format!("expected {} numbers, found {}", self.0, row.len());
                    return Err(Error::invalid("features", problem));
                }
                other => {
                    let problem = format!("this encoder reads features, found {}", other.kind());
                    return Err(Error::invalid("a batch", problem));
                }
            }
        }
        Ok(Input::Features(Tensor::from_vec(values, (items.len(), self.0), device)?))
    }
}

impl Item {
    fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "nothing",
            Self::Pixels(_) => "pixels",
            Self::Tokens(_) => "tokens",
            Self::Features(_) => "features",
        }
    }
}
