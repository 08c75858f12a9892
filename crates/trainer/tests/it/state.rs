//! What stands on the disk can be trusted: damage, other settings, two writers and a closed terminal.

use std::path::Path;

use crate::world::{World, code, json, stderr};

/// Long enough to be stopped on the way.
const LONG: &[&str] = &["--set", "epochs=60"];

/// What the log holds when such a run is stopped.
const FAR: &str = "\"epoch\":2,\"losses\"";

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Lines of steps and epochs, and records of the event file, the version aside.
fn lines_and_records(run: &Path) -> (usize, usize) {
    let events = std::fs::read(run.join("events.out.tfevents.0.balgrad")).unwrap();
    let (mut at, mut records) = (0, 0);
    while at < events.len() {
        at += 16 + u64::from_le_bytes(*events[at..].first_chunk().unwrap()) as usize;
        records += 1;
    }
    assert_eq!(at, events.len());
    (std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count(), records - 1)
}

#[test]
fn a_damaged_file_of_a_finished_run_is_refused_by_name() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &[])), 0);
    let run = world.path("run");
    for (name, arguments) in [
        ("results.json", &["diagnose", "run"][..]),
        ("metrics.jsonl", &["diagnose", "run"]),
        ("model.safetensors", &["evaluate", "run"]),
        ("model.json", &["evaluate", "run"]),
        ("config.toml", &["evaluate", "run"]),
        ("config.toml", &["report", "run", "--out", "report.html"]),
    ] {
        let good = std::fs::read(run.join(name)).unwrap();
        flip(&run.join(name));
        let output = world.run(arguments);
        assert!(code(&output) != 0 && stderr(&output).contains(name), "{name}: {}", stderr(&output));
        std::fs::write(run.join(name), good).unwrap();
    }
    assert_eq!(code(&world.run(&["evaluate", "run"])), 0);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let world = World::new();
    assert_eq!(code(&world.train("whole", LONG)), 0);
    world.train_until("part", LONG, FAR);
    std::fs::write(world.path("part/checkpoint/state.safetensors"), b"").unwrap();
    let events = world.path("part/events.out.tfevents.0.balgrad");
    std::fs::write(&events, &std::fs::read(&events).unwrap()[..30]).unwrap();
    let output = world.train("part", &[LONG, &["--resume"]].concat());
    assert_eq!((code(&output), stderr(&output).contains("the one before")), (0, true), "{}", stderr(&output));
    assert_eq!(world.weights("whole"), world.weights("part"));
    let (lines, records) = lines_and_records(&world.path("part"));
    assert_eq!((lines, records), lines_and_records(&world.path("whole")));
    assert_eq!(lines, records);
}

#[test]
fn what_a_run_left_that_was_killed_in_its_last_moment_goes_at_the_next_start() {
    let world = World::new();
    assert_eq!(code(&world.train("run", &[])), 0);
    let weights = world.weights("run");
    let half = format!("cache/features/a.features.tmp-{}-4194999-0123456789abcdef", balgrad_data::atomic::host());
    std::fs::create_dir_all(world.path("run/checkpoint")).unwrap();
    for left in ["run/.lock", "run/checkpoint/state.safetensors", &half] {
        std::fs::write(world.path(left), b"x").unwrap();
    }
    let output = world.train("run", &["--resume"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for left in ["run/.lock", "run/checkpoint", &half] {
        assert!(!world.path(left).exists(), "{left}");
    }
    assert_eq!(world.weights("run"), weights);
}

#[cfg(target_os = "linux")]
#[test]
fn settings_from_a_pipe_and_texts_without_end_are_refused() {
    let world = World::new();
    assert!(std::process::Command::new("mkfifo").arg(world.path("pipe.toml")).status().unwrap().success());
    let output = world.run(&["train", "--config", "pipe.toml", "--data", "data", "--out", "run"]);
    assert_eq!((code(&output), stderr(&output).contains("it is a pipe")), (2, true), "{}", stderr(&output));
    assert_eq!(code(&world.train("run", &[])), 0);
    let text = |length: usize| format!("{{\"text\":\"{}\"}}\n", "a".repeat(length));
    std::fs::write(world.path("lines.jsonl"), text(1 << 20) + &text((1 << 20) + 1)).unwrap();
    let output = world.run(&["predict", "run", "--jsonl", "lines.jsonl"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let refused = said.lines().nth(1).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 2), "{refused}");
    assert!(refused.starts_with("{\"error\":") && refused.contains("lines.jsonl:2"), "{refused}");
}

#[test]
fn a_log_that_lost_lines_is_not_taken_up() {
    let world = World::new();
    world.train_until("part", LONG, FAR);
    std::fs::write(world.path("part/metrics.jsonl"), b"").unwrap();
    let output = world.train("part", &[LONG, &["--resume"]].concat());
    let says = stderr(&output).contains("metrics.jsonl holds 0 of the");
    assert_eq!((code(&output), says), (1, true), "{}", stderr(&output));
    assert_eq!(std::fs::read(world.path("part/metrics.jsonl")).unwrap(), b"");
}

#[test]
fn other_settings_and_other_data_are_refused_with_the_difference() {
    let world = World::new();
    world.train_until("part", LONG, FAR);
    assert_eq!(code(&world.train("done", LONG)), 0);
    for run in ["part", "done"] {
        let output = world.train(run, &[LONG, &["--resume", "--set", "lr=0.5"]].concat());
        assert_eq!((code(&output), stderr(&output).contains("`lr` is `0.5`")), (2, true), "{}", stderr(&output));
    }
    world.write(|i, line| {
        if i == 0 {
            line["text"] = "changed".into();
        }
    });
    let output = world.train("part", &[LONG, &["--resume"]].concat());
    assert_eq!((code(&output), stderr(&output).contains("have changed")), (2, true), "{}", stderr(&output));
}

#[test]
fn a_run_folder_has_one_writer() {
    let world = World::new();
    std::fs::create_dir(world.path("run")).unwrap();
    let lock = std::fs::File::create(world.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(world.path("run/.lock"), "process 7 on here").unwrap();
    let output = world.train("run", &[]);
    assert_eq!((code(&output), stderr(&output).contains("process 7 on here")), (1, true), "{}", stderr(&output));
    drop(lock);
    let output = world.train("run", &[]);
    assert_eq!((code(&output), world.path("run/.lock").exists()), (0, false), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_does_not_end_training() {
    let world = World::new();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).stderr(full()).stdout(full());
    let _ = command.args(["train", "--data", "data", "--out", "run", "--set", "epochs=2"]).status().unwrap();
    assert!(json(&world.path("run/results.json"))["test"]["full"].is_object());
}
