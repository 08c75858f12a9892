//! Impairments: a modality taken away or corrupted, the same way for every method.

use rand_chacha::ChaCha8Rng;

use crate::{DataError, Modality, seed};

/// What is done to one modality of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impairment {
    /// The modality that is touched; the others stay as they are.
    pub modality: &'static Modality,
    /// What is done to it.
    pub kind: ImpairmentKind,
}

/// What is done to a modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImpairmentKind {
    /// It is taken away.
    Missing,
    /// It is corrupted.
    Noise {
        /// A name of [`Modality::noises`].
        kind: &'static str,
        /// How much, 1 to 5.
        severity: u8,
    },
}

/// The severity where none is named.
const SEVERITY: u8 = 3;

impl Impairment {
    /// The modality taken away.
    pub fn missing(modality: &'static Modality) -> Self {
        Self { modality, kind: ImpairmentKind::Missing }
    }

    /// Reads `missing-M`, `noisy-M`, `noisy-M:blur:4`, … for a modality `M` of `modalities`; the kind of noise defaults to the
    /// modality's first, the severity to 3.
    ///
    /// # Errors
    /// A name that is no impairment of these modalities.
    pub fn parse(name: &str, modalities: &[&'static Modality]) -> Result<Self, DataError> {
        let mut fields = name.split(':');
        let (head, kind, severity) = (fields.next().unwrap_or_default(), fields.next(), fields.next());
        let found = (|| {
            let severity = severity.map_or(Some(SEVERITY), |s| s.parse().ok().filter(|s| (1..=5).contains(s)))?;
            let named = |name: &str| modalities.iter().copied().find(|m| m.name == name);
            if fields.next().is_some() {
                return None;
            }
            if let Some(modality) = head.strip_prefix("missing-") {
                return kind.is_none().then(|| named(modality).map(Self::missing)).flatten();
            }
            let modality = named(head.strip_prefix("noisy-")?)?;
            let first = *modality.noises.first()?;
            let kind = modality.noises.iter().copied().find(|known| *known == kind.unwrap_or(first))?;
            Some(Self { modality, kind: ImpairmentKind::Noise { kind, severity } })
        })();
        found.ok_or_else(|| DataError::UnknownCondition { name: name.to_owned(), known: known(modalities) })
    }

    /// The full name, such as `noisy-image:gaussian:3`: what caches and seeds are keyed by.
    pub fn key(&self) -> String {
        let modality = self.modality.name;
        match self.kind {
            ImpairmentKind::Missing => format!("missing-{modality}"),
            ImpairmentKind::Noise { kind, severity } => format!("noisy-{modality}:{kind}:{severity}"),
        }
    }

    /// The numbers that decide what chance decides, from the run's seed and the sample's id: every method sees the same noise.
    pub fn rng(&self, seed: u64, id: &str) -> ChaCha8Rng {
        seed::rng(&[&seed.to_le_bytes(), id.as_bytes(), self.key().as_bytes()])
    }
}

/// What there is, for an error.
fn known(modalities: &[&'static Modality]) -> String {
    let missing = modalities.iter().map(|m| format!("missing-{}", m.name));
    let noisy = modalities.iter().map(|m| format!("noisy-{}[:{}[:1-5]]", m.name, m.noises.join("|")));
    std::iter::once("full".to_owned()).chain(missing).chain(noisy).collect::<Vec<_>>().join(", ")
}
