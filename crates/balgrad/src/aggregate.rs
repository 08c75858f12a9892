//! Multi-objective aggregation on any set of losses: the weights come from the Gram matrix of their gradients.
//!
//! [`Aggregation`] is to a list of losses what [`Balancer`](crate::Balancer) is to a multimodal model: one backward
//! pass per loss, one Gram matrix over the shared parameters, one blend. The rules themselves are in
//! [`methods`](crate::methods), each a pure function of that matrix.

use balgrad_kernels::{blend, gram};
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::State;

/// What an aggregator may look at in one step.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// `⟨g_i, g_j⟩` over the shared parameters, row-major `k × k`; empty where the aggregator does not ask for it.
    pub gram: &'a [f64],
    /// The value of each loss, `k`.
    pub losses: &'a [f64],
    /// Steps taken before this one.
    pub step: usize,
    /// Epochs finished before this one.
    pub epoch: usize,
    /// Decides, with `step`, whatever is left to chance.
    pub seed: u64,
}

impl Round<'_> {
    /// The number of objectives.
    pub fn objectives(&self) -> usize {
        self.losses.len()
    }

    /// A generator for this step's draws.
    pub fn rng(&self) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&(self.step as u64).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }

    /// For each objective the others, in random order.
    pub fn orders(&self) -> Vec<Vec<usize>> {
        let (k, mut rng) = (self.objectives(), self.rng());
        let mut order = |i: usize| {
            let mut others: Vec<usize> = (0..k).filter(|j| *j != i).collect();
            others.shuffle(&mut rng);
            others
        };
        (0..k).map(&mut order).collect()
    }
}

/// A rule that weighs objectives: the shared parameters' gradient is `Σ_i weights[i] · g_i`.
pub trait Aggregator: Send {
    /// One weight per objective.
    fn weights(&mut self, round: &Round<'_>) -> Vec<f64>;

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
    fn restore(&mut self, _state: &State) {}
}

/// The rule's weights, or equal ones (`1/k`) where degenerate gradients leave it without an answer.
pub(crate) fn weigh(aggregator: &mut dyn Aggregator, round: &Round<'_>) -> Vec<f64> {
    let k = round.objectives();
    let weights = aggregator.weights(round);
    let sound = weights.len() == k && weights.iter().all(|w| w.is_finite());
    if sound { weights } else { vec![1.0 / k.max(1) as f64; k] }
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
        let values = losses.iter().map(|l| l.to_dtype(DType::F64)?.to_scalar()).collect::<Result<Vec<f64>>>()?;
        let mut stores = losses.iter().map(Tensor::backward).collect::<Result<Vec<_>>>()?;
        let mut rows_of = |vars: &[Var]| -> Vec<Vec<Option<Tensor>>> {
            stores.iter_mut().map(|s| vars.iter().map(|v| s.remove(v.as_tensor())).collect()).collect()
        };
        let (shared, heads) = (rows_of(&self.shared), rows_of(own));
        let shared: Vec<&[Option<Tensor>]> = shared.iter().map(Vec::as_slice).collect();
        let heads: Vec<&[Option<Tensor>]> = heads.iter().map(Vec::as_slice).collect();
        let gram = if self.aggregator.needs_gram() { gram(&shared)? } else { Vec::new() };
        let round = Round { gram: &gram, losses: &values, step: self.step, epoch: self.epoch, seed: self.seed };
        self.weights = weigh(self.aggregator.as_mut(), &round);
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
