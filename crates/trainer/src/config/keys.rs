//! The table of keys: name, meaning, range and typed field of each setting, in one row. Help, docs, checks and files are read off it.

use std::collections::BTreeMap;

use balgrad::{Kind, Value};

use super::field::Field;
use super::sections::Sections;
use super::words::{ClassWeights, Device, OnNan, Plot, Projector, Words};
use balgrad_data::{OnBadSample, OnMissingFile};

/// One row of the table.
pub struct Key {
    /// Its name in files and on the command line.
    pub name: &'static str,
    /// Names that stand for it too: those of earlier versions, and of other programs.
    pub aliases: &'static [&'static str],
    /// Its default, as one would write it.
    pub default: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// One line of help.
    pub about: &'static str,
    access: Access,
}

/// Where the value of a key is kept.
#[derive(Clone, Copy)]
enum Access {
    Field {
        get: fn(&Sections) -> &dyn Field,
        set: fn(&mut Sections) -> &mut dyn Field,
    },
    /// An entry of a map by modality.
    Entry {
        of: PerModality,
        modality: &'static str,
    },
}

/// Settings that each modality has: a prefix of keys, and its map.
#[derive(Clone, Copy)]
pub(super) struct PerModality {
    pub(super) prefix: &'static str,
    get: fn(&Sections) -> &BTreeMap<String, String>,
    set: fn(&mut Sections) -> &mut BTreeMap<String, String>,
}

/// `encoders.M`, `weights.M` and `noise.M`, for any modality `M`.
pub(super) const PER_MODALITY: [PerModality; 3] = [ENCODERS, WEIGHTS, NOISE];
const ENCODERS: PerModality =
    PerModality { prefix: "encoders.", get: |s| &s.encoders.names, set: |s| &mut s.encoders.names };
const WEIGHTS: PerModality =
    PerModality { prefix: "weights.", get: |s| &s.encoders.weights, set: |s| &mut s.encoders.weights };
const NOISE: PerModality =
    PerModality { prefix: "noise.", get: |s| &s.evaluation.noise, set: |s| &mut s.evaluation.noise };

impl PerModality {
    pub(super) fn entries<'a>(&self, sections: &'a Sections) -> &'a BTreeMap<String, String> {
        (self.get)(sections)
    }

    pub(super) fn entries_mut<'a>(&self, sections: &'a mut Sections) -> &'a mut BTreeMap<String, String> {
        (self.set)(sections)
    }
}

impl Key {
    /// The value that sections have for it.
    pub(super) fn get(&self, sections: &Sections) -> Value {
        match self.access {
            Access::Field { get, .. } => get(sections).get(),
            Access::Entry { of, modality } => {
                Value::Word(of.entries(sections).get(modality).cloned().unwrap_or_default())
            }
        }
    }

    /// Checks a value, and puts it into its field.
    pub(super) fn set(&self, sections: &mut Sections, value: &Value) -> Result<(), String> {
        let wrong = |expected: String| format!("`{} = {value}`: expected {expected}", self.name);
        let within = match (self.kind, value) {
            (Kind::Number { min, max }, Value::Number(v)) => (min..=max).contains(v),
            (Kind::Number { min, max }, Value::Count(v)) => (min..=max).contains(&(*v as f64)),
            (Kind::Count { min, max }, Value::Count(v)) => (min..=max).contains(v),
            // A file cannot hold a whole number beyond 63 bits but as text.
            (Kind::Count { min, max }, Value::Word(v)) => v.parse().is_ok_and(|v: u64| (min..=max).contains(&v)),
            (Kind::Number { .. } | Kind::Count { .. }, _) => false,
            _ => true,
        };
        if !within {
            return Err(wrong(range(self.kind)));
        }
        match self.access {
            Access::Field { set, .. } => {
                let whole = match (self.kind, value) {
                    (Kind::Count { .. }, Value::Word(text)) => Value::parse(text),
                    _ => value.clone(),
                };
                set(sections).set(&whole).map_err(wrong)
            }
            Access::Entry { of, modality } => {
                of.entries_mut(sections).insert(modality.to_owned(), value.to_string());
                Ok(())
            }
        }
    }
}

/// What may be written, for an error or help.
pub fn range(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Number { min, max } => format!("a number from {min} to {max}"),
        Kind::Count { min, max: u64::MAX } => format!("a whole number from {min}"),
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        _ => "another value".to_owned(),
    }
}

const fn number(min: f64, max: f64) -> Kind {
    Kind::Number { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

/// A row whose value is a field.
macro_rules! key {
    ($name:literal $([$($alias:literal),+])?, $default:literal, $kind:expr, $($field:ident).+, $about:literal) => {
        Key {
            name: $name,
            aliases: &[$($($alias),+)?],
            default: $default,
            kind: $kind,
            about: $about,
            access: Access::Field { get: |s| &s.$($field).+, set: |s| &mut s.$($field).+ },
        }
    };
}

/// A row whose value is a modality's.
const fn of(
    name: &'static str,
    default: &'static str,
    of: PerModality,
    modality: &'static str,
    about: &'static str,
) -> Key {
    Key { name, aliases: &[], default, kind: Kind::Text, about, access: Access::Entry { of, modality } }
}

/// Every key of a config file, the method's own settings aside. `encoders.M`, `weights.M` and `noise.M` are there for every
/// modality `M`.
pub static KEYS: &[Key] = &[
    key!(
        "data",
        "",
        Kind::Text,
        data.source,
        "bundled task (emoji, icons, clipart, with :variant), folder, file (CSV, JSON lines), or hf:owner/name"
    ),
    key!("layout", "auto", Kind::Text, data.layout, "how the folder is laid out; see `balgrad layouts`"),
    key!("label", "", Kind::Text, output.label, "what tables call this run; empty: the method's name"),
    key!("seed", "0", count(0, u64::MAX), seed, "seed of initialisation, order, dropout and impairments"),
    key!("split_seed", "0", count(0, u64::MAX), data.split_seed, "seed of splits that the data set does not bring"),
    key!("plot", "longest", Kind::Choice(Plot::WORDS), data.plot, "which of a film's plots is read (layout mm-imdb)"),
    key!("device", "auto", Kind::Choice(Device::WORDS), device, "where to train"),
    key!(
        "on_bad_sample",
        "skip",
        Kind::Choice(OnBadSample::WORDS),
        data.on_bad_sample,
        "what to do with a sample that cannot be read"
    ),
    key!(
        "on_missing_file",
        "skip",
        Kind::Choice(OnMissingFile::WORDS),
        data.on_missing_file,
        "what to do with a sample that names a file which does not exist; missing: its modality is missing"
    ),
    key!(
        "columns.image",
        "",
        Kind::Text,
        data.column_image,
        "column of a table with paths of images; empty: found by names and content, as are the others"
    ),
    key!("columns.text", "", Kind::Text, data.column_text, "columns with texts, separated by commas, which are joined"),
    key!("columns.label", "", Kind::Text, data.column_label, "column with classes, or with several (a|b)"),
    key!("columns.split", "", Kind::Text, data.column_split, "column with splits"),
    key!("columns.group", "", Kind::Text, data.column_group, "column with what is not to be parted by splits"),
    key!("columns.target", "", Kind::Text, data.column_target, "column with a number to predict, in place of classes"),
    key!(
        "on_nan",
        "stop",
        Kind::Choice(OnNan::WORDS),
        training.on_nan,
        "what to do with a step whose loss is not finite"
    ),
    of("encoders.image", "descriptor", ENCODERS, "image", "encoder of images; see `balgrad encoders`"),
    of("encoders.text", "ngrams", ENCODERS, "text", "encoder of texts; see `balgrad encoders`"),
    of(
        "weights.image",
        "",
        WEIGHTS,
        "image",
        "weights of a pretrained image encoder: a folder, or owner/name[@revision] of the hub; empty: its usual model",
    ),
    of("weights.text", "", WEIGHTS, "text", "the same for a pretrained text encoder"),
    key!(
        "freeze",
        "all",
        Kind::Text,
        encoders.freeze,
        "which blocks of pretrained encoders stay: all (their features are computed once), none, or a number of first blocks"
    ),
    key!(
        "layer_decay"["lr_decay"],
        "1",
        number(0.0, 1.0),
        optimization.layer_decay,
        "factor on the learning rate of a trained encoder per block from its end"
    ),
    key!("fusion", "concat", Kind::Text, model.fusion, "how embeddings are fused; see `balgrad fusions`"),
    key!("width", "256", count(1, 65536), model.width, "width of each embedding"),
    key!(
        "projector",
        "mlp",
        Kind::Choice(Projector::WORDS),
        model.projector,
        "the embedding layers h_m: two layers with GELU, or one"
    ),
    key!(
        "target",
        "auto",
        Kind::Text,
        model.target,
        "how answers are learnt from: class, labels or value; auto: by the data"
    ),
    key!(
        "image_size",
        "0",
        count(0, 4096),
        encoders.image_size,
        "pixels per side that image encoders see; 0: their own size (small ones: 64)"
    ),
    key!(
        "max_tokens",
        "0",
        count(0, 4096),
        encoders.max_tokens,
        "tokens that pretrained text encoders see; 0: as many as they can"
    ),
    key!(
        "vocab_size"["vocabulary"],
        "1500",
        count(64, 1_000_000),
        encoders.vocab_size,
        "entries of a vocabulary learnt from the training texts"
    ),
    key!(
        "feature_variants",
        "0",
        count(0, 10_000),
        encoders.feature_variants,
        "cached variants of each training sample that frozen encoders see, one an epoch; 0: the sample as it is"
    ),
    key!(
        "workers"["num_workers"],
        "0",
        count(0, 1024),
        data.workers,
        "threads that read samples ahead; 0: as many as compute"
    ),
    key!(
        "shards",
        "0",
        count(0, 1024),
        training.shards,
        "shards of a batch, a power of two, for the same bits from 1, 2, 4 … ranks up to it; 0: as many as there are ranks"
    ),
    key!(
        "augment",
        "true",
        Kind::Flag,
        training.augment,
        "small seeded changes for trained encoders: images shift and flip, texts lose tokens, pieces split"
    ),
    key!("epochs" ["num_epochs", "max_epochs"], "15", count(1, 1_000_000), training.epochs, "passes over the training split"),
    key!("batch_size"["batch"], "64", count(1, 1_000_000), training.batch_size, "samples a step"),
    key!(
        "optimizer"["optim"],
        "adamw",
        Kind::Text,
        optimization.optimizer,
        "the optimiser: adamw, or sgd with momentum"
    ),
    key!("lr"["learning_rate"], "0.001", number(0.0, 1e3), optimization.lr, "peak learning rate"),
    key!(
        "schedule" ["lr_scheduler", "scheduler"],
        "cosine",
        Kind::Text,
        optimization.schedule,
        "how the learning rate falls after the warm-up: cosine, linear or constant"
    ),
    key!(
        "warmup_ratio"["warmup"],
        "0.05",
        number(0.0, 1.0),
        optimization.warmup_ratio,
        "fraction of all steps over which the learning rate rises"
    ),
    key!("weight_decay", "0.01", number(0.0, 1e3), optimization.weight_decay, "decoupled weight decay of matrices"),
    key!("momentum", "0.9", number(0.0, 1.0), optimization.momentum, "momentum of SGD"),
    key!(
        "clip_grad_norm" ["max_grad_norm", "grad_clip"],
        "0",
        number(0.0, 1e9),
        optimization.clip_grad_norm,
        "largest norm of the whole gradient; 0: no limit"
    ),
    key!(
        "class_weights",
        "auto",
        Kind::Choice(ClassWeights::WORDS),
        training.class_weights,
        "weigh classes by inverse frequency; auto: multi-label tasks alone"
    ),
    key!(
        "modality_dropout",
        "0",
        number(0.0, 0.5),
        training.modality_dropout,
        "probability in training that a sample loses a given modality; it never loses two"
    ),
    key!(
        "patience"["early_stopping_patience"],
        "0",
        count(0, 1_000_000),
        training.patience,
        "epochs without a better validation score after which training stops; 0: never"
    ),
    key!(
        "time_budget",
        "0",
        number(0.0, 1e9),
        training.time_budget,
        "seconds after which training ends early; 0: none"
    ),
    of("noise.image", "gaussian", NOISE, "image", "corruption of the condition noisy-image"),
    of("noise.text", "mask", NOISE, "text", "corruption of the condition noisy-text"),
    key!("noise.severity", "3", count(1, 5), evaluation.severity, "severity of all corruptions"),
    key!("log_every", "5", count(1, 1_000_000), output.log_every, "steps between lines of metrics.jsonl"),
    key!("checkpoint_seconds", "30", number(0.0, 1e9), output.checkpoint_seconds, "seconds between checkpoints"),
];

/// The row of a name or an alias.
pub(crate) fn find_key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}
