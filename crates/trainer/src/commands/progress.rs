//! How far training is: a bar on a terminal, plain lines elsewhere; neither is wider than 80 columns on a terminal of 80.

use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use balgrad_data::{Dataset, Split};
use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::Score;
use crate::record::{Condition, RunRecord};
use crate::run::headline;
use crate::training::Watcher;

/// The columns that a line takes at most.
const COLUMNS: usize = 80;

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// A time for people: `45 s`, `3 min 10 s`, `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// One training run.
pub(super) struct Show {
    bar: Option<ProgressBar>,
    quiet: bool,
    lines: bool,
    started: Instant,
    metric: Option<Score>,
    skipped: usize,
    /// What the last epoch scored on validation.
    score: String,
}

impl Show {
    pub(super) fn new(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| bar("{prefix} [{bar:16}] {percent:>3} %  eta {eta:<4} {wide_msg}"));
        let lines = !quiet && (!terminal || verbose);
        Self { bar, quiet, lines, started: Instant::now(), metric: None, skipped: 0, score: String::new() }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn skipped(&self) -> String {
        if self.skipped == 0 { String::new() } else { format!("  {} skipped", self.skipped) }
    }
}

impl Watcher for Show {
    fn data(&mut self, dataset: &Dataset) {
        self.metric = headline(dataset).ok();
        self.skipped = dataset.problems.len();
        if self.quiet {
            return;
        }
        let counts = Split::ALL.map(|split| format!("{} {}", dataset.indices(split).len(), split.name()));
        say!("{}: {}, {} samples ({})", dataset.name, dataset.task, dataset.samples.len(), counts.join(", "));
        dataset.notes.iter().for_each(|note| say!("  note: {note}"));
        super::problems(&dataset.problems).iter().for_each(|line| say!("  {line}"));
        if dataset.indices(Split::Test).is_empty() {
            say!("  note: no labelled test sample: the model is trained, and nothing is scored");
        }
    }

    fn step(&mut self, done: usize, total: usize, loss: f64) {
        if let Some(bar) = &self.bar {
            if bar.prefix().is_empty() {
                bar.set_prefix("epoch 1");
            }
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(format!("loss {loss:.3}{}{}", self.score, self.skipped()));
        }
    }

    fn epoch(&mut self, epoch: usize, epochs: usize, loss: f64, score: Option<f64>) {
        let text = |s: f64| self.metric.map_or_else(|| format!("{s:.4}"), |metric| metric.text(s, 1));
        let score = score.map_or_else(|| "undefined".to_owned(), text);
        if self.lines {
            let seconds = self.started.elapsed().as_secs_f64();
            let left = duration(seconds / epoch as f64 * (epochs - epoch.min(epochs)) as f64);
            let (seconds, skipped) = (duration(seconds), self.skipped());
            say!("epoch {epoch}/{epochs}  loss {loss:.4}  validation {score}  {seconds}  eta {left}{skipped}");
        }
        self.score = format!("  validation {score}");
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("epoch {}/{epochs}", (epoch + 1).min(epochs)));
            if epoch == epochs {
                bar.set_message("testing");
            }
        }
    }
}

/// The runs of a grid.
pub(super) struct Grid {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// What the scores of the runs are called.
    scored: &'static str,
    total: usize,
    started: Instant,
    looked: Option<Instant>,
}

impl Grid {
    pub(super) fn new(total: usize, scored: &'static str, quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet && total > 0)
            .then(|| bar("{pos}/{len} runs [{bar:16}]  eta {prefix}  {wide_msg}"));
        if let Some(bar) = &bar {
            bar.set_length(total as u64);
            bar.set_prefix("?");
        }
        Self { bar, quiet, scored, total, started: Instant::now(), looked: None }
    }

    /// Says that `finished` runs are done, the last of them that of `name` in `folder`.
    pub(super) fn finished(&self, finished: usize, name: &str, folder: &Path) {
        let left = self.started.elapsed().as_secs_f64() / finished as f64 * (self.total - finished) as f64;
        let line = summary(&format!("[{finished}/{}]", self.total), name, folder, self.scored, &duration(left));
        match &self.bar {
            Some(bar) => {
                bar.set_position(finished as u64);
                bar.set_prefix(duration(left));
                bar.println(line);
            }
            None if !self.quiet => say!("{line}"),
            None => {}
        }
    }

    /// Shows where the runs are that go on now, once a second.
    pub(super) fn running<'r>(&mut self, runs: impl Iterator<Item = (String, &'r Path)>) {
        let Some(bar) = &self.bar else { return };
        if self.looked.is_some_and(|looked| looked.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.looked = Some(Instant::now());
        let one = |(name, folder): (String, &Path)| match last_epoch(folder) {
            Some(epoch) => format!("{name} epoch {epoch}"),
            None => name,
        };
        bar.set_message(runs.map(one).collect::<Vec<_>>().join(", "));
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line about a run that ended: it fits [`COLUMNS`], where `name` gives way.
fn summary(count: &str, name: &str, folder: &Path, scored: &str, left: &str) -> String {
    let told = RunRecord::read(folder).map_or_else(
        |_| "failed".to_owned(),
        |record| {
            let text = |score: Option<f64>| score.map_or_else(|| "–".to_owned(), |v| record.metric.text(v, 1));
            let val = text(record.val.scores.get(record.metric));
            let test = text(record.score(&Condition::Full, record.metric));
            let skipped = match record.dataset.skipped {
                0 => String::new(),
                n => format!("  {n} skipped"),
            };
            format!("epoch {}  validation {val}  {scored} {test}{skipped}", record.best_epoch)
        },
    );
    let rest = format!("  {told}  eta {left}");
    let room = COLUMNS.saturating_sub(count.chars().count() + 1 + rest.chars().count()).max(8);
    let name = match name.char_indices().nth(room) {
        Some(_) => name.chars().take(room - 1).chain(['…']).collect(),
        None => name.to_owned(),
    };
    format!("{count} {name}{rest}")
}

/// The epoch that a run is in, from the end of its log.
fn last_epoch(folder: &Path) -> Option<u64> {
    let mut log = std::fs::File::open(folder.join("metrics.jsonl")).ok()?;
    let end = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(end.saturating_sub(16 << 10))).ok()?;
    let mut tail = Vec::new();
    log.read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let (_, after) = text.rsplit_once("\"epoch\":")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_said_in_the_unit_that_suits_them() {
        let said = [0.04, 9.94, 9.96, 59.4, 190.0, 7500.0].map(duration);
        assert_eq!(said, ["0.0 s", "9.9 s", "10 s", "59 s", "3 min 10 s", "2 h 5 min"]);
    }

    #[test]
    fn a_long_name_gives_way_to_the_width() {
        let line = summary("[999/999]", &"balgrad:share=loss".repeat(9), Path::new("nowhere"), "test", "2 h 5 min");
        assert_eq!(line.chars().count(), COLUMNS, "{line}");
        assert!(line.ends_with("…  failed  eta 2 h 5 min"), "{line}");
    }

    #[test]
    fn the_epoch_is_read_off_the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_epoch(folder.path()), None);
        let long = "{\"kind\":\"step\",\"epoch\":11,\"losses\":{}}\n".repeat(1000);
        std::fs::write(folder.path().join("metrics.jsonl"), long + "{\"kind\":\"epoch\",\"epoch\":12,\"st").unwrap();
        assert_eq!(last_epoch(folder.path()), Some(12));
    }
}
