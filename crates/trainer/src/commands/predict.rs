//! `balgrad predict`

mod lines;
mod printer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use balgrad_data::{ReadOptions, Source, unlabelled};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::registry::registry;
use crate::{Model, Parts, Usage, interrupt};
use lines::Lines;
use printer::Printer;

/// Samples that are answered together.
const BATCH: usize = 64;

#[derive(Args)]
pub(super) struct Predict {
    /// The run folder of a trained model, or the folder of an exported one.
    run: PathBuf,
    /// An image file; leave it out where the image is missing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jsonl", "from"])]
    image: Option<PathBuf>,
    /// A text; leave it out where the text is missing.
    #[arg(long, conflicts_with_all = ["jsonl", "from"])]
    text: Option<String>,
    /// Many samples: a folder of images, a CSV or TSV file, or JSON lines. Columns are found as those of training data are.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "jsonl")]
    from: Option<PathBuf>,
    /// Many samples: a file (or `-`) of lines {"id", "image": path, "text"}, each field optional; image paths are
    /// relative to the file.
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Say "don't know" (no label, `abstained: true`) below this confidence, which is calibrated.
    #[arg(long, value_name = "T")]
    abstain: Option<f32>,
    /// How answers are written, a line each.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    device: String,
}

/// How answers are written.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Jsonl,
    Csv,
}

/// A sample that an answer is wanted for.
struct Asked {
    /// What the answer is called.
    id: Option<Value>,
    /// Where it stands; empty of one on the command line.
    place: String,
    /// What there is of it, or why it cannot be read.
    parts: Result<Parts, String>,
}

impl Predict {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        let many = self.jsonl.as_ref().or(self.from.as_ref());
        if many.is_none() && self.image.is_none() && self.text.is_none() {
            return Err(Usage("nothing to predict: give --image, --text or both, or --from".into()).into());
        }
        for path in self.image.iter().chain(many).filter(|path| path.as_os_str() != "-") {
            if !path.exists() {
                return Err(Usage(format!("{} does not exist", path.display())).into());
            }
        }
        let lines = match many {
            Some(path) if self.jsonl.is_some() || lines::are_json(path) => Some(Lines::open(path)?),
            _ => None,
        };
        let model = Model::load_on(&self.run, &self.device)?;
        let mut printer = Printer::new(&model, self.format, self.abstain);
        match (lines, many) {
            (Some(mut lines), _) => {
                let mut told = BTreeSet::new();
                loop {
                    interrupt::check()?;
                    let (batch, unused) = lines.batch(BATCH)?;
                    if batch.is_empty() {
                        break;
                    }
                    for field in unused {
                        if !told.contains(&field) {
                            say!("balgrad: fields that are not read: {field}");
                            told.insert(field);
                        }
                    }
                    printer.add(&batch)?;
                }
            }
            (None, Some(path)) => {
                let options = ReadOptions { modalities: registry().modalities.clone(), ..ReadOptions::default() };
                let found = unlabelled(path, &options)?;
                found.notes.iter().for_each(|note| say!("balgrad: {note}"));
                for some in found.samples.chunks(BATCH) {
                    interrupt::check()?;
                    let asked = |sample: &balgrad_data::Unlabelled| Asked {
                        id: Some(sample.id.as_str()).filter(|id| !id.is_empty()).map(Value::from),
                        place: sample.place.clone(),
                        parts: sample.parts.clone(),
                    };
                    printer.add(&some.iter().map(asked).collect::<Vec<_>>())?;
                }
            }
            (None, None) => {
                let image = self.image.clone().map(|path| ("image".to_owned(), Source::File(path)));
                let text = self.text.clone().map(|text| ("text".to_owned(), Source::Text(text)));
                let parts = image.into_iter().chain(text).collect();
                return printer.one(parts);
            }
        }
        printer.finish()
    }
}
