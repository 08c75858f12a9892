//! What people see: lists, progress, suggestions, and how to go on.

use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;

use crate::world::{World, code, json, stderr};

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn lists_fit_eighty_columns_and_methods_stand_in_families() {
    let world = World::new();
    for list in ["methods", "layouts", "encoders", "fusions", "keys"] {
        fits(&stdout(&world.run(&[list])));
    }
    let said = stdout(&world.run(&["methods"]));
    let of = |line: &str| said.lines().position(|l| l == line || l.starts_with(&format!("  {line} "))).unwrap();
    for family in balgrad::FAMILIES {
        let title = of(family.title);
        assert!(family.methods.iter().all(|m| of(m.name) > title), "{}: {said}", family.title);
    }
    let first = |name: &str| said.lines().filter(|l| l.starts_with(&format!("  {name} "))).count();
    assert!(balgrad::METHODS.iter().all(|m| first(m.name) == 1), "{said}");
    let one = stdout(&world.run(&["methods", "balgrad"]));
    fits(&one);
    assert!(one.contains("Kwon et al.") && one.contains("--set method.share=norm"), "{one}");
    let unknown = world.run(&["methods", "balgard"]);
    assert_eq!((code(&unknown), stderr(&unknown).contains("did you mean `balgrad`?")), (2, true));
}

#[test]
fn suggestions_are_sensible_or_absent() {
    let world = World::new();
    let train = |more: &[&str]| world.run(&[&["train", "--out", "run"], more].concat());
    for (more, says) in [
        (&["--data", "data", "--set", "learning_rte=1"][..], "did you mean `lr`?"),
        (&["--data", "data", "--learning-rate", "1"], "--set lr=VALUE"),
        (&["--data", "data", "--epochs=3"], "--set epochs=VALUE"),
        (&["--data", "emojis"], "did you mean `emoji`?"),
        (&["--data", "data", "--layout", "parqet"], "did you mean `parquet`?"),
        (&["--data", "data", "--method", "blagrad"], "did you mean `balgrad`?"),
    ] {
        let output = train(more);
        assert_eq!((code(&output), stderr(&output).contains(says)), (2, true), "{more:?}: {}", stderr(&output));
    }
    for more in [
        &["--data", "products"][..],
        &["--data", "data", "--set", "xx=1"],
        &["--data", "data", "--layout", "zip"],
        &["--data", "data", "--method", "transformer"],
    ] {
        let output = train(more);
        assert_eq!((code(&output), stderr(&output).contains("did you mean")), (2, false), "{}", stderr(&output));
    }
}

#[test]
fn progress_says_epoch_validation_skipped_and_time_left_within_eighty_columns() {
    let world = World::new();
    world.write(|i, line| {
        if i == 1 {
            line["image"] = "images/nowhere.png".into();
        }
    });
    let quick = ["--set", "epochs=2", "--set", "width=16"];
    let said = stderr(&world.run(&[&["train", "--data", "data"][..], &quick].concat()));
    let epochs: Vec<&str> = said.lines().filter(|l| l.starts_with("epoch ")).collect();
    assert_eq!(epochs.len(), 2, "{said}");
    for (line, start) in epochs.iter().zip(["epoch 1/2  loss ", "epoch 2/2  loss "]) {
        fits(line);
        assert!(line.starts_with(start) && line.contains("  validation ") && line.contains("  eta "), "{line}");
        assert!(line.ends_with("1 skipped"), "{line}");
    }
    // A run without --out is named after its data, and never lands in another's folder.
    assert!(said.contains("next: balgrad report runs/data --out report.html"), "{said}");
    assert!(stderr(&world.run(&[&["train", "--data", "data"][..], &quick].concat())).contains("runs/data-2"));
    let methods = ["--methods", "joint,balgrad:share=loss:refresh=2+dropout", "--seeds", "1"];
    let output = world.run(&[&["compare", "--data", "data", "--out", "grid"][..], &methods, &quick].concat());
    let said = stderr(&output);
    let runs: Vec<&str> = said.lines().filter(|l| l.starts_with('[')).collect();
    assert_eq!((code(&output), runs.len()), (0, 2), "{said}");
    for line in runs {
        fits(line);
        for word in ["epoch ", "validation ", "test ", "1 skipped", "eta "] {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    assert!(said.contains("next: balgrad report grid --out report.html"), "{said}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_the_command_that_goes_on_and_it_does() {
    let world = World::new();
    let sets = ["--set", "epochs=60", "--set", "width=16", "--set", "batch_size=8", "--method", "balgrad+dropout"];
    let train = |out: &str| [&["train", "--data", "data", "--out", out][..], &sets].concat().join(" ");
    assert_eq!(code(&world.run(&train("whole").split(' ').collect::<Vec<_>>())), 0);
    let mut command = Command::new(cargo_bin("balgrad"));
    command.current_dir(world.0.path()).env("BALGRAD_CACHE", world.path("cache")).stderr(Stdio::piped());
    let child = command.args(train("part").split(' ')).spawn().unwrap();
    let log = world.path("part/metrics.jsonl");
    for _ in 0..10_000 {
        if std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"epoch\":2,\"losses\"")) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(code(&output), 130, "{said}");
    let last = said.lines().last().unwrap();
    let (_, go_on) = last.split_once("to go on: balgrad ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(go_on, "train --resume part");
    let output = world.run(&go_on.split(' ').collect::<Vec<_>>());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(world.weights("whole"), world.weights("part"));
    assert_eq!(json(&world.path("part/results.json"))["label"], "balgrad+dropout");
}

#[test]
fn what_cannot_be_resumed_is_said() {
    let world = World::new();
    for (args, says) in [
        (&["train", "--resume", "nowhere"][..], "nowhere holds no run to go on with"),
        (&["train", "--data", "data", "--resume"], "--resume RUN"),
        (&["train", "--data", "data", "--out", "a", "--resume", "b"], "name different folders"),
    ] {
        let output = world.run(args);
        assert_eq!((code(&output), stderr(&output).contains(says)), (2, true), "{}", stderr(&output));
    }
}
