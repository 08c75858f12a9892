//! What `balgrad diagnose` makes of runs whose answers are made up.

use std::path::{Path, PathBuf};

use balgrad_trainer::record::Condition;
use balgrad_trainer::report::{Diagnosis, Kind, collect, diagnose};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::synthetic::{Data, write_predicted};
use crate::world::{code, stderr};

const SAMPLES: usize = 400;

/// What a run answers under a condition: the fraction that is right, and how sure it is of each answer.
type Skill = (f64, f32);

/// A run that answers so under full, missing-image, missing-text, and by image and text alone.
fn write(folder: &Path, method: &str, seed: u64, skills: [Skill; 5]) {
    let data = Data { samples: SAMPLES, ..Data::emoji() };
    let [full, no_image, no_text, image, text] = skills;
    let by_condition = [full, no_image, no_text, full, full, image, text];
    let predicted =
        Condition::all(&["image", "text"]).into_iter().zip(by_condition).map(|(condition, (right, sure))| {
            let truth = |i: usize| i % 4;
            let row = |i: usize| {
                let answer = (truth(i) + usize::from((i / 4) % 100 >= (100.0 * right).round() as usize)) % 4;
                (0..4).map(|c| if c == answer { sure } else { (1.0 - sure) / 3.0 }).collect()
            };
            let labels = (0..SAMPLES).map(|i| vec![truth(i) as u32]).collect();
            (condition, (0..SAMPLES).map(row).collect(), labels)
        });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    write_predicted(folder, &data, method, seed, 0.0, &mut rng, predicted.collect());
}

fn found(skills: [Skill; 5]) -> Diagnosis {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "joint", 0, skills);
    diagnose(&collect(&[folder.path().to_owned()]).unwrap().runs[0]).unwrap()
}

fn kinds(diagnosis: &Diagnosis) -> Vec<(Kind, Option<&str>)> {
    diagnosis.findings.iter().map(|f| (f.kind, f.modality.as_deref())).collect()
}

/// The advice of the finding of a kind.
fn advice(diagnosis: &Diagnosis, kind: Kind) -> &str {
    diagnosis.findings.iter().find(|f| f.kind == kind).unwrap().advice.as_deref().unwrap()
}

#[test]
fn a_model_at_chance_is_told_to_look_at_its_data_and_nothing_else() {
    let at_chance = found([(0.27, 0.4), (0.25, 0.41), (0.26, 0.42), (0.25, 0.43), (0.24, 0.44)]);
    assert_eq!(kinds(&at_chance), [(Kind::NearChance, None)]);
    assert!(
        at_chance.scores.contains("full 27.0") && at_chance.scores.contains("guessing: 25.0"),
        "{}",
        at_chance.scores
    );
    assert!(advice(&at_chance, Kind::NearChance).contains("balgrad check --data emoji"));
}

#[test]
fn a_modality_whose_absence_changes_no_answer_is_absent() {
    let absent = found([(0.8, 0.8), (0.8, 0.8), (0.25, 0.41), (0.25, 0.42), (0.8, 0.81)]);
    assert_eq!(kinds(&absent), [(Kind::Absent, Some("image"))]);
    assert!(absent.findings[0].says.contains("100 % of answers stay the same"), "{}", absent.findings[0].says);
    assert!(advice(&absent, Kind::Absent).contains("balgrad check --data emoji"));
}

#[test]
fn a_modality_that_helps_neither_alone_nor_with_others_is_useless() {
    let useless = found([(0.8, 0.8), (0.79, 0.81), (0.27, 0.4), (0.26, 0.41), (0.8, 0.79)]);
    assert_eq!(kinds(&useless), [(Kind::Useless, Some("image"))]);
    let advice = advice(&useless, Kind::Useless);
    assert!(advice.contains("encoders.image=NAME") && advice.contains("--method text-only"), "{advice}");
}

#[test]
fn a_modality_that_others_make_up_for_is_no_fault() {
    let fine = found([(0.8, 0.8), (0.79, 0.81), (0.78, 0.79), (0.75, 0.76), (0.77, 0.78)]);
    assert_eq!(
        kinds(&fine),
        [(Kind::Redundant, Some("image")), (Kind::Redundant, Some("text")), (Kind::Balanced, None)]
    );
    assert!(fine.findings.iter().all(|f| f.advice.is_none()), "{fine:?}");
}

#[test]
fn a_model_that_is_surer_than_right_without_its_image_is_overconfident() {
    let sure = found([(0.8, 0.8), (0.4, 0.85), (0.6, 0.62), (0.6, 0.61), (0.4, 0.41)]);
    assert_eq!(kinds(&sure), [(Kind::Dominant, Some("image")), (Kind::Overconfident, Some("image"))]);
    let says = &sure.findings[1].says;
    assert!(says.contains("sure of 85 % and right in 40 %"), "{says}");
    assert!(sure.findings[0].says.contains("goes from 80.0 to 40.0"), "{}", sure.findings[0].says);
    assert!(advice(&sure, Kind::Dominant).contains("--set modality_dropout=0.2 --out"));
    // As sure without as with the image, and as right: nothing of the kind.
    let calibrated = found([(0.8, 0.8), (0.4, 0.42), (0.6, 0.62), (0.6, 0.61), (0.4, 0.41)]);
    assert_eq!(kinds(&calibrated), [(Kind::Dominant, Some("image"))]);
}

#[test]
fn the_command_says_what_to_do_within_eighty_columns() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write(&run, "joint", 0, [(0.8, 0.8), (0.4, 0.85), (0.6, 0.62), (0.6, 0.61), (0.4, 0.41)]);
    let said = said(folder.path(), "run");
    for words in
        ["accuracy: full 80.0", "The image dominates", "→ Drop modalities", "--config run/config.toml", "--out run-2"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert!(!said.contains("Nothing to do"), "{said}");
}

#[test]
fn a_grid_is_diagnosed_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let run = |row: &str, seed: u64| -> PathBuf { folder.path().join(format!("grid/{row}/seed-{seed}")) };
    for seed in 0..3 {
        write(&run("joint", seed), "joint", seed, [(0.8, 0.8), (0.4, 0.45), (0.6, 0.62), (0.6, 0.61), (0.4, 0.41)]);
        write(&run("chorus", seed), "chorus", seed, [(0.8, 0.8), (0.62, 0.63), (0.6, 0.62), (0.6, 0.61), (0.6, 0.59)]);
    }
    let said = said(folder.path(), "grid");
    let line = |start: &str| said.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned();
    assert!(said.contains("emoji: 6 runs"), "{said}");
    assert!(line("joint").contains("full 80.0  one missing 50.0  image dominates"), "{said}");
    assert!(line("chorus").contains("full 80.0  one missing 61.0  balanced"), "{said}");
    assert!(said.contains("Best, with and without a modality: chorus"), "{said}");
    assert!(said.contains("balgrad report grid --out report.html"), "{said}");
}

fn said(folder: &Path, run: &str) -> String {
    let mut command = assert_cmd::Command::cargo_bin("balgrad").unwrap();
    let output = command.current_dir(folder).args(["diagnose", run]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}
