//! MMPareto (Wei & Hu, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML 2024).
//!
//! In each tower the task gradient `g_T` and the own gradient `g_m` are combined as `d = 2γ(α_T g_T + α_m g_m)`: equal
//! weights where they agree (cosine ≥ 0), the weights of the shortest vector between them where they do not. A `d`
//! shorter than `g_T + g_m` is stretched to that length, before γ. Heads get the plain sum. With `apply = step` γ and
//! the stretch act on the tower's learning rate.
//!
//! Deviations. Direction and length are those of the whole tower, as in the paper, not of each tensor, as in its code.
//! A public port never assigns the weights on conflict and divides 0 by 0; here a vector of length 0 stays 0, and a
//! gradient of length 0 counts as no conflict.

use candle_core::Result;

use super::{APPLY, Entry, GramScope, Method, Needs, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Role, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "mmpareto",
    about: "Pareto weights of task and own gradient in each tower, at the length of their sum",
    paper: "Wei & Hu, ICML 2024",
    when: "where own losses help a tower but fight the task, and two backward passes are affordable",
    cost: "1F 2B",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting {
            name: "gamma",
            default: "1.5",
            kind: Kind::Number { min: 0.0, max: 1e3 },
            about: "factor γ on the towers' gradient",
        },
        APPLY,
    ],
    build: |_, s| Box::new(MmPareto { gamma: s.number("gamma"), on_step: s.word("apply") == "step" }),
};

struct MmPareto {
    gamma: f64,
    on_step: bool,
}

/// Weights of `g_T` and `g_m`, twice those of the paper, and the stretch, from `‖g_T‖²`, `‖g_m‖²` and their inner product.
fn pair(task: f64, own: f64, inner: f64) -> ([f64; 2], f64) {
    let scale = task.max(own);
    if !(scale > 0.0 && scale.is_finite() && inner.is_finite()) {
        return ([1.0; 2], 1.0);
    }
    let (task, own) = (task.max(0.0) / scale, own.max(0.0) / scale);
    // Rounding may lift the product above what Cauchy and Schwarz allow.
    let most = (task * own).sqrt();
    let inner = (inner / scale).clamp(-most, most);
    let between = task + own - 2.0 * inner;
    let alpha = if inner < 0.0 && between > 0.0 { ((own - inner) / between).clamp(0.0, 1.0) } else { 0.5 };
    let (a, b) = (2.0 * alpha, 2.0 * (1.0 - alpha));
    let squared = a * a * task + b * b * own + 2.0 * a * b * inner;
    let wanted = task + own + 2.0 * inner;
    // What rounding leaves of two opposed gradients is no direction to stretch.
    let stretch = if squared > 1e-12 * (task + own) && squared < wanted { (wanted / squared).sqrt() } else { 1.0 };
    ([a, b], stretch)
}

impl Method for MmPareto {
    fn needs(&self) -> Needs {
        Needs { gram: GramScope::Towers, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<_>>()?;
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?), Objective::sum("uni", own)?.own()].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let mut mix = Mix::uniform(evidence.blocks, &[1.0, 1.0]);
        let mut lengths = vec![1.0; evidence.modalities];
        for (block, coefficients) in evidence.blocks.iter().zip(&mut mix.coefficients) {
            if let Role::Tower(m) = block.role {
                let inner = |i, j| evidence.tower_inner(m, i, j);
                let (weights, stretch) = pair(inner(0, 0)?, inner(1, 1)?, inner(0, 1)?);
                *coefficients = weights.to_vec();
                lengths[m] = self.gamma * stretch;
            }
        }
        Ok(mix.scale_towers(evidence.blocks, &lengths, self.on_step))
    }
}
