//! What a two-tower model says in one step, and what it should have said.

use std::sync::Arc;

use candle_core::{Error, Result, Tensor, Var};

use crate::Tap;

/// The fused head as a function: logits `[batch, classes]` from one embedding `[batch, width]` per modality. With it a
/// method asks what the head says when an embedding is silent or changed.
#[derive(Clone)]
pub struct FusedHead(Arc<Logits>);

type Logits = dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync;

impl FusedHead {
    /// The head that `logits` computes; its parameters must be those in the blocks.
    pub fn new(logits: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self(Arc::new(logits))
    }

    /// Logits `[batch, classes]`.
    ///
    /// # Errors
    /// When the embeddings are not those that the head reads.
    pub fn logits(&self, embeddings: &[Tensor]) -> Result<Tensor> {
        (self.0)(embeddings)
    }
}

impl std::fmt::Debug for FusedHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FusedHead")
    }
}

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
    /// The fused head, for methods that ask it further questions.
    pub fused_head: Option<FusedHead>,
    /// What frozen teachers make of the same inputs, `M × [batch, width]`, once the method asked for them
    /// ([`Request::Teach`](crate::Request::Teach)).
    pub teacher: Option<Vec<Tensor>>,
    /// Where the graph was cut: variables that hold the embeddings' values and that `fused`, `own`, … were
    /// computed from, so that a balancing step costs one pass through the towers (representation scope).
    pub leaves: Option<Vec<Var>>,
    /// Layers whose gradients are wanted as factors; none where the graph was cut at the embeddings.
    pub taps: Vec<Tap>,
}

impl Outputs {
    /// Outputs of a model that has a fused head and one head per modality, and nothing else to show.
    pub fn new(fused: Tensor, own: Vec<Tensor>) -> Self {
        Self {
            fused,
            own,
            embeddings: Vec::new(),
            slices: None,
            fused_head: None,
            teacher: None,
            leaves: None,
            taps: Vec::new(),
        }
    }

    /// The number of modalities.
    pub fn modalities(&self) -> usize {
        self.own.len()
    }

    /// How the fused head sees modality `m`: its slice where the fusion is additive, else [`alone`](Self::alone).
    ///
    /// # Errors
    /// When the model filled neither slices nor the fused head.
    pub fn seen_by_fused(&self, m: usize) -> Result<Tensor> {
        match self.slices.as_ref().and_then(|slices| slices.get(m)) {
            Some(slice) => Ok(slice.clone()),
            None => self.alone(m),
        }
    }

    /// The fused head with every other embedding zero, `z(m alone)`, `[batch, classes]`.
    ///
    /// # Errors
    /// When there is no modality `m`, or the model did not fill [`fused_head`](Self::fused_head).
    pub fn alone(&self, m: usize) -> Result<Tensor> {
        if m >= self.embeddings.len() {
            return Err(Error::Msg(format!("the outputs hold no embedding of modality {m}")));
        }
        self.without(|n| n != m)
    }

    /// The fused head with the embeddings zero that `silent` names, `[batch, classes]`.
    ///
    /// # Errors
    /// When the model did not fill [`fused_head`](Self::fused_head).
    pub fn without(&self, silent: impl Fn(usize) -> bool) -> Result<Tensor> {
        let heard = |(n, e): (usize, &Tensor)| if silent(n) { e.zeros_like() } else { Ok(e.clone()) };
        let embeddings = self.embeddings.iter().enumerate().map(heard).collect::<Result<Vec<_>>>()?;
        self.asked()?.logits(&embeddings)
    }

    /// The fused head, for a method that cannot do without.
    ///
    /// # Errors
    /// When the model did not fill it.
    pub fn asked(&self) -> Result<&FusedHead> {
        self.fused_head.as_ref().ok_or_else(|| {
            Error::Msg(
                "the method asks the fused head: fill `Outputs::fused_head`, or for methods that only want each \
                 modality's part of an additive fusion `Outputs::slices`"
                    .into(),
            )
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

    /// The truth as a matrix `[batch, classes]` of 0 and 1, in the type of `like` (logits).
    ///
    /// # Errors
    /// When shapes disagree.
    pub(crate) fn targets(&self, like: &Tensor) -> Result<Tensor> {
        match self {
            Self::Many { targets, .. } => targets.to_dtype(like.dtype()),
            Self::Classes { ids, .. } => {
                let classes = Tensor::arange(0, like.dim(1)? as u32, ids.device())?.unsqueeze(0)?;
                ids.unsqueeze(1)?.broadcast_eq(&classes)?.to_dtype(like.dtype())
            }
        }
    }
}
