//! The conditions under which a run is tested, generated from its modalities.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What of a sample the model sees. In the order of tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// `full`: everything, as it is.
    Full,
    /// `missing-M`: the modality is taken away, the others are kept.
    Missing(String),
    /// `noisy-M`, `noisy-M:kind`, `noisy-M:kind:severity`: the modality is corrupted, the others are kept.
    Noisy {
        /// The modality.
        modality: String,
        /// How it is corrupted; none: as the config says.
        kind: Option<String>,
        /// How much, 1 to 5; none: as the config says.
        severity: Option<u8>,
    },
    /// `M-only`: the modality's own view of clean input.
    Only(String),
}

/// No condition has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown condition `{name}` (known: {known})")]
pub struct UnknownCondition {
    /// The name.
    pub name: String,
    /// The conditions that there are.
    pub known: String,
}

impl Condition {
    /// The conditions that a run is tested under, `M-only` aside.
    pub fn tested(modalities: &[impl AsRef<str>]) -> Vec<Self> {
        let each = |of: fn(&str) -> Self| modalities.iter().map(move |m| of(m.as_ref()));
        std::iter::once(Self::Full).chain(each(Self::missing)).chain(each(Self::noisy)).collect()
    }

    /// Every condition of a results file.
    pub fn all(modalities: &[impl AsRef<str>]) -> Vec<Self> {
        Self::tested(modalities).into_iter().chain(modalities.iter().map(|m| Self::only(m.as_ref()))).collect()
    }

    /// `missing-M`.
    pub fn missing(modality: &str) -> Self {
        Self::Missing(modality.to_owned())
    }

    /// `noisy-M`, kind and severity being the config's.
    pub fn noisy(modality: &str) -> Self {
        Self::Noisy { modality: modality.to_owned(), kind: None, severity: None }
    }

    /// `M-only`.
    pub fn only(modality: &str) -> Self {
        Self::Only(modality.to_owned())
    }

    /// The modality that it is about.
    pub fn modality(&self) -> Option<&str> {
        match self {
            Self::Full => None,
            Self::Missing(modality) | Self::Noisy { modality, .. } | Self::Only(modality) => Some(modality),
        }
    }

    /// Whether a modality is missing or noisy.
    pub fn is_impaired(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Noisy { .. })
    }

    /// Reads a condition of a data set with these modalities.
    ///
    /// # Errors
    /// A name that is no condition, or one of another modality.
    pub fn parse(name: &str, modalities: &[impl AsRef<str>]) -> Result<Self, UnknownCondition> {
        let found = name.parse().ok().filter(|condition: &Self| {
            condition.modality().is_none_or(|modality| modalities.iter().any(|m| m.as_ref() == modality))
        });
        found.ok_or_else(|| {
            let known: Vec<String> = Self::all(modalities).iter().map(ToString::to_string).collect();
            UnknownCondition { name: name.to_owned(), known: known.join(", ") }
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Missing(modality) => write!(f, "missing-{modality}"),
            Self::Only(modality) => write!(f, "{modality}-only"),
            Self::Noisy { modality, kind, severity } => {
                write!(f, "noisy-{modality}")?;
                if let Some(kind) = kind {
                    write!(f, ":{kind}")?;
                }
                severity.map_or(Ok(()), |severity| write!(f, ":{severity}"))
            }
        }
    }
}

/// Reads a condition of whatever modality.
impl FromStr for Condition {
    type Err = UnknownCondition;

    fn from_str(name: &str) -> Result<Self, UnknownCondition> {
        let noisy = |rest: &str| {
            let mut parts = rest.split(':');
            let modality = parts.next().filter(|m| !m.is_empty())?.to_owned();
            let kind = parts.next().map(str::to_owned);
            let severity = parts.next().map(|s| s.parse().ok().filter(|s| (1..=5).contains(s)));
            let whole = parts.next().is_none() && severity != Some(None) && kind.as_deref() != Some("");
            whole.then_some(Self::Noisy { modality, kind, severity: severity.flatten() })
        };
        let named = |m: &str| (!m.is_empty() && !m.contains(':')).then(|| m.to_owned());
        let found = match name {
            "full" => Some(Self::Full),
            name => match (name.strip_prefix("missing-"), name.strip_prefix("noisy-"), name.strip_suffix("-only")) {
                (Some(modality), ..) => named(modality).map(Self::Missing),
                (_, Some(rest), _) => noisy(rest),
                (.., Some(modality)) => named(modality).map(Self::Only),
                _ => None,
            },
        };
        found.ok_or_else(|| UnknownCondition {
            name: name.to_owned(),
            known: "full, missing-M, noisy-M[:kind[:1-5]], M-only for a modality M".into(),
        })
    }
}

crate::by_name::by_name!(Condition);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn conditions_come_from_the_modalities_in_the_order_of_tables() {
        let names: Vec<String> = Condition::all(&["audio", "image"]).iter().map(ToString::to_string).collect();
        let expected =
            ["full", "missing-audio", "missing-image", "noisy-audio", "noisy-image", "audio-only", "image-only"];
        assert_eq!(names, expected);
        let mut sorted = Condition::all(&["audio", "image"]);
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, Condition::all(&["audio", "image"]));
    }

    #[test]
    fn every_name_is_read_back() {
        let more = ["noisy-text:drop", "noisy-image:salt-pepper:5"].map(|n| n.parse().unwrap());
        for condition in Condition::all(&["image", "text"]).into_iter().chain(more) {
            assert_eq!(condition.to_string().parse(), Ok(condition.clone()));
            assert_eq!(Condition::parse(&condition.to_string(), &["image", "text"]), Ok(condition));
        }
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_known_ones() {
        for name in
            ["", "fulll", "missing-", "noisy-", "noisy-text:drop:6", "noisy-text:drop:1:2", "noisy-text:", "-only"]
        {
            assert!(name.parse::<Condition>().is_err(), "{name}");
        }
        let error = Condition::parse("missing-audio", &["image", "text"]).unwrap_err().to_string();
        assert!(error.contains("`missing-audio`") && error.contains("missing-image, missing-text"), "{error}");
    }
}
