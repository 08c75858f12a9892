//! MSLR, modality-specific learning rates (Yao & Mihalcea, "Modality-specific Learning Rates for Effective
//! Multimodal Additive Late-fusion", Findings of ACL 2022).
//!
//! `lr_m = lr · r0_m · acc_m / mean(last 5 acc_m)`, where `acc_m` is the validation score of modality `m`'s view,
//! measured once an epoch; `rule = constant` keeps `r0_m`.
//!
//! Deviations. Public code lets the rate follow the *test* accuracy; here it follows validation. A rate is applied to
//! the step by default, since a constant factor on a gradient is cancelled by Adam. `acc_m` is the data set's headline
//! metric, so that multi-label tasks have one. Rates are the towers' alone: the fused head keeps the run's. Where the
//! fusion is not additive no view is measured, and the base rates stay.

use candle_core::Result;

use super::{APPLY, Entry, Method, Objective, Objectives, Prediction, Request, State, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, Target};

const RATE: Kind = Kind::Number { min: 0.0, max: 1e3 };

pub(super) static ENTRY: Entry = Entry {
    name: "mslr",
    about: "a learning rate per modality that follows its validation score",
    paper: "Yao & Mihalcea, Findings of ACL 2022",
    when: "where one tower wants another rate than the other, as a pretrained tower beside one trained from scratch does",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[
        Setting { name: "r0_image", default: "0.9", kind: RATE, about: "base rate of the first modality" },
        Setting { name: "r0_text", default: "1.1", kind: RATE, about: "base rate of the second modality" },
        Setting { name: "r0_others", default: "1", kind: RATE, about: "base rate of each further modality" },
        Setting {
            name: "rule",
            default: "dynamic",
            kind: Kind::Choice(&["dynamic", "constant"]),
            about: "follow the validation score, or keep the base rates",
        },
        Setting { default: "step", ..APPLY },
    ],
    build: |_, s| {
        Box::new(Mslr {
            base: [s.number("r0_image"), s.number("r0_text")],
            others: s.number("r0_others"),
            dynamic: s.word("rule") == "dynamic",
            on_step: s.word("apply") == "step",
            history: Vec::new(),
        })
    },
};

/// Validation scores remembered per modality.
const WINDOW: usize = 5;

struct Mslr {
    /// Base rates of the first two modalities.
    base: [f64; 2],
    /// The base rate of each further one.
    others: f64,
    dynamic: bool,
    on_step: bool,
    /// The last scores, `[modality][epoch]`.
    history: Vec<Vec<f64>>,
}

impl Mslr {
    fn rate(&self, m: usize) -> f64 {
        let base = self.base.get(m).copied().unwrap_or(self.others);
        match self.history.get(m).map(Vec::as_slice) {
            Some(scores @ [.., last]) if self.dynamic => {
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                if mean > 0.0 { base * last / mean } else { base }
            }
            _ => base,
        }
    }
}

impl Method for Mslr {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let rates: Vec<f64> = (0..evidence.modalities).map(|m| self.rate(m)).collect();
        Ok(Mix::uniform(evidence.blocks, &[1.0]).scale_towers(evidence.blocks, &rates, self.on_step))
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        self.history.resize(summary.val_score.len(), Vec::new());
        for (scores, score) in self.history.iter_mut().zip(&summary.val_score) {
            scores.extend(score.filter(|s| s.is_finite()));
            let surplus = scores.len().saturating_sub(WINDOW);
            scores.drain(..surplus);
        }
        Ok(Vec::new())
    }

    fn state(&self) -> State {
        self.history.iter().enumerate().map(|(m, scores)| (format!("mslr.history.{m}"), scores.clone())).collect()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let stored = (0..).map_while(|m| state.get(&format!("mslr.history.{m}")).cloned());
        self.history = stored.collect();
        Ok(())
    }
}
