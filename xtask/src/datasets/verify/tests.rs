#![allow(clippy::unwrap_used)]

use super::super::manifest::{Description, Metric, Sample};
use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40";

fn sample(id: &str, label: &str, split: Split) -> Sample {
    Sample {
        id: id.into(),
        image: format!("images/{id}.png"),
        text: format!("text of {id}"),
        label: Label::One(label.into()),
        split,
        group: id.into(),
    }
}

fn valid() -> Dataset {
    let mut samples = Vec::new();
    for (at, split) in Split::ALL.into_iter().enumerate() {
        samples.push(sample(&format!("n{at}"), "no", split));
        samples.push(sample(&format!("y{at}"), "yes", split));
    }
    let description = Description {
        name: "tiny".into(),
        task: Task::Binary,
        metric: Metric::Accuracy,
        licence: "MIT".into(),
        source: "a test".into(),
        show_samples: true,
        classes: vec!["no".into(), "yes".into()],
    };
    Dataset { description, samples }
}

/// A folder with the data set's files; `spoil` has the last word before the sums are written.
fn laid_out(dataset: &Dataset, spoil: impl Fn(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("images")).unwrap();
    fs::create_dir_all(path.join("LICENSES")).unwrap();
    fs::write(path.join("LICENSES/MIT.txt"), "MIT").unwrap();
    for sample in &dataset.samples {
        fs::write(path.join(&sample.image), PNG).unwrap();
    }
    dataset.write(path, None).unwrap();
    let blank = "# tiny\n<!-- counts: written by `cargo xtask datasets build` -->\n<!-- end of counts -->\n";
    let readme = counts::in_readme(blank, &[Dataset::read(path, None).unwrap()]).unwrap();
    fs::write(path.join("README.md"), readme).unwrap();
    spoil(path);
    sums::write(path).unwrap();
    folder
}

/// Changes the valid data set, and expects exactly one kind of complaint about it.
#[track_caller]
fn complains(about: &str, change: impl Fn(&mut Dataset)) {
    let mut dataset = valid();
    change(&mut dataset);
    let home = laid_out(&dataset, |_| {});
    let problems = folder(home.path(), "tiny").unwrap();
    assert!(!problems.is_empty(), "nothing found, expected `{about}`");
    assert!(problems.iter().all(|problem| problem.contains(about)), "expected `{about}`, found {problems:#?}");
}

#[test]
fn a_valid_folder_has_no_problem() {
    assert_eq!(folder(laid_out(&valid(), |_| {}).path(), "tiny").unwrap(), Vec::<String>::new());
}

#[test]
fn each_rule_is_enforced() {
    complains("the name is `large`", |data| {
        data.description.name = "large".into();
    });
    complains("appears twice", |data| {
        data.samples[1].id = data.samples[0].id.clone();
    });
    complains("is in train and in test", |data| {
        data.samples[5].group = "n0".into();
    });
    complains("is not a class", |data| {
        data.samples.push(sample("m", "maybe", Split::Train));
    });
    complains("has no sample in some split", |data| {
        data.samples[2].split = Split::Train;
    });
    complains("the text is empty", |data| {
        data.samples[0].text = " ".into();
    });
    complains("does not have the form", |data| {
        data.samples[0].label = Label::Many(vec!["no".into()]);
    });
    complains("licence `GPL-3.0-only`", |data| {
        data.description.licence = "MIT AND GPL-3.0-only".into();
    });
    complains("licence `free`", |data| {
        data.description.licence = "free".into();
    });
    complains("a class is named twice", |data| {
        data.description.classes.push("no".into());
    });
}

#[track_caller]
fn complains_of_file(about: &str, spoil: impl Fn(&Path)) {
    let home = laid_out(&valid(), spoil);
    let problems = folder(home.path(), "tiny").unwrap();
    assert!(problems.len() == 1 && problems[0].contains(about), "expected `{about}`, found {problems:#?}");
}

#[test]
fn images_must_be_png_of_the_right_size_and_in_use() {
    complains_of_file("not a PNG", |path| {
        fs::write(path.join("images/n0.png"), "GIF89a").unwrap();
    });
    complains_of_file("not 64x64", |path| {
        let mut bytes = PNG.to_vec();
        bytes[23] = 0x3f;
        fs::write(path.join("images/n0.png"), bytes).unwrap();
    });
    complains_of_file("images/stray.png: no manifest uses it", |path| {
        fs::write(path.join("images/stray.png"), PNG).unwrap();
    });
}

#[test]
fn changed_missing_and_unlisted_files_are_named() {
    let home = laid_out(&valid(), |_| {});
    fs::write(home.path().join("LICENSES/MIT.txt"), "changed").unwrap();
    fs::write(home.path().join("notes.txt"), "new").unwrap();
    fs::remove_file(home.path().join("images/y2.png")).unwrap();
    let problems = folder(home.path(), "tiny").unwrap().join("\n");
    for about in ["LICENSES/MIT.txt: SHA-256 is", "notes.txt: not listed", "images/y2.png: missing"] {
        assert!(problems.contains(about), "expected `{about}`, found {problems}");
    }
}

#[test]
fn counts_in_the_readme_must_be_current() {
    complains_of_file("its counts are not those", |path| {
        let readme = fs::read_to_string(path.join("README.md")).unwrap();
        fs::write(path.join("README.md"), readme.replace("| no | 1 |", "| no | 2 |")).unwrap();
    });
}
