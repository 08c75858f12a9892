//! Files that are none, links, and data beyond what is read.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use balgrad_data::modalities::image::decode;
use balgrad_data::{Dataset, ReadOptions, Split, open, open_regular, read_regular};

fn lines(folder: &Path, lines: &[serde_json::Value]) {
    fs::create_dir_all(folder).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(folder.join("manifest.jsonl"), text).unwrap();
}

fn read(folder: &Path) -> Result<Dataset, String> {
    open(folder.to_str().unwrap(), &ReadOptions::default()).map_err(|e| e.to_string())
}

fn line(i: usize, image: &str) -> serde_json::Value {
    let (split, label) = (["train", "val", "test"][i / 2 % 3], ["x", "y"][i % 2]);
    serde_json::json!({"id": i.to_string(), "image": image, "text": "a", "label": label, "split": split})
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_pipe_a_device_and_a_folder_are_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    pipe(&folder.path().join("pipe"));
    for (path, words) in [
        (folder.path().join("pipe"), "it is a pipe, socket or device, not a file"),
        ("/dev/zero".into(), "it is a pipe, socket or device, not a file"),
        (folder.path().to_owned(), "it is a folder, not a file"),
    ] {
        assert_eq!(open_regular(&path).unwrap_err().to_string(), words);
        assert!(read_regular(&path).is_err());
    }
    lines(folder.path(), &(0..6).map(|i| line(i, if i == 0 { "pipe" } else { "" })).collect::<Vec<_>>());
    let said = read(folder.path()).unwrap_or_else(|e| panic!("{e}")).problems;
    assert!(said.iter().any(|p| p.what.contains("the image `pipe` is not a file")), "{said:?}");
    pipe(&folder.path().join("dataset.toml"));
    let error = read(folder.path()).unwrap_err();
    assert!(error.contains("dataset.toml") && error.contains("not a file"), "{error}");
}

#[test]
fn links_are_followed_to_what_lies_beside_the_data_and_no_further() {
    let above = tempfile::tempdir().unwrap();
    let (data, beside) = (above.path().join("kept/data"), above.path().join("kept/base"));
    lines(&data, &(0..6).map(|i| line(i, &format!("{i}.png"))).collect::<Vec<_>>());
    fs::create_dir_all(&beside).unwrap();
    let picture = image::RgbImage::from_pixel(3, 3, image::Rgb([9, 8, 7]));
    picture.save(beside.join("0.png")).unwrap();
    picture.save(above.path().join("secret.png")).unwrap();
    for i in 0..6 {
        let link = data.join(format!("{i}.png"));
        match i {
            // As git writes a link where there are none.
            1 => fs::write(link, "../base/0.png").unwrap(),
            2 => symlink("../../secret.png", link).unwrap(),
            3 => fs::write(link, "../../secret.png").unwrap(),
            _ => symlink("../base/0.png", link).unwrap(),
        }
    }
    let read = read(&data).unwrap();
    let [problem] = &read.problems[..] else { panic!("{:?}", read.problems) };
    assert!(
        problem.what.contains("`2.png` links to neither the data folder nor what lies beside it; copy"),
        "{problem}"
    );
    for sample in &read.samples {
        let opened = decode(sample.parts[0].as_ref().unwrap());
        assert_eq!(opened.is_ok(), sample.id != "3", "{}", sample.id);
    }
}

#[test]
fn classes_of_two_samples_still_give_every_split_some() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("texts")).unwrap();
    let titles = |range: std::ops::Range<usize>| {
        let line = |i: usize| {
            let class = format!("class {}", i % 100);
            let image = folder.path().join("images/train").join(&class).join(format!("{i}.jpg"));
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            fs::write(image, "not looked at").unwrap();
            format!("{i}.jpg,text {i},{class}\n")
        };
        range.map(line).collect::<String>()
    };
    fs::write(folder.path().join("texts/train_titles.csv"), titles(0..200)).unwrap();
    fs::write(folder.path().join("texts/test_titles.csv"), titles(200..220)).unwrap();
    let data = read(folder.path()).unwrap();
    let val = data.indices(Split::Val);
    // 15 % of 200, from as many classes.
    assert_eq!(val.len(), 30, "{:?}", data.notes);
    let mut classes: Vec<u32> = val.iter().map(|&i| data.samples[i].target.classes()[0]).collect();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes.len(), 30);
}

#[test]
fn texts_and_labels_beyond_the_bounds_are_bad_samples() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<serde_json::Value> = (0..8).map(|i| line(i, "")).collect();
    all[6]["text"] = "a".repeat((1 << 20) + 1).into();
    all[7]["label"] = "z".repeat(70_000).into();
    all.iter_mut().for_each(|line| line["image"] = serde_json::Value::Null);
    all[7]["split"] = "test".into();
    lines(folder.path(), &all);
    let data = read(folder.path()).unwrap();
    let said: Vec<&str> = data.problems.iter().map(|p| p.what.as_str()).collect();
    assert!(said[0].contains("a text of 1024 KiB; 1024 at most"), "{said:?}");
    assert!(said[1].starts_with("unknown label `zzz") && said[1].len() < 300, "{said:?}");
}
