//! ReconBoost (Hua et al., "ReconBoost: Boosting Can Achieve Modality Reconcilement", ICML 2024).
//!
//! Gradient boosting over modalities: in its stage modality `m` learns what the others, held fixed, do not yet explain.
//! With `p_m` from its own head and `q = p(Σ_{n≠m} z_n)` detached, the loss is `−Σ (w₁ − w₂ q(y)) log p_m(y) + α mean
//! ‖p_m − q‖²`: samples that the others get right count for less, and the agreement term draws the two together (not in
//! the first stage, when the others have learnt nothing). After each stage all modalities are rectified together, by
//! the cross-entropy of the summed logits, which is also the answer.
//!
//! Deviations. Stages are counted in epochs, one each by default (paper: 4 and 4 in runs of hundreds). A public port
//! detaches both sides of the agreement term, which then has no gradient; here `p_m` has one. With three and more
//! modalities it agrees with all the others together (public code: with the one of the stage before). Modalities have
//! heads of their own (public code: one for all). Multi-label: each label's true value in the place of `y`.

use candle_core::{Error, Result, Tensor};

use super::{Entry, Method, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Target};

const WEIGHT: Kind = Kind::Number { min: 0.0, max: 1e3 };
const EPOCHS: Kind = Kind::Count { min: 1, max: 1_000_000 };

pub(super) static ENTRY: Entry = Entry {
    name: "recon-boost",
    about: "modalities take stages, each fitting what the others leave; then all together",
    paper: "Hua et al., ICML 2024",
    when: "where modalities complement each other and the run is long enough for several rounds of stages",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Sum,
    targets: Targets::Classes,
    settings: &[
        Setting { name: "fit", default: "5", kind: WEIGHT, about: "weight w₁ of the labels" },
        Setting { name: "residual", default: "1", kind: WEIGHT, about: "weight w₂ of what the others explain" },
        Setting { name: "agreement", default: "0.5", kind: WEIGHT, about: "weight α of the agreement" },
        Setting { name: "stage", default: "1", kind: EPOCHS, about: "epochs of one modality's stage" },
        Setting { name: "rectify", default: "1", kind: EPOCHS, about: "epochs of rectification after each stage" },
    ],
    build: |_, s| {
        Box::new(ReconBoost {
            fit: s.number("fit"),
            residual: s.number("residual"),
            agreement: s.number("agreement"),
            stage: s.count("stage"),
            rectify: s.count("rectify"),
        })
    },
};

struct ReconBoost {
    fit: f64,
    residual: f64,
    agreement: f64,
    stage: usize,
    rectify: usize,
}

fn summed<'a>(logits: impl Iterator<Item = &'a Tensor>) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for z in logits {
        sum = Some(match sum {
            None => z.clone(),
            Some(sum) => (sum + z)?,
        });
    }
    Ok(sum)
}

impl ReconBoost {
    fn boosting(&self, own: &Tensor, others: &Tensor, target: &Target, clock: &Clock) -> Result<Tensor> {
        let others = others.detach();
        let agreement = if clock.epoch < self.stage { 0.0 } else { self.agreement };
        let (log_p, weight) = target.true_log_probability(own)?;
        let explained = target.true_log_probability(&others)?.0.exp()?.affine(-self.residual, self.fit)?;
        let fit = (log_p * weight)?.mul(&explained)?.sum_all()?.neg()?;
        let apart = target.log_probabilities(own)?.into_iter().zip(target.log_probabilities(&others)?);
        let apart = apart.map(|(p, q)| (p.exp()? - q.exp()?)?.sqr()).collect::<Result<Vec<_>>>()?;
        fit + (target.over_outcomes(&apart)?.mean_all()? * agreement)?
    }
}

impl Method for ReconBoost {
    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        let round = self.stage + self.rectify;
        let m = (clock.epoch / round) % outputs.modalities().max(1);
        let others = outputs.own.iter().enumerate().filter(|(n, _)| *n != m).map(|(_, z)| z);
        let others = summed(others)?;
        if clock.epoch % round < self.stage {
            // A single modality has no others to leave anything.
            let Some(others) = others else {
                return Ok(Objective::new("boosting", target.nll(&outputs.own[m])?).into());
            };
            return Ok(Objective::new("boosting", self.boosting(&outputs.own[m], &others, target, clock)?).into());
        }
        let all = summed(outputs.own.iter())?.ok_or_else(|| Error::Msg("there is no own head".into()))?;
        Ok(Objective::new("rectification", target.nll(&all)?).into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
