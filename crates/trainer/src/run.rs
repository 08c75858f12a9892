//! One run from data to results: the run folder and what stands in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use balgrad::{Alone, Communicator};
use balgrad_data::Split;
use balgrad_data::atomic::remove_leftovers;

mod lock;
mod results;

use lock::RunLock;
pub(crate) use lock::{Busy, writer};

pub(crate) use results::{Tested, headline, missing_ratios};

use crate::Usage;
use crate::calibration::Calibration;
use crate::config::Config;
use crate::environment::cache_folder;
use crate::evaluator::Evaluator;
use crate::ranks::any;
use crate::record::{RecordError, RunRecord, sums};
use crate::session::Session;
use crate::storage::{create_folder, write_atomic};
use crate::training::{Training, Watcher};

/// Where a run goes.
#[derive(Clone)]
pub struct Options {
    /// The run folder.
    pub folder: PathBuf,
    /// Whether to continue what stands there.
    pub resume: bool,
    /// The ranks that train together; the first writes the folder.
    pub communicator: Arc<dyn Communicator>,
}

impl Options {
    /// A new run of one process.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), resume: false, communicator: Arc::new(Alone) }
    }
}

/// Trains and tests one run, and returns its record. With `resume`, a finished run is left as it is. Of several ranks the first
/// writes the folder, and all read it.
///
/// # Errors
/// A folder that exists (without `resume`), unusable data, a signal, a full disk: what was written is kept.
pub fn train(config: &Config, options: &Options, watcher: &mut dyn Watcher) -> Result<RunRecord> {
    let started = Instant::now();
    let (folder, ranks) = (options.folder.as_path(), options.communicator.as_ref());
    let first = ranks.rank() == 0;
    if first {
        remove_leftovers(&cache_folder());
    }
    if let Some(record) = done(config, options)? {
        if first {
            clear(folder);
        }
        return Ok(record);
    }
    // A folder that does not stand yet is made when the data has turned out to be usable.
    let mut lock = if first && folder.exists() { Some(RunLock::take(folder)?) } else { None };
    let mut session = Session::new(config)?;
    watcher.data(session.dataset());
    let (train, val) = (session.training_split()?, session.split(Split::Val, None)?);
    for (split, data) in [(Split::Train, &train), (Split::Val, &val)] {
        session.need(split, data)?;
    }
    session.release_encoders();
    if first && lock.is_none() {
        create_folder(folder)?;
        lock = Some(RunLock::take(folder)?);
    }
    // Another process may have written the folder meanwhile.
    if let Some(record) = done(config, options)? {
        return Ok(record);
    }
    if first {
        prepare(folder, config)?;
    }
    let evaluator = Evaluator {
        class_weights: session.class_weights(config, &train)?,
        ranks: Arc::clone(&options.communicator),
        ..session.evaluator(config)?
    };
    let training = Training {
        config,
        session: &session,
        train: &train,
        val: &val,
        evaluator,
        metric: headline(session.dataset())?,
        folder,
        resume: options.resume,
        communicator: Arc::clone(&options.communicator),
    };
    let progress = crate::training::train(&training, watcher)?;
    let evaluator = Evaluator { ranks: Arc::clone(&options.communicator), ..session.evaluator(config)? };
    session.spec.calibration = Calibration::fit(&evaluator, &val, &session.modalities())?;
    if first {
        session.spec.save(folder, &session.parameters)?;
    }
    let tested = Tested::new(&session, config, folder, &options.communicator)?;
    if !first {
        any(ranks, false)?;
        return finished(folder)?.with_context(|| format!("{} is not there any more", folder.display()));
    }
    let mut record = tested.record(config, [&train, &val], &progress)?;
    record.wall_seconds = started.elapsed().as_secs_f64();
    record.seal(folder)?;
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    drop(lock);
    any(ranks, true)?;
    Ok(record)
}

/// Makes a run folder ready to be written.
fn prepare(folder: &Path, config: &Config) -> Result<()> {
    for place in [folder.to_owned(), folder.join("checkpoint"), folder.join("predictions")] {
        remove_leftovers(&place);
    }
    // Those of a run that was stopped in its last moment.
    let _ = std::fs::remove_file(folder.join(sums::FILE));
    write_atomic(&folder.join("config.toml"), config.to_toml().as_bytes())
}

/// The record of the run that stands in the folder, if it is done: the first rank looks, the others read what it has found.
///
/// # Errors
/// A run that is not to be resumed, or was made with other settings.
fn done(config: &Config, options: &Options) -> Result<Option<RunRecord>> {
    let ranks = options.communicator.as_ref();
    if ranks.rank() > 0 {
        return if any(ranks, false)? { finished(&options.folder) } else { Ok(None) };
    }
    let record = standing(config, options)?;
    any(ranks, record.is_some())?;
    Ok(record)
}

/// The record of the run that stands in the folder, if it is done.
///
/// # Errors
/// A run that is not to be resumed, or was made with other settings.
fn standing(config: &Config, options: &Options) -> Result<Option<RunRecord>> {
    let folder = options.folder.as_path();
    if occupied(folder) && !options.resume {
        let folder = folder.display();
        return Err(Usage(format!("{folder} exists: choose another --out, or continue it with --resume")).into());
    }
    same_settings(folder, config)?;
    finished(folder)
}

/// Whether a folder holds anything of a run.
fn occupied(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name() != lock::FILE)
}

/// An error if the folder holds a run of other settings.
fn same_settings(folder: &Path, config: &Config) -> Result<()> {
    let file = folder.join("config.toml");
    if !file.exists() {
        return Ok(());
    }
    let before = Config::load(&[&file], &[]).map_err(|e| anyhow::anyhow!("{e}; choose another --out"))?;
    let differences = config.differences(&before);
    let Some(first) = differences.first() else { return Ok(()) };
    let more = if differences.len() > 1 { format!(" (and {} more)", differences.len() - 1) } else { String::new() };
    let folder = folder.display();
    Err(Usage(format!("{folder} was made with other settings: {first}{more}; give the same, or choose another --out"))
        .into())
}

/// The record of a run that is done; none for a run that is not.
fn finished(folder: &Path) -> Result<Option<RunRecord>> {
    match RunRecord::read(folder) {
        Ok(record) => Ok(Some(record)),
        Err(RecordError::Unfinished) => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context(folder.display().to_string())),
    }
}

/// Whether `folder` holds the finished run of `config`.
///
/// # Errors
/// A run of other settings, or a record that is damaged or of a later version.
pub fn is_done(folder: &Path, config: &Config) -> Result<bool> {
    same_settings(folder, config)?;
    let done = finished(folder)?.is_some();
    if done {
        clear(folder);
    }
    Ok(done)
}

/// Removes what a finished run left that was killed in its last moment: its lock, and a checkpoint that is of no more use.
fn clear(folder: &Path) {
    let checkpoint = folder.join("checkpoint");
    if (checkpoint.exists() || folder.join(lock::FILE).exists())
        && let Ok(_lock) = RunLock::take(folder)
    {
        let _ = std::fs::remove_dir_all(checkpoint);
    }
}

/// [`RunRecord::one_line`] of the run in `folder`.
pub fn summary_line(folder: &Path) -> String {
    RunRecord::read(folder).map_or_else(|_| "failed".to_owned(), |record| record.one_line())
}
