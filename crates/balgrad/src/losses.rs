//! The three losses that every method is made of: cross-entropy, the divergence between two predictions, and the
//! probability given to the truth.

use balgrad_kernels::log_softmax;
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
