//! The rows of a comparison: a method with its settings, under the name that tables use.

use std::collections::BTreeMap;

use balgrad::{METHODS, Settings, Value, find, nearest};

use crate::Usage;
use crate::config::{KEYS, parse_set};

/// A row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// What tables call it, and the folder of its runs.
    pub label: String,
    /// Config keys that make it, `method` among them.
    pub sets: Vec<(String, Value)>,
}

/// Rows with a name of their own: BalGrad's ablation, and modality dropout.
const NAMED: &[(&str, &str)] = &[
    ("neither", "balgrad:reweight=false:project=false"),
    ("reweighting", "balgrad:project=false"),
    ("projection", "balgrad:reweight=false"),
    ("joint+dropout", "joint:modality_dropout=0.2"),
    ("balgrad+dropout", "balgrad:modality_dropout=0.2"),
    ("chorus+dropout", "chorus:modality_dropout=0.2"),
];

/// The rows of the paper's Tables 1 and 2, with what the paper lacks: references without fusion, controls, and modality
/// dropout.
const PAPER: &[&str] = &[
    "image-only",
    "text-only",
    "late-fusion",
    "joint",
    "multi-loss",
    "neither",
    "mslr",
    "ogm-ge",
    "agm",
    "reweighting",
    "projection",
    "balgrad",
    "joint+dropout",
    "balgrad+dropout",
];

/// Reads `all`, `paper`, or a comma-separated list of methods, named rows and `method:setting=value:…`.
///
/// # Errors
/// An unknown name or setting, with the nearest known one.
pub fn parse(list: &str) -> Result<Vec<Arm>, Usage> {
    let names: Vec<&str> = match list {
        "paper" => PAPER.to_vec(),
        "all" => METHODS.iter().map(|m| m.name).chain(NAMED.iter().map(|(name, _)| *name)).collect(),
        list => list.split(',').map(str::trim).filter(|n| !n.is_empty()).collect(),
    };
    if names.is_empty() {
        return Err(Usage("--methods names no method: try `paper`, `all` or `joint,balgrad`".into()));
    }
    let mut arms: Vec<Arm> = names.iter().map(|name| one(name)).collect::<Result<_, _>>()?;
    arms.dedup_by(|a, b| a.label == b.label);
    Ok(arms)
}

fn one(name: &str) -> Result<Arm, Usage> {
    let text = NAMED.iter().find(|(n, _)| *n == name).map_or(name, |(_, text)| text);
    let mut parts = text.split(':');
    let method = parts.next().unwrap_or_default();
    let Ok(entry) = find(method) else {
        let known: Vec<&str> = METHODS.iter().map(|m| m.name).chain(NAMED.iter().map(|(n, _)| *n)).collect();
        let near = nearest(name, &known);
        return Err(Usage(format!("unknown method `{name}`; did you mean `{near}`? (known: {})", known.join(", "))));
    };
    let mut sets = vec![("method".to_owned(), Value::Word(method.to_owned()))];
    let mut of_method = BTreeMap::new();
    for part in parts {
        let (key, value) = parse_set(part).map_err(Usage)?;
        if KEYS.iter().any(|k| k.name == key) {
            sets.push((key, value));
        } else {
            of_method.insert(key.clone(), value.clone());
            sets.push((format!("method.{key}"), value));
        }
    }
    Settings::resolve("", entry.settings, &of_method).map_err(Usage::from)?;
    sets.push(("label".to_owned(), Value::Word(name.to_owned())));
    Ok(Arm { label: name.to_owned(), sets })
}
