//! Fusions: how the embeddings of all modalities become the fused logits.
//!
//! A fusion is one file and one line of [`FUSIONS`].

mod add;
mod attention;
mod concat;
mod cosine;

use candle_core::{Result, Tensor, bail};

use crate::{Error, Parameters};

/// The sizes that a fusion is built for.
#[derive(Debug, Clone, Copy)]
pub struct FusionShape {
    /// How many modalities, at least two.
    pub modalities: usize,
    /// The length of each embedding.
    pub width: usize,
    /// How many logits.
    pub classes: usize,
}

/// A fusion with its classifier: `f_T`.
pub trait Fusion: Send + Sync {
    /// `[batch, classes]` from one `[batch, width]` for each modality.
    ///
    /// # Errors
    /// If shapes disagree.
    fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor>;

    /// For an additive fusion, each modality's own part of the logits, `f_m W_mᵀ + b/M`: they sum to
    /// [`logits`](Self::logits). `None` for others.
    ///
    /// # Errors
    /// If shapes disagree.
    fn slices(&self, _embeddings: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        Ok(None)
    }
}

/// Builds a fusion of the given shape from parameters.
pub type BuildFusion = fn(&FusionShape, &Parameters) -> crate::Result<Box<dyn Fusion>>;

/// One fusion of the table.
pub struct FusionEntry {
    /// The name in configurations.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// Builds it.
    pub build: BuildFusion,
}

/// Every fusion.
pub static FUSIONS: &[FusionEntry] = &[concat::ENTRY, add::ENTRY, attention::ENTRY, cosine::ENTRY];

/// The fusion called `name`.
///
/// # Errors
/// If there is none: the error lists those that exist.
pub fn fusion(name: &str) -> crate::Result<&'static FusionEntry> {
    let known = FUSIONS.iter().map(|entry| entry.name);
    FUSIONS.iter().find(|entry| entry.name == name).ok_or_else(|| Error::unknown("fusion", name, known))
}

fn sum(embeddings: &[Tensor]) -> Result<Tensor> {
    let Some((first, rest)) = embeddings.split_first() else { bail!("a fusion needs embeddings, found none") };
    rest.iter().try_fold(first.clone(), |sum, next| sum + next)
}

/// `x Wᵀ + b/M`: one modality's part of an additive classifier.
fn slice(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, modalities: usize) -> Result<Tensor> {
    let share = bias.map(|bias| bias / modalities as f64).transpose()?;
    crate::ops::linear(x, weight, share.as_ref())
}
