//! Random input for one parser, made from the files of a corpus: `fuzz PARSER CORPUS FOLDER SECONDS SEED`. `fuzz list` lists the
//! parsers. `cargo xtask torture` starts it for each; `fuzz PARSER CORPUS FILE` parses one file.

mod mutate;
mod parsers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mutate::Mutator;
use parsers::{PARSERS, Parser};

/// The longest that an input may keep a core busy; code that is not optimised takes several times as long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["list"] => PARSERS.iter().for_each(|parser| println!("{}", parser.name)),
        [name, corpus, file] => match (parser(name), std::fs::read(file)) {
            (Some(parser), Ok(bytes)) => {
                let folder = std::env::temp_dir().join(format!("balgrad-fuzz-{}", std::process::id()));
                let extension = Path::new(file).extension().unwrap_or_default().to_string_lossy().into_owned();
                let took = parsers::prepare(parser, Path::new(corpus), &folder)
                    .map(|()| once(parser, &folder, &extension, &bytes));
                println!("{took:?}");
                let _ = std::fs::remove_dir_all(folder);
            }
            _ => return ExitCode::from(2),
        },
        [name, corpus, folder, seconds, seed] => {
            let (Some(parser), Ok(seconds), Ok(seed)) = (parser(name), seconds.parse(), seed.parse()) else {
                return ExitCode::from(2);
            };
            if let Err(error) = fuzz(parser, Path::new(corpus), Path::new(folder), seconds, seed) {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn parser(name: &str) -> Option<&'static Parser> {
    PARSERS.iter().find(|parser| parser.name == name)
}

/// Parses `bytes`; how long it took, or the words of the panic that got out.
fn once(parser: &Parser, folder: &Path, extension: &str, bytes: &[u8]) -> Result<Duration, String> {
    let began = busy();
    let outcome = std::panic::catch_unwind(|| (parser.parse)(folder, extension, bytes));
    outcome.map(|()| busy().saturating_sub(began)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })
}

/// How long this thread has kept a core busy, where the system tells: the machine may have other things to do.
fn busy() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap_or_default(), Duration::from_nanos)
}

fn fuzz(parser: &Parser, corpus: &Path, folder: &Path, seconds: f64, seed: u64) -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    parsers::prepare(parser, corpus, folder)?;
    let seeds = seeds(parser, corpus, folder)?;
    let (mut mutator, began) = (Mutator::new(seed), Instant::now());
    let (mut inputs, mut slowest, mut faults) = (0u64, Duration::ZERO, 0);
    while began.elapsed().as_secs_f64() < seconds && faults < 5 {
        let (extension, base) = &seeds[mutator.below(seeds.len())];
        let other = &seeds[mutator.below(seeds.len())].1;
        let bytes = mutator.mutate(base, other);
        // What stands here when the process is aborted has done it.
        std::fs::write(folder.join("input"), &bytes)?;
        inputs += 1;
        let outcome = once(parser, folder, extension, &bytes);
        let fault = match outcome {
            Ok(took) => {
                slowest = slowest.max(took);
                (took > PATIENCE).then(|| format!("{} ms", took.as_millis()))
            }
            Err(words) => Some(format!("panic: {}", words.lines().next().unwrap_or_default())),
        };
        if let Some(fault) = fault {
            faults += 1;
            let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target");
            let kept = kept.join(format!("torture-{}-{seed}-{inputs}.{extension}", parser.name));
            std::fs::write(&kept, &bytes)?;
            println!("fault {fault}; input {}", kept.display());
        }
    }
    println!("inputs {inputs}\nslowest {}", slowest.as_millis());
    Ok(())
}

/// Good files, by their extension: those of the corpus, or what the parser makes itself.
fn seeds(parser: &Parser, corpus: &Path, folder: &Path) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = (parser.seeds)(folder);
    for entry in std::fs::read_dir(corpus.join(parser.name)).into_iter().flatten() {
        let path = entry?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        seeds.push((extension, std::fs::read(path)?));
    }
    seeds.sort();
    if seeds.is_empty() {
        return Err(std::io::Error::other(format!("{}: no corpus for `{}`", corpus.display(), parser.name)));
    }
    Ok(seeds)
}
