//! One forward pass, as a method wants to see it.

use anyhow::Result;
use balgrad::{Alone, Communicator, FusedHead, Needs, Outputs, Tap, gather_rows};
use balgrad_encoders::{CutLayer, Input, TwoTower};
use candle_core::{Tensor, Var};

/// One forward pass, with whatever the method needs to see of it.
///
/// # Errors
/// When shapes disagree.
pub fn forward(model: &TwoTower, inputs: &[Input], needs: Needs) -> Result<Outputs> {
    forward_among(model, inputs, needs, &Alone, 0)
}

/// The same by one of several ranks, whose rows the first `own` are: the outputs of the whole batch.
pub(super) fn forward_among(
    model: &TwoTower,
    inputs: &[Input],
    needs: Needs,
    ranks: &dyn Communicator,
    own: usize,
) -> Result<Outputs> {
    let several = ranks.size() > 1;
    let mut taps = Vec::new();
    let embeddings = if several && needs.leaves {
        // Behind the cut, every rank computes the whole batch.
        model.embed(inputs)?.iter().map(|rows| gather_rows(ranks, rows, own)).collect::<Result<_, _>>()?
    } else if needs.wants_taps() && !several {
        let (embeddings, cut): (Vec<_>, Vec<_>) = model.embed_cut(inputs)?.into_iter().unzip();
        let tap = |CutLayer { input, leaf, weight, bias }| Tap { input, leaf, weight, bias };
        taps.extend(cut.into_iter().flatten().map(tap));
        embeddings
    } else {
        model.embed(inputs)?
    };
    let leaves = needs.leaves.then(|| embeddings.iter().map(|e| Var::from_tensor(&e.detach())).collect());
    let leaves: Option<Vec<Var>> = leaves.transpose()?;
    let basis: Vec<Tensor> = match &leaves {
        Some(leaves) => leaves.iter().map(|v| v.as_tensor().clone()).collect(),
        None => embeddings.clone(),
    };
    let slices = if needs.fused_views { model.slices(&basis)? } else { None };
    let asked = needs.fused_head || (needs.fused_views && slices.is_none());
    let fused_head = asked.then(|| {
        let fusion = model.fusion();
        FusedHead::new(move |embeddings| fusion.logits(embeddings))
    });
    let views = model.forward_embeddings(basis)?;
    let mut outputs = Outputs::new(views.fused, views.own);
    (outputs.embeddings, outputs.slices, outputs.fused_head) = (embeddings, slices, fused_head);
    (outputs.leaves, outputs.taps) = (leaves, taps);
    if several && !needs.leaves { Ok(outputs.gathered(ranks, own)?) } else { Ok(outputs) }
}
