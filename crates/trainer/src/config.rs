//! The configuration of a run: one table of keys, read from a file, `--set` and the command line in that order.

use std::collections::BTreeMap;
use std::path::Path;

use balgrad::{Entry, Kind, Method, Setting, Settings, Value, find};

use crate::Usage;

const fn number(min: f64, max: f64) -> Kind {
    Kind::Number { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn key(name: &'static str, default: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, default, kind, about }
}

/// Every key of a config file, the method's own settings aside.
pub static KEYS: &[Setting] = &[
    key("data", "", Kind::Text, "bundled task (emoji, icons, sentiment, with :variant) or folder"),
    key("layout", "auto", Kind::Text, "how the folder is laid out; see `balgrad layouts`"),
    key("label", "", Kind::Text, "what tables call this run; empty: the method's name"),
    key("seed", "0", count(0, u64::MAX), "decides initialisation, order, dropout and impairments"),
    key("split_seed", "0", count(0, u64::MAX), "decides splits that the data set does not bring"),
    key("plot", "longest", Kind::Choice(&["longest", "first"]), "which of a film's plots is read (mm-imdb)"),
    key("device", "auto", Kind::Choice(&["auto", "cpu", "cuda", "metal"]), "where to train"),
    key("on_bad_sample", "skip", Kind::Choice(&["skip", "fail"]), "what to do with a file that cannot be read"),
    key("on_nan", "stop", Kind::Choice(&["stop", "skip"]), "what to do with a step whose loss is not finite"),
    key("encoders.image", "descriptor", Kind::Text, "how images are seen; see `balgrad encoders`"),
    key("encoders.text", "ngrams", Kind::Text, "how text is seen; see `balgrad encoders`"),
    key(
        "weights.image",
        "",
        Kind::Text,
        "weights of a pretrained image encoder: a folder, or owner/name[@revision] of the hub; empty: its usual model",
    ),
    key("weights.text", "", Kind::Text, "the same for a pretrained text encoder"),
    key(
        "freeze",
        "all",
        Kind::Text,
        "of pretrained encoders: all (their features are computed once), none, or how many of the first blocks",
    ),
    key("lr_decay", "1", number(0.0, 1.0), "factor on the learning rate of a trained encoder per block from its end"),
    key("fusion", "concat", Kind::Text, "how embeddings are fused; see `balgrad fusions`"),
    key("width", "256", count(1, 65536), "width of each embedding"),
    key("projector", "mlp", Kind::Choice(&["mlp", "linear"]), "the embedding layers h_m: two layers with GELU, or one"),
    key(
        "image_size",
        "0",
        count(0, 4096),
        "pixels per side that image encoders see; 0: their own size (small ones: 64)",
    ),
    key("max_tokens", "0", count(0, 4096), "tokens that pretrained text encoders see; 0: as many as they can"),
    key("vocabulary", "1500", count(64, 1_000_000), "entries of a vocabulary learnt from the training texts"),
    key(
        "feature_variants",
        "0",
        count(0, 10_000),
        "cached variants of each training sample that frozen encoders see, one an epoch; 0: the sample as it is",
    ),
    key("workers", "0", count(0, 1024), "threads that decode images and split texts ahead; 0: as many as compute"),
    key(
        "augment",
        "true",
        Kind::Flag,
        "small seeded changes for trainable encoders: images shift and flip, texts lose tokens, pieces split",
    ),
    key("epochs", "15", count(1, 1_000_000), "passes over the training split"),
    key("batch_size", "64", count(1, 1_000_000), "samples a step"),
    key("optimizer", "adamw", Kind::Choice(&["adamw", "sgd"]), "AdamW, or SGD with momentum"),
    key("lr", "0.001", number(0.0, 1e3), "peak learning rate"),
    key("warmup", "0.05", number(0.0, 1.0), "part of all steps over which the rate rises; it then falls as a cosine"),
    key("weight_decay", "0.01", number(0.0, 1e3), "decoupled weight decay of matrices"),
    key("momentum", "0.9", number(0.0, 1.0), "momentum of SGD"),
    key(
        "class_weights",
        "auto",
        Kind::Choice(&["auto", "none", "balanced"]),
        "weigh classes by inverse frequency; auto: multi-label tasks alone",
    ),
    key(
        "modality_dropout",
        "0",
        number(0.0, 0.5),
        "chance in training that a sample loses its image, and again its text",
    ),
    key("time_budget", "0", number(0.0, 1e9), "seconds after which training ends early; 0: none"),
    key("noise.image", "gaussian", Kind::Text, "corruption of the condition noisy-image"),
    key("noise.text", "mask", Kind::Text, "corruption of the condition noisy-text"),
    key("noise.severity", "3", count(1, 5), "severity of both"),
    key("log_every", "5", count(1, 1_000_000), "steps between lines of metrics.jsonl"),
    key("checkpoint_seconds", "30", number(0.0, 1e9), "seconds between checkpoints"),
];

/// Names of the modalities, in the order of the towers.
pub const MODALITIES: &[&str] = &["image", "text"];

/// A resolved configuration: every key has a value that was checked.
#[derive(Debug, Clone)]
pub struct Config {
    settings: Settings,
    /// The method.
    pub method: &'static Entry,
    /// The method's settings, defaults filled in.
    pub method_settings: Settings,
}

impl Config {
    /// Resolves keys given by name; the method's settings stand under `method.`, its name under `method` or
    /// `method.name`.
    ///
    /// # Errors
    /// An unknown key or method (with the nearest known one), or a value outside its range.
    pub fn resolve(given: &BTreeMap<String, Value>) -> Result<Self, Usage> {
        let mut own = BTreeMap::new();
        let mut of_method = BTreeMap::new();
        let mut name = "balgrad".to_owned();
        for (k, value) in given {
            match k.strip_prefix("method.") {
                _ if k == "method" => name = value.to_string(),
                Some("name") => name = value.to_string(),
                Some(setting) => drop(of_method.insert(setting.to_owned(), value.clone())),
                None => drop(own.insert(k.clone(), value.clone())),
            }
        }
        let method = find(&name).map_err(Usage::from)?;
        let method_settings = Settings::resolve("method.", method.settings, &of_method).map_err(Usage::from)?;
        let settings = Settings::resolve("", KEYS, &own).map_err(Usage::from)?;
        Ok(Self { settings, method, method_settings })
    }

    /// Resolves config files and then `sets` over them, the later winning.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or whatever [`resolve`](Self::resolve) finds.
    pub fn load(files: &[impl AsRef<Path>], sets: &[(String, Value)]) -> Result<Self, Usage> {
        let mut given = BTreeMap::new();
        for path in files {
            let path = path.as_ref();
            let text = std::fs::read_to_string(path)
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
        given.extend(sets.iter().cloned());
        Self::resolve(&given)
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
        for (name, value) in self.settings.iter() {
            put(name, value);
        }
        put("method.name", &Value::Word(self.method.name.to_owned()));
        for (name, value) in self.method_settings.iter() {
            put(&format!("method.{name}"), value);
        }
        root.to_string()
    }

    /// A fresh instance of the method.
    pub fn build_method(&self) -> Box<dyn Method> {
        (self.method.build)(&self.method_settings)
    }

    /// What tables call this run.
    pub fn label(&self) -> &str {
        match self.word("label") {
            "" => self.method.name,
            label => label,
        }
    }

    /// A word.
    pub fn word(&self, key: &str) -> &str {
        self.settings.word(key)
    }

    /// A number.
    pub fn number(&self, key: &str) -> f64 {
        self.settings.number(key)
    }

    /// A whole number.
    pub fn count(&self, key: &str) -> usize {
        self.settings.count(key)
    }

    /// A flag.
    pub fn flag(&self, key: &str) -> bool {
        self.settings.flag(key)
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        self.settings.count("seed") as u64
    }

    /// What differs from the defaults, and the method's settings: what a results file names.
    pub fn differing(&self) -> serde_json::Map<String, serde_json::Value> {
        let json = |v: &Value| serde_json::to_value(v).unwrap_or_default();
        let defaults = |name: &str| KEYS.iter().find(|k| k.name == name).map(|k| Value::parse(k.default).to_string());
        let own = self.settings.iter().filter(|(k, v)| {
            !matches!(*k, "data" | "seed" | "label") && defaults(k).is_none_or(|d| d != v.to_string())
        });
        let own = own.map(|(k, v)| (k.to_owned(), json(v)));
        own.chain(self.method_settings.iter().map(|(k, v)| (format!("method.{k}"), json(v)))).collect()
    }
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
