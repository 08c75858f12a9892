//! The boundary to parsers that are not ours: what they panic over is an error of the file.

use balgrad_data::caught::caught;

use crate::{Error, Result};

/// The result of `work`, its panics as errors: `place` is the file, and `reader` what read it.
pub(crate) fn guarded<T>(place: &str, reader: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(work).unwrap_or_else(|words| Err(Error::invalid(place, format!("not usable: {reader} panicked ({words})"))))
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
