//! `cargo xtask ci --only Slurm`: the commands of `docs/cluster.md` on a whole Slurm, which this installs and starts.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::reproduce::succeed;

const UP: &str = include_str!("slurm/up.sh");

/// What Debian calls it.
const PACKAGES: [&str; 4] = ["slurmctld", "slurmd", "slurm-client", "munge"];

/// Long enough that a run can be stopped on the way.
const SETS: &str = "--set epochs=40 --set checkpoint_seconds=1";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// An array grid whose tasks are requeued in mid-run, by Slurm and by the signal before a time limit, beside one that a single process
/// did.
pub(crate) fn check(scratch: &Path) -> Result<()> {
    install()?;
    succeed(crate::cargo().args(["build", "--workspace"]))?;
    let scratch = scratch.join("slurm");
    let _ = std::fs::remove_dir_all(&scratch);
    // Munge wants a short path that others cannot write.
    let state = Path::new("/tmp").join(format!("balgrad-slurm-{}", std::process::id()));
    let slurm = Slurm::start(&scratch, &state)?;
    let outcome = grid(&slurm);
    if outcome.is_err() {
        let _ = slurm.bash(&slurm.array, "tail -n 20 slurm-*.out >&2; squeue >&2");
    }
    outcome
}

fn install() -> Result<()> {
    let there = |name: &str| Command::new("which").arg(name).output().is_ok_and(|output| output.status.success());
    if ["slurmctld", "slurmd", "sbatch", "munged"].into_iter().all(there) {
        return Ok(());
    }
    let apt =
        |arguments: &[&str]| succeed(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"][..], &PACKAGES].concat())
        .context("Slurm comes from Debian's packages, and root alone may install them")
}

/// A running Slurm, and two folders to work in: one for an array, one for a single process.
struct Slurm {
    state: PathBuf,
    array: PathBuf,
    single: PathBuf,
}

impl Slurm {
    fn start(scratch: &Path, state: &Path) -> Result<Self> {
        let folders = ["array", "single"].map(|name| scratch.join(name));
        folders.iter().try_for_each(std::fs::create_dir_all)?;
        std::fs::write(scratch.join("up.sh"), UP)?;
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let ports = ports.map(|listener| listener.local_addr().map(|address| address.port().to_string()));
        let mut up = Command::new("bash");
        up.arg(scratch.join("up.sh")).arg(state);
        for port in ports {
            up.arg(port?);
        }
        let [array, single] = folders;
        // Whatever has started is stopped with it.
        let slurm = Self { state: state.to_owned(), array, single };
        succeed(&mut up)?;
        Ok(slurm)
    }

    /// What a script says on standard output.
    fn bash(&self, folder: &Path, script: &str) -> Result<String> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
        let mut paths = vec![target.join("debug")];
        paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut bash = Command::new("bash");
        bash.args(["-e", "-o", "pipefail", "-c", script]).current_dir(folder).env("PATH", std::env::join_paths(paths)?);
        bash.env("SLURM_CONF", self.state.join("slurm.conf")).env("BALGRAD_DATASETS", crate::root().join("datasets"));
        bash.env("BALGRAD_CACHE", folder.join("cache")).env_remove("RAYON_NUM_THREADS");
        let output = bash.stderr(std::process::Stdio::inherit()).output().context("cannot start bash")?;
        ensure!(output.status.success(), "`{script}` ended with {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done(self)? {
            ensure!(began.elapsed() < PATIENCE, "still not after {} s: {what}", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Lines of `squeue`, each a task's number in the array and a field.
    fn queue(&self, field: &str) -> Result<Vec<(String, String)>> {
        let lines = self.bash(&self.array, &format!("squeue --array --noheader --format='%K {field}'"))?;
        Ok(lines.lines().filter_map(|line| line.trim().split_once(' ')).map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for name in ["slurmd", "slurmctld", "munged"] {
            let pid = std::fs::read_to_string(self.state.join(format!("run/{name}.pid")));
            if let Ok(pid) = pid {
                let _ = Command::new("kill").arg(pid.trim()).status();
            }
        }
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// The commands of the page's part on Slurm, all runs longer.
fn commands() -> Result<Vec<String>> {
    let page = std::fs::read_to_string(crate::root().join("docs/cluster.md"))?;
    let part = page.split("\n## ").find(|part| part.starts_with("Slurm\n")).context("docs/cluster.md lacks Slurm")?;
    let block = part.split("```console\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let lines = block.context("docs/cluster.md has no commands for Slurm")?.lines();
    let longer = |line: &str| match line.split_once(" --out runs/grid") {
        Some((before, after)) if line.starts_with("balgrad compare") => {
            format!("{before} --out runs/grid {SETS}{after}")
        }
        _ => line.to_owned(),
    };
    Ok(lines.map(longer).collect())
}

fn grid(slurm: &Slurm) -> Result<()> {
    let commands = commands()?;
    let [count, script, submit, report] = commands.as_slice() else { bail!("docs/cluster.md: four commands on Slurm") };
    let single = script.split(" --sbatch").next().unwrap_or_default();
    eprintln!("one process: {single}");
    slurm.bash(&slurm.single, single)?;
    let runs: usize = slurm.bash(&slurm.array, count)?.trim().parse()?;
    slurm.bash(&slurm.array, script)?;
    eprintln!("an array: {submit}");
    let job = slurm.bash(&slurm.array, &submit.replacen("sbatch ", "sbatch --parsable --cpus-per-task=1 ", 1))?;
    let job = job.trim();
    interrupt(slurm, job)?;
    slurm.wait_until("all tasks end", |slurm| {
        // Slurm holds what was requeued for two minutes.
        for (task, _) in slurm.queue("%T")?.iter().filter(|(_, state)| state == "PENDING") {
            let _ = slurm.bash(&slurm.array, &format!("scontrol update jobid={job}_{task} StartTime=now"));
        }
        Ok(slurm.queue("%T")?.is_empty())
    })?;
    let states = std::fs::read_to_string(slurm.state.join("log/jobs.txt"))?;
    let completed = states.lines().filter(|line| line.contains("JobState=COMPLETED")).count();
    ensure!(completed == runs, "{completed} of {runs} tasks completed:\n{states}");
    let logs = slurm.bash(&slurm.array, "cat slurm-*.out")?;
    let done: Vec<&str> = logs.lines().filter(|line| line.starts_with("[1/1]")).collect();
    let names: BTreeSet<&str> = done.iter().filter_map(|line| line.split(':').next()).collect();
    ensure!(done.len() == runs && names.len() == runs, "each run is done once:\n{logs}");
    slurm.bash(&slurm.array, "for run in runs/grid/*/seed-*; do (cd $run; sha256sum --quiet -c SHA256SUMS); done")?;
    let again = slurm.bash(&slurm.array, "sort runs/grid/*/seed-*/metrics.jsonl | uniq -d | wc -l")?;
    let again_single = slurm.bash(&slurm.single, "sort runs/grid/*/seed-*/metrics.jsonl | uniq -d | wc -l")?;
    ensure!(again == again_single, "steps were logged twice: {again} against {again_single}");
    let left = slurm.bash(&slurm.array, "find runs -name '*.tmp-*' -o -name .lock -o -name checkpoint")?;
    ensure!(left.is_empty(), "left over:\n{left}");
    // All but the time that steps took.
    let results = |folder: &Path| -> Result<String> {
        let page = slurm.bash(folder, report)?;
        let bits = r#"balgrad report runs/grid --out t.csv > /dev/null; cat t.csv; sha256sum runs/grid/*/*/model.safetensors
            sed -E 's/,"seconds":[^,}]*//' runs/grid/*/*/metrics.jsonl"#;
        Ok(page + &slurm.bash(folder, bits)?)
    };
    ensure!(results(&slurm.array)? == results(&slurm.single)?, "the reports differ: {}", slurm.array.display());
    eprintln!("{runs} runs in {runs} tasks, two of them requeued in mid-run: the report is that of one process");
    Ok(())
}

/// Requeues one task in mid-run, and tells another that its time is nearly over.
fn interrupt(slurm: &Slurm, job: &str) -> Result<()> {
    for (which, command) in ["scontrol requeue", "scancel --signal=USR1"].into_iter().enumerate() {
        let mut task = String::new();
        slurm.wait_until("a task is at work", |slurm| {
            let tasks = slurm.queue("%T")?;
            let running = tasks.iter().find(|(id, state)| state == "RUNNING" && !interrupted(slurm, job, id));
            task = running.map(|(id, _)| id.clone()).unwrap_or_default();
            let steps = slurm.bash(&slurm.array, "cat runs/grid/*/seed-*/metrics.jsonl 2>/dev/null | wc -l || true")?;
            Ok(running.is_some() && steps.trim().parse::<usize>()? > 20 * (which + 1))
        })?;
        eprintln!("{command} {job}_{task}");
        slurm.bash(&slurm.array, &format!("{command} {job}_{task}"))?;
        slurm.wait_until("the task leaves", |slurm| {
            Ok(slurm.queue("%T")?.iter().any(|(id, state)| *id == task && state == "PENDING"))
        })?;
        ensure!(interrupted(slurm, job, &task), "the task's log does not say that it was stopped");
    }
    Ok(())
}

/// Whether a task has said that a signal stopped it.
fn interrupted(slurm: &Slurm, job: &str, task: &str) -> bool {
    let log = std::fs::read_to_string(slurm.array.join(format!("slurm-{job}_{task}.out")));
    log.is_ok_and(|log| log.contains("stopped by signal"))
}
