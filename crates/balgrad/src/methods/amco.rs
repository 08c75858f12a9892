//! AMCo (Zhou et al., "Adaptive Mask Co-optimization for Modal Dependence in Multimodal Learning", ICASSP 2023).
//!
//! The fused head's views of all modalities are laid side by side under one softmax; a modality that holds more than
//! `σ` of it is *dependent*, and in the next step part of its class channels is taken out of the fused logits: `⌊C
//! sin(π/2 · min(ε, t)/ε)⌋` of `C`, drawn anew each step, `t` the progress of the run. The loss is `CE` of the masked
//! fused logits and of every view.
//!
//! Deviations. Where the fusion is not additive the views are those of each modality alone, and the masked channels of
//! such a view are subtracted all the same. `t` is the progress of the run (public code: a sum that starts anew each
//! epoch). The paper's `α` is read by public code and used nowhere; it has no setting here. Without `Balancer::lasting`
//! nothing is masked.

use candle_core::{DType, Result, Tensor};
use rand::seq::SliceRandom;

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, State, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "amco",
    about: "takes class channels of a modality out of the fused logits that hold too much of the prediction",
    paper: "Zhou et al., ICASSP 2023",
    when: "where one modality holds most of the prediction and there are many classes to mask",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[
        Setting {
            name: "sigma",
            default: "0.5",
            kind: Kind::Number { min: 0.0, max: 1.0 },
            about: "share σ of the prediction beyond which a modality is dependent",
        },
        Setting {
            name: "ramp",
            default: "0.3",
            kind: Kind::Number { min: 1e-6, max: 1.0 },
            about: "part ε of the run over which masks grow",
        },
    ],
    build: |_, s| Box::new(Amco { sigma: s.number("sigma"), ramp: s.number("ramp"), dependent: Vec::new() }),
};

/// The signal that holds each view's share of one softmax over all of them.
const SHARES: &str = "shares";

struct Amco {
    sigma: f64,
    ramp: f64,
    /// 1 for a modality that was dependent in the last step.
    dependent: Vec<f64>,
}

impl Amco {
    /// 1 for each class channel that is taken out.
    fn mask(&self, classes: usize, clock: &Clock) -> Vec<f64> {
        let part = (std::f64::consts::FRAC_PI_2 * (clock.progress / self.ramp).min(1.0)).sin();
        let count = (part * classes as f64).floor() as usize;
        let mut mask: Vec<f64> = (0..classes).map(|c| f64::from(u8::from(c < count))).collect();
        mask.shuffle(&mut clock.rng(b"amco"));
        mask
    }

    /// Each view's part of one softmax over all of them.
    fn shares(views: &[Tensor]) -> Result<Vec<f64>> {
        let side_by_side = Tensor::cat(&views.iter().map(Tensor::detach).collect::<Vec<_>>(), 1)?;
        let all = balgrad_nn::log_softmax(&side_by_side)?.exp()?;
        let classes = views[0].dim(1)?;
        let share = |m| all.narrow(1, m * classes, classes)?.sum(1)?.mean_all()?.to_dtype(DType::F64)?.to_scalar();
        (0..views.len()).map(share).collect()
    }
}

impl Method for Amco {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        let views = (0..outputs.modalities()).map(|m| outputs.seen_by_fused(m)).collect::<Result<Vec<_>>>()?;
        let mask = self.mask(outputs.fused.dim(1)?, clock);
        let mut fused = outputs.fused.clone();
        for (view, dependent) in views.iter().zip(&self.dependent) {
            if *dependent > 0.0 && mask.iter().any(|m| *m > 0.0) {
                let mask = Tensor::new(mask.as_slice(), view.device())?.to_dtype(view.dtype())?;
                fused = (fused - view.broadcast_mul(&mask)?)?;
            }
        }
        let own = views.iter().map(|z| target.nll(z)).collect::<Result<Vec<_>>>()?;
        let shares = if views.len() > 1 { Self::shares(&views)? } else { Vec::new() };
        let objectives = vec![Objective::new("task", target.nll(&fused)?), Objective::sum("views", own)?];
        Ok(Objectives::from(objectives).signal(SHARES, shares))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let shares = evidence.signal(SHARES)?;
        if !shares.is_empty() {
            self.dependent = shares.iter().map(|share| f64::from(u8::from(*share > self.sigma))).collect();
        }
        Ok(Mix::uniform(evidence.blocks, &[1.0, 1.0]))
    }

    fn state(&self) -> State {
        State::from([("amco.dependent".into(), self.dependent.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.dependent = state.get("amco.dependent").cloned().unwrap_or_default();
        Ok(())
    }
}
