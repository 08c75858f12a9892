//! Ctrl-C and SIGTERM: noted here, acted on between two steps, so that a run is left resumable.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// The work stopped because a signal asked for it.
#[derive(Debug)]
pub(crate) struct Interrupted(pub usize);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}; continue with --resume", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Starts listening. A second signal ends the program at once.
///
/// # Errors
/// When the system refuses a handler.
pub(crate) fn listen() -> std::io::Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        // Registered first, so that it sees the flag of an earlier signal only.
        let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        signal_hook::flag::register(signal, again)?;
        signal_hook::flag::register_usize(signal, Arc::clone(received), signal as usize)?;
    }
    Ok(())
}

/// An error if a signal has come.
///
/// # Errors
/// [`Interrupted`], with the signal's number.
pub(crate) fn check() -> Result<(), Interrupted> {
    match RECEIVED.get().map_or(0, |r| r.load(Ordering::Relaxed)) {
        0 => Ok(()),
        signal => Err(Interrupted(signal)),
    }
}
