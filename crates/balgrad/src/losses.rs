//! The three losses that every method is made of: cross-entropy, the divergence between two predictions, and the
//! probability given to the truth.

use balgrad_nn::log_softmax;
use candle_core::{Result, Tensor};

use crate::Labels;

/// `log σ(z) = −m − log(e^−m + e^(−z−m))` with `m = max(0, −z)` held constant: stable for any `z`, and smooth where
/// `|z|` and `max(z, 0)` have a kink that automatic differentiation answers wrongly (`z = 0`: a fresh head).
fn log_sigmoid(z: &Tensor) -> Result<Tensor> {
    let m = z.detach().neg()?.relu()?;
    let sum = (m.neg()?.exp()? + (z + &m)?.neg()?.exp()?)?;
    (sum.log()? + m)?.neg()
}

/// Cross-entropy of `logits` `[batch, classes]`, a scalar: softmax cross-entropy averaged over the batch
/// (weighted where class weights are given), or the mean over batch and labels of the binary cross-entropy.
///
/// # Errors
/// When shapes or devices of logits and labels disagree.
pub fn cross_entropy(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    match labels {
        Labels::Classes { ids, weights } => {
            let picked = log_softmax(logits)?.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?;
            match weights {
                None => picked.mean_all()?.neg(),
                Some(weights) => {
                    let w = weights.index_select(ids, 0)?;
                    // A batch without any weight has no loss, rather than 0/0.
                    (picked * &w)?.sum_all()?.neg()?.div(&w.sum_all()?.maximum(1e-30)?)
                }
            }
        }
        Labels::Many { targets, positive_weights } => {
            let positive = (targets * log_sigmoid(logits)?)?;
            let positive = match positive_weights {
                Some(w) => positive.broadcast_mul(w)?,
                None => positive,
            };
            let negative = (targets.affine(-1.0, 1.0)? * log_sigmoid(&logits.neg()?)?)?;
            (positive + negative)?.mean_all()?.neg()
        }
    }
}

/// The divergence `KL(target ‖ prediction)` at temperature `t`, times `t²`, a scalar averaged over the batch:
/// of the two softmax distributions, or for multi-label tasks the mean over labels of the Bernoulli divergence.
///
/// Gradient flows into both arguments; detach `target` for mutual learning (Zhang et al. 2018).
///
/// # Errors
/// When the shapes `[batch, classes]` disagree.
pub fn kl_divergence(target: &Tensor, prediction: &Tensor, labels: &Labels, t: f64) -> Result<Tensor> {
    let (target, prediction) = ((target / t)?, (prediction / t)?);
    let divergence = match labels {
        Labels::Classes { .. } => {
            let (lp, lq) = (log_softmax(&target)?, log_softmax(&prediction)?);
            (lp.exp()? * (&lp - &lq)?)?.sum(1)?.mean_all()?
        }
        Labels::Many { .. } => {
            let one_side = |p: &Tensor, q: &Tensor| -> Result<Tensor> {
                let (lp, lq) = (log_sigmoid(p)?, log_sigmoid(q)?);
                lp.exp()? * (&lp - &lq)?
            };
            (one_side(&target, &prediction)? + one_side(&target.neg()?, &prediction.neg()?)?)?.mean_all()?
        }
    };
    divergence * (t * t)
}

/// The log-probability that `logits` give to the truth, `[batch]` (multi-label: to each label's true value,
/// `[batch, classes]`), and weights of the same shape such that `−Σ weight · log p` is [`cross_entropy`].
pub(crate) fn truth(logits: &Tensor, labels: &Labels) -> Result<(Tensor, Tensor)> {
    match labels {
        Labels::Classes { ids, weights } => {
            let picked = log_softmax(logits)?.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?;
            let weights = match weights {
                Some(weights) => weights.index_select(ids, 0)?,
                None => picked.ones_like()?,
            };
            let sum = weights.sum_all()?.maximum(1e-30)?;
            Ok((picked, weights.broadcast_div(&sum)?))
        }
        Labels::Many { targets, positive_weights } => {
            let values = log_sigmoid(&(logits * targets.affine(2.0, -1.0)?)?)?;
            let weights = match positive_weights {
                Some(w) => (targets.broadcast_mul(w)? + targets.affine(-1.0, 1.0)?)?,
                None => targets.ones_like()?,
            };
            Ok((values, (weights / logits.elem_count() as f64)?))
        }
    }
}

/// Log-probabilities of all outcomes, one tensor of shape `[batch, classes]` per kind of outcome: the classes, or for
/// multi-label tasks each label's yes and its no. A sum over kinds and classes runs over a distribution's outcomes.
pub(crate) fn outcomes(logits: &Tensor, labels: &Labels) -> Result<Vec<Tensor>> {
    match labels {
        Labels::Classes { .. } => Ok(vec![log_softmax(logits)?]),
        Labels::Many { .. } => Ok(vec![log_sigmoid(logits)?, log_sigmoid(&logits.neg()?)?]),
    }
}

/// A sum over outcomes as one number per sample, `[batch]`: over classes, or the mean over labels.
pub(crate) fn per_sample(kinds: &[Tensor], labels: &Labels) -> Result<Tensor> {
    let mut sum =
        kinds.first().map_or_else(|| Err(candle_core::Error::Msg("no outcomes".into())), |k| Ok(k.clone()))?;
    for kind in &kinds[1..] {
        sum = (sum + kind)?;
    }
    if matches!(labels, Labels::Many { .. }) { sum.mean(1) } else { sum.sum(1) }
}

/// Entropy of what `logits` say, per sample `[batch]`, in nats; for multi-label tasks the mean over labels.
pub(crate) fn entropy(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let terms = outcomes(logits, labels)?.iter().map(|lp| lp.exp()? * lp).collect::<Result<Vec<_>>>()?;
    per_sample(&terms, labels)?.neg()
}

/// How sure `logits` are, per sample `[batch]`: the largest probability; for multi-label tasks the mean over labels of
/// the likelier outcome's.
pub(crate) fn confidence(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    match labels {
        Labels::Classes { .. } => log_softmax(logits)?.max(1)?.exp(),
        // σ(|z|), the absolute value by its sign so that it has a gradient at 0.
        Labels::Many { .. } => {
            let sign = logits.detach().ge(0.0)?.to_dtype(logits.dtype())?.affine(2.0, -1.0)?;
            log_sigmoid(&(logits * sign)?)?.exp()?.mean(1)
        }
    }
}

/// The part of right answers, per sample `[batch]`, detached: 1 or 0 for the likeliest class, or the part of labels on
/// whose right side of one half the probability lies.
pub(crate) fn correct(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let logits = logits.detach();
    match labels {
        Labels::Classes { ids, .. } => logits.argmax(1)?.eq(ids)?.to_dtype(logits.dtype()),
        Labels::Many { targets, .. } => {
            let said = logits.ge(0.0)?.to_dtype(logits.dtype())?;
            (said - targets)?.abs()?.affine(-1.0, 1.0)?.mean(1)
        }
    }
}

/// The probability that `logits` `[batch, classes]` give to the truth, per sample `[batch]`, detached; for
/// multi-label tasks the mean over labels of the probability given to each label's true value.
///
/// # Errors
/// When shapes of logits and labels disagree.
pub fn true_class_probability(logits: &Tensor, labels: &Labels) -> Result<Tensor> {
    let logits = logits.detach();
    match labels {
        Labels::Classes { ids, .. } => log_softmax(&logits)?.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?.exp(),
        Labels::Many { targets, .. } => {
            // σ(z) where the label is 1, σ(−z) where it is 0: σ of the logit with the target's sign.
            let sign = targets.affine(2.0, -1.0)?;
            log_sigmoid(&(logits * sign)?)?.exp()?.mean(1)
        }
    }
}
