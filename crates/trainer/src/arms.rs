//! The rows of a comparison: a method with its settings, under the name that tables use.

use std::collections::{BTreeMap, BTreeSet};

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

/// Rows with a name of their own: BalGrad's ablation.
const NAMED: &[(&str, &str)] = &[
    ("neither", "balgrad:reweight=false:project=false"),
    ("reweighting", "balgrad:project=false"),
    ("projection", "balgrad:reweight=false"),
];

/// After the name of any row: the same with modality dropout.
const DROPOUT: (&str, &str) = ("+dropout", ":modality_dropout=0.2");

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

/// What `all` has beside every method.
const BESIDE: &[&str] = &["neither", "reweighting", "projection", "joint+dropout", "balgrad+dropout", "chorus+dropout"];

/// Reads a comma-separated list of methods, named rows and `method:setting=value:…`, each perhaps with `+dropout` at its
/// end; `paper` and `all` stand for many. A row that comes twice is taken once.
///
/// # Errors
/// An unknown name or setting, with the nearest known one.
pub fn parse(list: &str) -> Result<Vec<Arm>, Usage> {
    let names = list.split(',').map(str::trim).filter(|n| !n.is_empty()).flat_map(|name| match name {
        "paper" => PAPER.to_vec(),
        "all" => METHODS.iter().map(|m| m.name).chain(BESIDE.iter().copied()).collect(),
        name => vec![name],
    });
    let mut seen = BTreeSet::new();
    let arms: Vec<Arm> = names.filter(|name| seen.insert(*name)).map(one).collect::<Result<_, _>>()?;
    if arms.is_empty() {
        return Err(Usage("--methods names no method: try `paper`, `all` or `joint,balgrad`".into()));
    }
    Ok(arms)
}

fn one(name: &str) -> Result<Arm, Usage> {
    let (row, dropout) = name.strip_suffix(DROPOUT.0).map_or((name, ""), |row| (row, DROPOUT.1));
    let text = NAMED.iter().find(|(n, _)| *n == row).map_or(row, |(_, text)| text).to_owned() + dropout;
    let mut parts = text.split(':');
    let method = parts.next().unwrap_or_default();
    let Ok(entry) = find(method) else {
        let known: Vec<&str> = METHODS.iter().map(|m| m.name).chain(NAMED.iter().map(|(n, _)| *n)).collect();
        let near = nearest(row, &known);
        return Err(Usage(format!(
            "unknown method `{row}`; did you mean `{near}`? (known: {}, each with or without +dropout)",
            known.join(", ")
        )));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(list: &str) -> Vec<String> {
        parse(list).unwrap().into_iter().map(|arm| arm.label).collect()
    }

    #[test]
    fn many_and_single_rows_mix_and_come_once() {
        assert_eq!(labels("joint, balgrad,joint"), ["joint", "balgrad"]);
        let mixed = labels("paper,chorus,joint");
        assert_eq!(mixed.len(), PAPER.len() + 1);
        assert_eq!(labels("all").len(), METHODS.len() + BESIDE.len());
    }

    #[test]
    fn dropout_goes_with_every_row() {
        let of = |list: &str| parse(list).unwrap().remove(0).sets;
        let dropout = ("modality_dropout".to_owned(), Value::Number(0.2));
        for row in ["joint+dropout", "neither+dropout", "balgrad:share=loss+dropout"] {
            let sets = of(row);
            assert!(sets.contains(&dropout), "{row}: {sets:?}");
            assert!(sets.contains(&("label".into(), Value::Word(row.into()))));
        }
        let wrong = parse("jont+dropout").unwrap_err().0;
        assert!(wrong.contains("`jont`") && wrong.contains("`joint`"), "{wrong}");
    }
}
