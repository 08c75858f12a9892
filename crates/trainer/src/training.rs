//! The training loop: order, batch, balanced gradient, step; validation at the end of each epoch.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use balgrad::{Balancer, Block, EpochSummary, FusedHead, Outputs, Role, Tap};
use balgrad_encoders::{Augment, BlockRole, CutLayer, EncoderKind, Expects, Input, Parameters, TwoTower, encoder};
use balgrad_kernels::run_on;
use balgrad_nn::{Optimizer, Parameter, optimizer};
use candle_core::{Tensor, Var};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::bank::{Bank, Place, Variation, labels};
use crate::checkpoint::{self, ConflictCounts, Progress};
use crate::config::Config;
use crate::evaluation::{Judge, expects};
use crate::events::Events;
use crate::interrupt;
use crate::metrics::Metrics;
use crate::sight::depth;

mod log;
mod requests;

use requests::survey;

/// What a training run works on.
pub struct Course<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The model.
    pub model: &'a TwoTower,
    /// Its parameters.
    pub parameters: &'a Parameters,
    /// Makes the same model anew, with the values that its parameters started from.
    pub fresh: &'a (dyn Fn() -> Result<(Parameters, TwoTower)> + Sync),
    /// The training split.
    pub train: &'a Bank,
    /// The validation split.
    pub val: &'a Bank,
    /// How the model answers.
    pub judge: Judge<'a>,
    /// The name of the metric that chooses the epoch.
    pub metric: &'static str,
    /// Names of the modalities, for the log.
    pub modalities: &'a [&'static str],
    /// The run folder.
    pub folder: &'a Path,
    /// Whether to continue from the folder's checkpoint.
    pub resume: bool,
}

impl Course<'_> {
    /// How training samples differ from what stands in the bank.
    fn variation(&self, epoch: usize) -> Variation {
        let augment = match self.config.flag("augment") {
            true => {
                // Pieces of a vocabulary that others learnt stay as its encoder knows them.
                let text = encoder(self.config.word("encoders.text"));
                let learnt = text.is_ok_and(|entry| matches!(entry.kind, EncoderKind::Scratch(_)));
                let split_tokens = if learnt { 0.3 } else { 0.0 };
                Augment { shift: pixels(self.model) / 12, flip: true, split_tokens, drop_tokens: 0.1 }
            }
            false => Augment::default(),
        };
        let (seed, dropout) = (self.config.seed(), self.config.number("modality_dropout"));
        Variation { seed, epoch, dropout, augment }
    }
}

/// Told how training goes.
pub trait Watcher {
    /// After each step.
    fn step(&mut self, done: usize, total: usize, loss: f64);
    /// After each epoch.
    fn epoch(&mut self, epoch: usize, epochs: usize, loss: f64, score: Option<f64>);
}

/// Where a run keeps its checkpoint.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint").join("state.safetensors")
}

/// Trains, leaves the best epoch's weights in the parameters, and says how it went.
///
/// # Errors
/// A signal, a loss that is not finite (under `on_nan = stop`), or a disk that refuses.
pub fn train(course: &Course<'_>, watcher: &mut dyn Watcher) -> Result<Progress> {
    let mut run = Run::new(course)?;
    let started = Instant::now();
    let before = run.progress.seconds;
    let budget = course.config.number("time_budget");
    let mut saved = Instant::now();
    let mut out_of_time = false;
    while run.progress.epoch < run.epochs && !out_of_time {
        // Samples beyond the split's own are its rehearsals.
        let whole = course.train.len();
        let rehearsals = &run.progress.rehearsals;
        let place = |i: usize| match i.checked_sub(whole).and_then(|r| rehearsals.get(r)) {
            Some(&(row, shown)) => Place { row, shown: Some(shown) },
            None => Place::from(i),
        };
        let order = shuffled(whole + rehearsals.len(), course.config.seed(), run.progress.epoch);
        let places: Vec<Place> = order.into_iter().map(place).collect();
        run.batches = places.len().div_ceil(run.batch_size);
        let done = (run.progress.batch * run.batch_size).min(places.len());
        let (variation, batch_size) = (course.variation(run.progress.epoch), run.batch_size);
        let reads = expects(course.model);
        course.train.feed(
            &places[done..],
            batch_size,
            Some(&variation),
            &reads,
            course.judge.device,
            |places, inputs| {
                let loss = run_on(course.judge.device, || run.step(places, &inputs))?;
                watcher.step(run.progress.step, run.total_steps, loss);
                run.progress.seconds = before + started.elapsed().as_secs_f64();
                out_of_time = budget > 0.0 && run.progress.seconds >= budget;
                let stop = interrupt::check();
                if stop.is_err() || saved.elapsed().as_secs_f64() > course.config.number("checkpoint_seconds") {
                    run.save()?;
                    saved = Instant::now();
                }
                stop?;
                Ok(!out_of_time)
            },
        )?;
        let score = run.end_epoch()?;
        watcher.epoch(run.progress.epoch, run.epochs, run.last_loss, score);
    }
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

struct Run<'a> {
    course: &'a Course<'a>,
    balancer: Balancer,
    optimizer: Box<dyn Optimizer>,
    /// Each trained variable with its name.
    named: Vec<(String, Var)>,
    best: HashMap<String, Tensor>,
    metrics: std::fs::File,
    events: Events,
    progress: Progress,
    /// The frozen teacher, once the method has asked for one.
    teacher: Option<(Parameters, TwoTower)>,
    /// Epochs, the method's prelude included.
    epochs: usize,
    prelude: usize,
    batch_size: usize,
    /// Batches of the training split, and of the current epoch with its rehearsals.
    per_epoch: usize,
    batches: usize,
    total_steps: usize,
    last_loss: f64,
}

impl<'a> Run<'a> {
    fn new(course: &'a Course<'a>) -> Result<Self> {
        let config = course.config;
        let named = course.parameters.all();
        let method = config.build_method();
        let role = |name: &str| role(course.model, name);
        let blocks = Block::group(named.iter().cloned(), role, method.needs().granularity);
        let decay = config.number("weight_decay");
        let lr_decay = config.number("lr_decay");
        // Vectors (biases, norms) are not decayed.
        let parameter = |(name, var): &(String, Var)| Parameter {
            name: name.clone(),
            var: var.clone(),
            lr_scale: lr_scale(&named, name, lr_decay),
            weight_decay: if var.rank() > 1 { decay } else { 0.0 },
        };
        let momentum = |setting: &str| (setting == "momentum").then(|| config.number("momentum"));
        let needs = method.needs();
        let (epochs, batch_size) = (needs.prelude + config.count("epochs"), config.count("batch_size"));
        let per_epoch = course.train.len().div_ceil(batch_size);
        let turns = if needs.turns { course.modalities.len() } else { 1 };
        let mut run = Self {
            course,
            balancer: Balancer::new(method, blocks, config.seed()).lasting(per_epoch * turns, epochs),
            optimizer: optimizer(config.word("optimizer"))?.build(named.iter().map(parameter).collect(), momentum)?,
            named,
            best: HashMap::new(),
            metrics: std::fs::File::options().create(true).append(true).open(course.folder.join("metrics.jsonl"))?,
            events: Events::append(&course.folder.join("events.out.tfevents.0.balgrad"))?,
            progress: Progress {
                conflict: vec![ConflictCounts::default(); course.modalities.len()],
                ..Progress::default()
            },
            teacher: None,
            epochs,
            prelude: needs.prelude,
            batch_size,
            per_epoch,
            batches: per_epoch,
            total_steps: epochs * per_epoch,
            last_loss: f64::NAN,
        };
        let path = checkpoint_path(course.folder);
        if course.resume && path.exists() {
            run.restore(&path)?;
        } else {
            run.metrics.set_len(0)?;
        }
        Ok(run)
    }

    /// One step; returns the loss of the first objective.
    fn step(&mut self, places: &[Place], inputs: &[Input]) -> Result<f64> {
        let course = self.course;
        let rows: Vec<usize> = places.iter().map(|place| place.row).collect();
        let (config, judge) = (course.config, &course.judge);
        let multilabel = judge.task == balgrad_data::Task::MultiLabel;
        let truth = labels(course.train, &rows, judge.classes, multilabel, judge.class_weights.as_ref(), judge.device)?;
        let (rate, needs) = (self.rate(), self.balancer.needs());
        let mut loss = f64::NAN;
        for _ in 0..if needs.turns { course.model.modalities() } else { 1 } {
            let mut outputs = speak(course.model, inputs, needs)?;
            if let Some((_, teacher)) = &self.teacher {
                outputs.teacher = Some(teacher.embed(inputs)?.iter().map(Tensor::detach).collect());
            }
            let grads = self.balancer.backward(&outputs, &truth)?;
            let report = self.balancer.report();
            loss = report.losses.first().map_or(f64::NAN, |(_, loss)| *loss);
            if report.losses.iter().all(|(_, loss)| loss.is_finite()) {
                let (balancer, model) = (&self.balancer, course.model);
                self.optimizer.step(&grads, rate, &|name| balancer.step_scale(role(model, name)))?;
                self.progress.loss_sum += loss * rows.len() as f64;
                self.progress.loss_count += rows.len() as f64;
            } else if config.word("on_nan") == "skip" {
                self.progress.nan_steps += 1;
            } else {
                let losses: Vec<String> = report.losses.iter().map(|(name, loss)| format!("{name} {loss}")).collect();
                bail!(
                    "step {}: the loss is not finite ({}); lower `lr`, or go on without such steps by `--on-nan skip`",
                    self.progress.step,
                    losses.join(", ")
                );
            }
        }
        self.log_step(rate)?;
        self.progress.step += 1;
        self.progress.batch += 1;
        Ok(loss)
    }

    /// Linear warm-up, then a cosine to zero; a method's prelude has one of its own. An epoch lasts as long whether it
    /// holds rehearsals or not.
    fn rate(&self) -> f64 {
        let prelude = (self.prelude * self.per_epoch) as f64;
        let pace = self.per_epoch as f64 / self.batches.max(1) as f64;
        let done = (self.progress.epoch * self.per_epoch) as f64 + self.progress.batch as f64 * pace;
        let (step, total) = if done < prelude {
            (done, prelude)
        } else {
            (done - prelude, (self.total_steps as f64 - prelude).max(1.0))
        };
        let warm = (self.course.config.number("warmup") * total).floor();
        let peak = self.course.config.number("lr");
        if step < warm {
            return peak * (step + 1.0) / warm;
        }
        let part = ((step - warm) / (total - warm).max(1.0)).min(1.0);
        peak * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
    }

    /// Validates, tells the method, keeps the weights if they are the best so far.
    fn end_epoch(&mut self) -> Result<Option<f64>> {
        let course = self.course;
        let judge = &course.judge;
        let answers = judge.answers(course.val, &expects(course.model))?;
        let metrics = judge.metrics(&answers.probs, course.val);
        let score = metrics.get(course.metric);
        let view = |probs: &Option<Vec<Vec<f32>>>| {
            probs.as_ref().and_then(|p| judge.metrics(p, course.val).get(course.metric))
        };
        let views: Vec<Option<f64>> = answers.views.iter().map(view).collect();
        let train_loss = self.progress.loss_sum / self.progress.loss_count;
        self.last_loss = train_loss;
        self.progress.epoch += 1;
        self.progress.batch = 0;
        (self.progress.loss_sum, self.progress.loss_count) = (0.0, 0.0);
        let surveyed = self.balancer.surveys(self.progress.epoch).then(|| survey(course)).transpose()?;
        let requests = self.balancer.epoch_ended(&EpochSummary {
            epoch: self.progress.epoch,
            survey: surveyed,
            train_loss: vec![None; views.len()],
            val_loss: answers.view_losses.clone(),
            val_score: views.clone(),
            fused_val_loss: Some(answers.loss),
            fused_train_loss: Some(train_loss).filter(|l| l.is_finite()),
        })?;
        self.progress.rehearsals.clear();
        let mut val = epoch_metrics(&metrics)?;
        for (m, name) in course.modalities.iter().enumerate() {
            val.insert(format!("{name}-only"), json!(views[m]));
            val.insert(format!("loss-{name}"), json!(answers.view_losses[m]));
        }
        val.insert("loss".into(), json!(answers.loss));
        let line = json!({"kind": "epoch", "epoch": self.progress.epoch, "step": self.progress.step,
            "train_loss": train_loss, "val": val, "seconds": self.progress.seconds});
        if let Value::Object(line) = &line {
            self.write_line(line)?;
        }
        self.events.flush()?;
        // Ties go to the earliest epoch; a score that is undefined counts as none.
        let better = self.progress.best_epoch == 0 || score.is_some_and(|s| s > self.progress.best_score);
        if better && self.progress.epoch > self.prelude {
            self.progress.best_epoch = self.progress.epoch;
            self.progress.best_score = score.unwrap_or(f64::MIN);
            self.progress.best_val = Value::Object(val).to_string();
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
        Ok(self.events.flush()?)
    }

    fn save(&mut self) -> Result<()> {
        self.metrics.flush()?;
        self.events.flush()?;
        let path = checkpoint_path(self.course.folder);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let mut tensors = HashMap::new();
        tensors.extend(self.weights()?.into_iter().map(|(k, v)| (format!("model.{k}"), v)));
        tensors.extend(self.best.iter().map(|(k, v)| (format!("best.{k}"), v.clone())));
        if let Some((teacher, _)) = &self.teacher {
            tensors.extend(teacher.all().into_iter().map(|(k, v)| (format!("teacher.{k}"), v.as_detached_tensor())));
        }
        tensors.extend(self.optimizer.state()?.into_iter().map(|(k, v)| (format!("optimizer.{k}"), v)));
        checkpoint::save(&path, tensors, &self.balancer.state(), &self.progress)
    }

    fn restore(&mut self, path: &Path) -> Result<()> {
        let loaded = checkpoint::load(path, self.course.judge.device)?;
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
                bail!("{}: `{name}` is not a parameter of this model; the config changed since", path.display());
            }
        }
        self.optimizer.load_state(&optimizer)?;
        self.balancer.restore(&loaded.state)?;
        if !teacher.is_empty() {
            self.teacher = Some(self.teacher_of(&teacher)?);
        }
        self.best = best;
        self.progress = loaded.progress;
        // Lines written after the checkpoint belong to steps that will be taken again.
        self.metrics.set_len(self.progress.metrics_bytes)?;
        Ok(())
    }
}

fn epoch_metrics(metrics: &Metrics) -> Result<Map<String, Value>> {
    match serde_json::to_value(metrics)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// Pixels a side that the model sees; 0 if none.
fn pixels(model: &TwoTower) -> usize {
    let size = |e: &&Expects| if let Expects::Pixels { size, .. } = e { Some(*size) } else { None };
    expects(model).iter().find_map(size).unwrap_or(0)
}

/// The factor on a parameter's learning rate that its depth in a trained encoder asks for.
fn lr_scale(named: &[(String, Var)], name: &str, decay: f64) -> f64 {
    let Some((tower, inner)) = name.split_once(".encoder.").filter(|_| decay != 1.0) else { return 1.0 };
    let peers = named.iter().filter_map(|(n, _)| n.strip_prefix(tower)?.strip_prefix(".encoder."));
    let blocks = peers.filter_map(depth::block).max().map_or(0, |last| last + 1);
    depth::rate(inner, blocks, decay)
}

fn role(model: &TwoTower, parameter: &str) -> Role {
    match model.block_of(parameter) {
        BlockRole::Tower(m) => Role::Tower(m),
        BlockRole::Head(m) => Role::Head(m),
        BlockRole::Fused => Role::Fused,
    }
}

/// One forward pass, showing what the method needs.
///
/// # Errors
/// When shapes disagree.
pub fn speak(model: &TwoTower, inputs: &[Input], needs: balgrad::Needs) -> Result<Outputs> {
    let mut taps = Vec::new();
    let embeddings = if needs.wants_taps() {
        let (embeddings, cut): (Vec<_>, Vec<_>) = model.embed_cut(inputs)?.into_iter().unzip();
        let tap = |CutLayer { input, leaf, weight, bias }| Tap { input, leaf, weight, bias };
        taps.extend(cut.into_iter().flatten().map(tap));
        embeddings
    } else {
        model.embed(inputs)?
    };
    let leaves = needs.leaves.then(|| embeddings.iter().map(|e| Var::from_tensor(&e.detach())).collect());
    let leaves: Option<Vec<Var>> = leaves.transpose()?;
    let basis: Vec<Tensor> = match &leaves {
        Some(leaves) => leaves.iter().map(|v| v.as_tensor().clone()).collect(),
        None => embeddings.clone(),
    };
    let slices = if needs.fused_views { model.slices(&basis)? } else { None };
    let asked = needs.fused_head || (needs.fused_views && slices.is_none());
    let fused_head = asked.then(|| {
        let fusion = model.fusion();
        FusedHead::new(move |embeddings| fusion.logits(embeddings))
    });
    let said = model.forward_embeddings(basis)?;
    Ok(Outputs { fused: said.fused, own: said.own, embeddings, slices, fused_head, teacher: None, leaves, taps })
}
