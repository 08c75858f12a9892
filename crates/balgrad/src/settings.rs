//! A method's settings: one table says name, default, range and meaning; help, docs and checks are read off it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A number in `[min, max]`.
    Number {
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// A whole number in `[min, max]`.
    Count {
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// Numbers in `[min, max]`, separated by commas; or none.
    Numbers {
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// `true` or `false`.
    Flag,
    /// Any text.
    Text,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// One row of a method's table of settings.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name, as in `method.share`.
    pub name: &'static str,
    /// Default, as one would write it.
    pub default: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// One line of help.
    pub about: &'static str,
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
}

impl Value {
    /// Reads a value as one would write it on a command line: a flag, a number, or else a word.
    pub fn parse(text: &str) -> Self {
        let flag = text.parse().map(Self::Flag).ok();
        let count = || text.parse().map(Self::Count).ok();
        let number = || text.parse().map(Self::Number).ok();
        flag.or_else(count).or_else(number).unwrap_or_else(|| Self::Word(text.to_owned()))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(v) => write!(f, "{v}"),
            Self::Count(v) => write!(f, "{v}"),
            Self::Number(v) => write!(f, "{v}"),
            Self::Word(v) => write!(f, "{v}"),
        }
    }
}

/// A setting that does not exist or cannot take the value given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError(pub String);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}

/// All settings of a method, defaults filled in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings(BTreeMap<&'static str, Value>);

impl Settings {
    /// Checks `given` against `table` and fills in the defaults; `prefix` (such as `method.`) stands before names in
    /// errors.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one) or a value outside its range.
    pub fn resolve(prefix: &str, table: &[Setting], given: &BTreeMap<String, Value>) -> Result<Self, SettingError> {
        let known: Vec<&str> = table.iter().map(|s| s.name).collect();
        if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let hint = match nearest(name, &known) {
                _ if known.is_empty() => "there are no settings here".to_owned(),
                Some(near) => format!("did you mean `{prefix}{near}`? (known: {})", known.join(", ")),
                None => format!("known: {}", known.join(", ")),
            };
            return Err(SettingError(format!("unknown setting `{prefix}{name}`: {hint}")));
        }
        let resolve = |setting: &Setting| {
            let value = given.get(setting.name).cloned().unwrap_or_else(|| Value::parse(setting.default));
            Ok((setting.name, check(prefix, setting, value)?))
        };
        table.iter().map(resolve).collect::<Result<_, _>>().map(Self)
    }

    /// Name and value of every setting, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }

    /// A number; counts are numbers too.
    pub fn number(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Value::Number(v)) => *v,
            Some(Value::Count(v)) => *v as f64,
            _ => f64::NAN,
        }
    }

    /// A whole number.
    pub fn count(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// Numbers separated by commas.
    pub fn numbers(&self, name: &str) -> Vec<f64> {
        parse_numbers(self.word(name)).unwrap_or_default()
    }

    /// A flag.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Flag(true))
    }

    /// A word.
    pub fn word(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(Value::Word(v)) => v,
            _ => "",
        }
    }
}

fn parse_numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',').filter(|_| !text.is_empty()).map(|number| number.trim().parse().ok()).collect()
}

fn check(prefix: &str, setting: &Setting, value: Value) -> Result<Value, SettingError> {
    let wrong =
        |expected: String| Err(SettingError(format!("`{prefix}{} = {value}`: expected {expected}", setting.name)));
    match (setting.kind, &value) {
        (Kind::Text, _) => Ok(Value::Word(value.to_string())),
        (Kind::Numbers { min, max }, _) => match parse_numbers(&value.to_string()) {
            Some(numbers) if numbers.iter().all(|v| (min..=max).contains(v)) => Ok(Value::Word(value.to_string())),
            _ => wrong(format!("numbers from {min} to {max}, separated by commas")),
        },
        (Kind::Flag, Value::Flag(_)) => Ok(value),
        (Kind::Flag, _) => wrong("true or false".into()),
        (Kind::Choice(words), Value::Word(w)) if words.contains(&w.as_str()) => Ok(value),
        (Kind::Choice(words), _) => wrong(format!("one of {}", words.join(", "))),
        (Kind::Number { min, max }, Value::Number(v)) if (min..=max).contains(v) => Ok(value),
        (Kind::Number { min, max }, Value::Count(v)) if (min..=max).contains(&(*v as f64)) => {
            Ok(Value::Number(*v as f64))
        }
        (Kind::Number { min, max }, _) => wrong(format!("a number from {min} to {max}")),
        (Kind::Count { min, max }, Value::Count(v)) if (min..=max).contains(v) => Ok(value),
        (Kind::Count { min, max }, _) => wrong(format!("a whole number from {min} to {max}")),
    }
}

/// The candidate with the fewest edits from `word` (Levenshtein), the first of several; none where all are further than two
/// edits and than a third of the word.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    let distances = candidates.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate));
    distances.min_by_key(|(distance, _)| *distance).filter(|(distance, _)| *distance <= most).map(|(_, near)| near)
}
