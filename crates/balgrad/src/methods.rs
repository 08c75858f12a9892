//! The methods: one file each, one line each in [`FAMILIES`].

use std::collections::BTreeMap;

use candle_core::{Error, Result};

use crate::{
    Clock, EpochSummary, Evidence, Granularity, Mix, Objective, Objectives, Outputs, Setting, SettingError, Settings,
    Target, Value, nearest,
};

mod aggregated;
mod agm;
pub mod aligned_mtl;
mod amco;
mod balgrad;
pub mod cagrad;
mod cggm;
mod chorus;
mod cml;
pub mod dualproj;
pub mod dwa;
mod g_blending;
pub mod gradnorm;
pub mod gradvac;
pub mod imtl_g;
mod joint;
mod lfm;
mod mbsd;
pub mod mgda;
mod mla;
mod mmpareto;
mod mslr;
mod multi_loss;
pub mod nash_mtl;
mod ogm;
mod opm;
pub mod pcgrad;
mod pmr;
mod recon_boost;
mod relearning;
mod resampling;
pub mod rlw;
mod umt;
pub mod uncertainty;
mod unimodal;
pub mod upgrad;

pub use unimodal::modality_only;

/// Methods of a kind, as lists show them.
#[derive(Debug)]
pub struct Family {
    /// What they have in common.
    pub title: &'static str,
    /// The methods, in order.
    pub methods: &'static [&'static Entry],
}

/// Every method by family, in the order in which tables show them.
pub static FAMILIES: &[Family] = &[
    Family {
        title: "References: what fusion has to beat",
        methods: &[&unimodal::IMAGE, &unimodal::TEXT, &unimodal::LATE],
    },
    Family { title: "Baselines", methods: &[&joint::ENTRY, &multi_loss::ENTRY] },
    Family {
        title: "Balancing modalities",
        methods: &[
            &mslr::ENTRY,
            &ogm::OGM,
            &ogm::OGM_GE,
            &agm::ENTRY,
            &pmr::ENTRY,
            &g_blending::ENTRY,
            &mmpareto::ENTRY,
            &cggm::ENTRY,
            &opm::ENTRY,
            &amco::ENTRY,
            &cml::ENTRY,
            &mbsd::ENTRY,
            &lfm::ENTRY,
            &umt::ENTRY,
            &mla::ENTRY,
            &recon_boost::ENTRY,
            &relearning::ENTRY,
            &resampling::ENTRY,
        ],
    },
    Family { title: "BalGrad and Chorus", methods: &[&balgrad::ENTRY, &chorus::ENTRY] },
    Family {
        title: "Gradients of several objectives",
        methods: &[
            &pcgrad::ENTRY,
            &mgda::ENTRY,
            &cagrad::ENTRY,
            &nash_mtl::ENTRY,
            &upgrad::ENTRY,
            &dualproj::ENTRY,
            &aligned_mtl::ENTRY,
            &imtl_g::ENTRY,
            &gradvac::ENTRY,
        ],
    },
    Family {
        title: "Weights of several losses",
        methods: &[&gradnorm::ENTRY, &uncertainty::ENTRY, &dwa::ENTRY, &rlw::ENTRY],
    },
];

/// Every method, in the same order.
pub static METHODS: &[&Entry] = &flat::<{ count() }>();

const fn count() -> usize {
    let (mut count, mut family) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].methods.len();
        family += 1;
    }
    count
}

const fn flat<const N: usize>() -> [&'static Entry; N] {
    let mut all = [FAMILIES[0].methods[0]; N];
    let (mut at, mut family, mut method) = (0, 0, 0);
    while at < N {
        if method == FAMILIES[family].methods.len() {
            (family, method) = (family + 1, 0);
        } else {
            all[at] = FAMILIES[family].methods[method];
            (at, method) = (at + 1, method + 1);
        }
    }
    all
}

/// A row of the table of methods: all that help, docs, checks and benchmarks know of one.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name on the command line.
    pub name: &'static str,
    /// One line: what it does.
    pub about: &'static str,
    /// Authors, title or venue, year.
    pub paper: &'static str,
    /// Where it is worth trying: the sentence "use it …" goes on with this.
    pub when: &'static str,
    /// Forward and backward passes of a step, such as `1F 3B`.
    pub cost: &'static str,
    /// Whether the own heads `f_m` learn; if not, a modality is viewed through the fused head.
    pub trains_heads: bool,
    /// Which logits a trained model predicts by.
    pub prediction: Prediction,
    /// Which targets the method has a meaning for.
    pub targets: Targets,
    /// Settings, under `method.` in a config.
    pub settings: &'static [Setting],
    /// Makes the method of this entry.
    pub build: fn(&Entry, &Settings) -> Box<dyn Method>,
}

impl Entry {
    /// The method with its defaults, and `given` in their place.
    ///
    /// # Errors
    /// A setting that the method does not have, or a value that it cannot take.
    pub fn with(&self, given: &BTreeMap<String, Value>) -> std::result::Result<Box<dyn Method>, SettingError> {
        Settings::resolve("method.", self.settings, given).map(|settings| (self.build)(self, &settings))
    }

    /// Whether the method has a meaning for a target, to be asked before training: its kind is that of
    /// [`Likelihood::name`](crate::Likelihood::name) and [`Likelihood::has_classes`](crate::Likelihood::has_classes).
    ///
    /// # Errors
    /// When it has none.
    pub fn check_target(&self, kind: &str, has_classes: bool) -> std::result::Result<(), SettingError> {
        match self.targets {
            Targets::Classes if !has_classes => Err(SettingError(format!(
                "method `{}` is defined for classes and labels; a target of kind `{kind}` has none",
                self.name
            ))),
            Targets::All | Targets::Classes => Ok(()),
        }
    }
}

/// Which targets a method has a meaning for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Targets {
    /// Whatever has a likelihood.
    All,
    /// Targets with classes: one per sample, or any number of labels.
    Classes,
}

/// Which logits a trained model predicts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prediction {
    /// The fused head's.
    Fused,
    /// Those of modality `m`'s own head.
    Own(usize),
    /// The mean of the own heads' probabilities (late fusion).
    Average,
    /// The mean of the fused head's probabilities and of all own heads'.
    All,
    /// The sum of the own heads' logits (boosting).
    Sum,
    /// The probabilities that the fused head gives to each modality alone, averaged with weights `∝ exp(−H_m)`, `H_m`
    /// the entropy: who is sure counts for more.
    Confident,
}

/// The method called `name`.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find(name: &str) -> std::result::Result<&'static Entry, SettingError> {
    METHODS.iter().find(|e| e.name == name).copied().ok_or_else(|| unknown(name, &[]))
}

/// The method called `name`, where the modalities have these names, in order: one of [`METHODS`], or `NAME-only`, the
/// reference that trains one modality alone.
///
/// ```
/// use balgrad::{Prediction, find_among};
/// let reference = find_among("audio-only", &["image", "text", "audio"]).unwrap();
/// assert_eq!(reference.prediction, Prediction::Own(2));
/// ```
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find_among(name: &str, modalities: &[&str]) -> std::result::Result<Entry, SettingError> {
    let named = METHODS.iter().find(|e| e.name == name).map(|e| **e);
    let only = name.strip_suffix("-only").and_then(|only| modalities.iter().position(|m| *m == only));
    match (only, named) {
        (Some(m), named) => {
            let reference = modality_only(m);
            Ok(Entry { prediction: reference.prediction, ..named.unwrap_or(reference) })
        }
        (None, Some(entry)) => Ok(entry),
        (None, None) => Err(unknown(name, modalities)),
    }
}

fn unknown(name: &str, modalities: &[&str]) -> SettingError {
    let only = modalities.iter().map(|m| format!("{m}-only"));
    let mut known: Vec<String> = METHODS.iter().map(|e| e.name.to_owned()).collect();
    known.extend(only.filter(|name| !METHODS.iter().any(|e| e.name == name)));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = nearest(name, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    SettingError(format!("unknown method `{name}`{hint} (known: {})", known.join(", ")))
}

/// Of which blocks a method wants the Gram matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GramScope {
    /// Of none: its coefficients do not depend on gradients.
    #[default]
    None,
    /// Of the towers.
    Towers,
    /// Of every block.
    All,
}

/// What a method wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// The fused head's view of each modality: [`Outputs::slices`], or [`Outputs::fused_head`] where the fusion is not
    /// additive.
    pub fused_views: bool,
    /// [`Outputs::fused_head`], whatever the fusion.
    pub fused_head: bool,
    /// Gram matrices.
    pub gram: GramScope,
    /// How finely towers are cut into blocks.
    pub granularity: Granularity,
    /// The graph cut at the embeddings ([`Outputs::leaves`]).
    pub leaves: bool,
    /// Steps for which one mix is kept; 0 and 1: every step gets its own.
    pub refresh: usize,
    /// Whether modalities take turns on each batch: a forward pass, a backward pass and a step of the optimiser for each.
    pub turns: bool,
    /// Epochs before the run proper, with a learning-rate schedule of their own, none of whose models is kept.
    pub prelude: usize,
}

/// What a method asks of the training loop between epochs: all that a rule of coefficients cannot do by itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// Keep a frozen copy of the towers; what it makes of a batch comes as [`Outputs::teacher`] from now on.
    Teach,
    /// Begin anew: every parameter as it was first drawn, the optimiser without memory.
    Restart,
    /// Move tower `modality` towards its first values: `θ ← weight · θ⁰ + (1 − weight) · θ`.
    Relearn {
        /// Whose tower.
        modality: usize,
        /// From 0 (nothing happens) to 1 (all is forgotten).
        weight: f64,
    },
    /// In the next epoch train on these samples too, each with one modality alone.
    Rehearse(Vec<Rehearsal>),
}

/// A sample that is trained on once more, with one modality alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// Its place in the training split.
    pub sample: usize,
    /// The modality that is shown.
    pub shown: usize,
}

impl Needs {
    /// Whether a model should show linear layers of its towers as [`Tap`](crate::Tap)s: several objectives meet in the towers, and
    /// the graph is not cut further up.
    pub fn wants_taps(&self) -> bool {
        self.gram != GramScope::None && !self.leaves
    }
}

/// What a method remembers between steps, for an exact resume. Store the bits (`f64::to_bits`): JSON as `serde_json`
/// reads it by default may lose the last one.
pub type State = BTreeMap<String, Vec<f64>>;

/// A balancing method: a rule that picks coefficients.
///
/// Objectives and signals follow from the outputs, the clock and what the method remembers; the mix from the evidence and what
/// it remembers. So a loop in another framework can use a rule by its numbers alone.
pub trait Method: Send {
    /// What the method wants to see.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// The losses of one step, each of which costs one backward pass, and the signals that [`mix`](Self::mix) needs. Nothing is
    /// remembered here.
    ///
    /// # Errors
    /// When the outputs lack what the method needs, or shapes disagree.
    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives>;

    /// The coefficients of one step. Never NaN for finite evidence. What a method remembers over steps changes here and in
    /// [`epoch_ended`](Self::epoch_ended).
    ///
    /// # Errors
    /// When the evidence is not what [`needs`](Self::needs) asked for.
    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix>;

    /// Whether the summary of this epoch (from 1) should hold a [`Probe`](crate::Probe), which costs a forward pass
    /// over training and validation split for every set of modalities.
    fn probes(&self, _epoch: usize) -> bool {
        false
    }

    /// What the method learns at the end of an epoch, from the validation split, and what it asks for in return.
    ///
    /// # Errors
    /// What the method reports.
    fn epoch_ended(&mut self, _summary: &EpochSummary) -> Result<Vec<Request>> {
        Ok(Vec::new())
    }

    /// What the method remembers.
    fn state(&self) -> State {
        State::new()
    }

    /// Continues from [`state`](Self::state).
    ///
    /// # Errors
    /// When the state is not this method's.
    fn restore(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }
}

/// Where a factor on a whole block acts, a setting of every method that has one.
const APPLY: Setting = Setting {
    name: "apply",
    default: "gradient",
    kind: crate::Kind::Choice(&["gradient", "step"]),
    about: "where a tower's factor acts: on its gradient, as published (which Adam mostly cancels), or on its learning rate",
};

/// As many of some weights as there are objectives.
fn first<'a>(weights: &'a [f64], evidence: &Evidence<'_>) -> Result<&'a [f64]> {
    let k = evidence.objectives();
    weights
        .get(..k)
        .ok_or_else(|| Error::Msg(format!("{k} objectives, where the method gives {} at most", weights.len())))
}
