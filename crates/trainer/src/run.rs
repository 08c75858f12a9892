//! One run from data to results: the run folder and what stands in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use balgrad::{Alone, Communicator};
use balgrad_data::Split;

mod results;

pub(crate) use results::{Tested, headline, missing_ratios};

use crate::Usage;
use crate::checkpoint::write_atomic;
use crate::config::Config;
use crate::evaluator::Evaluator;
use crate::record::{RecordError, RunRecord};
use crate::session::Session;
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

/// Trains and tests one run, and returns its record. With `resume`, a finished run is left as it is.
///
/// # Errors
/// A folder that exists (without `resume`), unusable data, a signal, a full disk: what was written is kept.
pub fn train(config: &Config, options: &Options, watcher: &mut dyn Watcher) -> Result<RunRecord> {
    let started = Instant::now();
    let folder = options.folder.as_path();
    if occupied(folder) && !options.resume {
        let folder = folder.display();
        return Err(Usage(format!("{folder} exists: choose another --out, or continue it with --resume")).into());
    }
    if let Some(record) = finished(folder)? {
        return Ok(record);
    }
    let session = Session::new(config)?;
    watcher.data(session.dataset());
    let (train, val) = (session.training_split()?, session.split(Split::Val, None)?);
    for (split, data) in [(Split::Train, &train), (Split::Val, &val)] {
        session.need(split, data)?;
    }
    session.release_encoders();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_atomic(&folder.join("config.toml"), config.to_toml().as_bytes())?;
    let evaluator = session.evaluator(config)?;
    let training = Training {
        config,
        session: &session,
        train: &train,
        val: &val,
        evaluator: Evaluator { class_weights: session.class_weights(config, &train)?, ..evaluator },
        metric: headline(session.dataset())?,
        folder,
        resume: options.resume,
        communicator: Arc::clone(&options.communicator),
    };
    let progress = crate::training::train(&training, watcher)?;
    session.spec.save(folder, &session.parameters)?;
    let tested = Tested::new(&session, config, folder)?;
    let mut record = tested.record(config, [&train, &val], &progress)?;
    record.wall_seconds = started.elapsed().as_secs_f64();
    // Last, since its presence says that the run is done.
    record.write(folder)?;
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    Ok(record)
}

/// Whether a folder holds anything of a run.
fn occupied(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
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
/// A record that is damaged or of a later version.
pub fn is_done(folder: &Path, config: &Config) -> Result<bool> {
    let same = std::fs::read_to_string(folder.join("config.toml")).is_ok_and(|text| text == config.to_toml());
    Ok(same && finished(folder)?.is_some())
}

/// [`RunRecord::one_line`] of the run in `folder`.
pub fn summary_line(folder: &Path) -> String {
    RunRecord::read(folder).map_or_else(|_| "failed".to_owned(), |record| record.one_line())
}
