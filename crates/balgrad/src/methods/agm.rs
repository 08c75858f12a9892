//! AGM, adaptive gradient modulation (Li et al., "Boosting Multi-modal Model Performance with Adaptive Gradient
//! Modulation", ICCV 2023).
//!
//! Each modality's share of the logits is its Shapley value, `z̃_v = ½(z(v,l) − z(0,l) + z(v,0))`, so that
//! `z̃_v + z̃_l = z(v,l)`. With `c_m` the cross-entropy of `z̃_m`, `r_m = exp(c_other − c_m)` (> 1: `m` is ahead) and
//! `τ_m` the same of the running means over the steps so far, the gradient that flows into `z̃_m` is multiplied by
//! `k_m = exp(α · min(τ_m − r_m, 10))`.
//!
//! Where logits are additive (concatenation or addition and a linear head) `z̃_m` is the head's slice and this is a
//! factor `k_m` on tower `m`. Otherwise, with both padded forwards keeping their gradient,
//! `∇_m = ½(k_v + k_l)·∇_m L + ½(k_m − k_other)·∇_m ⟨sg[∂L/∂z], z(m alone)⟩`: a second objective.
//!
//! Deviations. The fused head itself is not modulated (public code: its rows too, since a hook on `z̃_m` scales all
//! that flows through). A silent modality is an embedding of zeros (public code: an input of zeros). Multi-label:
//! binary cross-entropy takes the place of cross-entropy. Three and more modalities: `c_other` is the mean of the
//! others; where logits are not additive, `z̃_m` is the Shapley value over all sets of modalities and each set but the
//! whole adds an objective (those of one modality together: one). `apply = step` needs additive logits too: elsewhere
//! the factors act on the gradient.
//! The first step has no running mean: `k = 1` (public code: a mean of 0).

use candle_core::{Error, Result, Tensor, Var};

use super::{APPLY, Entry, Method, Needs, Objective, Objectives, Prediction, State, Targets};
use crate::objective::number;
use crate::{Clock, Evidence, Kind, Mix, Outputs, Role, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "agm",
    about: "scales the gradient into each modality's Shapley logits by how far it is ahead of its running mean",
    paper: "Li et al., ICCV 2023",
    when: "as OGM, where the fusion is not additive, or where who leads changes from batch to batch",
    cost: "1F 1B; fusions that are not additive 1F 2B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting {
            name: "alpha",
            default: "1",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "strength α of the modulation",
        },
        Setting {
            name: "epochs",
            default: "20",
            kind: Kind::Count { min: 0, max: 1_000_000 },
            about: "epochs, from the first, in which gradients are modulated",
        },
        APPLY,
    ],
    build: |_, s| {
        Box::new(Agm {
            alpha: s.number("alpha"),
            epochs: s.count("epochs"),
            on_step: s.word("apply") == "step",
            mean: Vec::new(),
            seen: 0.0,
        })
    },
};

/// Upper bound of `τ − r`, as in the published code.
const CEILING: f64 = 10.0;

/// Upper bound of `α(τ − r)`: beyond it `k` leaves the range of f32.
const EXPONENT: f64 = 80.0;

struct Agm {
    alpha: f64,
    epochs: usize,
    on_step: bool,
    /// Running mean of `c_m` over the steps before.
    mean: Vec<f64>,
    /// How many steps the running mean holds.
    seen: f64,
}

/// How far the others' cross-entropy lies above modality `m`'s.
fn lead(losses: &[f64], m: usize) -> f64 {
    if losses.len() < 2 {
        return 0.0;
    }
    let others = (losses.iter().sum::<f64>() - losses[m]) / (losses.len() as f64 - 1.0);
    others - losses[m]
}

impl Agm {
    /// `k_m`, from this step's `c_m`.
    fn factors(&self, current: &[f64]) -> Vec<f64> {
        let factor = |m| {
            let ahead = lead(current, m).exp();
            let usual = if self.seen > 0.0 { lead(&self.mean, m).exp() } else { ahead };
            let k = (self.alpha * (usual - ahead).min(CEILING)).min(EXPONENT).exp();
            // Two infinite ratios have no difference; the modality is then left as it is.
            if k.is_nan() { 1.0 } else { k }
        };
        (0..current.len()).map(factor).collect()
    }

    fn remember(&mut self, current: &[f64]) {
        // One diverged batch must not spoil the mean for good.
        if current.iter().any(|c| !c.is_finite()) {
            return;
        }
        self.mean.resize(current.len(), 0.0);
        self.seen += 1.0;
        for (mean, c) in self.mean.iter_mut().zip(current) {
            *mean += (c - *mean) / self.seen;
        }
    }
}

/// `∂L/∂z` at the fused logits, detached.
fn cotangent(fused: &Tensor, target: &Target) -> Result<Tensor> {
    let z = Var::from_tensor(&fused.detach())?;
    let grads = target.nll(z.as_tensor())?.backward()?;
    grads.get(z.as_tensor()).cloned().ok_or_else(|| Error::Msg("the task loss does not depend on its logits".into()))
}

/// The sets of modalities between none and all, those of one modality first. Bit `m` of a set stands for modality `m`.
fn sets(modalities: usize) -> Vec<usize> {
    let mut sets: Vec<usize> = (1..(1 << modalities) - 1).collect();
    sets.sort_by_key(|set: &usize| (set.count_ones(), *set));
    sets
}

/// How much `z(set)` counts in the Shapley value of modality `m`: more than nothing where the set holds it, else less.
fn weight(set: usize, m: usize, modalities: usize) -> f64 {
    // A set of s players comes before the newcomer in s! (M − s − 1)! of all M! orders.
    let share = |s: usize| (1..=s).fold(1.0 / modalities as f64, |w, i| w * i as f64 / (modalities - i) as f64);
    let size = set.count_ones() as usize;
    if set >> m & 1 == 1 { share(size - 1) } else { -share(size) }
}

/// Detached Shapley logits of a fusion that is not additive, and the objectives whose gradients they are made of.
fn shapley_logits(outputs: &Outputs, target: &Target) -> Result<(Vec<Tensor>, Vec<Objective>)> {
    let modalities = outputs.modalities();
    let sets = sets(modalities);
    let shown = |set: &usize| outputs.without(|n| set >> n & 1 == 0);
    let logits = sets.iter().map(shown).collect::<Result<Vec<_>>>()?;
    let toward = cotangent(&outputs.fused, target)?;
    let pull = |z: &Tensor| (&toward * z)?.sum_all();
    let (alone, several) = logits.split_at(modalities.min(logits.len()));
    let mut objectives = Vec::new();
    if !alone.is_empty() {
        objectives.push(Objective::sum("alone", alone.iter().map(pull).collect::<Result<_>>()?)?);
    }
    for (z, set) in several.iter().zip(&sets[alone.len()..]) {
        objectives.push(Objective::new(format!("set.{set}"), pull(z)?));
    }
    let all = outputs.fused.detach();
    let shapley = |m: usize| {
        let mut sum = (&all * weight((1 << modalities) - 1, m, modalities))?;
        // Sets without the modality first, those with it last.
        for with in [0, 1] {
            for (set, z) in sets.iter().zip(&logits).filter(|(set, _)| *set >> m & 1 == with) {
                sum = (sum + (z.detach() * weight(*set, m, modalities))?)?;
            }
        }
        Ok(sum)
    };
    Ok(((0..modalities).map(shapley).collect::<Result<_>>()?, objectives))
}

impl Method for Agm {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let mut objectives = vec![Objective::new("task", target.nll(&outputs.fused)?)];
        let shapley = match &outputs.slices {
            Some(slices) => slices.iter().map(Tensor::detach).collect(),
            None => {
                let (shapley, more) = shapley_logits(outputs, target)?;
                objectives.extend(more);
                shapley
            }
        };
        let losses = shapley.iter().map(|z| number(&target.nll(z)?)).collect::<Result<_>>()?;
        Ok(Objectives::from(objectives).signal("shapley_losses", losses))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let losses = evidence.signal("shapley_losses")?;
        let modalities = losses.len();
        let factors = if evidence.clock.epoch < self.epochs { self.factors(losses) } else { vec![1.0; modalities] };
        self.remember(losses);
        if evidence.objectives() == 1 {
            return Ok(Mix::uniform(evidence.blocks, &[1.0]).scale_towers(evidence.blocks, &factors, self.on_step));
        }
        let sets = sets(modalities);
        // What flows into z(set) is the sum of what flows into all z̃_n.
        let of = |set: usize| (0..modalities).map(|n| weight(set, n, modalities) * factors[n]).sum::<f64>();
        let mut task_alone = vec![0.0; evidence.objectives()];
        task_alone[0] = 1.0;
        let mut mix = Mix::uniform(evidence.blocks, &task_alone);
        for (row, block) in mix.coefficients.iter_mut().zip(evidence.blocks) {
            if let Role::Tower(m) = block.role {
                *row = vec![of((1 << modalities) - 1), of(1 << m)];
                row.extend(sets.iter().filter(|set| set.count_ones() > 1).map(|set| of(*set)));
            }
        }
        Ok(mix)
    }

    fn state(&self) -> State {
        State::from([("agm.mean".into(), self.mean.clone()), ("agm.seen".into(), vec![self.seen])])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.mean = state.get("agm.mean").cloned().unwrap_or_default();
        self.seen = state.get("agm.seen").and_then(|v| v.first()).copied().unwrap_or(0.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shapley values sum to the worth of all, whatever the other sets are worth; for two modalities the weights are halves.
    #[test]
    fn shapley_logits_sum_to_the_fused_ones() {
        for modalities in 1..6 {
            for set in sets(modalities).into_iter().chain([(1 << modalities) - 1]) {
                let total: f64 = (0..modalities).map(|m| weight(set, m, modalities)).sum();
                let expected = f64::from(u8::from(set == (1 << modalities) - 1));
                assert!((total - expected).abs() < 1e-12, "{set} of {modalities}: {total}");
            }
        }
        assert_eq!([weight(1, 0, 2), weight(1, 1, 2), weight(3, 0, 2)], [0.5, -0.5, 0.5]);
        assert_eq!(sets(3), [1, 2, 4, 3, 5, 6]);
    }
}
