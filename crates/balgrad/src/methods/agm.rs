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
//! others, additive fusions only. `apply = step` needs additive logits too: elsewhere the factors act on the gradient.
//! The first step has no running mean: `k = 1` (public code: a mean of 0).

use candle_core::{Error, Result, Tensor, Var};

use super::{APPLY, Entry, Method, Needs, Objective, Prediction, State};
use crate::{Evidence, Kind, Labels, Mix, Outputs, Role, Setting, cross_entropy};

pub(super) static ENTRY: Entry = Entry {
    name: "agm",
    about: "scales the gradient into each modality's Shapley logits by how far it is ahead of its running mean",
    paper: "Li et al., ICCV 2023",
    when: "as OGM, where the fusion is not additive, or where who leads changes from batch to batch",
    cost: "1F 1B; fusions that are not additive 1F 2B",
    trains_heads: false,
    prediction: Prediction::Fused,
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
    build: |s| {
        Box::new(Agm {
            alpha: s.number("alpha"),
            epochs: s.count("epochs"),
            on_step: s.word("apply") == "step",
            current: Vec::new(),
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
    /// `c_m` of this step.
    current: Vec<f64>,
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
    fn factors(&self) -> Vec<f64> {
        let factor = |m| {
            let ahead = lead(&self.current, m).exp();
            let usual = if self.seen > 0.0 { lead(&self.mean, m).exp() } else { ahead };
            let k = (self.alpha * (usual - ahead).min(CEILING)).min(EXPONENT).exp();
            // Two infinite ratios have no difference; the modality is then left as it is.
            if k.is_nan() { 1.0 } else { k }
        };
        (0..self.current.len()).map(factor).collect()
    }

    fn remember(&mut self) {
        // One diverged batch must not spoil the mean for good.
        if self.current.iter().any(|c| !c.is_finite()) {
            return;
        }
        self.mean.resize(self.current.len(), 0.0);
        self.seen += 1.0;
        for (mean, c) in self.mean.iter_mut().zip(&self.current) {
            *mean += (c - *mean) / self.seen;
        }
    }
}

/// `∂L/∂z` at the fused logits, detached.
fn cotangent(fused: &Tensor, labels: &Labels) -> Result<Tensor> {
    let z = Var::from_tensor(&fused.detach())?;
    let grads = cross_entropy(z.as_tensor(), labels)?.backward()?;
    grads.get(z.as_tensor()).cloned().ok_or_else(|| Error::Msg("the task loss does not depend on its logits".into()))
}

impl Method for Agm {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, ..Needs::default() }
    }

    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        let mut objectives = vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)];
        let shapley: Vec<Tensor> = match (&outputs.slices, outputs.modalities()) {
            (Some(slices), _) => slices.iter().map(Tensor::detach).collect(),
            (None, 2) => {
                let (a, b) = (outputs.alone(0)?, outputs.alone(1)?);
                let toward = cotangent(&outputs.fused, labels)?;
                let parts = vec![(&toward * &a)?.sum_all()?, (&toward * &b)?.sum_all()?];
                objectives.push(Objective::sum("alone", parts)?);
                let (fused, a, b) = (outputs.fused.detach(), a.detach(), b.detach());
                vec![(((&fused - &b)? + &a)? / 2.0)?, (((&fused - &a)? + &b)? / 2.0)?]
            }
            _ => return Err(Error::Msg("AGM needs additive logits (`Outputs::slices`), or two modalities".into())),
        };
        let scalar = |z: &Tensor| cross_entropy(z, labels)?.to_dtype(candle_core::DType::F64)?.to_scalar();
        self.current = shapley.iter().map(scalar).collect::<Result<_>>()?;
        Ok(objectives)
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let factors = if evidence.epoch < self.epochs { self.factors() } else { vec![1.0; self.current.len()] };
        self.remember();
        if evidence.objectives() == 1 {
            return Ok(Mix::uniform(evidence.blocks, &[1.0]).scale_towers(evidence.blocks, &factors, self.on_step));
        }
        let mut mix = Mix::uniform(evidence.blocks, &[1.0, 0.0]);
        for (row, block) in mix.coefficients.iter_mut().zip(evidence.blocks) {
            if let Role::Tower(m) = block.role {
                let factor = |m: usize| factors.get(m).copied().unwrap_or(1.0);
                let (own, other) = (factor(m), factor(1_usize.wrapping_sub(m)));
                *row = vec![0.5 * (own + other), 0.5 * (own - other)];
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
