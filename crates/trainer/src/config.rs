//! The configuration of a run: one table of keys, read from files, `--set` and the command line in that order into typed fields.

mod field;
mod keys;
mod sections;
mod words;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use balgrad::{Entry, Settings, Value};
use balgrad_data::open_regular;
use serde_json::{Map, Value as Json};

use crate::Usage;
use crate::arms;
use crate::registry::registry;

pub use balgrad_data::{OnBadSample, OnMissingFile};
pub(crate) use keys::find_key;
pub use keys::{KEYS, Key, range};
pub use sections::{Data, Encoders, Evaluation, Model, Optimization, Output, Sections, Training};
pub use words::{ClassWeights, Device, Freeze, OnNan, Optimizer, Plot, Projector, Words};

/// A resolved configuration: every key has a value that was checked.
#[derive(Debug, Clone)]
pub struct Config {
    sections: Sections,
    /// The method.
    pub method: Entry,
    /// The method's settings, defaults filled in.
    pub method_settings: Settings,
    /// What was read under another name than its own, for the user to know.
    pub notes: Vec<String>,
}

impl Deref for Config {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

impl Config {
    /// Resolves keys given by name; the method's settings stand under `method.`, its name under `method` or
    /// `method.name`. The name may be that of any row of a comparison, such as `balgrad+dropout`, whose settings then stand in for
    /// those that are not given.
    ///
    /// # Errors
    /// An unknown key or method (with the nearest known one), or a value outside its range.
    pub fn resolve(given: &BTreeMap<String, Value>) -> Result<Self, Usage> {
        let name =
            given.get("method").or(given.get("method.name")).map_or_else(|| "balgrad".to_owned(), Value::to_string);
        let mut whole: BTreeMap<String, Value> = BTreeMap::new();
        let mut method = name.clone();
        for (key, value) in arms::expand(&name)? {
            if key == "method" {
                method = value.to_string();
            } else if key != "label" || name != method {
                whole.insert(key, value);
            }
        }
        let mut notes = Vec::new();
        for (key, value) in given {
            let key = match find_key(key) {
                Some(found) if found.name != key => {
                    notes.push(format!("`{key}` is called `{}`", found.name));
                    found.name.to_owned()
                }
                _ => key.clone(),
            };
            // An empty label is none.
            if key != "label" || !value.to_string().is_empty() {
                whole.insert(key, value.clone());
            }
        }
        let method = registry().method(&method)?;
        let mut sections = defaults();
        let mut of_method = BTreeMap::new();
        for (key, value) in &whole {
            match key.strip_prefix("method.") {
                _ if key == "method" || key == "method.name" => {}
                Some(setting) => drop(of_method.insert(setting.to_owned(), value.clone())),
                None => set(&mut sections, key, value)?,
            }
        }
        let method_settings = Settings::resolve("method.", method.settings, &of_method).map_err(Usage::from)?;
        Ok(Self { sections, method, method_settings, notes })
    }

    /// Resolves config files and then `sets` over them, the later winning.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or whatever [`resolve`](Self::resolve) finds.
    pub fn load(files: &[impl AsRef<Path>], sets: &[(String, Value)]) -> Result<Self, Usage> {
        let mut given = BTreeMap::new();
        for path in files {
            let path = path.as_ref();
            // A pipe would be waited for without end.
            let text = open_regular(path)
                .and_then(std::io::read_to_string)
                .map_err(|e| Usage(format!("cannot read the config {}: {e}", path.display())))?;
            let table: toml::Table = text.parse().map_err(|e| Usage(format!("{}: {e}", path.display())))?;
            flatten("", &table, &mut given).map_err(|e| Usage(format!("{}: {e}", path.display())))?;
        }
        // A method named later leaves the settings of an earlier one behind.
        if let Some((_, named)) = sets.iter().rev().find(|(k, _)| k == "method")
            && given.get("method.name").or(given.get("method")).is_some_and(|old| old != named)
        {
            given.retain(|k, _| k != "method" && !k.starts_with("method."));
        }
        for (key, value) in sets {
            // Of two names of one key, the one given later counts.
            if let Some(found) = find_key(key) {
                given.retain(|known, _| known != found.name && !found.aliases.contains(&known.as_str()));
            }
            given.insert(key.clone(), value.clone());
        }
        Self::resolve(&given)
    }

    /// Every key with its value, the method's settings aside, in order of name.
    fn values(&self) -> BTreeMap<String, Value> {
        let mut all: BTreeMap<String, Value> =
            KEYS.iter().map(|key| (key.name.to_owned(), key.get(&self.sections))).collect();
        for of in keys::PER_MODALITY {
            let entries = of.entries(&self.sections).iter();
            all.extend(entries.map(|(modality, v)| (format!("{}{modality}", of.prefix), Value::Word(v.clone()))));
        }
        all
    }

    /// Says what was read under another name, once for a whole command.
    pub(crate) fn tell_notes(&self) {
        self.notes.iter().for_each(|note| say!("note: {note}"));
    }

    /// What would make another run of it than of `other`: each setting that differs, with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let all = |config: &Self| {
            let mut all = config.values();
            all.retain(|name, _| !matches!(name.as_str(), "checkpoint_seconds" | "workers"));
            all.insert("method".to_owned(), Value::Word(config.method.name.to_owned()));
            all.extend(config.method_settings.iter().map(|(name, v)| (format!("method.{name}"), v.clone())));
            all
        };
        let (ours, theirs) = (all(self), all(other));
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let text = |values: &BTreeMap<String, Value>, name| values.get(name).map_or_else(String::new, Value::to_string);
        let pairs = names.into_iter().map(|name| (name, text(&ours, name), text(&theirs, name)));
        pairs.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("`{name}` is `{a}` and was `{b}`")).collect()
    }

    /// The resolved configuration as a file that repeats the run.
    pub fn to_toml(&self) -> String {
        let mut root = toml::Table::new();
        let mut put = |name: &str, value: &Value| {
            let value = match value {
                Value::Flag(v) => toml::Value::Boolean(*v),
                Value::Count(v) => {
                    i64::try_from(*v).map_or_else(|_| toml::Value::String(v.to_string()), toml::Value::Integer)
                }
                Value::Number(v) => toml::Value::Float(*v),
                Value::Word(v) => toml::Value::String(v.clone()),
            };
            match name.split_once('.') {
                None => drop(root.insert(name.to_owned(), value)),
                Some((table, leaf)) => {
                    let entry = root.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                    if let toml::Value::Table(inner) = entry {
                        inner.insert(leaf.to_owned(), value);
                    }
                }
            }
        };
        for (name, value) in self.values() {
            put(&name, &value);
        }
        put("method.name", &Value::Word(self.method.name.to_owned()));
        for (name, value) in self.method_settings.iter() {
            put(&format!("method.{name}"), value);
        }
        root.to_string()
    }

    /// The method for data that are seen by `modalities`, in this order.
    ///
    /// # Errors
    /// A reference of a modality that the data lack.
    pub fn method_on(&self, modalities: &[&str]) -> Result<Entry, Usage> {
        registry().method_on(self.method.name, modalities)
    }

    /// What tables call this run.
    pub fn label(&self) -> &str {
        match self.output.label.as_str() {
            "" => self.method.name,
            label => label,
        }
    }

    /// What differs from the defaults, and the method's settings: what a results file names.
    pub fn differing(&self) -> Map<String, Json> {
        let json = |v: &Value| serde_json::to_value(v).unwrap_or_default();
        let default = |name: &str| KEYS.iter().find(|k| k.name == name).map(|k| Value::parse(k.default).to_string());
        let own = self.values().into_iter().filter(|(k, v)| {
            !matches!(k.as_str(), "data" | "seed" | "label") && default(k).is_none_or(|d| d != v.to_string())
        });
        let own = own.map(|(k, v)| (k, json(&v)));
        own.chain(self.method_settings.iter().map(|(k, v)| (format!("method.{k}"), json(v)))).collect()
    }
}

/// Every key at its default.
fn defaults() -> Sections {
    let mut sections = Sections::default();
    for key in KEYS {
        let set = key.set(&mut sections, &Value::parse(key.default));
        debug_assert!(set.is_ok(), "{set:?}");
    }
    sections
}

/// Puts a value into its field.
fn set(sections: &mut Sections, name: &str, value: &Value) -> Result<(), Usage> {
    if let Some(key) = find_key(name) {
        return key.set(sections, value).map_err(Usage);
    }
    let of = keys::PER_MODALITY.into_iter().find_map(|of| Some((of, name.strip_prefix(of.prefix)?)));
    if let Some((of, modality)) = of
        && registry().modalities.iter().any(|known| known.name == modality)
    {
        of.entries_mut(sections).insert(modality.to_owned(), value.to_string());
        return Ok(());
    }
    let known: Vec<&str> =
        KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied())).collect();
    let hint = match near(name, &known).and_then(find_key) {
        Some(key) => format!("did you mean `{}`? `balgrad keys` lists all", key.name),
        None => "`balgrad keys` lists what there is".to_owned(),
    };
    Err(Usage(format!("unknown setting `{name}`: {hint}")))
}

/// The nearest of some words, if one is near enough to have been meant.
pub(crate) fn near<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(word, candidate);
    let nearest = known.iter().copied().min_by_key(distance)?;
    (distance(&nearest) <= 2.max(word.chars().count() / 3)).then_some(nearest)
}

/// `key=value` as given to `--set`.
///
/// # Errors
/// Text without an equals sign.
pub fn parse_set(text: &str) -> Result<(String, Value), String> {
    let (k, v) = text.split_once('=').ok_or_else(|| format!("`{text}`: expected key=value, such as epochs=10"))?;
    Ok((k.trim().to_owned(), Value::parse(v.trim())))
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, Value>) -> Result<(), String> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        let value = match value {
            toml::Value::Table(inner) => {
                flatten(&format!("{name}."), inner, out)?;
                continue;
            }
            toml::Value::Boolean(v) => Value::Flag(*v),
            toml::Value::Integer(v) => u64::try_from(*v).map_or(Value::Number(*v as f64), Value::Count),
            toml::Value::Float(v) => Value::Number(*v),
            toml::Value::String(v) => Value::Word(v.clone()),
            other => return Err(format!("`{name}`: a {} cannot be a setting", other.type_str())),
        };
        out.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(sets: &[(&str, &str)]) -> Result<Config, Usage> {
        let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), Value::parse(v))).collect();
        Config::load(&[] as &[&Path], &sets)
    }

    #[test]
    fn every_default_is_what_its_row_says() {
        let config = of(&[]).unwrap();
        for key in KEYS {
            assert_eq!(key.get(&config).to_string(), Value::parse(key.default).to_string(), "{}", key.name);
            assert!(find_key(key.name).is_some() && !key.about.is_empty());
        }
        assert!(config.differing().keys().all(|key| key.starts_with("method.")), "{:?}", config.differing());
    }

    #[test]
    fn a_file_repeats_the_run_to_the_byte() {
        let seeds = ["9007199254740992", "9007199254740993", "18446744073709551615"];
        let texts = seeds.map(|seed| {
            let config = of(&[("seed", seed), ("encoders.image", "small-cnn"), ("freeze", "4"), ("lr", "1")]).unwrap();
            assert_eq!(config.seed.to_string(), seed);
            let mut given = BTreeMap::new();
            flatten("", &config.to_toml().parse().unwrap(), &mut given).unwrap();
            assert_eq!(Config::resolve(&given).unwrap().to_toml(), config.to_toml());
            config.to_toml()
        });
        assert_ne!(texts[0], texts[1]);
    }

    #[test]
    fn other_names_are_understood_and_noted() {
        let config = of(&[("lr_decay", "0.5"), ("learning_rate", "0.1")]).unwrap();
        assert_eq!((config.optimization.layer_decay, config.optimization.lr), (0.5, 0.1));
        assert_eq!(config.notes, ["`learning_rate` is called `lr`", "`lr_decay` is called `layer_decay`"]);
        assert_eq!(of(&[("lr", "0.1"), ("learning_rate", "0.2")]).unwrap().optimization.lr, 0.2);
    }

    #[test]
    fn rows_of_a_comparison_are_methods() {
        let config = of(&[("method", "balgrad+dropout")]).unwrap();
        assert_eq!((config.method.name, config.training.modality_dropout), ("balgrad", 0.2));
        assert_eq!(config.label(), "balgrad+dropout");
        let given = of(&[("method", "neither+dropout"), ("modality_dropout", "0.3")]).unwrap();
        assert_eq!(given.training.modality_dropout, 0.3);
        assert!(!given.method_settings.flag("project"));
        assert_eq!(of(&[("method", "joint")]).unwrap().output.label, "");
    }

    #[test]
    fn mistakes_are_named_with_what_was_meant() {
        for (key, value, says) in [
            ("epocs", "3", "did you mean `epochs`?"),
            ("learning_rte", "3", "did you mean `lr`?"),
            ("xyzzy", "3", "`balgrad keys` lists"),
            ("encoders.smell", "x", "unknown setting `encoders.smell`"),
            ("epochs", "0", "a whole number from 1 to"),
            ("epochs", "2.5", "a whole number"),
            ("device", "gpu", "one of auto, cpu, cuda, metal"),
            ("freeze", "some", "all, none, or a number of blocks"),
            ("augment", "maybe", "true or false"),
            ("method", "balgrd", "did you mean `balgrad`?"),
            ("method.share", "some", "`method.share = some`"),
        ] {
            let error = of(&[(key, value)]).unwrap_err().0;
            assert!(error.contains(says), "{key} = {value}: {error}");
        }
    }
}
