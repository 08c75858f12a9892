//! Any number of labels per sample: binary cross-entropy, averaged over labels.

use candle_core::{Error, Result, Tensor};

use super::Likelihood;

#[derive(Debug)]
pub(super) struct Labels {
    /// `[batch, classes]`, 0 or 1.
    pub(super) targets: Tensor,
    /// `[classes]`.
    pub(super) positive_weights: Option<Tensor>,
}

/// `log σ(z) = −m − log(e^−m + e^(−z−m))` with `m = max(0, −z)` held constant: stable for any `z`, and smooth where
/// `|z|` and `max(z, 0)` have a kink whose automatic derivative is wrong (`z = 0`: a fresh head).
fn log_sigmoid(z: &Tensor) -> Result<Tensor> {
    let m = z.detach().neg()?.relu()?;
    let sum = (m.neg()?.exp()? + (z + &m)?.neg()?.exp()?)?;
    (sum.log()? + m)?.neg()
}

impl Labels {
    /// The log-probability of each label's true value, `[batch, classes]`: `log σ` of the logit with the target's sign.
    fn picked(&self, z: &Tensor) -> Result<Tensor> {
        log_sigmoid(&(z * self.targets.affine(2.0, -1.0)?)?)
    }
}

impl Likelihood for Labels {
    fn name(&self) -> &'static str {
        "labels"
    }

    fn has_classes(&self) -> bool {
        true
    }

    /// The mean over batch and labels.
    fn nll(&self, z: &Tensor) -> Result<Tensor> {
        let positive = (&self.targets * log_sigmoid(z)?)?;
        let positive = match &self.positive_weights {
            Some(w) => positive.broadcast_mul(w)?,
            None => positive,
        };
        let negative = (self.targets.affine(-1.0, 1.0)? * log_sigmoid(&z.neg()?)?)?;
        (positive + negative)?.mean_all()?.neg()
    }

    /// The mean over labels of the Bernoulli divergence.
    fn divergence(&self, target: &Tensor, prediction: &Tensor, t: f64) -> Result<Tensor> {
        let (target, prediction) = ((target / t)?, (prediction / t)?);
        let one_side = |p: &Tensor, q: &Tensor| -> Result<Tensor> {
            let (lp, lq) = (log_sigmoid(p)?, log_sigmoid(q)?);
            lp.exp()? * (&lp - &lq)?
        };
        (one_side(&target, &prediction)? + one_side(&target.neg()?, &prediction.neg()?)?)?.mean_all()? * (t * t)
    }

    /// The mean over labels of the probability given to each label's true value.
    fn true_class_probability(&self, z: &Tensor) -> Result<Tensor> {
        self.picked(&z.detach())?.exp()?.mean(1)
    }

    fn one_hot(&self, z: &Tensor) -> Result<Tensor> {
        self.targets.to_dtype(z.dtype())
    }

    fn true_log_probability(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let weights = match &self.positive_weights {
            Some(w) => (self.targets.broadcast_mul(w)? + self.targets.affine(-1.0, 1.0)?)?,
            None => self.targets.ones_like()?,
        };
        Ok((self.picked(z)?, (weights / z.elem_count() as f64)?))
    }

    fn log_probabilities(&self, z: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![log_sigmoid(z)?, log_sigmoid(&z.neg()?)?])
    }

    fn over_outcomes(&self, kinds: &[Tensor]) -> Result<Tensor> {
        let [yes, no] = kinds else {
            return Err(Error::Msg(format!("two kinds of outcome expected, found {}", kinds.len())));
        };
        (yes + no)?.mean(1)
    }

    fn confidence(&self, z: &Tensor) -> Result<Tensor> {
        // σ(|z|), the absolute value by its sign so that it has a gradient at 0.
        let sign = z.detach().ge(0.0)?.to_dtype(z.dtype())?.affine(2.0, -1.0)?;
        log_sigmoid(&(z * sign)?)?.exp()?.mean(1)
    }

    fn correctness(&self, z: &Tensor) -> Result<Tensor> {
        let z = z.detach();
        let predicted = z.ge(0.0)?.to_dtype(z.dtype())?;
        (predicted - &self.targets)?.abs()?.affine(-1.0, 1.0)?.mean(1)
    }

    fn is_correct(&self, z: &Tensor) -> Result<Tensor> {
        self.true_class_probability(z)?.gt(0.5)?.to_dtype(z.dtype())
    }

    /// The distance less the mean of all distances, negated.
    fn prototype_logits(&self, distance: &Tensor) -> Result<Tensor> {
        distance.mean_keepdim(1)?.broadcast_sub(distance)
    }
}
