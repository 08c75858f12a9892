//! What a model returns in one step.

use std::sync::Arc;

use candle_core::{Device, Error, Result, Tensor, Var};

use crate::{Communicator, Tap};

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
#[non_exhaustive]
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

    /// The outputs of the whole batch, of which this rank computed some rows: those carry a gradient, the other ranks' rows
    /// are constants. What a method computes from them is then the same on every rank, and gradients sum up over ranks.
    ///
    /// The first `own` rows are this rank's. A rank without a row of the batch computes one all the same, which does not count:
    /// its gradient is zero.
    ///
    /// # Errors
    /// When a rank is gone, rows do not fit, or the graph was cut: cut it, and tap layers, after gathering.
    pub fn gathered(&self, communicator: &dyn Communicator, own: usize) -> Result<Self> {
        if communicator.size() == 1 {
            return Ok(self.clone());
        }
        if self.leaves.is_some() || !self.taps.is_empty() {
            return Err(Error::Msg("outputs with leaves or taps cannot be gathered over ranks".into()));
        }
        let start = first_row(communicator, own)?;
        let one = |rows: &Tensor| gather_from(communicator, rows, own, start);
        let all = |rows: &Vec<Tensor>| rows.iter().map(one).collect::<Result<Vec<_>>>();
        let head = self.fused_head.clone().map(|head| {
            FusedHead::new(move |embeddings| {
                let logits = head.logits(embeddings)?;
                with_own(&logits.detach(), &logits.narrow(0, start.min(logits.dim(0)? - 1), own.max(1))?, own, start)
            })
        });
        Ok(Self {
            fused: one(&self.fused)?,
            own: all(&self.own)?,
            embeddings: all(&self.embeddings)?,
            slices: self.slices.as_ref().map(all).transpose()?,
            fused_head: head,
            teacher: self.teacher.as_ref().map(all).transpose()?,
            leaves: None,
            taps: Vec::new(),
        })
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

/// The rows of all ranks, of which the first `own` of `rows` are this rank's: those carry their gradient, the others are constants.
/// A rank without a row brings one that does not count.
///
/// # Errors
/// When a rank is gone, or rows do not fit.
pub fn gather_rows(communicator: &dyn Communicator, rows: &Tensor, own: usize) -> Result<Tensor> {
    if communicator.size() == 1 {
        return Ok(rows.clone());
    }
    gather_from(communicator, rows, own, first_row(communicator, own)?)
}

/// The same, where this rank's rows are known to stand from `start` on.
fn gather_from(communicator: &dyn Communicator, rows: &Tensor, own: usize, start: usize) -> Result<Tensor> {
    with_own(&communicator.gather(&rows.narrow(0, 0, own)?)?, rows, own, start)
}

/// Where this rank's rows stand among all.
fn first_row(communicator: &dyn Communicator, own: usize) -> Result<usize> {
    let ranks = Tensor::full(communicator.rank() as u32, own, &Device::Cpu)?;
    let all = communicator.gather(&ranks)?.to_vec1::<u32>()?;
    Ok(all.into_iter().filter(|rank| (*rank as usize) < communicator.rank()).count())
}

/// `whole`, with the rows from `start` on replaced by the first `own` of `rows`.
fn with_own(whole: &Tensor, rows: &Tensor, own: usize, start: usize) -> Result<Tensor> {
    if own == 0 {
        // Nothing of this rank counts, yet every parameter has a gradient, as on the other ranks.
        return whole.broadcast_add(&(rows.sum_all()? * 0.0)?);
    }
    let end = start + own;
    let (before, after) = (whole.narrow(0, 0, start)?, whole.narrow(0, end, whole.dim(0)? - end)?);
    let parts = [&before, &rows.narrow(0, 0, own)?, &after];
    Tensor::cat(&parts.into_iter().filter(|part| part.elem_count() > 0).collect::<Vec<_>>(), 0)
}
