//! A grid over several processes and machines: parts, signals, deaths, and two grids on one folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

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
    let (_whole, expected) = World::unbroken(SMALL);
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
    assert_eq!(parts.report(), expected);
    parts.run_folders().iter().for_each(|run| assert_whole(run));
}

fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    output
}

#[test]
fn a_grid_that_is_killed_leaves_no_process_and_goes_on_where_it_was() {
    let (_whole, expected) = World::unbroken(LONG);
    let world = World::new();
    let (mut grid, runs) = at_work(&world);
    grid.kill().unwrap();
    grid.wait().unwrap();
    wait_until("the runs end with their grid", || !runs.iter().any(|run| lives(*run)));
    for run in &world.run_folders()[..2] {
        assert!(run.join("checkpoint/state.safetensors").is_file(), "{} has saved itself", run.display());
    }
    ended(world.compare(&[LONG]).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(world.report(), expected);
    world.run_folders().iter().for_each(|run| assert_whole(run));
}

#[test]
fn signals_of_schedulers_save_every_run_and_end_the_grid() {
    let (_whole, expected) = World::unbroken(LONG);
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
        if name == "USR2" {
            ended(world.compare(&[LONG]).stderr(Stdio::piped()).spawn().unwrap());
            assert_eq!(world.report(), expected);
            world.run_folders().iter().for_each(|run| assert_whole(run));
        }
    }
}

#[test]
fn two_grids_on_one_folder_share_it() {
    let (_whole, expected) = World::unbroken(SMALL);
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
    assert_eq!(world.report(), expected);
    world.run_folders().iter().for_each(|run| assert_whole(run));
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
    wait_until("the others are done", || world.run_folders()[1..].iter().all(|run| run.join("SHA256SUMS").exists()));
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
