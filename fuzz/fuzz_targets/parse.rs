//! One parser of the table under libFuzzer: `PARSER=csv cargo +nightly fuzz run parse fuzz/corpus/csv`. `EXTENSION` is that of
//! the files, where it is not the parser's name.
#![no_main]

#[path = "../../crates/trainer/examples/fuzz/parsers.rs"]
mod parsers;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<(&'static parsers::Parser, String, PathBuf)> = OnceLock::new();

fn choose() -> (&'static parsers::Parser, String, PathBuf) {
    let name = std::env::var("PARSER").unwrap_or_default();
    let names = || parsers::PARSERS.iter().map(|parser| parser.name).collect::<Vec<_>>().join(", ");
    let parser = parsers::PARSERS.iter().find(|parser| parser.name == name);
    let parser = parser.unwrap_or_else(|| panic!("PARSER is one of {}", names()));
    let folder = std::env::temp_dir().join(format!("balgrad-fuzz-{}", std::process::id()));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    parsers::prepare(parser, &corpus, &folder).expect("a folder to work in");
    (parser, std::env::var("EXTENSION").unwrap_or(name), folder)
}

fuzz_target!(|bytes: &[u8]| {
    let (parser, extension, folder) = CHOSEN.get_or_init(choose);
    (parser.parse)(folder, extension, bytes);
});
