//! A trained model over HTTP: `balgrad serve`.
//!
//! A request is read under limits by [`routes`], waits in a queue of bounded length, and is answered by one thread that owns the
//! model and takes all that wait at once ([`worker`]). A signal stops it: what was accepted is answered first.

mod asked;
mod counters;
mod openapi;
mod refusal;
mod routes;
mod server;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::interrupt::Hold;
use crate::{Model, Usage};

/// What a server allows.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Bytes of one body.
    pub(crate) body: usize,
    /// Pixels of one image.
    pub(crate) pixels: u64,
    /// How long a body may take to arrive, and an answer to come.
    pub(crate) wait: Duration,
    /// Samples that may wait or be worked on at once.
    pub(crate) waiting: usize,
    /// Confidence below which there is no label.
    pub(crate) abstain: Option<f32>,
}

/// Serves a model until a signal comes.
///
/// # Errors
/// An address that cannot be listened on, or a system that refuses a thread.
pub(crate) fn serve(model: Model, address: SocketAddr, limits: Limits) -> Result<()> {
    let listener = TcpListener::bind(address).map_err(|e| {
        Usage(format!("cannot listen on {address}: {e}; choose another --port (0: any free one) or --host"))
    })?;
    listener.set_nonblocking(true)?;
    let _hold = Hold::new();
    let (shared, worker) = routes::Shared::start(model, limits)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stopped = runtime.block_on(server::run(listener, Arc::clone(&shared)));
    runtime.shutdown_background();
    drop(shared);
    worker.join().ok().context("the thread of the model has died")?;
    stopped
}
