//! What a method makes of one step's outputs: losses, each with a backward pass of its own, and signals.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{DType, Error, Result, Tensor};

/// One loss with a backward pass of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Objective {
    /// Name for the log: `task`, `uni`, `kl`, …
    pub name: Cow<'static, str>,
    /// The loss, a scalar.
    pub loss: Tensor,
    /// Where the loss is a sum of one term per modality that touch disjoint blocks: those terms.
    pub parts: Vec<Tensor>,
    /// Whether this is the modalities' own loss: with [`parts`](Self::parts) that of all of them, without that of one.
    /// The balancer averages own losses over an epoch ([`EpochSummary::train_loss`](crate::EpochSummary::train_loss)).
    pub own: bool,
}

impl Objective {
    /// A loss that is a whole.
    pub fn new(name: impl Into<Cow<'static, str>>, loss: Tensor) -> Self {
        Self { name: name.into(), loss, parts: Vec::new(), own: false }
    }

    /// The sum of one loss per modality, each touching that modality's blocks alone, so that one backward pass
    /// serves them all.
    ///
    /// # Errors
    /// When there is no part, or shapes disagree.
    pub fn sum(name: impl Into<Cow<'static, str>>, parts: Vec<Tensor>) -> Result<Self> {
        let name = name.into();
        let mut loss = parts.first().cloned().ok_or_else(|| Error::Msg(format!("`{name}` has no parts")))?;
        for part in &parts[1..] {
            loss = (loss + part)?;
        }
        Ok(Self { name, loss, parts, own: false })
    }

    /// The same objective, marked as the modalities' own loss. A method that has one objective per modality marks each of
    /// them, in the order of the modalities.
    #[must_use]
    pub fn own(mut self) -> Self {
        self.own = true;
        self
    }

    /// The loss as a number.
    ///
    /// # Errors
    /// When the loss is not a scalar.
    pub fn value(&self) -> Result<f64> {
        number(&self.loss)
    }
}

/// A scalar tensor as a number.
pub(crate) fn number(scalar: &Tensor) -> Result<f64> {
    scalar.to_dtype(DType::F64)?.to_scalar()
}

/// The numbers that a method reads off a batch beside its losses, by name: scores, accuracies, means. They reach
/// [`Method::mix`](crate::Method::mix) as evidence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signals(BTreeMap<Cow<'static, str>, Vec<f64>>);

impl Signals {
    /// No signals.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a signal, in place of one with the same name.
    pub fn insert(&mut self, name: impl Into<Cow<'static, str>>, values: Vec<f64>) {
        self.0.insert(name.into(), values);
    }

    /// The signal called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Name and values of every signal, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_ref(), values.as_slice()))
    }
}

/// What [`Method::objectives`](crate::Method::objectives) returns.
#[derive(Debug, Clone, Default)]
pub struct Objectives {
    /// The losses; each costs one backward pass.
    pub losses: Vec<Objective>,
    /// Statistics of the batch that the mix depends on.
    pub signals: Signals,
}

impl Objectives {
    /// Adds a signal.
    #[must_use]
    pub fn signal(mut self, name: impl Into<Cow<'static, str>>, values: Vec<f64>) -> Self {
        self.signals.insert(name, values);
        self
    }

    /// Each modality's own loss in this step, if the objectives name them.
    pub(crate) fn own(&self, modalities: usize) -> Result<Option<Vec<f64>>> {
        let own: Vec<&Objective> = self.losses.iter().filter(|o| o.own).collect();
        let own: Vec<&Tensor> = match own.as_slice() {
            [one] if !one.parts.is_empty() => one.parts.iter().collect(),
            each => each.iter().map(|o| &o.loss).collect(),
        };
        if own.is_empty() || own.len() != modalities {
            return Ok(None);
        }
        own.into_iter().map(number).collect::<Result<_>>().map(Some)
    }
}

impl From<Vec<Objective>> for Objectives {
    fn from(losses: Vec<Objective>) -> Self {
        Self { losses, signals: Signals::new() }
    }
}

impl From<Objective> for Objectives {
    fn from(loss: Objective) -> Self {
        vec![loss].into()
    }
}
