//! Signals that ask the program to leave. Most work can be broken off at once, as every file is written whole; training and a
//! grid note the signal and act on it between two steps, so that nothing is lost.

use std::fmt;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::exit;

/// The variable that tells a process that its standard input is open as long as the one that started it.
pub(crate) const LEASH: &str = "BALGRAD_LEASH";

/// A second signal within this time is the first one again: a terminal and a scheduler signal a whole group of processes, and some
/// of these pass it on to others.
const ECHO: Duration = Duration::from_secs(1);

struct Heard {
    /// Whether a first signal is noted, not obeyed.
    held: bool,
    first: Option<(i32, Instant)>,
}

static HEARD: Mutex<Heard> = Mutex::new(Heard { held: false, first: None });

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heard {
    fn hear(&mut self, signal: i32) {
        match self.first {
            None if self.held => self.first = Some((signal, Instant::now())),
            Some((_, at)) if self.held && at.elapsed() < ECHO => {}
            _ => {
                let command = to_go_on();
                // Who started a run of a grid says it for all of them.
                if !command.is_empty() && std::env::var_os(LEASH).is_none() {
                    say!("balgrad: {}{command}", Interrupted(signal as usize));
                }
                exit(128 + signal)
            }
        }
    }
}

/// The work stopped because a signal asked for it.
#[derive(Debug)]
pub(crate) struct Interrupted(pub usize);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// What makes the command that goes on where this process stops.
type Command = Box<dyn Fn() -> String + Send>;

static GO_ON: Mutex<Option<Command>> = Mutex::new(None);

/// From now on, who stops this process is told by which command to go on.
pub(crate) fn go_on_by(command: impl Fn() -> String + Send + 'static) {
    *GO_ON.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(command));
}

/// The end of the sentence that says that a signal came.
pub(crate) fn to_go_on() -> String {
    let command = GO_ON.lock().unwrap_or_else(PoisonError::into_inner);
    command.as_ref().map_or_else(String::new, |command| format!("; to go on: {}", command()))
}

/// Starts listening. Under a [`Hold`] a first signal is noted and a second ends the program; elsewhere the first does.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub(crate) fn listen() -> std::io::Result<()> {
    hear_signals()?;
    if std::env::var_os(LEASH).is_some() {
        thread("leash", || {
            // Ends when whoever started this process closes the pipe or dies, however it dies.
            let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
            let mut heard = heard();
            if heard.first.is_none() {
                heard.hear(SIGTERM);
            }
        })?;
    }
    Ok(())
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

#[cfg(unix)]
fn hear_signals() -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(signals())?;
    thread("signals", move || signals.forever().for_each(|signal| heard().hear(signal)))
}

#[cfg(not(unix))]
fn hear_signals() -> std::io::Result<()> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let received = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
    }
    thread("signals", move || {
        loop {
            match received.swap(0, Ordering::SeqCst) {
                0 => std::thread::sleep(Duration::from_millis(50)),
                signal => heard().hear(signal as i32),
            }
        }
    })
}

/// The signals that are listened to: those of a terminal, of systems that shut down, and of schedulers. A hangup is not where
/// `nohup` wants it to be ignored.
#[cfg(unix)]
fn signals() -> Vec<i32> {
    use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let mut all = vec![SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
    if ignored >> (SIGHUP - 1) & 1 == 0 {
        all.push(SIGHUP);
    }
    all
}

/// While it lives, a signal is noted for [`check`] to find.
pub(crate) struct Hold(());

impl Hold {
    pub(crate) fn new() -> Self {
        heard().held = true;
        Self(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        heard().held = false;
    }
}

/// An error if a signal has come.
///
/// # Errors
/// [`Interrupted`], with the signal's number.
pub(crate) fn check() -> Result<(), Interrupted> {
    match heard().first {
        None => Ok(()),
        Some((signal, _)) => Err(Interrupted(signal as usize)),
    }
}
