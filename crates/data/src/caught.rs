//! Panics of other people's decoders, caught where they are called.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(|| "a panic without words".to_owned(), |text| text.lines().next().unwrap_or_default().to_owned())
}

/// What `work` answers, or the words of its panic, which prints nothing.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !SILENT.get() {
                before(info);
            }
        }));
    });
    let outer = SILENT.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words(&*panic));
    SILENT.set(outer);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(
            caught(|| if 1 + 1 == 2 {
                panic!("no {}\nmore", 4)
            }),
            Err("no 4".to_owned())
        );
    }
}
