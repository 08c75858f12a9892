//! MBSD, modality balancing by self-distillation (Liu et al., "Modality-Balanced Learning with Self-Distillation").
//!
//! `CE(z) + Σ_m CE(z_m)`, and for each pair of modalities `mean_i w_i (‖z_m − z_n‖²/C + KL(p_strong ‖ p_weak))`: the
//! modality that gives the truth more probability teaches the other, sample by sample. `w_i` is the gap between those
//! two probabilities where at least one modality is right, else 0; it and the stronger prediction are held fixed.
//!
//! Deviations. Predictions are those of own heads (public code: the fused head's parts). The weights carry no gradient.
//! The divergence is that of the two predictions (public code compares two single probabilities). Multi-label: the mean
//! over labels of the probability given to the true value, right where that exceeds one half. `C` is the number of
//! classes.

use candle_core::{DType, Result, Tensor};

use super::{Entry, Method, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Mix, Outputs, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "mbsd",
    about: "the modality that knows a sample better teaches the other",
    paper: "Liu et al., 2024",
    when: "where each modality knows samples that the other does not",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[],
    build: |_, _| Box::new(Mbsd),
};

struct Mbsd;

/// The divergence from `teacher`, held fixed, to `pupil`, per sample `[batch]`.
fn divergence(teacher: &Tensor, pupil: &Tensor, target: &Target) -> Result<Tensor> {
    let kinds = target.log_probabilities(&teacher.detach())?;
    let terms = kinds.iter().zip(target.log_probabilities(pupil)?).map(|(lp, lq)| lp.exp()? * (lp - lq)?);
    target.over_outcomes(&terms.collect::<Result<Vec<_>>>()?)
}

fn distillation(a: &Tensor, b: &Tensor, target: &Target) -> Result<Tensor> {
    let (sure_a, sure_b) = (target.true_class_probability(a)?, target.true_class_probability(b)?);
    let known = target.is_correct(a)?.maximum(&target.is_correct(b)?)?;
    let weight = ((&sure_a - &sure_b)?.abs()? * known)?;
    let apart = (a - b)?.sqr()?.mean(1)?;
    let a_teaches = sure_a.ge(&sure_b)?.to_dtype(DType::U8)?;
    let taught = a_teaches.where_cond(&divergence(a, b, target)?, &divergence(b, a, target)?)?;
    (weight * (apart + taught)?)?.mean_all()
}

impl Method for Mbsd {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<_>>()?;
        let mut objectives =
            vec![Objective::new("task", target.nll(&outputs.fused)?), Objective::sum("uni", own)?.own()];
        let pairs = (0..outputs.modalities()).flat_map(|n| (0..n).map(move |m| (m, n)));
        let taught = pairs.map(|(m, n)| distillation(&outputs.own[m], &outputs.own[n], target));
        let taught = taught.collect::<Result<Vec<_>>>()?;
        if !taught.is_empty() {
            objectives.push(Objective::new("distillation", Tensor::stack(&taught, 0)?.sum_all()?));
        }
        Ok(objectives.into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &vec![1.0; evidence.objectives()]))
    }
}
