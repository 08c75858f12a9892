//! Arms: the rows of a comparison. One table says of each row what it is, what people read, and where tables have it.

use std::collections::{BTreeMap, BTreeSet};

use balgrad::{Settings, Value};

use crate::Usage;
use crate::config::{find_key, parse_set};
use crate::registry::registry;

/// What a row is compared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One modality alone, or no fusion: what fusion has to beat.
    Reference,
    /// What methods are compared with.
    Baseline,
    /// A method of the literature, or ours.
    Method,
    /// A method with a part left out.
    Ablation,
    /// What to try first where a modality may be missing.
    Recommended,
}

/// A row with more to it than its method's name: a row of [`ARMS`].
#[derive(Debug)]
pub struct ArmEntry {
    /// Name on the command line, in files and folders.
    pub name: &'static str,
    /// What it stands for: a method, and settings after colons.
    pub expands_to: &'static str,
    /// What people read.
    pub title: &'static str,
    /// What it is compared for.
    pub role: Role,
    /// Whether the paper's comparison has it, with what the paper lacks: references, controls, and modality dropout.
    pub in_paper: bool,
}

const fn arm(
    name: &'static str,
    expands_to: &'static str,
    title: &'static str,
    role: Role,
    in_paper: bool,
) -> ArmEntry {
    ArmEntry { name, expands_to, title, role, in_paper }
}

/// Rows of a role, title or expansion of their own, in the order of tables; every other method is a row by its own name.
pub static ARMS: &[ArmEntry] = &[
    arm("image-only", "image-only", "Image alone", Role::Reference, true),
    arm("text-only", "text-only", "Text alone", Role::Reference, true),
    arm("late-fusion", "late-fusion", "Late fusion", Role::Reference, true),
    arm("joint", "joint", "Joint training", Role::Baseline, true),
    arm("multi-loss", "multi-loss", "Joint training with own losses", Role::Baseline, true),
    arm(
        "neither",
        "balgrad:reweight=false:project=false",
        "BalGrad losses without reweighting or projection",
        Role::Ablation,
        true,
    ),
    arm("mslr", "mslr", "MSLR", Role::Method, true),
    arm("ogm-ge", "ogm-ge", "OGM-GE", Role::Method, true),
    arm("agm", "agm", "AGM", Role::Method, true),
    arm("reweighting", "balgrad:project=false", "BalGrad without projection", Role::Ablation, true),
    arm("projection", "balgrad:reweight=false", "BalGrad without reweighting", Role::Ablation, true),
    arm("balgrad", "balgrad", "BalGrad", Role::Method, true),
    arm("joint+dropout", "joint:modality_dropout=0.2", "Joint training with modality dropout", Role::Baseline, true),
    arm("balgrad+dropout", "balgrad:modality_dropout=0.2", "BalGrad with modality dropout", Role::Recommended, true),
    arm("chorus", "chorus", "Chorus", Role::Method, false),
    arm("chorus+dropout", "chorus:modality_dropout=0.2", "Chorus with modality dropout", Role::Recommended, false),
];

/// After the name of any row: the same with modality dropout.
const DROPOUT: (&str, &str) = ("+dropout", ":modality_dropout=0.2");

/// A row of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// What tables call it, and the folder of its runs.
    pub label: String,
    /// Config keys that make it, `method` and `label` among them.
    pub sets: Vec<(String, Value)>,
}

/// The row of the table that has a name.
pub fn arm_entry(name: &str) -> Option<&'static ArmEntry> {
    ARMS.iter().find(|entry| entry.name == name)
}

/// What people read for a row.
pub fn title(name: &str) -> String {
    arm_entry(name).map_or_else(|| name.to_owned(), |entry| entry.title.to_owned())
}

/// The names of all rows, in order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ARMS.iter().map(|entry| entry.name)
}

/// The names of the paper's rows, in order.
pub fn paper() -> impl Iterator<Item = &'static str> {
    ARMS.iter().filter(|entry| entry.in_paper).map(|entry| entry.name)
}

/// Reads a comma-separated list of methods, named rows and `method:setting=value:…`, each perhaps with `+dropout` at its
/// end; `paper` and `all` stand for many. A row that comes twice is taken once.
///
/// # Errors
/// An unknown name or setting, with the nearest known one.
pub fn parse(list: &str) -> Result<Vec<Arm>, Usage> {
    let names = list.split(',').map(str::trim).filter(|n| !n.is_empty()).flat_map(|name| match name {
        "paper" => paper().collect::<Vec<_>>(),
        "all" => registry().methods.iter().map(|m| m.name).chain(names()).collect(),
        name => vec![name],
    });
    let mut seen = BTreeSet::new();
    let arm = |name: &str| Ok(Arm { label: name.to_owned(), sets: expand(name)? });
    let arms: Vec<Arm> = names.filter(|name| seen.insert(*name)).map(arm).collect::<Result<_, Usage>>()?;
    if arms.is_empty() {
        return Err(Usage("--methods names no method: try `paper`, `all` or `joint,balgrad`".into()));
    }
    Ok(arms)
}

/// The config keys that a row stands for: its method, its settings, and its name as the label.
///
/// # Errors
/// An unknown name or setting, with the nearest known one.
pub fn expand(name: &str) -> Result<Vec<(String, Value)>, Usage> {
    let (row, dropout) = match name.strip_suffix(DROPOUT.0) {
        Some(row) if arm_entry(name).is_none() => (row, DROPOUT.1),
        _ => (name, ""),
    };
    let text = arm_entry(row).map_or(row, |entry| entry.expands_to).to_owned() + dropout;
    let mut fields = text.split(':');
    let method = fields.next().unwrap_or_default();
    let entry = registry().method(method)?;
    let mut sets = vec![("method".to_owned(), Value::Word(method.to_owned()))];
    let mut of_method = BTreeMap::new();
    for field in fields {
        let (key, value) = parse_set(field).map_err(Usage)?;
        if let Some(found) = find_key(&key) {
            sets.push((found.name.to_owned(), value));
        } else {
            of_method.insert(key.clone(), value.clone());
            sets.push((format!("method.{key}"), value));
        }
    }
    Settings::resolve("", entry.settings, &of_method).map_err(Usage::from)?;
    sets.push(("label".to_owned(), Value::Word(name.to_owned())));
    Ok(sets)
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
        assert_eq!(labels("paper,chorus,joint").len(), paper().count() + 1);
        let all = labels("all");
        assert!(registry().methods.iter().all(|m| all.iter().any(|label| label == m.name)));
        assert!(ARMS.iter().all(|entry| all.iter().any(|label| label == entry.name)));
    }

    #[test]
    fn dropout_goes_with_every_row() {
        let of = |list: &str| parse(list).unwrap().remove(0).sets;
        let dropout = ("modality_dropout".to_owned(), Value::Number(0.2));
        for row in ["joint+dropout", "neither+dropout", "balgrad:share=loss+dropout", "chorus+dropout"] {
            let sets = of(row);
            assert!(sets.contains(&dropout), "{row}: {sets:?}");
            assert!(sets.contains(&("label".into(), Value::Word(row.into()))));
        }
        let wrong = parse("jont+dropout").unwrap_err().0;
        assert!(wrong.contains("`jont`") && wrong.contains("`joint`"), "{wrong}");
        let odd = parse("something").unwrap_err().0;
        assert!(!odd.contains("did you mean"), "{odd}");
    }

    #[test]
    fn every_row_of_the_table_resolves() {
        for entry in ARMS {
            assert!(expand(entry.name).is_ok(), "{}", entry.name);
            assert!(!entry.title.is_empty());
        }
    }
}
