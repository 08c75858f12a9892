//! `cargo xtask bench`: how fast, as ratios of two workers that take turns on the same threads.

mod cases;
mod table;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::reproduce::succeed;

use cases::{GROUPS, Group, Measure, Pair, Side};
use table::Spread;
use worker::Worker;

pub(crate) const ABOUT: &str =
    "time kernels, steps and methods as ratios, beside PyTorch with --peer; --baseline compares";

const USAGE: &str = "\
cargo xtask bench [--peer PYTHON] [--device cuda|metal] [--pairs N] [--threads N] [--only WORD] [--out FILE.json]
                  [--baseline FILE.json]

  Sets two programs up side by side and lets them take turns, block by block, on the same number of threads. Each figure
  is the median over pairs of blocks of the ratio of their times, with the least and the greatest.

  --peer       a Python with torch, torchvision, transformers, torchjd and PIL: also the comparisons with these
  --device     a GPU: builds for it, and times `gram` and `blend` there too
  --pairs      pairs of blocks (default: 9)
  --threads    threads of each side (default: 2)
  --only       only rows whose group or name contains this
  --out        where the JSON goes (default: target/bench/bench.json)
  --baseline   an earlier JSON: fails where a ratio is worse than the stored one by more than a quarter";

/// What the arguments ask for.
struct Plan {
    peer: Option<PathBuf>,
    device: Option<String>,
    pairs: usize,
    threads: usize,
    only: String,
    out: PathBuf,
    baseline: Option<PathBuf>,
}

impl Plan {
    fn parse(args: &[String], scratch: &Path) -> Result<Self> {
        let mut given = BTreeMap::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if !["--peer", "--device", "--pairs", "--threads", "--only", "--out", "--baseline"].contains(&arg.as_str())
            {
                bail!("unknown argument `{arg}`\n\n{USAGE}");
            }
            given.insert(arg.as_str(), args.next().with_context(|| format!("{arg} needs a value\n\n{USAGE}"))?);
        }
        let path = |name: &str| given.get(name).map(PathBuf::from);
        let count = |name: &str, default: usize| match given.get(name).map(|n| n.parse()) {
            None => Ok(default),
            Some(Ok(n)) if n > 0 => Ok(n),
            Some(_) => bail!("{name} takes a whole number of one or more\n\n{USAGE}"),
        };
        Ok(Self {
            peer: path("--peer"),
            device: match given.get("--device").map(|device| device.as_str()) {
                None => None,
                Some(device @ ("cuda" | "metal")) => Some(device.to_owned()),
                Some(other) => bail!("--device takes cuda or metal, not `{other}`\n\n{USAGE}"),
            },
            pairs: count("--pairs", 9)?,
            threads: count("--threads", 2)?,
            only: given.get("--only").map_or_else(String::new, |word| (*word).clone()),
            out: path("--out").unwrap_or_else(|| scratch.join("bench.json")),
            baseline: path("--baseline"),
        })
    }
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let scratch = crate::root().join("target").join("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let plan = Plan::parse(args, &scratch)?;
    let mut build = crate::cargo();
    build.args(["build", "--release", "--package", "balgrad-trainer", "--example", "bench"]);
    build.args(plan.device.iter().flat_map(|device| ["--features", device]));
    succeed(&mut build)?;
    let load = worker::load();
    if load.is_some_and(|load| load > 0.5) {
        eprintln!(
            "the machine is busy (load {:.1}): whoever waits for all of its threads looks slow",
            load.unwrap_or(0.0)
        );
    }
    let mut bench = Bench { plan, models: scratch.join("models"), load, versions: Value::Null, rows: Vec::new() };
    match &bench.plan.peer {
        Some(python) => {
            bench.versions = worker::peer_versions(python)?;
            worker::make_models(python, &bench.models)?;
        }
        None => eprintln!(
            "skipped: comparisons with PyTorch, TorchJD and torchvision; name a Python that has them by --peer"
        ),
    }
    for group in GROUPS {
        for pair in group.pairs {
            bench.measure(group, pair)?;
        }
    }
    bench.report()
}

/// A figure, and where it stands in the tables.
struct Figure {
    group: &'static str,
    row: &'static cases::Row,
    spread: Spread,
}

struct Bench {
    plan: Plan,
    models: PathBuf,
    /// Before the first block.
    load: Option<f64>,
    versions: Value,
    rows: Vec<Figure>,
}

impl Bench {
    fn measure(&mut self, group: &'static Group, pair: &'static Pair) -> Result<()> {
        let wanted = |row: &&cases::Row| group.name.contains(&self.plan.only) || row.name.contains(&self.plan.only);
        let rows: Vec<&'static cases::Row> = pair.rows.iter().filter(wanted).collect();
        let other = match (&pair.other, &self.plan.peer) {
            _ if rows.is_empty() => return Ok(()),
            (Side::Peer(_), None) => return Ok(()),
            _ if pair.ours.contains(&cases::DEVICE) && self.plan.device.is_none() => return Ok(()),
            (Side::Peer(arguments), Some(python)) => match Worker::peer(python, arguments, self) {
                Err(error) => {
                    eprintln!("skipped: {}: {error:#}", pair.rows[0].name);
                    return Ok(());
                }
                started => started,
            },
            (Side::Ours(arguments), _) => Worker::ours(arguments, self),
        };
        let (mut ours, mut other) = (Worker::ours(pair.ours, self)?, other?);
        let mut pairs = Vec::with_capacity(self.plan.pairs);
        for turn in 0..self.plan.pairs {
            // Each goes first as often as second, so that a drift of the machine falls on both.
            pairs.push(if turn % 2 == 0 {
                let first = ours.block()?;
                (first, other.block()?)
            } else {
                let first = other.block()?;
                (ours.block()?, first)
            });
        }
        if let Some((ours, other)) = pairs.first()
            && ours.parameters != other.parameters
        {
            bail!(
                "{}: {} parameters against {}: not the same model",
                pair.rows[0].name,
                ours.parameters,
                other.parameters
            );
        }
        for row in rows {
            let ratios = pairs.iter().map(|(ours, other)| match row.measure {
                Measure::Time => ours.seconds / other.seconds,
                Measure::Faster(scale) => scale * other.seconds / ours.seconds,
                Measure::Memory => ours.peak / other.peak.max(1.0),
                Measure::Difference => ours.difference,
            });
            let spread = Spread::of(ratios.collect());
            eprintln!("{}: {spread}", row.name);
            self.rows.push(Figure { group: group.name, row, spread });
        }
        Ok(())
    }

    fn report(&self) -> Result<()> {
        print!("{}", table::markdown(&self.rows));
        let rows: serde_json::Map<String, Value> =
            self.rows.iter().map(|figure| (figure.row.name.to_owned(), figure.to_json())).collect();
        let result = json!({
            "schema": 2, "machine": worker::machine(), "load": self.load, "threads": self.plan.threads, "pairs": self.plan.pairs,
            "versions": self.versions, "rows": rows,
        });
        let out = &self.plan.out;
        std::fs::write(out, format!("{result:#}\n")).with_context(|| format!("cannot write {}", out.display()))?;
        match &self.plan.baseline {
            Some(baseline) => table::compare(baseline, &self.rows),
            None => Ok(()),
        }
    }
}
