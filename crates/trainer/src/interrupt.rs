//! Signals that ask the program to leave. Most work can be broken off at once, as every file is written whole; training and a
//! grid note the signal and act on it between two steps, so that nothing is lost.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// The variable that tells a process that its standard input is open as long as the one that started it.
pub(crate) const LEASH: &str = "BALGRAD_LEASH";

struct Received {
    /// The number of the signal that came; 0 before.
    signal: Arc<AtomicUsize>,
    /// Whether the next signal ends the process there and then.
    at_once: Arc<AtomicBool>,
}

static RECEIVED: OnceLock<Received> = OnceLock::new();

/// The work stopped because a signal asked for it.
#[derive(Debug)]
pub(crate) struct Interrupted(pub usize);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}; continue with --resume", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Starts listening. Under a [`Hold`] a first signal is noted and a second ends the program; elsewhere the first does.
///
/// # Errors
/// When the system refuses a handler.
pub(crate) fn listen() -> std::io::Result<()> {
    let new = || Received { signal: Arc::default(), at_once: Arc::new(AtomicBool::new(true)) };
    let Received { signal: received, at_once } = RECEIVED.get_or_init(new);
    for signal in signals() {
        // Registered first, so that it sees what an earlier signal has set.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(at_once))?;
        signal_hook::flag::register(signal, Arc::clone(at_once))?;
        signal_hook::flag::register_usize(signal, Arc::clone(received), signal as usize)?;
    }
    if std::env::var_os(LEASH).is_some() {
        std::thread::Builder::new().name("leash".to_owned()).spawn(|| {
            // Ends when whoever started this process closes the pipe or dies, however it dies.
            let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
            signal_hook::low_level::raise(SIGTERM)
        })?;
    }
    Ok(())
}

/// The signals that are listened to: a hangup is not where `nohup` wants it to be ignored.
fn signals() -> Vec<i32> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGUSR1};
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        let mut all = vec![SIGINT, SIGTERM, SIGUSR1];
        if ignored >> (SIGHUP - 1) & 1 == 0 {
            all.push(SIGHUP);
        }
        all
    }
    #[cfg(not(unix))]
    vec![SIGINT, SIGTERM]
}

/// While it lives, a signal is noted for [`check`] to find.
pub(crate) struct Hold(());

impl Hold {
    pub(crate) fn new() -> Self {
        set_at_once(false);
        Self(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        set_at_once(true);
    }
}

fn set_at_once(value: bool) {
    if let Some(received) = RECEIVED.get() {
        received.at_once.store(value, Ordering::SeqCst);
    }
}

/// An error if a signal has come.
///
/// # Errors
/// [`Interrupted`], with the signal's number.
pub(crate) fn check() -> Result<(), Interrupted> {
    match RECEIVED.get().map_or(0, |r| r.signal.load(Ordering::SeqCst)) {
        0 => Ok(()),
        signal => Err(Interrupted(signal)),
    }
}
