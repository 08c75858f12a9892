//! `cargo xtask reproduce`: the paper's tables, computed by us.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(crate) const ABOUT: &str = "train the paper's comparison on the bundled tasks, and say what won";

const USAGE: &str = "\
cargo xtask reproduce [--quick] [--data NAME|DIR]… [--layout NAME] [--config FILE]… [--encoders frozen|small|IMAGE,TEXT]
                      [--methods LIST] [--seeds N] [--jobs N] [--out DIR] [--set KEY=VALUE]… [--verbose]

  --quick      one small pass: one seed, few epochs (about a minute); says that it works, not who wins
  --data       bundled task or folder; may be repeated (default: emoji, icons, clipart)
  --config     settings for every run, such as configs/food101.toml with --data; may be repeated, the later wins
  --encoders   frozen: hand-crafted features, trained on top (default); small: end to end from scratch; or two names
  --methods    rows, as for `balgrad compare` (default: paper)
  --seeds      seeds a row (default: 5)
  --out        where runs and report go (default: target/reproduce)
  --set        a config key for every run, such as epochs=10
  --verbose    print a line for each run, and every table at the end

It ends with the answer on one screen; tables go to tables.txt, what the runs said to log.txt. An interrupted run is taken
up again by the same command; finished runs are not redone.";

/// What the arguments ask for.
struct Plan {
    quick: bool,
    data: Vec<String>,
    layout: Option<String>,
    configs: Vec<PathBuf>,
    encoders: String,
    methods: Option<String>,
    seeds: Option<String>,
    jobs: Option<String>,
    out: Option<PathBuf>,
    sets: Vec<String>,
    verbose: bool,
}

impl Plan {
    fn parse(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            quick: false,
            data: Vec::new(),
            layout: None,
            configs: Vec::new(),
            encoders: "frozen".into(),
            methods: None,
            seeds: None,
            jobs: None,
            out: None,
            sets: Vec::new(),
            verbose: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().with_context(|| format!("{arg} needs a value\n\n{USAGE}"));
            match arg.as_str() {
                "--quick" => plan.quick = true,
                "--verbose" => plan.verbose = true,
                "--data" => plan.data.push(value()?),
                "--layout" => plan.layout = Some(value()?),
                "--config" => plan.configs.push(value()?.into()),
                "--encoders" => plan.encoders = value()?,
                "--methods" => plan.methods = Some(value()?),
                "--seeds" => plan.seeds = Some(value()?),
                "--jobs" => plan.jobs = Some(value()?),
                "--out" => plan.out = Some(value()?.into()),
                "--set" => plan.sets.push(value()?),
                other => bail!("unknown argument `{other}`\n\n{USAGE}"),
            }
        }
        if plan.data.is_empty() {
            plan.data = ["emoji", "icons", "clipart"].map(String::from).to_vec();
        }
        Ok(plan)
    }

    /// The folder of the runs: each choice of encoders, and each config, has its own.
    fn runs(&self) -> String {
        let encoders = (self.encoders != "frozen").then(|| self.encoders.replace(',', "-"));
        let configs = self.configs.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
        std::iter::once("runs".to_owned()).chain(encoders).chain(configs).collect::<Vec<_>>().join("-")
    }

    /// Config keys that the choice of encoders brings; given ones come last and win.
    fn sets(&self) -> Result<Vec<String>> {
        let mut sets: Vec<String> = match self.encoders.as_str() {
            "frozen" => Vec::new(),
            "small" => SMALL.iter().map(|s| (*s).to_owned()).collect(),
            pair => {
                let (image, text) = pair.split_once(',').with_context(|| {
                    format!("--encoders {pair}: expected frozen, small, or two names such as small-vit,small-bert")
                })?;
                vec![format!("encoders.image={image}"), format!("encoders.text={text}")]
            }
        };
        if self.quick {
            sets.push("epochs=5".into());
        }
        sets.extend(self.sets.iter().cloned());
        Ok(sets)
    }
}

/// End to end from scratch: chosen on the validation split.
const SMALL: &[&str] = &["encoders.image=small-cnn", "encoders.text=small-bert", "epochs=40", "lr=0.002"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::parse(args)?;
    let minutes =
        if plan.quick { "about a minute" } else { "a few minutes with frozen encoders, hours with trained ones" };
    eprintln!("building (minutes the first time), then training: {minutes}");
    let program = build()?;
    let started = Instant::now();
    let out = plan.out.clone().unwrap_or_else(|| {
        let folder = if plan.quick { "target/reproduce-quick" } else { "target/reproduce" };
        crate::root().join(folder)
    });
    let runs = out.join(plan.runs());
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let log = File::create(out.join("log.txt")).with_context(|| out.display().to_string())?;
    let mut folders = Vec::new();
    for data in &plan.data {
        let name = Path::new(data).file_name().map_or(data.clone(), |n| n.to_string_lossy().into_owned());
        let folder = runs.join(name.replace(':', "-"));
        let mut command = Command::new(&program);
        command.args(["compare", "--data", data, "--out"]).arg(&folder);
        command.args(["--methods", plan.methods.as_deref().unwrap_or(if plan.quick { QUICK } else { "paper" })]);
        command.args(["--seeds", plan.seeds.as_deref().unwrap_or(if plan.quick { "1" } else { "5" })]);
        for (flag, value) in [("--layout", &plan.layout), ("--jobs", &plan.jobs)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        for config in &plan.configs {
            command.arg("--config").arg(config);
        }
        for set in plan.sets()? {
            command.args(["--set", &set]);
        }
        follow(data, &mut command, &log, plan.verbose)?;
        folders.push(folder);
    }
    eprintln!("comparing (about a minute)");
    let [page, tables, summary] = ["report.html", "tables.txt", "summary.json"].map(|name| out.join(name));
    let mut report = Command::new(&program);
    report.arg("report").args(&folders).arg("--out").arg(&page).arg("--summary").arg(&summary);
    report.arg("--tables").arg(&tables).stderr(Stdio::null());
    if plan.verbose {
        report.arg("--verbose");
    }
    println!();
    succeed(&mut report)?;
    println!("\npage     {}\ntables   {}", page.display(), tables.display());
    println!("numbers  {}\ntime     {}", summary.display(), duration(started));
    Ok(())
}

/// Runs a grid to its end. All that it says goes to the log; of its runs one line stands here, the last.
fn follow(data: &str, command: &mut Command, mut log: &File, verbose: bool) -> Result<()> {
    let (started, terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start balgrad")?;
    for line in BufReader::new(child.stderr.take().context("stderr is piped")?).lines() {
        let line = line?;
        writeln!(log, "{data}: {line}")?;
        match line.starts_with('[') {
            true if verbose => eprintln!("{line}"),
            true if terminal => eprint!("\r{line:<80}"),
            true => {}
            false if line.starts_with("next: ") => {}
            false => eprintln!("{data}: {line}"),
        }
    }
    let status = child.wait()?;
    if terminal && !verbose {
        eprint!("\r{:80}\r", "");
    }
    if !status.success() {
        bail!("{data}: the runs ended with {status}; the same command goes on with what is left");
    }
    eprintln!("{data}: done after {}", duration(started));
    Ok(())
}

/// The time since then, for people.
fn duration(since: Instant) -> String {
    match since.elapsed().as_secs() {
        s @ 0..60 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// Rows of the quick pass: the baseline, the paper's method, its control.
const QUICK: &str = "joint,neither,balgrad,joint+dropout";

/// Builds the program as users get it.
pub(crate) fn build() -> Result<PathBuf> {
    let mut cargo = crate::cargo();
    cargo.args(["build", "--release", "--package", "balgrad-trainer"]);
    succeed(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    Ok(target.join("release").join(format!("balgrad{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs a command to its end.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
