//! The adapter that makes a multi-objective aggregator a balancing method.
//!
//! Objectives: the task, each modality's own loss, and mutual learning `kl = Σ_m KL(sg[p_other] ‖ p_m)`, so that
//! `k = M + 2` (one less where there is a single modality). The towers together are the shared parameters: one Gram
//! matrix over all of them, one weight per objective. Own heads and the fused head are each reached by few objectives
//! and get the plain sum, except from rules that weigh losses rather than gradients: those weigh them everywhere.

use candle_core::Result;

use super::balgrad::mutual;
use super::{Entry, GramScope, Method, Needs, Objective, Prediction, State};
use crate::aggregate::{Aggregator, Round, weigh};
use crate::{Evidence, Labels, Mix, Outputs, Role, cross_entropy};

/// What the entries of all aggregators share.
pub(super) const fn entry() -> Entry {
    Entry {
        name: "",
        about: "",
        paper: "",
        when: "",
        cost: "1F (M + 2)B",
        trains_heads: true,
        prediction: Prediction::Fused,
        settings: &[],
        build: |_| Box::new(super::joint::Joint),
    }
}

/// Names of the modalities' own losses in the log.
pub(super) const OWN: [&str; 6] = ["own.0", "own.1", "own.2", "own.3", "own.4", "own.5"];

/// An aggregator at work on task, own and mutual losses.
pub(super) struct Aggregated<A>(pub(super) A);

impl<A: Aggregator> Method for Aggregated<A> {
    fn needs(&self) -> Needs {
        let gram = if self.0.needs_gram() { GramScope::Towers } else { GramScope::None };
        Needs { gram, ..Needs::default() }
    }

    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        let mut objectives = vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)];
        for (m, own) in outputs.own.iter().enumerate() {
            objectives.push(Objective::new(OWN.get(m).unwrap_or(&"own"), cross_entropy(own, labels)?));
        }
        // A single modality has nobody to agree with, and an objective without gradient would stop the rules that
        // look for a vector which serves all.
        if outputs.modalities() > 1 {
            objectives.push(Objective::sum("kl", mutual(outputs, labels, 1.0, false)?)?);
        }
        Ok(objectives)
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let k = evidence.objectives();
        let towers = (0..k * k).map(|i| (0..evidence.modalities).map(|m| evidence.tower_inner(m, i / k, i % k)).sum());
        let gram: Vec<f64> = if self.0.needs_gram() { towers.collect() } else { Vec::new() };
        let Evidence { step, epoch, seed, losses, blocks, .. } = *evidence;
        let weights = weigh(&mut self.0, &Round { gram: &gram, losses, step, epoch, seed });
        let mut mix = Mix::uniform(blocks, &weights);
        if !self.0.weighs_losses() {
            let heads = mix.coefficients.iter_mut().zip(blocks).filter(|(_, b)| !matches!(b.role, Role::Tower(_)));
            heads.for_each(|(row, _)| row.fill(1.0));
        }
        Ok(mix)
    }

    fn state(&self) -> State {
        self.0.state()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.0.restore(state);
        Ok(())
    }
}
