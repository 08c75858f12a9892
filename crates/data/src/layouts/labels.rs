//! What a column of labels says: names, lists of names, codes, vectors of 0 and 1, or numbers to predict.

use std::collections::HashSet;

use serde_json::Value;

use super::Answer;
use crate::Task;

/// The true answer of a row.
pub(super) enum Label {
    Known(Answer),
    /// Left open: nothing, or -1 among codes.
    Unknown,
}

/// The answers of a column.
pub(super) struct Labels {
    pub(super) answers: Vec<Result<Label, String>>,
    /// What the labels' form settles.
    pub(super) task: Option<Task>,
    /// Whether classes are whole numbers, in whose order they stand.
    pub(super) numbered: bool,
    /// What was decided.
    pub(super) note: Option<String>,
}

/// Reads a column; `classes` are names that the data set gives, `task` what it asks, and cells that are `flat` are texts
/// which may hold numbers or several labels.
pub(super) fn read(mut values: Vec<Value>, classes: Option<&[String]>, task: Option<Task>, flat: bool) -> Labels {
    let mut note = None;
    if flat {
        note = unfold(&mut values, task);
    }
    let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    let lists: Vec<&Vec<Value>> = values.iter().filter_map(Value::as_array).collect();
    let texts = values.iter().any(|v| v.is_string() || v.is_boolean());
    let regression = task == Some(Task::Regression);
    // Lists of numbers: one vector of 0 and 1 for each sample, indices, or several numbers to predict.
    let numeric = !texts
        && numbers.is_empty()
        && lists.iter().any(|l| !l.is_empty())
        && lists.iter().all(|l| l.iter().all(Value::is_number));
    let width = lists.iter().map(|l| l.len()).max().unwrap_or(0);
    let one_width = lists.iter().all(|l| l.len() == width);
    let each = |known: fn(f64) -> bool| lists.iter().all(|l| l.iter().filter_map(Value::as_f64).all(known));
    let named = |count: usize| classes.is_none_or(|names| names.len() == count);
    let vectors = numeric && !regression && one_width && width > 1 && named(width) && each(|v| v == 0.0 || v == 1.0);
    let indices = numeric
        && !regression
        && !vectors
        && each(|v| v >= 0.0 && v.fract() == 0.0)
        && (classes.is_some() || !one_width || width == 1);
    let codes =
        !numbers.is_empty() && !regression && (task.is_some() || texts || !lists.is_empty() || are_codes(&numbers));
    let values_asked = regression || !texts && !codes && !vectors && !indices && (!numbers.is_empty() || numeric);
    let label = |value: Value| -> Result<Label, String> {
        if values_asked {
            return number(&value);
        }
        match value {
            Value::Null => Ok(Label::Unknown),
            Value::Number(n) if n.as_f64() == Some(-1.0) => Ok(Label::Unknown),
            Value::Array(bits) if vectors => {
                let on = bits.iter().enumerate().filter(|(_, bit)| bit.as_f64() == Some(1.0));
                Ok(Label::classes(on.map(|(i, _)| classes.map_or_else(|| i.to_string(), |c| c[i].clone())).collect()))
            }
            Value::Array(some) => some.iter().map(|v| name(v, classes)).collect::<Result<_, _>>().map(Label::classes),
            one => Ok(Label::classes(vec![name(&one, classes)?])),
        }
    };
    let many = !lists.is_empty() && !values_asked;
    if codes && task.is_none() && classes.is_none() && !texts && lists.is_empty() {
        note = Some(
            "labels are the numbers of classes; where they are amounts, say that they are a regression".to_owned(),
        );
    }
    Labels {
        task: match (task, many, values_asked) {
            (None, true, _) => Some(Task::MultiLabel),
            (None, _, true) => Some(Task::Regression),
            _ => None,
        },
        numbered: (codes && !texts && lists.is_empty() || vectors || indices) && classes.is_none(),
        note,
        answers: values.into_iter().map(label).collect(),
    }
}

/// Whether numbers are codes of classes: whole, counted from 0 or 1, with few gaps, each twice on average; -1 is none.
fn are_codes(numbers: &[f64]) -> bool {
    let known: Vec<f64> = numbers.iter().copied().filter(|n| *n != -1.0).collect();
    if known.is_empty() || known.iter().any(|n| n.fract() != 0.0 || *n < 0.0) {
        return false;
    }
    let distinct: HashSet<u64> = known.iter().map(|n| *n as u64).collect();
    let (least, most) = known.iter().fold((f64::MAX, 0.0f64), |(a, b), n| (a.min(*n), b.max(*n)));
    least <= 1.0 && most <= 2.0 * distinct.len() as f64 && known.len() >= 2 * distinct.len()
}

/// The name of a class that stands as text or as a number.
fn name(value: &Value, classes: Option<&[String]>) -> Result<String, String> {
    match value {
        Value::String(name) => Ok(name.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64);
            let text = whole.map_or_else(|| number.to_string(), |n| n.to_string());
            match (classes, whole) {
                (Some(classes), _) if classes.contains(&text) => Ok(text),
                (Some(classes), Some(n)) => class_at(n.into(), classes),
                _ => Ok(text),
            }
        }
        _ => Err("a label that is neither a name nor a number".to_owned()),
    }
}

/// The class of a number.
pub(super) fn class_at(n: i128, classes: &[String]) -> Result<String, String> {
    let name = usize::try_from(n).ok().and_then(|n| classes.get(n)).cloned();
    name.ok_or_else(|| format!("label {n}, but the classes are 0 to {}", classes.len().saturating_sub(1)))
}

/// A number to predict, or several.
fn number(value: &Value) -> Result<Label, String> {
    let one = |value: &Value| value.as_f64().map(|n| n as f32).ok_or_else(|| format!("`{value}` is not a number"));
    match value {
        Value::Null => Ok(Label::Unknown),
        Value::Array(values) => Ok(Label::Known(Answer::Values(values.iter().map(one).collect::<Result<_, _>>()?))),
        // Names stand where numbers are asked for: the draft says so of each.
        Value::String(name) => Ok(Label::classes(vec![name.clone()])),
        value => Ok(Label::Known(Answer::Values(vec![one(value)?]))),
    }
}

/// Texts as what they hold: nothing, numbers, or several labels. Says what separates these.
fn unfold(values: &mut [Value], task: Option<Task>) -> Option<String> {
    for value in values.iter_mut() {
        let Value::String(text) = value else { continue };
        let trimmed = text.trim();
        *value = match trimmed.to_lowercase().as_str() {
            "" | "nan" | "null" => Value::Null,
            _ => Value::String(trimmed.to_owned()),
        };
    }
    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    // An id such as 007 is a name.
    let plain =
        |t: &str| t == "0" || !t.trim_start_matches('-').starts_with('0') || t.contains('.') || t.starts_with("0e");
    let is_number = |t: &str| plain(t) && t.parse::<f64>().is_ok_and(f64::is_finite);
    if texts.iter().all(|t| is_number(t)) || task == Some(Task::Regression) {
        for value in values.iter_mut() {
            let number = value.as_str().and_then(|t| t.replace(',', ".").parse::<f64>().ok().filter(|n| n.is_finite()));
            if let Some(number) = number {
                *value = number.into();
            }
        }
        return None;
    }
    let bracketed = |t: &str| t.starts_with('[') && t.ends_with(']');
    if texts.iter().all(|t| bracketed(t)) {
        for value in values.iter_mut() {
            let Some(inner) = value.as_str().and_then(|t| t.strip_prefix('[')?.strip_suffix(']')) else { continue };
            let parts = inner.split(',').map(|p| p.trim().trim_matches(['\'', '"'])).filter(|p| !p.is_empty());
            let parts: Vec<&str> = parts.collect();
            let numbers = parts.iter().map(|p| p.parse::<f64>().ok().map(Value::from)).collect::<Option<Vec<Value>>>();
            *value = numbers.unwrap_or_else(|| parts.into_iter().map(Value::from).collect()).into();
        }
        return Some("labels are lists in brackets".to_owned());
    }
    if task.is_some_and(|task| task != Task::MultiLabel) {
        return None;
    }
    let mark = ['|', ';', ','].into_iter().find(|&mark| separates(&texts, mark))?;
    for value in values.iter_mut() {
        let Some(text) = value.as_str() else { continue };
        let parts = text.split(mark).map(str::trim).filter(|p| !p.is_empty()).map(Value::from);
        *value = Value::Array(parts.collect());
    }
    Some(format!("several labels in one field are separated by `{mark}`"))
}

/// Whether a mark stands between labels: there are no more labels than there are fields that differ, so that labels
/// return in other company. A comma within a name does not pass.
fn separates(texts: &[&str], mark: char) -> bool {
    let whole: HashSet<&str> = texts.iter().copied().collect();
    let parts: HashSet<&str> =
        whole.iter().flat_map(|t| t.split(mark)).map(str::trim).filter(|p| !p.is_empty()).collect();
    whole.iter().any(|t| t.contains(mark)) && (mark == '|' || parts.len() <= whole.len())
}
