//! One class per sample: softmax cross-entropy.

use balgrad_nn::log_softmax;
use candle_core::{Error, Result, Tensor};

use super::Likelihood;

#[derive(Debug)]
pub(super) struct Class {
    /// `[batch]`, u32.
    pub(super) ids: Tensor,
    /// `[classes]`.
    pub(super) weights: Option<Tensor>,
}

impl Class {
    /// The log-probability of the true class, `[batch]`.
    fn picked(&self, z: &Tensor) -> Result<Tensor> {
        log_softmax(z)?.gather(&self.ids.unsqueeze(1)?, 1)?.squeeze(1)
    }
}

impl Likelihood for Class {
    fn name(&self) -> &'static str {
        "class"
    }

    fn has_classes(&self) -> bool {
        true
    }

    /// The mean over the batch, weighted where class weights are given.
    fn nll(&self, z: &Tensor) -> Result<Tensor> {
        let picked = self.picked(z)?;
        match &self.weights {
            None => picked.mean_all()?.neg(),
            Some(weights) => {
                let w = weights.index_select(&self.ids, 0)?;
                // A batch without any weight has no loss, rather than 0/0.
                (picked * &w)?.sum_all()?.neg()?.div(&w.sum_all()?.maximum(1e-30)?)
            }
        }
    }

    fn divergence(&self, target: &Tensor, prediction: &Tensor, t: f64) -> Result<Tensor> {
        let (target, prediction) = ((target / t)?, (prediction / t)?);
        let (lp, lq) = (log_softmax(&target)?, log_softmax(&prediction)?);
        (lp.exp()? * (&lp - &lq)?)?.sum(1)?.mean_all()? * (t * t)
    }

    fn true_class_probability(&self, z: &Tensor) -> Result<Tensor> {
        self.picked(&z.detach())?.exp()
    }

    fn one_hot(&self, z: &Tensor) -> Result<Tensor> {
        let classes = Tensor::arange(0, z.dim(1)? as u32, self.ids.device())?.unsqueeze(0)?;
        self.ids.unsqueeze(1)?.broadcast_eq(&classes)?.to_dtype(z.dtype())
    }

    fn true_log_probability(&self, z: &Tensor) -> Result<(Tensor, Tensor)> {
        let picked = self.picked(z)?;
        let weights = match &self.weights {
            Some(weights) => weights.index_select(&self.ids, 0)?,
            None => picked.ones_like()?,
        };
        let sum = weights.sum_all()?.maximum(1e-30)?;
        Ok((picked, weights.broadcast_div(&sum)?))
    }

    fn log_probabilities(&self, z: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![log_softmax(z)?])
    }

    fn over_outcomes(&self, kinds: &[Tensor]) -> Result<Tensor> {
        let [classes] = kinds else {
            return Err(Error::Msg(format!("one kind of outcome expected, found {}", kinds.len())));
        };
        classes.sum(1)
    }

    fn confidence(&self, z: &Tensor) -> Result<Tensor> {
        log_softmax(z)?.max(1)?.exp()
    }

    fn correctness(&self, z: &Tensor) -> Result<Tensor> {
        let z = z.detach();
        z.argmax(1)?.eq(&self.ids)?.to_dtype(z.dtype())
    }

    fn is_correct(&self, z: &Tensor) -> Result<Tensor> {
        self.correctness(z)
    }

    fn prototype_logits(&self, distance: &Tensor) -> Result<Tensor> {
        distance.neg()
    }
}
