//! Targets: the truth of a batch, and how likely logits make it. One file per likelihood.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use candle_core::{Error, Result, Tensor};

mod class;
mod labels;
mod value;

/// The truth of one batch, and the likelihood by which predictions are held against it.
///
/// `z` stands for what a head gives, `[batch, n]`: logits of `n` classes or labels, or `n` predicted numbers. Everything
/// is differentiable unless it is said to be detached.
///
/// A likelihood of your own implements the first five methods, and those of the rest that have a meaning for it; a method
/// that calls another gets an error which names both.
pub trait Likelihood: fmt::Debug + Send + Sync {
    /// Name for errors: `class`, `labels`, `value`.
    fn name(&self) -> &'static str;

    /// Whether predictions are distributions over classes, so that all of the methods below are there.
    fn has_classes(&self) -> bool {
        false
    }

    /// The negative log-likelihood, a scalar: the loss.
    ///
    /// # Errors
    /// When shapes or devices of `z` and the truth disagree.
    fn nll(&self, z: &Tensor) -> Result<Tensor>;

    /// The divergence `KL(target ‖ prediction)` between the distributions that two predictions `[batch, n]` stand for, at
    /// temperature `t`, times `t²`: a scalar, averaged over the batch.
    ///
    /// Gradient flows into both arguments; detach `target` for mutual learning (Zhang et al., "Deep Mutual Learning",
    /// CVPR 2018, <https://arxiv.org/abs/1706.00384>).
    ///
    /// # Errors
    /// When the shapes disagree.
    fn divergence(&self, target: &Tensor, prediction: &Tensor, t: f64) -> Result<Tensor>;

    /// The probability given to the truth, per sample `[batch]`, in [0, 1], detached.
    ///
    /// # Errors
    /// When shapes of `z` and the truth disagree.
    fn true_class_probability(&self, z: &Tensor) -> Result<Tensor>;

    /// The truth as a matrix `[batch, classes]` of 0 and 1, in the type of `z`.
    ///
    /// # Errors
    /// When shapes disagree, or where there are no classes.
    fn one_hot(&self, _z: &Tensor) -> Result<Tensor> {
        Err(undefined(self.name(), "truth by classes"))
    }

    /// The log-probability given to the truth, `[batch]` (multi-label: to each label's true value, `[batch, classes]`), and
    /// weights of the same shape such that `−Σ weight · log p` is [`nll`](Self::nll).
    ///
    /// # Errors
    /// When shapes disagree, or where there are no classes.
    fn true_log_probability(&self, _z: &Tensor) -> Result<(Tensor, Tensor)> {
        Err(undefined(self.name(), "log-probability of the truth"))
    }

    /// Log-probabilities of all outcomes, one tensor `[batch, classes]` per kind of outcome: the classes, or for multi-label
    /// targets each label's yes and its no. A sum over kinds and classes runs over a distribution's outcomes.
    ///
    /// # Errors
    /// Where there are no classes.
    fn log_probabilities(&self, _z: &Tensor) -> Result<Vec<Tensor>> {
        Err(undefined(self.name(), "log-probabilities of classes"))
    }

    /// A sum over outcomes, given as [`log_probabilities`](Self::log_probabilities) orders them, as one number per sample,
    /// `[batch]`: over classes, or the mean over labels.
    ///
    /// # Errors
    /// When there are no outcomes, or no classes.
    fn over_outcomes(&self, _kinds: &[Tensor]) -> Result<Tensor> {
        Err(undefined(self.name(), "sum over classes"))
    }

    /// Entropy of the predicted distribution, per sample `[batch]`, in nats; multi-label: the mean over labels.
    ///
    /// # Errors
    /// Where there are no classes.
    fn entropy(&self, z: &Tensor) -> Result<Tensor> {
        let terms = self.log_probabilities(z)?.iter().map(|lp| lp.exp()? * lp).collect::<Result<Vec<_>>>()?;
        self.over_outcomes(&terms)?.neg()
    }

    /// The largest probability, per sample `[batch]`; multi-label: the mean over labels of the likelier outcome's.
    ///
    /// # Errors
    /// Where there are no classes.
    fn confidence(&self, _z: &Tensor) -> Result<Tensor> {
        Err(undefined(self.name(), "confidence"))
    }

    /// The fraction of correct predictions, per sample `[batch]`, detached: 1 or 0 for the likeliest class, or the fraction
    /// of labels on whose correct side of one half the probability lies.
    ///
    /// # Errors
    /// When shapes disagree, or where there are no classes.
    fn correctness(&self, _z: &Tensor) -> Result<Tensor> {
        Err(undefined(self.name(), "correctness"))
    }

    /// 1 where the prediction for a sample counts as correct, else 0, `[batch]`, detached; multi-label: where
    /// [`true_class_probability`](Self::true_class_probability) exceeds one half.
    ///
    /// # Errors
    /// When shapes disagree, or where there are no classes.
    fn is_correct(&self, _z: &Tensor) -> Result<Tensor> {
        Err(undefined(self.name(), "correctness"))
    }

    /// Logits `[batch, classes]` from distances `[batch, classes]` to the classes' prototypes: the nearer, the likelier.
    ///
    /// # Errors
    /// Where there are no classes.
    fn prototype_logits(&self, _distance: &Tensor) -> Result<Tensor> {
        Err(undefined(self.name(), "prototypes of classes"))
    }
}

fn undefined(target: &str, what: &str) -> Error {
    Error::Msg(format!("a target of kind `{target}` has no {what}"))
}

/// The truth of one batch: any [`Likelihood`]. Copies share it.
#[derive(Debug, Clone)]
pub struct Target(Arc<dyn Likelihood>);

impl Target {
    /// A target with a likelihood of your own.
    pub fn new(likelihood: impl Likelihood + 'static) -> Self {
        Self(Arc::new(likelihood))
    }

    /// One class per sample: ids `[batch]` (u32), and optionally a weight per class `[classes]`, by which the loss is a
    /// weighted mean. Logits are those of a softmax.
    pub fn class(ids: Tensor, weights: Option<Tensor>) -> Self {
        Self::new(class::Class { ids, weights })
    }

    /// Any number of labels per sample: `[batch, classes]` of 0 and 1, in the logits' dtype, and optionally a weight of each
    /// label's positive term, `[classes]`. Logits are those of a sigmoid per label.
    pub fn labels(targets: Tensor, positive_weights: Option<Tensor>) -> Self {
        Self::new(labels::Labels { targets, positive_weights })
    }

    /// Numbers: `[batch, n]`, standardised (mean 0 and variance 1 over the training split), in the dtype of the
    /// predictions. The likelihood is Gaussian with unit variance.
    pub fn value(values: Tensor) -> Self {
        Self::new(value::Value { values })
    }
}

impl Deref for Target {
    type Target = dyn Likelihood;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}
