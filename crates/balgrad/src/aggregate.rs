//! Multi-objective aggregation on any set of losses: the weights come from the Gram matrix of their gradients.
//!
//! [`Aggregation`] is to a list of losses what [`Balancer`](crate::Balancer) is to a multimodal model: one backward
//! pass per loss, one Gram matrix over the shared parameters, one blend. The rules themselves are in
//! [`methods`](crate::methods), each a pure function of that matrix.

use balgrad_kernels::{blend, gram};
use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor, Var};

use crate::objective::number;
use crate::{BlockInfo, Clock, Evidence, Role, Signals, State};

/// A rule that weighs objectives: the shared parameters' gradient is `Σ_i weights[i] · g_i`.
pub trait Aggregator: Send {
    /// One weight per objective, from evidence with a single block: the shared parameters, whose Gram matrix is
    /// [`Evidence::shared_gram`] where the rule asks for it.
    ///
    /// # Errors
    /// When the evidence is not what the rule asks for.
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>>;

    /// Whether the rule looks at gradients; one that does not needs a single backward pass.
    fn needs_gram(&self) -> bool {
        true
    }

    /// Whether the rule weighs the losses themselves, for every parameter, rather than the gradients of the shared
    /// ones.
    fn weighs_losses(&self) -> bool {
        false
    }

    /// What the rule remembers, for an exact resume.
    fn state(&self) -> State {
        State::new()
    }

    /// Continues from [`state`](Self::state).
    ///
    /// # Errors
    /// When the state is not this rule's.
    fn restore(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }
}

/// The rule's weights from its evidence, or equal ones (`1/k`) where degenerate gradients leave it without an answer. `gram` is
/// empty where the rule does not look at it.
pub(crate) fn weigh(
    aggregator: &mut dyn Aggregator,
    gram: Vec<f64>,
    losses: &[f64],
    modalities: usize,
    clock: Clock,
) -> Result<Vec<f64>> {
    let k = losses.len();
    let shared = [BlockInfo { name: "shared".to_owned(), role: Role::Fused }];
    let evidence = Evidence { clock, modalities, losses, signals: &Signals::new(), blocks: &shared, gram: &[gram] };
    let weights = aggregator.weights(&evidence)?;
    if weights.len() != k {
        return Err(Error::Msg(format!("the rule gave {} weights for {k} objectives", weights.len())));
    }
    let sound = weights.iter().all(|w| w.is_finite());
    Ok(if sound { weights } else { vec![1.0 / k.max(1) as f64; k] })
}

/// Puts an [`Aggregator`] to work on any losses: drop-in for the backward pass of their sum.
///
/// ```
/// use balgrad::aggregate::Aggregation;
/// use balgrad::methods::upgrad::UpGrad;
/// use candle_core::{Device, Result, Tensor, Var};
///
/// fn main() -> Result<()> {
///     let x = Var::new(&[1f32, 1.0], &Device::Cpu)?;
///     let pull = |to: &[f32; 2]| (x.as_tensor() - Tensor::new(to, &Device::Cpu)?)?.sqr()?.sum_all();
///     let mut aggregation = Aggregation::new(Box::new(UpGrad), vec![x.clone()], 0);
///     let grads = aggregation.backward(&[pull(&[0.0, 1.0])?, pull(&[1.0, 3.0])?], &[])?;
///     assert_eq!(grads.get(x.as_tensor()).map(|g| g.dims().to_vec()), Some(vec![2]));
///     Ok(())
/// }
/// ```
pub struct Aggregation {
    aggregator: Box<dyn Aggregator>,
    shared: Vec<Var>,
    seed: u64,
    step: usize,
    epoch: usize,
    weights: Vec<f64>,
}

impl Aggregation {
    /// An aggregation over the parameters that all losses share; `seed` decides whatever is left to chance.
    pub fn new(aggregator: Box<dyn Aggregator>, shared: Vec<Var>, seed: u64) -> Self {
        Self { aggregator, shared, seed, step: 0, epoch: 0, weights: Vec::new() }
    }

    /// The weights of the last step.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Tells the rule that an epoch has ended.
    pub fn epoch_ended(&mut self) {
        self.epoch += 1;
    }

    /// The aggregated gradient of `losses` (scalars): the rule's on the shared parameters, and on `own` (the heads of
    /// single losses) the plain sum, or the weighted one for rules that weigh losses.
    ///
    /// # Errors
    /// When a loss is not a scalar.
    pub fn backward(&mut self, losses: &[Tensor], own: &[Var]) -> Result<GradStore> {
        let values = losses.iter().map(number).collect::<Result<Vec<f64>>>()?;
        let mut stores = losses.iter().map(Tensor::backward).collect::<Result<Vec<_>>>()?;
        let mut rows_of = |vars: &[Var]| -> Vec<Vec<Option<Tensor>>> {
            stores.iter_mut().map(|s| vars.iter().map(|v| s.remove(v.as_tensor())).collect()).collect()
        };
        let (shared, heads) = (rows_of(&self.shared), rows_of(own));
        let shared: Vec<&[Option<Tensor>]> = shared.iter().map(Vec::as_slice).collect();
        let heads: Vec<&[Option<Tensor>]> = heads.iter().map(Vec::as_slice).collect();
        let gram = if self.aggregator.needs_gram() { gram(&shared)? } else { Vec::new() };
        let clock = Clock { step: self.step, epoch: self.epoch, seed: self.seed, ..Clock::default() };
        self.weights = weigh(self.aggregator.as_mut(), gram, &values, 0, clock)?;
        self.step += 1;
        let plain = vec![1.0; losses.len()];
        let on_heads = if self.aggregator.weighs_losses() { &self.weights } else { &plain };
        let mut store = GradStore::default();
        for (vars, rows, weights) in [(&self.shared[..], &shared, &self.weights), (own, &heads, on_heads)] {
            for (var, gradient) in vars.iter().zip(blend(rows, weights)?) {
                if let Some(gradient) = gradient {
                    store.insert(var.as_tensor(), gradient);
                }
            }
        }
        Ok(store)
    }
}
