//! `cargo xtask torture`: faults, by the thousand. What a run promises is in `docs/reliability.md`.

mod corpus;
mod fixtures;
mod flips;
mod fuzz;
mod hostile;
mod kills;
mod state;
mod world;
mod writes;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::reproduce::succeed;
use world::World;

pub(crate) const ABOUT: &str = "kills, failing disks, flipped bits, hostile files, random input; says what was lost";

const USAGE: &str = "\
cargo xtask torture [--short] [--seed N] [--minutes M] [--only PART] [--program FILE]

  kills    runs, grids and feature caches are killed before, in and after a write, or at any moment; then they go on
  writes   each call that changes a file fails once: a full disk, a broken one, one that is read-only
  flips    one bit of a file that is read back is flipped
  hostile  files that are made to hurt
  fuzz     every parser reads what was made of good files by chance

  A finished run must have the bits of one that nothing happened to; damage must be refused or do no harm; nothing may panic,
  hang, or take all memory. Prints a figure for each part, and ends with exit code 1 on a fault.

  --short    three minutes at most, for CI
  --seed     decides what happens (default: 0)
  --minutes  how long, all parts together (default: 60)
  --only     one part
  --program  another build of the program than this checkout's";

/// A part: its name, its share of the time in percent, and what it does until then.
struct Part {
    name: &'static str,
    share: u32,
    run: fn(&mut World) -> Result<String>,
}

const PARTS: &[Part] = &[
    Part { name: "kills", share: 40, run: kills::run },
    Part { name: "writes", share: 20, run: writes::run },
    Part { name: "flips", share: 15, run: flips::run },
    Part { name: "hostile", share: 10, run: hostile::run },
    Part { name: "fuzz", share: 15, run: fuzz::run },
];

/// Minutes of `--short`, which leaves some for what it has begun.
const SHORT: f64 = 2.3;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut seed, mut minutes, mut only, mut program) = (0, 60.0, String::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--short" => minutes = SHORT,
            "--seed" => seed = value()?.parse().context("--seed takes a whole number")?,
            "--minutes" => minutes = value()?.parse().context("--minutes takes a number")?,
            "--only" => only.clone_from(value()?),
            "--program" => program = Some(value()?.into()),
            other => bail!("unknown argument `{other}`\n\n{USAGE}"),
        }
    }
    let parts: Vec<&Part> = PARTS.iter().filter(|part| only.is_empty() || part.name == only).collect();
    if parts.is_empty() {
        bail!("no part is called `{only}`\n\n{USAGE}");
    }
    if !cfg!(target_os = "linux") {
        println!("skipped: faults are injected on Linux alone");
        return Ok(());
    }
    if program.is_none() {
        succeed(crate::cargo().args(["build", "--workspace", "--examples", "--bins"]))?;
    }
    let mut world = World::new(seed, program)?;
    let whole: u32 = parts.iter().map(|part| part.share).sum();
    for part in parts {
        let began = Instant::now();
        world.until = began + Duration::from_secs_f64(minutes * 60.0 * f64::from(part.share) / f64::from(whole));
        let before = world.faults.len();
        let figure = (part.run)(&mut world)?;
        let faults = world.faults.len() - before;
        println!("{:<8} {figure}; {faults} faults, {} s", part.name, began.elapsed().as_secs());
    }
    if !world.faults.is_empty() {
        bail!("{} faults:\n{}", world.faults.len(), world.faults.join("\n"));
    }
    Ok(())
}
