//! Connections: accepted, kept within limits, and closed in order when a signal comes.

use std::net::TcpListener as Bound;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::routes::{Shared, router};
use crate::interrupt;

/// How often signals are looked for.
const TICK: Duration = Duration::from_millis(50);

/// How long connections without a request are kept once a signal has come.
const GRACE: Duration = Duration::from_secs(1);

/// Connections beyond those whose requests may be worked on.
const SPARE: usize = 256;

/// Accepts connections until a signal comes, and then answers what was accepted.
pub(super) async fn run(listener: Bound, shared: Arc<Shared>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    say!("balgrad: serving at http://{}/ (Ctrl-C stops)", listener.local_addr()?);
    let app = router(Arc::clone(&shared));
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(shared.limits.waiting.saturating_add(SPARE).min(Semaphore::MAX_PERMITS)));
    let connect = |stream: TcpStream, place: Option<OwnedSemaphorePermit>| {
        let _ = stream.set_nodelay(true);
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(shared.limits.wait);
        let service = TowerToHyperService::new(app.clone());
        let served = open.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that has gone is no failure of ours.
            let _ = served.await;
            drop(place);
        });
    };
    while interrupt::check().is_ok() {
        // Beyond the limit, connections wait in the system's queue.
        let Ok(Ok(place)) = timeout(TICK, Arc::clone(&places).acquire_owned()).await else { continue };
        match timeout(TICK, listener.accept()).await {
            Ok(Ok((stream, _))) => connect(stream, Some(place)),
            // Such as no file descriptor left: some are given back soon.
            Ok(Err(_)) => sleep(TICK).await,
            Err(_) => {}
        }
    }
    // The system has accepted these already.
    let last = Instant::now() + GRACE;
    while Instant::now() < last
        && let Ok(Ok((stream, _))) = timeout(TICK / 10, listener.accept()).await
    {
        connect(stream, None);
    }
    drop(listener);
    shared.stop();
    // A connection of which nothing was read yet would be closed unanswered.
    sleep(GRACE / 4).await;
    let end = Instant::now() + shared.limits.wait * 2 + GRACE;
    let quiet = async {
        let mut since = Instant::now();
        while since.elapsed() < GRACE && Instant::now() < end {
            if shared.counters.active.get() > 0 {
                since = Instant::now();
            }
            sleep(TICK / 5).await;
        }
    };
    let closed = tokio::spawn(open.shutdown());
    let watch = async {
        while !closed.is_finished() {
            sleep(TICK / 5).await;
        }
    };
    first(quiet, watch).await;
    say!("balgrad: stopped; {} predictions were answered", shared.counters.predicted());
    Ok(())
}

/// Waits for the first of two.
async fn first(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    std::future::poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() { std::task::Poll::Ready(()) } else { b.as_mut().poll(context) }
    })
    .await;
}
