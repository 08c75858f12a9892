//! The adapter that makes a multi-objective aggregator a balancing method.
//!
//! Objectives: the task, each modality's own loss, and mutual learning `kl = Σ_m KL(sg[p_other] ‖ p_m)`, so that
//! `k = M + 2` (one less where there is a single modality). The towers together are the shared parameters: one Gram
//! matrix over all of them, one weight per objective. Own heads and the fused head are each reached by few objectives
//! and get the plain sum, except from rules that weigh losses rather than gradients: those weigh them everywhere.

use candle_core::Result;

use super::balgrad::mutual;
use super::{Entry, GramScope, Method, Needs, Objective, Objectives, Prediction, State, Targets};
use crate::aggregate::{Aggregator, weigh};
use crate::{Clock, Evidence, Mix, Outputs, Role, Target};

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
        targets: Targets::All,
        settings: &[],
        build: |_, _| Box::new(super::joint::Joint),
    }
}

/// An aggregator at work on task, own and mutual losses.
pub(super) struct Aggregated<A>(pub(super) A);

impl<A: Aggregator> Method for Aggregated<A> {
    fn needs(&self) -> Needs {
        let gram = if self.0.needs_gram() { GramScope::Towers } else { GramScope::None };
        Needs { gram, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let mut objectives = vec![Objective::new("task", target.nll(&outputs.fused)?)];
        for (m, own) in outputs.own.iter().enumerate() {
            objectives.push(Objective::new(format!("own.{m}"), target.nll(own)?).own());
        }
        // A single modality has nobody to agree with, and an objective without gradient would stop the rules that
        // look for a vector which serves all.
        if outputs.modalities() > 1 {
            objectives.push(Objective::sum("kl", mutual(outputs, target, 1.0, false)?)?);
        }
        Ok(objectives.into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let k = evidence.objectives();
        let towers = |i: usize| (0..evidence.modalities).map(|m| evidence.tower_inner(m, i / k, i % k)).sum();
        let gram = match self.0.needs_gram() {
            true => (0..k * k).map(towers).collect::<Result<Vec<f64>>>()?,
            false => Vec::new(),
        };
        let Evidence { clock, modalities, losses, blocks, .. } = *evidence;
        let weights = weigh(&mut self.0, gram, losses, modalities, clock)?;
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
        self.0.restore(state)
    }
}
