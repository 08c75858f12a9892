//! `balgrad predict`

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::{Model, Usage, interrupt};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(super) struct Predict {
    /// The run folder of a trained model.
    run: PathBuf,
    /// An image file; leave it out where the image is missing.
    #[arg(long, value_name = "FILE", conflicts_with = "jsonl")]
    image: Option<PathBuf>,
    /// A text; leave it out where the text is missing.
    #[arg(long, conflicts_with = "jsonl")]
    text: Option<String>,
    /// Many samples: a file (or `-`) of lines {"id", "image": path, "text"}, each field optional; image paths are
    /// relative to the file.
    #[arg(long, value_name = "FILE")]
    jsonl: Option<PathBuf>,
    /// Say "don't know" (no label, `abstained: true`) below this confidence.
    #[arg(long, value_name = "T")]
    abstain: Option<f32>,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Predict {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        if self.jsonl.is_none() && self.image.is_none() && self.text.is_none() {
            return Err(Usage("nothing to predict: give --image, --text or both, or --jsonl".into()).into());
        }
        let model = Model::load_on(&self.run, &self.device)?;
        let mut out = std::io::stdout().lock();
        let Some(jsonl) = &self.jsonl else {
            let answer = self.one(&model, self.image.as_deref(), self.text.as_deref())?;
            writeln!(out, "{answer}")?;
            return Ok(ExitCode::SUCCESS);
        };
        let (reader, base): (Box<dyn BufRead>, PathBuf) = if jsonl.as_os_str() == "-" {
            (Box::new(std::io::stdin().lock()), PathBuf::new())
        } else {
            let file =
                std::fs::File::open(jsonl).map_err(|e| Usage(format!("cannot read {}: {e}", jsonl.display())))?;
            (Box::new(BufReader::new(file)), jsonl.parent().map(Path::to_owned).unwrap_or_default())
        };
        let mut failed = false;
        for (number, line) in reader.lines().enumerate() {
            interrupt::check()?;
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let place = || format!("{}:{}", jsonl.display(), number + 1);
            let answer = serde_json::from_str::<Value>(&line).with_context(place).and_then(|sample| {
                let image = sample["image"].as_str().map(|p| base.join(p));
                let mut answer = self.one(&model, image.as_deref(), sample["text"].as_str()).with_context(place)?;
                if !sample["id"].is_null() {
                    answer["id"] = sample["id"].clone();
                }
                Ok(answer)
            });
            match answer {
                Ok(answer) => writeln!(out, "{answer}")?,
                Err(error) => {
                    failed = true;
                    say!("balgrad: {error:#}");
                }
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn one(&self, model: &Model, image: Option<&Path>, text: Option<&str>) -> Result<Value> {
        let read = |path: &Path| {
            balgrad_data::read_regular(path).with_context(|| format!("cannot read the image {}", path.display()))
        };
        let bytes = image.map(read).transpose()?;
        let place = || image.map_or_else(String::new, |p| p.display().to_string());
        let mut answer = model.predict(bytes.as_deref(), text).with_context(place)?;
        if self.abstain.is_some_and(|t| answer.confidence < t) {
            answer.abstained = true;
            answer.labels.clear();
        }
        let classes: serde_json::Map<_, _> =
            model.classes().iter().zip(&answer.probs).map(|(c, p)| (c.clone(), (*p).into())).collect();
        let mut json = serde_json::to_value(&answer)?;
        json["probs"] = classes.into();
        Ok(json)
    }
}
