//! What an encoder takes and gives.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// One batch of one modality.
#[derive(Debug, Clone)]
pub enum Input {
    /// Normalised pixels, `[batch, 3, height, width]`.
    Pixels(Tensor),
    /// Token ids and which of them are real.
    Tokens {
        /// u32, `[batch, tokens]`.
        ids: Tensor,
        /// 1 for a token, 0 for padding, `[batch, tokens]`.
        mask: Tensor,
    },
    /// Features of a frozen encoder, `[batch, dim]`.
    Features(Tensor),
}

impl Input {
    /// How many samples.
    ///
    /// # Errors
    /// If the tensor has no dimensions.
    pub fn batch(&self) -> Result<usize> {
        self.tensor().dim(0)
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        self.tensor().device()
    }

    fn tensor(&self) -> &Tensor {
        match self {
            Self::Pixels(x) | Self::Features(x) | Self::Tokens { ids: x, .. } => x,
        }
    }

    pub(crate) fn pixels(&self) -> Result<&Tensor> {
        match self {
            Self::Pixels(x) => Ok(x),
            other => bail!("this encoder reads pixels, found {}", other.kind()),
        }
    }

    pub(crate) fn tokens(&self) -> Result<(&Tensor, &Tensor)> {
        match self {
            Self::Tokens { ids, mask } => Ok((ids, mask)),
            other => bail!("this encoder reads tokens, found {}", other.kind()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Pixels(_) => "pixels",
            Self::Tokens { .. } => "tokens",
            Self::Features(_) => "features",
        }
    }
}

/// How an encoder wants an image of any size to become a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// The length to which the shorter side is brought before the centre is cut out; `None`: the whole image is
    /// stretched.
    pub edge: Option<usize>,
    /// What pixels are weighed by.
    pub resample: Resample,
}

/// What pixels are weighed by when an image is resized, antialiased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resample {
    /// A triangle.
    #[default]
    Bilinear,
    /// Catmull-Rom's cubic.
    Bicubic,
    /// Lanczos' with three lobes.
    Lanczos,
}

/// What an encoder wants to be fed, for the loader to prepare.
#[derive(Debug, Clone, PartialEq)]
pub enum Expects {
    /// Square RGB images of `size`, each channel of `0..=1` less `mean`, over `std`.
    Pixels {
        /// Height and width.
        size: usize,
        /// Per channel, of values in `0..=1`.
        mean: [f32; 3],
        /// Per channel, of values in `0..=1`.
        std: [f32; 3],
        /// How an image becomes a square.
        framing: Framing,
    },
    /// At most `limit` tokens.
    Tokens {
        /// The longest sequence, special tokens included.
        limit: usize,
        /// The ids of the empty text, special tokens included.
        empty: Vec<u32>,
    },
    /// Vectors of this length.
    Features(usize),
}

impl Expects {
    /// Packs RGB images of `size × size` into `[batch, 3, size, size]`; `None` is a missing image, the zero tensor
    /// after normalisation.
    ///
    /// # Errors
    /// If pixels are not expected, or an image has another number of bytes.
    pub fn pixels(&self, images: &[Option<&[u8]>], device: &Device) -> Result<Input> {
        let Self::Pixels { size, mean, std, .. } = self else { bail!("this encoder does not read pixels") };
        let plane = size * size;
        let mut values = vec![0f32; images.len() * 3 * plane];
        images.par_iter().zip(values.par_chunks_exact_mut(3 * plane)).try_for_each(|(image, out)| {
            let Some(image) = image else { return Ok(()) };
            if image.len() != 3 * plane {
                bail!("an image has {} bytes, expected {size} x {size} x 3", image.len());
            }
            for channel in 0..3 {
                let (scale, shift) = (1.0 / (255.0 * std[channel]), mean[channel] / std[channel]);
                let out = &mut out[channel * plane..][..plane];
                for (out, pixel) in out.iter_mut().zip(image.chunks_exact(3)) {
                    *out = f32::from(pixel[channel]) * scale - shift;
                }
            }
            Ok(())
        })?;
        Ok(Input::Pixels(Tensor::from_vec(values, (images.len(), 3, *size, *size), device)?))
    }

    /// Packs token sequences into `[batch, longest]`, cut at the limit; an empty sequence is the empty text.
    ///
    /// # Errors
    /// If tokens are not expected.
    pub fn tokens(&self, sequences: &[&[u32]], device: &Device) -> Result<Input> {
        let Self::Tokens { limit, empty } = self else { bail!("this encoder does not read tokens") };
        let sequence = |given: &&[u32]| -> Vec<u32> {
            let whole = if given.is_empty() { empty.as_slice() } else { given };
            let mut kept = whole[..whole.len().min(*limit)].to_vec();
            // The closing special token survives a cut.
            if let (true, Some(last), Some(end)) = (whole.len() > *limit, kept.last_mut(), whole.last()) {
                *last = *end;
            }
            kept
        };
        let sequences: Vec<_> = sequences.iter().map(sequence).collect();
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

    /// A batch in which this modality is missing: zero features, zero normalised pixels, or the empty text.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn missing(&self, batch: usize, dtype: DType, device: &Device) -> Result<Input> {
        match self {
            Self::Pixels { size, .. } => Ok(Input::Pixels(Tensor::zeros((batch, 3, *size, *size), dtype, device)?)),
            Self::Tokens { .. } => self.tokens(&vec![&[][..]; batch], device),
            Self::Features(dim) => Ok(Input::Features(Tensor::zeros((batch, *dim), dtype, device)?)),
        }
    }
}

/// A modality's encoder: one vector for each sample.
pub trait Encoder: Send + Sync {
    /// The length of the vector.
    fn dim(&self) -> usize;

    /// What [`forward`](Self::forward) reads.
    fn expects(&self) -> &Expects;

    /// `[batch, dim]`.
    ///
    /// # Errors
    /// If the input is of another kind or shape than [`expects`](Self::expects) says.
    fn forward(&self, input: &Input) -> Result<Tensor>;
}

/// No encoder: the input is the features of a frozen one.
pub struct Precomputed(Expects);

impl Precomputed {
    /// For features of length `dim`.
    pub fn new(dim: usize) -> Self {
        Self(Expects::Features(dim))
    }
}

impl Encoder for Precomputed {
    fn dim(&self) -> usize {
        match self.0 {
            Expects::Features(dim) => dim,
            _ => 0,
        }
    }

    fn expects(&self) -> &Expects {
        &self.0
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        match input {
            Input::Features(x) => Ok(x.clone()),
            other => bail!("this tower reads features, found {}", other.kind()),
        }
    }
}
