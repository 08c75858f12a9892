//! What a program can use: the tables of this workspace, and whatever a program of one's own adds to them.

use std::sync::OnceLock;

use balgrad::{Entry, Prediction, nearest};
use balgrad_data::{LAYOUTS, Layout, MODALITIES, Modality};
use balgrad_encoders::{ENCODERS, EncoderEntry};

use crate::metrics::{METRICS, Metric};
use crate::targets::{TARGETS, TargetEntry};
use crate::{Usage, arms};

/// Methods, modalities, encoders, targets and metrics that a program knows. `balgrad` has those of this workspace; a program of
/// one's own adds to them and hands them to [`main`](crate::main).
#[derive(Clone)]
#[non_exhaustive]
pub struct Registry {
    /// Balancing methods, in the order of tables.
    pub methods: Vec<&'static Entry>,
    /// What samples can be seen by, in the order of towers.
    pub modalities: Vec<&'static Modality>,
    /// How folders are laid out, in the order in which a folder is looked at.
    pub layouts: Vec<&'static Layout>,
    /// Encoders; a modality's first is its default.
    pub encoders: Vec<&'static EncoderEntry>,
    /// How samples are learnt from; a task's first is its default.
    pub targets: Vec<&'static TargetEntry>,
    /// Scores of predictions, in the order of results files.
    pub metrics: Vec<&'static Metric>,
    /// `M-only` for each modality.
    references: Vec<String>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            methods: balgrad::METHODS.to_vec(),
            modalities: MODALITIES.to_vec(),
            layouts: LAYOUTS.to_vec(),
            encoders: ENCODERS.iter().collect(),
            targets: TARGETS.to_vec(),
            metrics: METRICS.iter().collect(),
            references: Vec::new(),
        }
    }
}

static INSTALLED: OnceLock<Registry> = OnceLock::new();

/// The registry of this process.
pub(crate) fn registry() -> &'static Registry {
    INSTALLED.get_or_init(|| initial().ready())
}

#[cfg(not(test))]
fn initial() -> Registry {
    Registry::default()
}

/// Tests of this crate know modalities and encoders that are made up.
#[cfg(test)]
fn initial() -> Registry {
    crate::training::tests::registry()
}

impl Registry {
    /// Makes this the registry of the process, before anything is read or trained.
    ///
    /// # Errors
    /// If another is in use.
    pub fn install(self) -> Result<(), Usage> {
        INSTALLED.set(self.ready()).map_err(|_| Usage("a registry is in use already".to_owned()))
    }

    fn ready(mut self) -> Self {
        self.references = self.modalities.iter().map(|modality| format!("{}-only", modality.name)).collect();
        self
    }

    /// The method called `name`, one of [`methods`](Self::methods) or `M-only` for a modality `M`, and what it is called.
    pub(crate) fn method(&'static self, name: &str) -> Result<Entry, Usage> {
        let named = self.methods.iter().find(|entry| entry.name == name).map(|entry| **entry);
        let reference = || self.references.iter().find(|reference| *reference == name);
        let found = named.or_else(|| Some(Entry { name: reference()?, ..balgrad::modality_only(0) }));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.methods.iter().map(|entry| entry.name).chain(arms::names()).collect();
            let hint = nearest(name, &known).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Usage(format!("unknown method `{name}`; {hint}`balgrad methods` lists them, each goes with +dropout"))
        })
    }

    /// The same, for data that are seen by `modalities`, in this order.
    pub(crate) fn method_on(&'static self, name: &str, modalities: &[&str]) -> Result<Entry, Usage> {
        let entry = self.method(name)?;
        let Some(only) = name.strip_suffix("-only").filter(|_| self.references.iter().any(|known| known == name))
        else {
            return Ok(entry);
        };
        let m = modalities.iter().position(|modality| *modality == only);
        let m =
            m.ok_or_else(|| Usage(format!("`{name}`: the data has no {only}; it has {}", modalities.join(", "))))?;
        Ok(Entry { prediction: Prediction::Own(m), ..entry })
    }

    /// The encoder called `name`.
    pub(crate) fn encoder(&self, name: &str) -> Result<&'static EncoderEntry, Usage> {
        let known = || self.encoders.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        let found = self.encoders.iter().find(|entry| entry.name == name).copied();
        found.ok_or_else(|| Usage(format!("unknown encoder `{name}`; known: {}", known())))
    }

    /// The usual encoder of a modality.
    pub(crate) fn encoder_for(&self, modality: &str) -> Result<&'static EncoderEntry, Usage> {
        let found = self.encoders.iter().find(|entry| entry.modality == modality).copied();
        found.ok_or_else(|| Usage(format!("this program has no encoder that reads {modality}s")))
    }
}
