//! The model card of an export: a page in Markdown behind a block of YAML, as Hugging Face's hub reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use balgrad_data::{Split, Task};

use crate::metrics::Unit;
use crate::model_spec::ModelSpec;
use crate::record::{Condition, RunRecord};
use crate::registry::registry;

/// Classes that are listed; the others are counted.
const CLASSES: usize = 50;

/// The card of a trained model.
pub(super) fn card(record: &RunRecord, spec: &ModelSpec, tensors: &[(String, usize)]) -> String {
    let modalities: Vec<&str> = spec.encoders().map(|(name, _)| name).collect();
    let task = match record.dataset.task {
        Task::MultiClass => "picks one of several classes",
        Task::Binary => "picks one of two classes",
        Task::MultiLabel => "picks any number of labels",
        Task::Regression => "predicts a number",
    };
    let title = format!("{} on {}", record.label(), record.dataset.name);
    let mut page = front_matter(record, &modalities);
    page += &format!(
        "\n# {title}\n\nThis model reads {} and {task}. Any of them may be missing: what is not there is simply left out.\n",
        modalities.join(" and "),
    );
    page += "\n## Use\n\n```console\nbalgrad predict . ";
    page += if modalities.contains(&"text") { "--text \"a red apple\"" } else { "--image photo.jpg" };
    page += "\n```\n\n```rust\nlet model = balgrad_trainer::Model::load(\".\")?;\n\
             let answer = model.predict(image, text)?; // either may be None\n```\n\n\
             `balgrad` is at <https://github.com/balgrad/balgrad>. The folder needs nothing else: no data, no network.\n";
    page += &scores(record);
    page += &calibration(record);
    page += &format!("\n## Classes\n\n{}\n", classes(&spec.classes));
    page += &preprocessing(spec);
    page += &weights(tensors);
    page + &training(record)
}

/// Text as a YAML string: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn front_matter(record: &RunRecord, modalities: &[&str]) -> String {
    let kind = match record.dataset.task {
        Task::Regression => "regression",
        _ => "classification",
    };
    let mut yaml = "---\nlibrary_name: balgrad\ntags:\n- balgrad\n- multimodal\n".to_owned();
    for modality in modalities {
        yaml += &format!("- {}\n", quoted(&format!("{modality}-{kind}")));
    }
    yaml += &format!("metrics:\n- {}\n", record.metric.name);
    let (dataset, name) =
        (quoted(&record.dataset.name), quoted(&format!("{}-{}", record.label(), record.dataset.name)));
    yaml += &format!("model-index:\n- name: {name}\n  results:\n");
    for condition in Condition::tested(modalities).iter().filter(|c| !matches!(c, Condition::Noisy { .. })) {
        let Some(score) = record.score(condition, record.metric) else { continue };
        let type_of = format!("{}-{kind}", modalities.first().unwrap_or(&"image"));
        yaml += &format!(
            "  - task:\n      type: {}\n    dataset:\n      name: {dataset}\n      type: {dataset}\n      config: {}\n      \
             split: test\n    metrics:\n    - type: {}\n      value: {score}\n      name: {}\n",
            quoted(&type_of),
            quoted(&condition.to_string()),
            record.metric.name,
            quoted(record.metric.title),
        );
    }
    // A result without metrics would be refused.
    if !yaml.contains("value:") {
        yaml.truncate(yaml.find("model-index:").unwrap_or(yaml.len()));
    }
    yaml + "---\n"
}

/// What a condition is, in words.
fn words(condition: &Condition) -> String {
    match condition {
        Condition::Full => "everything there".to_owned(),
        Condition::Missing(modality) => format!("{modality} missing"),
        Condition::Noisy { modality, .. } => format!("{modality} noisy"),
        Condition::Only(modality) => format!("{modality}'s own view"),
    }
}

fn scores(record: &RunRecord) -> String {
    let samples = record.dataset.samples.get(&Split::Test).copied().unwrap_or(0);
    if samples == 0 {
        return "\n## Scores\n\nNothing was scored: the data has no labelled test sample.\n".to_owned();
    }
    let unit = if record.metric.unit == Unit::Percent { ", in percent" } else { "" };
    let mut page = format!("\n## Scores\n\n{}{unit}, on {samples} test samples:\n\n", record.metric.title);
    let _ = writeln!(page, "| condition | {} |\n|---|---|", record.metric.title);
    for condition in Condition::all(&record.modalities()) {
        if let Some(score) = record.score(&condition, record.metric) {
            let _ = writeln!(page, "| {} | {} |", words(&condition), record.metric.text(score, 1));
        }
    }
    page
}

fn calibration(record: &RunRecord) -> String {
    let percent = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{:.1}", 100.0 * v));
    if record.calibration.values().all(|c| c.ece_after.is_none()) {
        return String::new();
    }
    let mut page = "\n## Confidence\n\nConfidence is calibrated by temperature scaling, fitted on the validation split for each set of \
                    modalities. The expected calibration error on the test split, in percent:\n\n\
                    | condition | temperature | before | after |\n|---|---|---|---|\n"
        .to_owned();
    for (condition, c) in &record.calibration {
        let (before, after) = (percent(c.ece_before), percent(c.ece_after));
        let _ = writeln!(page, "| {} | {:.2} | {before} | {after} |", words(condition), c.temperature);
    }
    page
}

fn classes(names: &[String]) -> String {
    let some: Vec<String> = names.iter().take(CLASSES).map(|name| format!("`{}`", name.replace('`', "'"))).collect();
    let more = names.len().saturating_sub(CLASSES);
    let more = if more > 0 { format!(" and {more} more, which `model.json` lists") } else { String::new() };
    format!("In the order of the probabilities: {}{more}.", some.join(", "))
}

fn preprocessing(spec: &ModelSpec) -> String {
    let mut page = "\n## Preprocessing\n\n| modality | encoder | |\n|---|---|---|\n".to_owned();
    for (modality, encoder) in spec.encoders() {
        let about = registry().encoder(encoder).map_or("", |entry| entry.about);
        let _ = writeln!(page, "| {modality} | `{encoder}` | {about} |");
    }
    page + "\n`encoders/` holds what was fitted, learnt or downloaded of each: `config.json`, `preprocessor_config.json` and \
            `tokenizer.json` are in Hugging Face's forms. `model.json` says how they belong together.\n"
}

/// Groups of parameters by what they are part of.
fn weights(tensors: &[(String, usize)]) -> String {
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (name, count) in tensors {
        let depth = if name.starts_with("fused.") { 1 } else { 2 };
        let group = name.split('.').take(depth).collect::<Vec<_>>().join(".");
        let entry = groups.entry(group).or_default();
        *entry = (entry.0 + 1, entry.1 + count);
    }
    let mut page = "\n## Weights\n\n`model.safetensors` holds f32 tensors by these names:\n\n\
                    | names | what | tensors | numbers |\n|---|---|---|---|\n"
        .to_owned();
    for (group, (tensors, numbers)) in &groups {
        let what = match group.split_once('.') {
            Some((modality, "encoder")) => format!("the encoder of {modality}"),
            Some((modality, "embed")) => format!("from {modality} features to its embedding"),
            Some((modality, "own")) => format!("the own head of {modality}"),
            _ => "the fusion and its head".to_owned(),
        };
        let _ = writeln!(page, "| `{group}.*` | {what} | {tensors} | {numbers} |");
    }
    page
}

fn training(record: &RunRecord) -> String {
    let about = registry().method(&record.method).map_or("", |entry| entry.about);
    let count = |split| record.dataset.samples.get(&split).copied().unwrap_or(0);
    format!(
        "\n## Training\n\nTrained on {} ({} samples, {} for validation) by `{}` ({about}), fusion `{}`, seed {}, with balgrad {} \
         ({}). Before you publish the model, add the `license:` that the data allows to the block at the top.\n",
        record.dataset.name,
        count(Split::Train),
        count(Split::Val),
        record.method,
        record.fusion,
        record.seed,
        record.version,
        record.revision,
    )
}
