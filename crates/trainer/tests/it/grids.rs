//! A grid over several processes and machines: parts, signals, deaths, and two grids on one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use saphyr_parser::{Event, Parser};
use serde_json::Value;

use crate::world::{World, code, stderr};

/// A grid of four runs of a second or less each.
const GRID: &[&str] = &["--data", "data", "--methods", "joint,balgrad", "--seeds", "2", "--out", "grid"];
const SMALL: &[&str] = &["--set", "width=16", "--set", "batch_size=8", "--set", "epochs=3"];
/// Long enough to be stopped on the way, and no checkpoint but those that a signal asks for.
const LONG: &[&str] =
    &["--set", "width=16", "--set", "batch_size=8", "--set", "epochs=200", "--set", "checkpoint_seconds=9999"];

const RUNS: [&str; 4] = ["joint/seed-0", "balgrad/seed-0", "joint/seed-1", "balgrad/seed-1"];

impl World {
    fn compare(&self, more: &[&[&str]]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
        command.current_dir(self.0.path()).env("BALGRAD_CACHE", self.path("cache")).arg("compare").args(GRID);
        command.args(more.concat());
        command
    }

    /// What a report says of the grid, but for the time it took.
    fn report(&self) -> String {
        let output = self.run(&["report", "grid", "--summary", "summary.json"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let summary = std::fs::read_to_string(self.path("summary.json")).unwrap();
        let timeless = summary.lines().filter(|line| !line.contains("wall_seconds"));
        String::from_utf8(output.stdout).unwrap() + &timeless.collect::<Vec<_>>().join("\n")
    }

    fn run_folders(&self) -> [PathBuf; 4] {
        RUNS.map(|run| self.path("grid").join(run))
    }

    /// Every file of every run by its path: results and log without the time and memory taken, and neither checksums nor the event file, which
    /// depend on the time.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.path("grid")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_dir() {
                    folders.push(path);
                } else if name == "results.json" {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let taken = ["wall_seconds", "peak_rss_bytes", "steps_per_second"];
                    let kept: String =
                        text.lines().filter(|line| !taken.iter().any(|key| line.contains(key))).collect();
                    all.insert(path, kept.into_bytes());
                } else if name == "metrics.jsonl" {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
                    all.insert(path, serde_json::to_vec(&lines).unwrap());
                } else if name != "SHA256SUMS" && !name.starts_with("events.") {
                    let bytes = std::fs::read(&path).unwrap();
                    all.insert(path, bytes);
                }
            }
        }
        all.into_iter().map(|(path, bytes)| (path.strip_prefix(self.0.path()).unwrap().to_owned(), bytes)).collect()
    }

    /// The same report as of another grid, and the same files, to the bit.
    fn assert_same(&self, (other, report): &(Self, String)) {
        assert_eq!(self.report(), *report);
        let (mine, others) = (self.files(), other.files());
        assert!(mine.keys().eq(others.keys()), "{:?}", mine.keys());
        for (path, bytes) in &mine {
            assert!(*bytes == others[path], "{} differs", path.display());
        }
        self.run_folders().iter().for_each(|run| assert_whole(run));
    }

    /// A grid of one process, never stopped.
    fn unbroken(sets: &[&str]) -> (Self, String) {
        let world = Self::new();
        let output = world.compare(&[sets]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let report = world.report();
        (world, report)
    }
}

/// Every step and epoch of a run stands in its log once and in order, and nothing half-written is beside it.
fn assert_whole(run: &Path) {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!(lines.len(), text.lines().count(), "{}", run.display());
    let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.contains(".tmp-") || name == ".lock").collect();
    assert!(left.is_empty(), "{}: {left:?}", run.display());
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("two minutes were not enough: {what}");
}

/// Processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn signal(name: &str, to: &str) {
    assert!(Command::new("kill").args(["-s", name, "--", to]).status().unwrap().success());
}

/// Starts a grid of two long runs at a time, and waits until both are at work.
fn at_work(world: &World) -> (Child, Vec<u32>) {
    use std::os::unix::process::CommandExt;
    let mut command = world.compare(&[LONG, &["--jobs", "2"]]);
    let grid = command.process_group(0).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = |run: &PathBuf| std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    wait_until("two runs at work", || {
        world.run_folders()[..2].iter().all(|run| log(run).contains("\"epoch\":2,\"losses\""))
    });
    let runs = children(grid.id());
    assert_eq!(runs.len(), 2);
    (grid, runs)
}

#[test]
fn a_grid_in_parts_gives_the_report_of_a_grid_of_one_machine() {
    let whole = World::unbroken(SMALL);
    let parts = World::new();
    let slurm = |id: &str| {
        let variables = [("ID", id), ("MIN", "1"), ("MAX", "3"), ("COUNT", "3")];
        let mut command = parts.compare(&[SMALL, &["--shard", "auto"]]);
        command.envs(variables.map(|(name, value)| (format!("SLURM_ARRAY_TASK_{name}"), value)));
        command.stderr(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let count = |mut command: Command| -> usize {
        let output = command.arg("--count").output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    assert_eq!(count(parts.compare(&[SMALL])), 4);
    assert_eq!(["1", "2", "3"].map(|id| count(slurm(id))), [2, 1, 1]);
    assert!(!parts.path("grid").exists(), "--count makes nothing");
    let tasks = ["1", "2", "3"].map(|id| slurm(id).spawn().unwrap());
    let said: String = tasks.map(|task| stderr(&ended(task))).concat();
    assert_eq!(said.matches(" seed ").count(), 4, "{said}");
    parts.assert_same(&whole);
}

/// What the program prints and does not do.
fn printed(world: &World, more: &[&str]) -> String {
    let output = world.compare(&[SMALL, more]).output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    assert!(!world.path("grid").exists(), "{more:?} makes nothing");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_task_is_told_its_part_by_kubernetes_and_hyperqueue() {
    let world = World::new();
    for variable in ["JOB_COMPLETION_INDEX", "HQ_TASK_ID"] {
        let told =
            |task: &str| world.compare(&[&["--count", "--shard", "auto/3"]]).env(variable, task).output().unwrap();
        let counts = ["0", "1", "2"].map(|task| String::from_utf8(told(task).stdout).unwrap());
        assert_eq!(counts, ["2\n", "1\n", "1\n"], "{variable}");
        assert_eq!(code(&told("3")), 2, "{variable}");
    }
}

#[test]
fn the_script_for_slurm_requeues_a_task_whose_time_is_over_and_no_other() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    assert!(printed(&world, &["--sbatch"]).contains("\n#SBATCH --array=0-3\n"));
    assert!(printed(&world, &["--sbatch=99"]).contains("\n#SBATCH --array=0-3\n"), "no task without a run");
    let script = printed(&world, &["--sbatch=3"]);
    assert!(script.contains("\n#SBATCH --array=0-2\n") && script.contains("\n#SBATCH --requeue\n"), "{script}");
    std::fs::write(world.path("grid.sh"), &script).unwrap();
    assert!(Command::new("bash").args(["-n", "grid.sh"]).current_dir(world.0.path()).status().unwrap().success());
    // In the place of Slurm's: one that ends as it is told, and one that writes down what it is asked.
    for (name, body) in
        [("srun", "printf '%s\\n' \"$@\" > srun.txt; exit $CODE"), ("scontrol", "echo $* >> scontrol.txt")]
    {
        std::fs::create_dir_all(world.path("bin")).unwrap();
        let path = world.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let paths = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    for (ends, asked) in [(0, ""), (1, ""), (143, ""), (138, "requeue 77\n")] {
        let mut bash = Command::new("bash");
        bash.arg(world.path("grid.sh")).env("PATH", &paths).env("CODE", ends.to_string());
        bash.env("SLURM_JOB_ID", "77").env("SLURM_CPUS_PER_TASK", "2");
        assert_eq!(bash.status().unwrap().code(), Some(ends));
        assert_eq!(std::fs::read_to_string(world.path("scontrol.txt")).unwrap_or_default(), asked, "{ends}");
    }
    let words = std::fs::read_to_string(world.path("srun.txt")).unwrap();
    let words: Vec<&str> = words.lines().skip_while(|word| *word != "compare").skip(1).collect();
    assert_eq!(words, [GRID, SMALL, &["--shard", "auto"]].concat());
}

/// A YAML document, every scalar as a string.
fn yaml(text: &str) -> Value {
    fn node<'a>(event: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) -> Option<Value> {
        Some(match event {
            Event::Scalar(text, ..) => text.into_owned().into(),
            Event::SequenceStart(..) => {
                let mut all = Vec::new();
                while let Some(item) = node(events.next()?, events) {
                    all.push(item);
                }
                all.into()
            }
            Event::MappingStart(..) => {
                let mut all = serde_json::Map::new();
                while let Some(key) = node(events.next()?, events) {
                    let value = node(events.next()?, events)?;
                    assert!(all.insert(key.as_str()?.to_owned(), value).is_none(), "{key} twice");
                }
                all.into()
            }
            _ => return None,
        })
    }
    let events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let mut events = events.filter(|event| !matches!(event, Event::StreamStart | Event::DocumentStart(_)));
    let document = node(events.next().unwrap(), &mut events).unwrap();
    assert!(matches!((events.next(), events.next()), (Some(Event::DocumentEnd), Some(Event::StreamEnd))), "{text}");
    document
}

#[test]
fn the_manifest_for_kubernetes_names_as_many_pods_as_parts() {
    let world = World::new();
    for (flag, pods) in [("--kubernetes", "4"), ("--kubernetes=3", "3")] {
        let job = yaml(&printed(&world, &[flag]));
        assert_eq!((job["kind"].as_str(), job["apiVersion"].as_str()), (Some("Job"), Some("batch/v1")));
        let spec = &job["spec"];
        assert_eq!(spec["completionMode"], "Indexed");
        assert_eq!((spec["completions"].as_str(), spec["parallelism"].as_str()), (Some(pods), Some(pods)));
        let words = &spec["template"]["spec"]["containers"][0]["command"];
        let part = format!("auto/{pods}");
        assert_eq!(*words, serde_json::json!([&["balgrad", "compare"], GRID, SMALL, &["--shard", &part]].concat()));
    }
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    output
}

#[test]
fn a_grid_that_is_killed_leaves_no_process_and_goes_on_where_it_was() {
    let whole = World::unbroken(LONG);
    let world = World::new();
    let (mut grid, runs) = at_work(&world);
    grid.kill().unwrap();
    grid.wait().unwrap();
    wait_until("the runs end with their grid", || !runs.iter().any(|run| lives(*run)));
    for run in &world.run_folders()[..2] {
        assert!(run.join("checkpoint/state.safetensors").is_file(), "{} has saved itself", run.display());
    }
    ended(world.compare(&[LONG]).stderr(Stdio::piped()).spawn().unwrap());
    world.assert_same(&whole);
}

#[test]
fn signals_of_schedulers_save_every_run_and_end_the_grid() {
    let whole = World::unbroken(LONG);
    // To the grid alone, as `scancel --batch` does; to all of it, as Slurm does to a step, and a terminal.
    for (name, number, group) in [("USR1", 10, false), ("USR2", 12, true), ("TERM", 15, true)] {
        let world = World::new();
        let (grid, runs) = at_work(&world);
        signal(name, &format!("{}{}", if group { "-" } else { "" }, grid.id()));
        let output = grid.wait_with_output().unwrap();
        assert_eq!(code(&output), 128 + number, "{name}: {}", stderr(&output));
        assert!(!runs.iter().any(|run| lives(*run)), "{name}");
        for run in &world.run_folders()[..2] {
            assert!(run.join("checkpoint/state.safetensors").is_file(), "{name}: {} has saved itself", run.display());
        }
        if name != "TERM" {
            ended(world.compare(&[LONG]).stderr(Stdio::piped()).spawn().unwrap());
            world.assert_same(&whole);
        }
    }
}

#[test]
fn two_grids_on_one_folder_share_it() {
    let whole = World::unbroken(SMALL);
    let world = World::new();
    let mut command = world.compare(&[SMALL]);
    let two = [(); 2].map(|()| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let waiting = std::thread::spawn(|| two.map(ended));
    // A run that is finished is not touched again.
    let mut finished = BTreeMap::new();
    let time = |run: &PathBuf| std::fs::metadata(run.join("results.json")).and_then(|file| file.modified()).unwrap();
    wait_until("both grids end", || {
        for run in world.run_folders().into_iter().filter(|run| run.join("results.json").exists()) {
            finished.entry(run.clone()).or_insert_with(|| time(&run));
        }
        waiting.is_finished()
    });
    waiting.join().unwrap();
    assert_eq!(finished.len(), 4);
    assert!(finished.iter().all(|(run, then)| time(run) == *then));
    world.assert_same(&whole);
}

#[test]
fn a_run_that_another_process_writes_is_left_to_it_and_done_when_it_is_free() {
    let world = World::new();
    let run = world.path("grid/joint/seed-0");
    std::fs::create_dir_all(&run).unwrap();
    let lock = std::fs::File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(run.join(".lock"), "process 7 on node12").unwrap();
    let grid = world.compare(&[SMALL]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the others are done", || world.run_folders()[1..].iter().all(|run| run.join("results.json").exists()));
    assert!(!run.join("metrics.jsonl").exists());
    drop(lock);
    let said = stderr(&ended(grid));
    assert_eq!(said.matches("is being written by process 7 on node12").count(), 1, "{said}");
    world.run_folders().iter().for_each(|run| assert_whole(run));
}

#[test]
fn slurm_decides_how_many_threads_a_run_takes() {
    let world = World::new();
    let mut command = world.compare(&[LONG]);
    let mut grid =
        command.env("SLURM_CPUS_PER_TASK", "1").env_remove("RAYON_NUM_THREADS").stderr(Stdio::null()).spawn().unwrap();
    let mut runs = Vec::new();
    wait_until("a run at work", || {
        runs = children(grid.id());
        !runs.is_empty() && world.path("grid/joint/seed-0/metrics.jsonl").exists()
    });
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", runs[0])).unwrap();
    let told = environment.split('\0').any(|variable| variable == "RAYON_NUM_THREADS=1");
    let at_once = runs.len();
    grid.kill().unwrap();
    grid.wait().unwrap();
    assert!(told && at_once == 1, "{at_once} runs, {environment}");
    wait_until("the run ends with its grid", || !lives(runs[0]));
}

/// The files of a cache of features, by name.
fn features(world: &World, cache: &str) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(world.path(cache).join("features")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn features_computed_in_parts_have_the_bits_of_those_computed_at_once() {
    let world = World::new();
    let compute = |cache: &str, more: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
        command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path(cache));
        let output = command.args(["features", "--data", "data"]).args(more).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    compute("whole", &[]);
    let whole = features(&world, "whole");
    compute("parts", &["--shard", "0/2"]);
    let parts = features(&world, "parts");
    assert!(!parts.is_empty() && parts.keys().all(|name| name.ends_with(".part")), "{:?}", parts.keys());
    compute("parts", &["--shard", "1/2"]);
    assert_eq!(features(&world, "parts").len(), whole.len() + 2, "36 samples to learn from are two batches");
    compute("parts", &[]);
    assert!(features(&world, "parts") == whole);
}
