//! Where a run begins: at its first step, or where its checkpoint stands, with everything that was written since cut off.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::log::{EVENTS, show};
use super::{Run, Training, checkpoint_path};
use crate::Usage;
use crate::checkpoint::{self, Loaded, Progress};
use crate::events::Events;
use crate::ranks::{any, same};
use crate::record::log::FILE;
use crate::record::sums::hex;
use crate::storage::{create_folder, refused};

/// What a run begins with.
pub(super) struct Start {
    /// The log and the event file, cut back; the first rank alone has them.
    pub(super) files: Option<(File, Events)>,
    /// The hash of what the log holds.
    pub(super) metrics_hash: Sha256,
    /// The checkpoint, where there is one.
    pub(super) loaded: Option<Loaded>,
}

impl Start {
    /// Of a run, its checkpoints read where it is to be resumed.
    ///
    /// # Errors
    /// Checkpoints of which none can be used, other data than theirs, or a disk that refuses.
    pub(super) fn find(training: &Training<'_>) -> Result<Self> {
        let ranks = training.communicator.as_ref();
        let found = if training.resume { usable(training)? } else { None };
        let step = found.as_ref().map_or(-1.0, |(loaded, _)| loaded.progress.step as f64);
        // From here on the first rank changes what the others have read.
        if !same(ranks, step)? {
            let folder = training.folder.display();
            bail!("ranks find different checkpoints in {folder}: put the run on a file system that all hosts share");
        }
        if ranks.rank() > 0 {
            let (loaded, hash) = found.unzip();
            return Ok(Self { files: None, metrics_hash: hash.unwrap_or_default(), loaded });
        }
        let (log, events) = (training.folder.join(FILE), training.folder.join(EVENTS));
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        let metrics = File::options().create(true).append(true).open(&log).map_err(|e| refused(e, cannot(&log)))?;
        let (kept, counted) =
            found.as_ref().map_or((0, 0), |(loaded, _)| (loaded.progress.metrics_bytes, loaded.progress.events_bytes));
        // Lines written after the checkpoint belong to steps that will be taken again.
        metrics.set_len(kept)?;
        let events = continued(&events, counted, &log).map_err(|e| refused(e, cannot(&events)))?;
        let (loaded, hash) = found.unzip();
        Ok(Self { files: Some((metrics, events)), metrics_hash: hash.unwrap_or_default(), loaded })
    }
}

/// The newest checkpoint that is whole and whose log is there, with the hash of that log; none where there is no checkpoint.
fn usable(training: &Training<'_>) -> Result<Option<(Loaded, Sha256)>> {
    let newest = checkpoint_path(training.folder);
    let mut problem = None;
    for path in [checkpoint::previous(&newest), newest.clone()].iter().rev().filter(|path| path.exists()) {
        let found = checkpoint::load(path, &training.session.device);
        match found.and_then(|loaded| Ok((hash_of_log(training.folder, &loaded.progress)?, loaded))) {
            Ok((hash, loaded)) => {
                if let Some(problem) = problem
                    && training.communicator.rank() == 0
                {
                    say!("balgrad: {problem:#}; going on from the one before, at step {}", loaded.progress.step);
                }
                if loaded.progress.data != training.session.data.fingerprint {
                    let (data, folder) = (&training.config.data.source, training.folder.display());
                    let problem =
                        format!("{data} is not what {folder} was begun with: its samples or files have changed");
                    return Err(Usage(format!("{problem}; restore them, or choose another --out")).into());
                }
                return Ok(Some((loaded, hash)));
            }
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let Some(problem) = problem else { return Ok(None) };
    let folder = newest.parent().unwrap_or(training.folder).display();
    Err(problem.context(format!("no checkpoint can be used: remove {folder} to train the run from its start")))
}

/// The hash of the part of the log that a checkpoint counts.
fn hash_of_log(folder: &Path, progress: &Progress) -> Result<Sha256> {
    let path = folder.join(FILE);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let found = std::io::copy(&mut file.take(progress.metrics_bytes), &mut hash)?;
    if found < progress.metrics_bytes {
        bail!("{} holds {found} of the {} bytes that the checkpoint counts", path.display(), progress.metrics_bytes);
    }
    if hex(&hash.clone().finalize()) != progress.metrics_sha256 {
        bail!("{} was changed or damaged after the checkpoint", path.display());
    }
    Ok(hash)
}

/// The event file after its first `bytes`; made again from the log where it is shorter.
fn continued(path: &Path, bytes: u64, log: &Path) -> std::io::Result<Events> {
    if let Some(events) = Events::resume(path, bytes)? {
        return Ok(events);
    }
    let mut events = Events::create(path)?;
    for line in std::fs::read_to_string(log)?.lines() {
        show(&mut events, &serde_json::from_str(line)?)?;
    }
    Ok(events)
}

impl Run<'_> {
    /// Saves a checkpoint, and all that was written before it: the first rank does, and the others wait for it.
    pub(super) fn save(&mut self) -> Result<()> {
        if self.files.is_some() {
            self.write_checkpoint()?;
        }
        any(self.training.communicator.as_ref(), false)?;
        Ok(())
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        let path = checkpoint_path(self.training.folder);
        create_folder(path.parent().unwrap_or(self.training.folder))?;
        let Some((metrics, events)) = &mut self.files else { return Ok(()) };
        let synced = metrics.sync_data().and_then(|()| events.sync());
        self.progress.events_bytes =
            synced.map_err(|e| refused(e, format!("cannot write the log of {}", self.training.folder.display())))?;
        self.progress.metrics_sha256 = hex(&self.metrics_hash.clone().finalize());
        let mut tensors = HashMap::new();
        tensors.extend(self.weights()?.into_iter().map(|(k, v)| (format!("model.{k}"), v)));
        tensors.extend(self.best.iter().map(|(k, v)| (format!("best.{k}"), v.clone())));
        if let Some((teacher, _)) = &self.teacher {
            tensors.extend(teacher.all().into_iter().map(|(k, v)| (format!("teacher.{k}"), v.as_detached_tensor())));
        }
        tensors.extend(self.optimizer.state()?.into_iter().map(|(k, v)| (format!("optimizer.{k}"), v)));
        checkpoint::save(&path, tensors, &self.balancer.state(), &self.progress)
    }

    /// Goes to where a checkpoint stands.
    pub(super) fn restore(&mut self, loaded: Loaded) -> Result<()> {
        let (mut optimizer, mut best, mut teacher) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (name, tensor) in loaded.tensors {
            if let Some(name) = name.strip_prefix("optimizer.") {
                optimizer.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("best.") {
                best.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("teacher.") {
                teacher.insert(name.to_owned(), tensor);
            } else if let Some((_, var)) =
                name.strip_prefix("model.").and_then(|n| self.named.iter().find(|(v, _)| v == n))
            {
                var.set(&tensor)?;
            } else {
                bail!(
                    "the checkpoint of {}: `{name}` is not a parameter of this model",
                    self.training.folder.display()
                );
            }
        }
        self.optimizer.load_state(&optimizer)?;
        self.balancer.restore(&loaded.state)?;
        if !teacher.is_empty() {
            self.teacher = Some(self.teacher_of(&teacher)?);
        }
        self.best = best;
        self.progress = loaded.progress;
        self.out_of_time = self.is_late();
        Ok(())
    }

    /// Whether the time budget is used up.
    pub(super) fn is_late(&self) -> bool {
        let budget = self.training.config.training.time_budget;
        budget > 0.0 && self.progress.seconds >= budget
    }
}
