//! Memory holds the index and the queue of the loader, however much data there is: measured in processes of their own, which
//! are this program, told by variables what to do.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use balgrad::Value;
use balgrad_data::Split;
use candle_core::Device;

use crate::config::Config;
use crate::evaluator::readers;
use crate::session::Session;

/// What this process holds beside mapped files, in bytes.
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A folder of `samples`, whose images are `files` files of `side` pixels.
fn world(samples: usize, files: usize, side: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("images")).unwrap();
    for i in 0..files {
        let shade = |x: u32, y: u32| image::Rgb([(x * 3 + i as u32) as u8, (y * 5) as u8, (x ^ y) as u8]);
        image::RgbImage::from_fn(side, side, shade).save(folder.path().join(format!("images/{i}.jpg"))).unwrap();
    }
    let mut manifest = String::new();
    for i in 0..samples {
        let (file, class) = (i % files, ["odd", "even"][i % 2]);
        let split = match i % 50 {
            0 => "val",
            1 => "test",
            _ => "train",
        };
        writeln!(
            manifest,
            r#"{{"id": "sample-{i}", "image": "images/{file}.jpg", "text": "the text of sample {i}, some words long", "label": "{class}", "split": "{split}"}}"#
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("manifest.jsonl"), manifest).unwrap();
    folder
}

/// What the index holds, and what an epoch over the training split adds at its most, in MiB.
fn epoch(folder: &Path, encoders: [&str; 2], size: u32) -> (usize, usize) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "split_data::memory::one_epoch", "--ignored", "--nocapture"])
        .env("BALGRAD_CACHE", folder.join("cache"))
        .envs([("EPOCH_FOLDER", folder.to_str().unwrap()), ("EPOCH_SIZE", &size.to_string())])
        .envs([("EPOCH_IMAGE", encoders[0]), ("EPOCH_TEXT", encoders[1])])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let figures = said.lines().find_map(|line| line.split_once("MiB: ")).unwrap_or_else(|| panic!("{said}")).1;
    let mut figures = figures.split(' ').map(|figure| figure.parse().unwrap());
    (figures.next().unwrap(), figures.next().unwrap())
}

#[test]
#[ignore = "run by the others"]
fn one_epoch() {
    let Ok(folder) = std::env::var("EPOCH_FOLDER") else { return };
    let before = held();
    let word = |name: &str| Value::parse(&std::env::var(name).unwrap());
    let sets = [
        ("data", Value::Word(folder)),
        ("encoders.image", word("EPOCH_IMAGE")),
        ("encoders.text", word("EPOCH_TEXT")),
        ("image_size", word("EPOCH_SIZE")),
        ("workers", Value::Count(2)),
    ];
    let config = Config::load(&[] as &[&Path], &sets.map(|(key, value)| (key.to_owned(), value))).unwrap();
    let session = Session::new(&config).unwrap();
    let train = session.training_split().unwrap();
    assert_eq!(train.len(), session.dataset().indices(Split::Train).len());
    let (start, mut most, mut samples) = (held(), 0, 0);
    train
        .feed_all(64, &readers(&session.model), &Device::Cpu, |rows, inputs| {
            samples += rows.len();
            most = most.max(held());
            assert_eq!(inputs[0].batch()?, rows.len());
            Ok(())
        })
        .unwrap();
    assert_eq!(samples, train.len());
    println!("MiB: {} {}", start.saturating_sub(before) >> 20, most.saturating_sub(start) >> 20);
}

#[test]
fn an_epoch_holds_its_queue_and_no_more() {
    let folder = world(4000, 8, 128);
    // Decoded, the images of the training split are 188 MB; its features are more than 25 MB.
    let (_, queue) = epoch(folder.path(), ["small-cnn", "small-bert"], 128);
    assert!(queue < 90, "{queue} MiB for pixels and tokens");
    let (_, queue) = epoch(folder.path(), ["descriptor", "ngrams"], 0);
    assert!(queue < 16, "{queue} MiB for features");
}

#[test]
#[ignore = "writes 100,000 files"]
fn a_hundred_thousand_files_need_an_index_and_a_queue() {
    for encoders in [["small-cnn", "small-bert"], ["descriptor", "ngrams"]] {
        let [small, large] = [10_000, 100_000].map(|n| epoch(world(n, n, 64).path(), encoders, 64));
        println!("{encoders:?}: index and queue in MiB, 10,000 files {small:?}, 100,000 files {large:?}");
        assert!(large.0 < 300, "the index takes {} MiB", large.0);
        assert!(large.1 < small.1 + 48, "the queue grows from {} to {} MiB", small.1, large.1);
    }
}
