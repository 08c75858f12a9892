//! What a program can use: the tables of this workspace, and whatever a program of one's own adds to them.

use std::sync::OnceLock;

use balgrad_data::{LAYOUTS, Layout, MODALITIES, Modality};
use balgrad_encoders::{ENCODERS, EncoderEntry};

use crate::Usage;
use crate::config::near;
use crate::targets::{TARGETS, TargetEntry};

/// Methods, modalities, encoders and targets that a program knows. `balgrad` has those of this workspace; a program of one's own
/// adds to them and hands them to [`main`](crate::main).
#[derive(Clone)]
#[non_exhaustive]
pub struct Registry {
    /// Balancing methods, in the order of tables.
    pub methods: Vec<&'static balgrad::Entry>,
    /// What samples can be seen by, in the order of towers.
    pub modalities: Vec<&'static Modality>,
    /// How folders are laid out, in the order in which a folder is looked at.
    pub layouts: Vec<&'static Layout>,
    /// Encoders; a modality's first is its default.
    pub encoders: Vec<&'static EncoderEntry>,
    /// How samples are learnt from; a task's first is its default.
    pub targets: Vec<&'static TargetEntry>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            methods: balgrad::METHODS.to_vec(),
            modalities: MODALITIES.to_vec(),
            layouts: LAYOUTS.to_vec(),
            encoders: ENCODERS.iter().collect(),
            targets: TARGETS.to_vec(),
        }
    }
}

static INSTALLED: OnceLock<Registry> = OnceLock::new();

/// The registry of this process.
pub(crate) fn registry() -> &'static Registry {
    INSTALLED.get_or_init(initial)
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
        INSTALLED.set(self).map_err(|_| Usage("a registry is in use already".to_owned()))
    }

    /// The method called `name`.
    pub(crate) fn method(&self, name: &str) -> Result<balgrad::Entry, Usage> {
        let known = || self.methods.iter().map(|entry| entry.name).collect::<Vec<_>>();
        if let Some(only) = name.strip_suffix("-only")
            && let Some(m) = self.modalities.iter().position(|modality| modality.name == only)
        {
            let named = self.methods.iter().find(|entry| entry.name == name).map(|entry| **entry);
            let reference = balgrad::modality_only(m);
            return Ok(balgrad::Entry { prediction: reference.prediction, ..named.unwrap_or(reference) });
        }
        self.methods.iter().find(|entry| entry.name == name).map(|entry| **entry).ok_or_else(|| {
            let hint = near(name, &known()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Usage(format!("unknown method `{name}`; {hint}`balgrad methods` lists them"))
        })
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
