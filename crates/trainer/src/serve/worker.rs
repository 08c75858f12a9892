//! The thread that owns the model: it answers all samples that wait at once, up to a batch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use balgrad_data::caught::caught;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::counters::Counters;
use crate::model::Reply;
use crate::output::told;
use crate::{Model, Parts};

/// Samples in one forward pass.
pub(super) const BATCH: usize = 64;

/// Answers in the order of the samples, or why there is none.
pub(super) type Replies = Vec<Result<Reply, Failure>>;

/// Why a sample has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be read.
    Sample(String),
    /// The model failed.
    Model(String),
}

/// The samples of one request.
pub(super) struct Job {
    pub(super) samples: Vec<Parts>,
    pub(super) reply: oneshot::Sender<Replies>,
    /// Places in the queue, free again when the job is done.
    pub(super) places: OwnedSemaphorePermit,
}

/// Starts the thread, which ends when every sender is gone.
pub(super) fn start(
    model: Model,
    abstain: Option<f32>,
    counters: Arc<Counters>,
) -> std::io::Result<(Sender<Job>, JoinHandle<()>)> {
    let (sender, receiver) = channel();
    let work = move || {
        while let Some(jobs) = next(&receiver) {
            answer(&model, abstain, &counters, jobs);
        }
    };
    Ok((sender, std::thread::Builder::new().name("model".to_owned()).spawn(work)?))
}

/// The job that waits longest, with those behind it that fit in its batch; none when nobody will send another.
fn next(receiver: &Receiver<Job>) -> Option<Vec<Job>> {
    let first = receiver.recv().ok()?;
    let mut samples = first.samples.len();
    let mut jobs = vec![first];
    while samples < BATCH
        && let Ok(job) = receiver.try_recv()
    {
        samples += job.samples.len();
        jobs.push(job);
    }
    Some(jobs)
}

fn answer(model: &Model, abstain: Option<f32>, counters: &Counters, mut jobs: Vec<Job>) {
    // Nobody waits for these any more.
    jobs.retain(|job| !job.reply.is_closed());
    let samples: Vec<Parts> = jobs.iter_mut().flat_map(|job| job.samples.iter_mut().map(std::mem::take)).collect();
    counters.batch(samples.len());
    let answers = caught(|| predict(model, abstain, &samples, counters)).map_err(|panic| anyhow!("{panic}"));
    let mut answers = answers.and_then(|answers| answers).map_err(|e| told(&e));
    for job in jobs {
        let count = job.samples.len();
        let own = match &mut answers {
            Ok(answers) => answers.drain(..count).collect(),
            Err(message) => (0..count).map(|_| Err(Failure::Model(message.clone()))).collect(),
        };
        let _ = job.reply.send(own);
        drop(job.places);
    }
}

fn predict(model: &Model, abstain: Option<f32>, samples: &[Parts], counters: &Counters) -> Result<Replies> {
    let one = |answer: Result<crate::Answer>| {
        let mut answer = answer.map_err(|e| Failure::Sample(told(&e)))?;
        if let Some(threshold) = abstain {
            answer.abstain_below(threshold);
        }
        counters.sample(&answer.got);
        Ok(model.reply(&answer, None))
    };
    Ok(model.predict_all(samples)?.into_iter().map(one).collect())
}
