//! Numbers: a Gaussian likelihood with unit variance, on standardised targets.

use candle_core::{Result, Tensor};

use super::Likelihood;

#[derive(Debug)]
pub(super) struct Value {
    /// `[batch, n]`.
    pub(super) values: Tensor,
}

impl Likelihood for Value {
    fn name(&self) -> &'static str {
        "value"
    }

    /// Half the mean over batch and numbers of `(y − z)²`. The constant `½ log 2π` is left out: it has no gradient.
    fn nll(&self, z: &Tensor) -> Result<Tensor> {
        (&self.values - z)?.sqr()?.mean_all()? * 0.5
    }

    /// Half the mean over batch and numbers of the squared difference. The temperature divides both means, and its square
    /// multiplies the result: the two cancel, so that it has no effect.
    fn divergence(&self, target: &Tensor, prediction: &Tensor, _t: f64) -> Result<Tensor> {
        (target - prediction)?.sqr()?.mean_all()? * 0.5
    }

    /// The likelihood relative to its largest value, `exp(−½ mean (y − z)²)`: 1 where the prediction is exact. A density has
    /// no upper bound of its own; this one is comparable to a probability and falls with the sample's loss, as that does.
    fn true_class_probability(&self, z: &Tensor) -> Result<Tensor> {
        ((&self.values - z.detach())?.sqr()?.mean(1)? * -0.5)?.exp()
    }
}
