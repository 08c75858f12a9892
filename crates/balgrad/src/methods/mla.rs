//! MLA, multimodal learning with alternating unimodal adaptation (Zhang et al., CVPR 2024).
//!
//! Modalities take turns: in its turn modality `m` alone is seen by the shared head, `z_m = head(f_m)`, and `CE(z_m)`
//! trains its tower and the head. So that a turn does not undo the last one's, the head's gradient is `g_W Pᵀ`, where
//! with `r̄` the batch mean of `f_m` and `k = P r̄`, `P ← P − k kᵀ / (α + r̄ᵀk)`, then `P ← P / ‖P‖_F` (`P = I` in the
//! first step). `α = 0.1^(1 + t)`, `t` the part of the epoch that is done. The answer weighs each modality's
//! probabilities by `exp(−H_m)`.
//!
//! Deviations. The head is the fused head with every other embedding silent: shared by all modalities where the fusion
//! is addition (`fusion = add`), and in part where it is not. `g_W Pᵀ` is taken as the gradient at embeddings `f_m Pᵀ`
//! with the logits' own cotangent, which for a linear head is the same and for others is defined. The mean of the last
//! turn's embeddings is this turn's own, as in public code; that divides by the matrix `α + k r̄ᵀ` element by element,
//! where the paper has a number, and tests for a parameter name that never occurs, so that its projection never acts.

use candle_core::{DType, Error, Result, Tensor, Var};

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, State, Targets};
use crate::{Clock, Evidence, Mix, Outputs, Role, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "mla",
    about: "modalities take turns at a shared head, whose gradient avoids what earlier turns used",
    paper: "Zhang et al., CVPR 2024",
    when: "where a modality will often be missing and the fusion is addition: each is trained to answer alone",
    cost: "M steps of 1F 2B",
    trains_heads: false,
    prediction: Prediction::Confident,
    targets: Targets::Classes,
    settings: &[],
    build: |_, _| Box::new(Mla::default()),
};

/// The signal that holds `P` as it is in this step.
const PROJECTION: &str = "projection";

#[derive(Default)]
struct Mla {
    /// Whose turn it is.
    turn: usize,
    /// `P`, `[width, width]`; empty before the first step.
    projection: Vec<f64>,
}

/// `P` after a step with mean embedding `mean`.
fn narrowed(p: &[f64], mean: &[f64], alpha: f64) -> Vec<f64> {
    let n = mean.len();
    let k: Vec<f64> = p.chunks_exact(n).map(|row| row.iter().zip(mean).map(|(a, b)| a * b).sum()).collect();
    let scale = alpha + mean.iter().zip(&k).map(|(a, b)| a * b).sum::<f64>();
    let next: Vec<f64> = (0..n * n).map(|i| p[i] - k[i / n] * k[i % n] / scale).collect();
    let length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
    let next: Vec<f64> = next.iter().map(|v| v / length).collect();
    // A projection that has nothing left, or a mean that is no number, leaves the old one.
    if next.iter().all(|v| v.is_finite()) { next } else { p.to_vec() }
}

impl Method for Mla {
    fn needs(&self) -> Needs {
        Needs { fused_head: true, turns: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        let m = self.turn % outputs.modalities().max(1);
        let z = outputs.alone(m)?;
        let task = target.nll(&z)?;
        let f = outputs.embeddings[m].detach();
        let width = f.dim(1)?;
        let projection = if self.projection.len() == width * width {
            let mean: Vec<f64> = f.mean(0)?.to_dtype(DType::F64)?.to_vec1()?;
            narrowed(&self.projection, &mean, 0.1f64.powf(1.0 + clock.within_epoch))
        } else {
            (0..width * width).map(|i| f64::from(u8::from(i / width == i % width))).collect()
        };
        let p = Tensor::from_slice(&projection, (width, width), f.device())?.to_dtype(f.dtype())?;
        // The head at `f Pᵀ`, pulled by the cotangent of `z`.
        let at = Var::from_tensor(&z.detach())?;
        let grads = target.nll(at.as_tensor())?.backward()?;
        let pull = grads.get(at.as_tensor()).ok_or_else(|| Error::Msg("the loss does not depend on logits".into()))?;
        let projected = f.matmul(&p.t()?)?;
        let embeddings = outputs.embeddings.iter().enumerate();
        let embeddings = embeddings.map(|(n, e)| if n == m { Ok(projected.clone()) } else { e.zeros_like() });
        let there = outputs.asked()?.logits(&embeddings.collect::<Result<Vec<_>>>()?)?;
        let objectives =
            vec![Objective::new(format!("turn.{m}"), task), Objective::new("head", (there * pull)?.sum_all()?)];
        Ok(Objectives::from(objectives).signal(PROJECTION, projection))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        self.projection = evidence.signal(PROJECTION)?.to_vec();
        self.turn = (self.turn + 1) % evidence.modalities.max(1);
        let mut mix = Mix::uniform(evidence.blocks, &[1.0, 0.0]);
        for (row, block) in mix.coefficients.iter_mut().zip(evidence.blocks) {
            if block.role == Role::Fused {
                *row = vec![0.0, 1.0];
            }
        }
        Ok(mix)
    }

    fn state(&self) -> State {
        State::from([("mla.turn".into(), vec![self.turn as f64]), ("mla.projection".into(), self.projection.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.turn = state.get("mla.turn").and_then(|v| v.first()).map_or(0, |v| *v as usize);
        self.projection = state.get("mla.projection").cloned().unwrap_or_default();
        Ok(())
    }
}
