//! The boundary to parsers that are not ours: what they panic over is an error of the file.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::{Error, Result};

thread_local! {
    /// Whether a panic of this thread is going to be an error, and so is not to be printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The result of `work`, its panics as errors: `place` is the file, and `reader` what read it.
pub(crate) fn guarded<T>(place: &str, reader: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let first = message.lines().next().unwrap_or_default();
        Err(Error::invalid(place, format!("not usable: {reader} panicked ({first})")))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_file_and_reader() {
        let error = guarded::<()>("model/tokenizer.json", "the tokenizer library", || panic!("index {} of 0", 3));
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "model/tokenizer.json: not usable: the tokenizer library panicked (index 3 of 0)");
        assert_eq!(guarded("x", "y", || Ok(1)).unwrap(), 1);
    }
}
