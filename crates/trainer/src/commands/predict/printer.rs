//! Answers as lines, in the order of the samples.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::{Asked, Format};
use crate::metrics::Task;
use crate::output::told;
use crate::{Answer, Model, Parts};

/// The line of a sample without an answer.
#[derive(Serialize)]
struct Failed<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
}

/// Writes the answers of a model to standard output.
pub(super) struct Printer<'a> {
    model: &'a Model,
    format: Format,
    abstain: Option<f32>,
    /// Whether the header of a table was written.
    headed: bool,
    samples: usize,
    failed: usize,
}

impl<'a> Printer<'a> {
    pub(super) fn new(model: &'a Model, format: Format, abstain: Option<f32>) -> Self {
        Self { model, format, abstain, headed: false, samples: 0, failed: 0 }
    }

    /// The only answer; an error of it is an error of the program.
    pub(super) fn one(mut self, parts: Parts) -> Result<ExitCode> {
        let answer = self.model.predict_parts(parts)?;
        self.write(&[(None, Ok(answer))])?;
        Ok(ExitCode::SUCCESS)
    }

    /// Answers some samples. One that cannot be read has a line with its error.
    pub(super) fn add(&mut self, batch: &[Asked]) -> Result<()> {
        let parts: Vec<Parts> = batch.iter().filter_map(|asked| asked.parts.as_ref().ok()).cloned().collect();
        let mut predicted = self.model.predict_all(&parts)?.into_iter();
        let mut lines = Vec::with_capacity(batch.len());
        for asked in batch {
            let answer = match &asked.parts {
                Ok(_) => predicted.next().unwrap_or_else(|| Err(anyhow::anyhow!("it has no answer"))),
                Err(what) => Err(anyhow::anyhow!(what.clone())),
            };
            let answer =
                answer.map_err(|error| format!("{}: {}", asked.place, told(&error)).replace(['\n', '\r'], " "));
            self.failed += usize::from(answer.is_err());
            lines.push((asked.id.as_ref(), answer));
        }
        self.samples += batch.len();
        self.write(&lines)
    }

    /// The exit code, and a word on what has no answer.
    pub(super) fn finish(mut self) -> Result<ExitCode> {
        self.write(&[])?;
        if self.failed == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        say!("balgrad: {} of {} samples have no answer; their lines say why", self.failed, self.samples);
        Ok(ExitCode::FAILURE)
    }

    fn write(&mut self, lines: &[(Option<&Value>, Result<Answer, String>)]) -> Result<()> {
        let mut text = Vec::new();
        match self.format {
            Format::Jsonl => {
                for (id, answer) in lines {
                    let id = id.cloned();
                    let line = match answer {
                        Ok(answer) => serde_json::to_string(&self.model.reply(&self.settled(answer), id)),
                        Err(error) => serde_json::to_string(&Failed { error, id }),
                    };
                    writeln!(text, "{}", line?)?;
                }
            }
            Format::Csv => {
                let mut table = csv::Writer::from_writer(&mut text);
                if !self.headed {
                    let fixed = ["id", "labels", "confidence", "abstained", "got", "error"].map(str::to_owned);
                    table.write_record(fixed.iter().chain(self.model.classes()))?;
                    self.headed = true;
                }
                for (id, answer) in lines {
                    table.write_record(self.row(*id, answer))?;
                }
                table.flush()?;
            }
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&text)?;
        Ok(out.flush()?)
    }

    fn settled(&self, answer: &Answer) -> Answer {
        let mut answer = answer.clone();
        if let Some(threshold) = self.abstain {
            answer.abstain_below(threshold);
        }
        answer
    }

    /// A row: calibrated probabilities, or the numbers of a regression.
    fn row(&self, id: Option<&Value>, answer: &Result<Answer, String>) -> Vec<String> {
        let id = id.map_or_else(String::new, |id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        match answer {
            Ok(answer) => {
                let answer = self.settled(answer);
                let (confidence, abstained) = match self.model.task() {
                    Task::Regression => (String::new(), String::new()),
                    _ => (answer.confidence.to_string(), answer.abstained.to_string()),
                };
                let fixed = [id, answer.labels.join("|"), confidence, abstained, answer.got.join("+"), String::new()];
                fixed.into_iter().chain(answer.calibrated.iter().map(ToString::to_string)).collect()
            }
            Err(error) => {
                let blank = std::iter::repeat_n(String::new(), self.model.classes().len());
                let none = String::new;
                [id, none(), none(), none(), none(), error.clone()].into_iter().chain(blank).collect()
            }
        }
    }
}
