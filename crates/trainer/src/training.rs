//! The training loop: batch, forward, balanced gradient, clip, step, log; validation at the end of each epoch.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use balgrad::{Balancer, Block, Communicator, EpochSummary, Role, gather_rows};
use balgrad_data::{Dataset, Sample};
use balgrad_encoders::{BlockRole, Depth, Input, Parameters, TwoTower};
use balgrad_kernels::run_on;
use balgrad_nn::{Optimizer, Parameter, Schedule, clip_grad_norm};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::channel::layer_rate;
use crate::checkpoint::{ConflictCounts, Progress};
use crate::config::Config;
use crate::evaluator::{Evaluator, Rows, readers};
use crate::events::Events;
use crate::interrupt::{self, Hold, Interrupted};
use crate::metrics::Score;
use crate::record::Validation;
use crate::session::Session;
use crate::split_data::{Pick, SplitData, Variation};

mod forward;
mod log;
mod requests;
mod resume;
mod share;
#[cfg(test)]
pub(crate) mod tests;

pub use forward::forward;
use forward::forward_among;
use requests::probe;
use resume::Start;
use share::Share;

/// What a training run works on.
pub(crate) struct Training<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The data, and the model on it.
    pub session: &'a Session,
    /// The training split.
    pub train: &'a SplitData,
    /// The validation split.
    pub val: &'a SplitData,
    /// How the model predicts.
    pub evaluator: Evaluator<'a>,
    /// The score that chooses the epoch.
    pub metric: Score,
    /// The run folder.
    pub folder: &'a Path,
    /// Whether to continue from the folder's checkpoint.
    pub resume: bool,
    /// The ranks that train together.
    pub communicator: Arc<dyn Communicator>,
}

/// Told how training goes, from whatever thread trains.
pub trait Watcher: Send {
    /// Once the data is read.
    fn data(&mut self, _dataset: &Dataset) {}
    /// After each step.
    fn step(&mut self, done: usize, total: usize, loss: f64);
    /// After each epoch.
    fn epoch(&mut self, epoch: usize, epochs: usize, loss: f64, score: Option<f64>);
}

/// Where a run keeps its checkpoint.
pub(crate) fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint").join("state.safetensors")
}

/// Trains, leaves the best epoch's weights in the parameters, and returns how it went.
///
/// # Errors
/// A signal, a loss that is not finite (under `on_nan = stop`), or a disk that refuses.
pub(crate) fn train(training: &Training<'_>, watcher: &mut dyn Watcher) -> Result<Progress> {
    let _hold = Hold::new();
    let mut run = Run::new(training)?;
    let (model, device) = (&training.session.model, &training.session.device);
    while !run.is_over() {
        let (picks, variation) = (run.picks(), run.variation());
        let done = (run.progress.batch * run.batch_size).min(picks.len());
        let (mine, rows) = (run.share.of(&picks[done..]), run.share.rows);
        training.train.feed(&mine, rows, Some(&variation), &readers(model), device, |batches| {
            for (batch, picks) in batches.zip(picks[done..].chunks(run.batch_size)) {
                let (_, inputs) = batch?;
                let loss = run_on(device, || run.step(picks, &inputs))?;
                watcher.step(run.progress.step, run.total_steps, loss);
                if run.is_late_or_saved()? {
                    break;
                }
            }
            Ok(())
        })?;
        let score = run.end_epoch()?;
        watcher.epoch(run.progress.epoch, run.epochs, run.last_loss, score);
    }
    // The test that comes next may be long, and a signal ends it at once.
    let due = run.saved.elapsed().as_secs_f64() > training.config.output.checkpoint_seconds;
    let (_, due, stop) = run.share.agree(false, due, interrupt::check())?;
    if stop.is_err() || due {
        run.save()?;
    }
    stop?;
    run.keep_best()?;
    Ok(run.progress)
}

/// The order of the training samples in an epoch.
fn shuffled(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(epoch as u64).to_le_bytes());
    order.shuffle(&mut ChaCha8Rng::from_seed(key));
    order
}

/// A run in progress.
struct Run<'a> {
    training: &'a Training<'a>,
    share: Share,
    balancer: Balancer,
    optimizer: Box<dyn Optimizer>,
    /// Each trained variable with its name.
    named: Vec<(String, Var)>,
    best: HashMap<String, Tensor>,
    /// The log and the event file, which the first rank writes.
    files: Option<(std::fs::File, Events)>,
    metrics_hash: Sha256,
    progress: Progress,
    /// The frozen teacher, once the method has asked for one.
    teacher: Option<(Parameters, TwoTower)>,
    modalities: Vec<&'static str>,
    /// Epochs, the method's prelude included.
    epochs: usize,
    prelude: usize,
    batch_size: usize,
    /// Batches of the training split, and of the current epoch with its rehearsals.
    per_epoch: usize,
    batches: usize,
    total_steps: usize,
    last_loss: f64,
    started: Instant,
    /// Seconds of work before this process began.
    seconds_before: f64,
    saved: Instant,
    out_of_time: bool,
}

impl<'a> Run<'a> {
    fn new(training: &'a Training<'a>) -> Result<Self> {
        let (config, session) = (training.config, training.session);
        let named = session.parameters.all();
        let modalities = session.modalities();
        let method = config.method_on(&modalities)?;
        let method = (method.build)(&method, &config.method_settings);
        let needs = method.needs();
        let blocks = Block::group(named.iter().cloned(), |name| role(&session.model, name), needs.granularity);
        let decay = config.optimization.weight_decay;
        // Vectors (biases, norms) are not decayed.
        let parameter = |(name, var): &(String, Var)| Parameter {
            name: name.clone(),
            var: var.clone(),
            lr_scale: lr_scale(session, &named, name, config.optimization.layer_decay),
            weight_decay: if var.rank() > 1 { decay } else { 0.0 },
        };
        let given = |setting: &str| (setting == "momentum").then_some(config.optimization.momentum);
        let (epochs, batch_size) = (needs.prelude + config.training.epochs, config.training.batch_size);
        let per_epoch = training.train.len().div_ceil(batch_size);
        let turns = if needs.turns { modalities.len() } else { 1 };
        let now = Instant::now();
        let Start { files, metrics_hash, loaded } = Start::find(training)?;
        let mut run = Self {
            training,
            share: Share::new(&training.communicator, batch_size),
            balancer: Balancer::new(method, blocks, config.seed)
                .lasting(per_epoch * turns, epochs)
                .among(Arc::clone(&training.communicator)),
            optimizer: config.optimization.optimizer.0.build(named.iter().map(parameter).collect(), given)?,
            named,
            best: HashMap::new(),
            files,
            metrics_hash,
            progress: Progress {
                conflict: vec![ConflictCounts::default(); modalities.len()],
                data: session.data.fingerprint.clone(),
                ..Progress::default()
            },
            teacher: None,
            modalities,
            epochs,
            prelude: needs.prelude,
            batch_size,
            per_epoch,
            batches: per_epoch,
            total_steps: epochs * per_epoch,
            last_loss: f64::NAN,
            started: now,
            seconds_before: 0.0,
            saved: now,
            out_of_time: false,
        };
        if let Some(loaded) = loaded {
            run.restore(loaded)?;
        }
        run.seconds_before = run.progress.seconds;
        Ok(run)
    }

    /// Whether all epochs are done, the time is up, or validation has not improved for `patience` epochs.
    fn is_over(&self) -> bool {
        let Progress { epoch, best_epoch, .. } = self.progress;
        let patience = self.training.config.training.patience;
        let tired = patience > 0 && epoch > self.prelude && epoch - best_epoch.max(self.prelude) >= patience;
        epoch >= self.epochs || self.out_of_time || (tired && self.progress.batch == 0)
    }

    /// The samples of this epoch, in its order: the split's, and whatever the method rehearses.
    fn picks(&mut self) -> Vec<Pick> {
        let whole = self.training.train.len();
        let rehearsals = &self.progress.rehearsals;
        let pick = |i: usize| match i.checked_sub(whole).and_then(|r| rehearsals.get(r)) {
            Some(&(sample, only)) => Pick { sample, only: Some(only) },
            None => Pick::from(i),
        };
        let order = shuffled(whole + rehearsals.len(), self.training.config.seed, self.progress.epoch);
        let picks: Vec<Pick> = order.into_iter().map(pick).collect();
        self.batches = picks.len().div_ceil(self.batch_size);
        picks
    }

    /// How this epoch's samples differ from the split's.
    fn variation(&self) -> Variation {
        let config = self.training.config;
        Variation {
            seed: config.seed,
            epoch: self.progress.epoch,
            dropout: config.training.modality_dropout,
            augment: config.training.augment,
        }
    }

    /// One step on a batch, of which `inputs` are this rank's share; returns the loss of the first objective.
    fn step(&mut self, picks: &[Pick], inputs: &[Input]) -> Result<f64> {
        let (training, model) = (self.training, &self.training.session.model);
        let samples: Vec<&Sample> = picks.iter().map(|pick| training.train.sample(pick.sample)).collect();
        let truth = training.evaluator.truth(&samples)?;
        let (rate, needs) = (self.rate(), self.balancer.needs());
        let (ranks, own) = (training.communicator.as_ref(), self.share.own(picks.len()));
        let mut loss = f64::NAN;
        for _ in 0..if needs.turns { model.modalities() } else { 1 } {
            let mut outputs = forward_among(model, inputs, needs, ranks, own)?;
            if let Some((_, teacher)) = &self.teacher {
                let rows = teacher.embed(inputs)?;
                let rows = rows.iter().map(|rows| gather_rows(ranks, &rows.detach(), own)).collect::<Result<_, _>>();
                outputs.teacher = Some(rows?);
            }
            let mut gradients = self.balancer.backward(&outputs, &truth)?;
            loss = self.balancer.report().losses.first().map_or(f64::NAN, |(_, loss)| *loss);
            if self.losses_are_finite()? {
                self.clip(&mut gradients)?;
                let balancer = &self.balancer;
                self.optimizer.step(&gradients, rate, &|name| balancer.step_scale(role(model, name)))?;
                self.progress.loss_sum += loss * picks.len() as f64;
                self.progress.loss_count += picks.len() as f64;
            }
        }
        self.log_step(rate)?;
        self.progress.step += 1;
        self.progress.batch += 1;
        Ok(loss)
    }

    /// Whether the step may be taken; one whose loss is not finite is skipped, or ends the run.
    fn losses_are_finite(&mut self) -> Result<bool> {
        let losses = &self.balancer.report().losses;
        if losses.iter().all(|(_, loss)| loss.is_finite()) {
            return Ok(true);
        }
        if self.training.config.training.on_nan == crate::config::OnNan::Skip {
            self.progress.nan_steps += 1;
            return Ok(false);
        }
        let losses: Vec<String> = losses.iter().map(|(name, loss)| format!("{name} {loss}")).collect();
        bail!(
            "step {}: the loss is not finite ({}); lower `lr`, or go on without such steps by `--on-nan skip`",
            self.progress.step,
            losses.join(", ")
        );
    }
}
impl Run<'_> {
    /// Scales the whole gradient down to the configured norm, if it is longer.
    fn clip(&self, gradients: &mut GradStore) -> Result<()> {
        let limit = self.training.config.optimization.clip_grad_norm;
        if limit > 0.0 {
            let vars: Vec<Var> = self.named.iter().map(|(_, var)| var.clone()).collect();
            clip_grad_norm(gradients, &vars, limit)?;
        }
        Ok(())
    }

    /// After a step: saves where it is time to, ends the run where a signal asks for it; whether the time budget is used up.
    fn is_late_or_saved(&mut self) -> Result<bool> {
        let config = self.training.config;
        self.progress.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let due = self.saved.elapsed().as_secs_f64() > config.output.checkpoint_seconds;
        let (late, due, stop) = self.share.agree(self.is_late(), due, interrupt::check())?;
        self.out_of_time = late;
        if stop.is_err() || due {
            self.save()?;
            self.saved = Instant::now();
        }
        stop?;
        Ok(self.out_of_time)
    }

    /// The learning rate of a step. A method's prelude has a schedule of its own, and an epoch lasts as long whether it holds
    /// rehearsals or not.
    fn rate(&self) -> f64 {
        let config = &self.training.config.optimization;
        let prelude = (self.prelude * self.per_epoch) as f64;
        let pace = self.per_epoch as f64 / self.batches.max(1) as f64;
        let done = (self.progress.epoch * self.per_epoch) as f64 + self.progress.batch as f64 * pace;
        let (step, total) = if done < prelude {
            (done, prelude)
        } else {
            (done - prelude, (self.total_steps as f64 - prelude).max(1.0))
        };
        Schedule { peak: config.lr, decay: config.schedule, warmup: config.warmup_ratio }.rate(step, total)
    }

    /// Validates, tells the method, keeps the weights if they are the best so far.
    fn end_epoch(&mut self) -> Result<Option<f64>> {
        let training = self.training;
        let evaluator = &training.evaluator;
        let seen = evaluator.predict(training.val);
        let probes = self.balancer.probes(self.progress.epoch + 1);
        let seen = seen.and_then(|seen| Ok((seen, probes.then(|| probe(training)).transpose()?)));
        if seen.as_ref().is_err_and(anyhow::Error::is::<Interrupted>) {
            self.save()?;
        }
        let (predictions, probed) = seen?;
        let scores = evaluator.metrics(&predictions.rows, training.val);
        let score = scores.get(training.metric);
        let view = |rows: &Option<Rows>| rows.as_ref().and_then(|r| evaluator.score(training.metric, r, training.val));
        let views: Vec<Option<f64>> = predictions.views.iter().map(view).collect();
        let train_loss = self.progress.loss_sum / self.progress.loss_count;
        self.last_loss = train_loss;
        self.progress.epoch += 1;
        self.progress.batch = 0;
        (self.progress.loss_sum, self.progress.loss_count) = (0.0, 0.0);
        let requests = self.balancer.epoch_ended(EpochSummary {
            epoch: self.progress.epoch,
            probe: probed,
            train_loss: vec![None; views.len()],
            val_loss: predictions.view_losses.clone(),
            val_score: views.clone(),
            fused_val_loss: Some(predictions.loss),
            fused_train_loss: Some(train_loss).filter(|l| l.is_finite()),
        })?;
        self.progress.rehearsals.clear();
        let by_name = |values: &[Option<f64>]| {
            self.modalities.iter().map(|m| (*m).to_owned()).zip(values.iter().copied()).collect()
        };
        let val = Validation {
            scores,
            views: by_name(&views),
            view_losses: by_name(&predictions.view_losses),
            loss: Some(predictions.loss),
        };
        let line = json!({"kind": "epoch", "epoch": self.progress.epoch, "step": self.progress.step,
            "train_loss": train_loss, "val": val, "seconds": self.progress.seconds});
        if let Value::Object(line) = &line {
            self.write_line(line)?;
        }
        self.flush_events()?;
        // Ties go to the earliest epoch; a score that is undefined counts as none.
        let better = score.is_some_and(|s| training.metric.is_better(s, self.progress.best_score));
        if (self.progress.best_epoch == 0 || better) && self.progress.epoch > self.prelude {
            self.progress.best_epoch = self.progress.epoch;
            self.progress.best_score = score.unwrap_or(training.metric.worst());
            self.progress.best_val = serde_json::to_string(&val)?;
            self.best = self.weights()?;
        }
        self.answer(requests)?;
        Ok(score)
    }

    /// A copy of the weights as they are now.
    fn weights(&self) -> Result<HashMap<String, Tensor>> {
        let copy = |(name, var): &(String, Var)| Ok((name.clone(), var.as_detached_tensor().copy()?));
        self.named.iter().map(copy).collect()
    }

    fn keep_best(&mut self) -> Result<()> {
        for (name, var) in &self.named {
            if let Some(value) = self.best.get(name) {
                var.set(value)?;
            }
        }
        self.flush_events()
    }
}

/// The factor on a parameter's learning rate that its depth in a trained encoder asks for.
fn lr_scale(session: &Session, named: &[(String, Var)], name: &str, decay: f64) -> f64 {
    let Some((tower, inner)) = name.split_once(".encoder.").filter(|_| decay != 1.0) else { return 1.0 };
    let Some(channel) = session.channels.iter().find(|channel| channel.modality().name == tower) else { return 1.0 };
    let peers = named.iter().filter_map(|(n, _)| n.strip_prefix(tower)?.strip_prefix(".encoder."));
    let block = |name: &str| if let Depth::Block(block) = channel.depth(name) { Some(block) } else { None };
    let blocks = peers.filter_map(block).max().map_or(0, |last| last + 1);
    layer_rate(channel.depth(inner), blocks, decay)
}

fn role(model: &TwoTower, parameter: &str) -> Role {
    match model.block_of(parameter) {
        BlockRole::Tower(m) => Role::Tower(m),
        BlockRole::Head(m) => Role::Head(m),
        BlockRole::Fused => Role::Fused,
    }
}
