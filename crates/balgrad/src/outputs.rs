//! What a two-tower model says in one step, and what it should have said.

use candle_core::{Result, Tensor, Var};

use crate::Tap;

/// The logits and embeddings of one forward pass over `M` modalities.
///
/// `fused` and `own` are all that `joint`, `multi-loss` and BalGrad read; the rest is filled when a method's
/// [`Needs`](crate::Needs) ask for it.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Logits of the fused head `f_T`, `[batch, classes]`.
    pub fused: Tensor,
    /// Logits of each modality's own head `f_m`, `M × [batch, classes]`.
    pub own: Vec<Tensor>,
    /// Embedding of each modality as its tower computes it, `M × [batch, width]`.
    pub embeddings: Vec<Tensor>,
    /// Each modality's slice of an additive fused head, `f_m W_mᵀ + b/M`, `M × [batch, classes]`.
    pub slices: Option<Vec<Tensor>>,
    /// The fused head with every other embedding zero, `z(m alone)`, `M × [batch, classes]`.
    pub alone: Option<Vec<Tensor>>,
    /// Where the graph was cut: variables that hold the embeddings' values and that `fused`, `own`, … were
    /// computed from, so that a balancing step costs one pass through the towers (representation scope).
    pub leaves: Option<Vec<Var>>,
    /// First layers whose gradients are wanted as factors; none where the graph was cut at the embeddings.
    pub taps: Vec<Tap>,
}

impl Outputs {
    /// Outputs of a model that has a fused head and one head per modality, and nothing else to show.
    pub fn new(fused: Tensor, own: Vec<Tensor>) -> Self {
        Self { fused, own, embeddings: Vec::new(), slices: None, alone: None, leaves: None, taps: Vec::new() }
    }

    /// The number of modalities.
    pub fn modalities(&self) -> usize {
        self.own.len()
    }

    /// How the fused head sees modality `m`: its slice where the fusion is additive, else `z(m alone)`.
    ///
    /// # Errors
    /// When the model filled neither.
    pub fn seen_by_fused(&self, m: usize) -> Result<&Tensor> {
        let views = self.slices.as_ref().or(self.alone.as_ref());
        views.and_then(|v| v.get(m)).ok_or_else(|| {
            candle_core::Error::Msg(format!(
                "the method needs the fused head's view of modality {m}: fill `Outputs::slices` (additive fusions) or \
                 `Outputs::alone`"
            ))
        })
    }
}

/// The truth of one batch.
#[derive(Debug, Clone)]
pub enum Labels {
    /// One class per sample: ids `[batch]` (u32), and optionally a weight per class `[classes]`.
    Classes {
        /// Class ids `[batch]`, u32.
        ids: Tensor,
        /// Weight of each class `[classes]`; the loss is the weighted mean.
        weights: Option<Tensor>,
    },
    /// Any number of classes per sample: targets `[batch, classes]` in {0, 1}, and optionally a weight of the
    /// positive term per class `[classes]`.
    Many {
        /// Targets `[batch, classes]`, 0 or 1, in the logits' dtype.
        targets: Tensor,
        /// Weight of each class's positive term `[classes]`.
        positive_weights: Option<Tensor>,
    },
}

impl Labels {
    /// Class ids `[batch]` without class weights.
    pub fn classes(ids: Tensor) -> Self {
        Self::Classes { ids, weights: None }
    }

    /// Targets `[batch, classes]` in {0, 1} without class weights.
    pub fn many(targets: Tensor) -> Self {
        Self::Many { targets, positive_weights: None }
    }
}
