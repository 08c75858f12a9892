//! Waiting for a server without being deaf: what may be silent runs on a thread of its own, and meanwhile a question is asked.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::time::Duration;

use crate::Result;

/// How long it takes to hear that the work is to stop.
const NAP: Duration = Duration::from_millis(100);

/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

/// What `work` returns, unless `go_on` fails before: the work is then left to itself.
pub(super) fn patiently<T: Send + 'static>(
    go_on: impl Fn() -> Result<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || drop(sender.send(work())));
    loop {
        go_on()?;
        match receiver.recv_timeout(NAP) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => return Err(crate::Error::invalid("a request", "it was lost")),
            },
        }
    }
}

/// A body as it comes in.
pub(super) struct Body(Receiver<io::Result<Vec<u8>>>);

impl Body {
    pub(super) fn new(mut from: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(4);
        std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let last = piece.is_err();
                if sender.send(piece).is_err() || last {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next piece; `None` at the end.
    pub(super) fn next(&self, go_on: impl Fn() -> Result<()>) -> Result<Option<io::Result<Vec<u8>>>> {
        loop {
            go_on()?;
            match self.0.recv_timeout(NAP) {
                Ok(piece) => return Ok(Some(piece)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}
