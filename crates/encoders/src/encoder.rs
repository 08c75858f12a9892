//! What an encoder takes and gives.

use candle_core::{Device, Result, Tensor, bail};

use crate::Reader;
use crate::reader::Vectors;

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

    pub(crate) fn features(&self) -> Result<&Tensor> {
        match self {
            Self::Features(x) => Ok(x),
            other => bail!("this tower reads features, found {}", other.kind()),
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

/// A modality's encoder: one vector for each sample.
pub trait Encoder: Send + Sync {
    /// The length of the vector.
    fn dim(&self) -> usize;

    /// Turns parts of samples into what [`forward`](Self::forward) reads.
    fn reader(&self) -> &dyn Reader;

    /// `[batch, dim]`.
    ///
    /// # Errors
    /// If the input is of another kind or shape than [`reader`](Self::reader) makes.
    fn forward(&self, input: &Input) -> Result<Tensor>;
}

/// No encoder: the input is the features of a frozen one.
pub struct Precomputed(Vectors);

impl Precomputed {
    /// For features of length `dim`.
    pub fn new(dim: usize) -> Self {
        Self(Vectors(dim))
    }
}

impl Encoder for Precomputed {
    fn dim(&self) -> usize {
        self.0.0
    }

    fn reader(&self) -> &dyn Reader {
        &self.0
    }

    fn forward(&self, input: &Input) -> Result<Tensor> {
        input.features().cloned()
    }
}
