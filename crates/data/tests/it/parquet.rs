//! Parquet files as others write them (`parquet/make.py`), and as nobody should.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use balgrad_data::modalities::image::decode;
use balgrad_data::{DataError, Dataset, OnBadSample, ReadOptions, Sample, Source, Split, Target, Task, open};

const N: usize = 6;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/parquet").join(format!("{name}.parquet"))
}

/// A folder with fixtures under other names.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, fixture_name) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture(fixture_name), path).unwrap();
    }
    folder
}

fn read(folder: &Path) -> Result<Dataset, DataError> {
    open(folder.to_str().unwrap(), &ReadOptions::default())
}

fn only(name: &str) -> Dataset {
    read(folder(&[("all.parquet", name)]).path()).unwrap()
}

fn text(sample: &Sample) -> &str {
    sample.parts[1].as_ref().and_then(Source::text).unwrap_or("")
}

fn red(sample: &Sample) -> u8 {
    decode(sample.parts[0].as_ref().unwrap()).unwrap().get_pixel(0, 0).0[0]
}

fn counts(data: &Dataset) -> [usize; 3] {
    Split::ALL.map(|split| data.indices(split).len())
}

#[test]
fn every_codec_and_version_of_pages_gives_the_same_samples() {
    for name in ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "zstd-v2", "delta"] {
        let data = only(&format!("codec-{name}"));
        assert_eq!((data.samples.len(), data.problems.len()), (N, 0), "{name}: {:?}", data.problems);
        for (i, sample) in data.samples.iter().enumerate() {
            assert_eq!((text(sample), usize::from(red(sample))), (format!("text {i}").as_str(), 20 * i), "{name}");
            assert_eq!(sample.target, Target::Class((i % 2) as u32), "{name}");
        }
    }
    let error = read(folder(&[("all.parquet", "delta-strings")]).path()).unwrap_err().to_string();
    assert!(error.contains("DELTA_BYTE_ARRAY") && error.contains("pyarrow's defaults"), "{error}");
}

#[test]
fn labels_of_every_type_are_classes_or_numbers() {
    for (name, task, classes, lost) in [
        ("label-uint64", Task::Binary, 2, 0),
        ("label-bool", Task::Binary, 2, 0),
        ("label-whole", Task::Binary, 2, 1),
        ("label-decimal", Task::Regression, 1, 1),
        ("label-lists", Task::MultiLabel, 3, 0),
        ("label-vectors", Task::Regression, 2, 0),
    ] {
        let data = only(name);
        let found = (data.task, data.classes.len(), data.problems.len());
        assert_eq!(found, (task, classes, lost), "{name}: {:?}", data.problems);
    }
    let decimal = only("label-decimal");
    assert_eq!(decimal.samples[3].target, Target::Value(vec![0.75]));
    assert!(only("label-whole").notes.iter().any(|n| n.contains("whole numbers written as decimals")));
}

#[test]
fn columns_are_found_by_name_or_type_and_said() {
    let lists = only("lists");
    assert_eq!((text(&lists.samples[2]), red(&lists.samples[2])), ("text 2", 40));
    assert!(lists.samples[N - 1].parts[0].is_none(), "an empty list is no image");
    assert!(lists.notes.iter().any(|n| n.contains("image `images` (the first of each list)")), "{:?}", lists.notes);
    let bytes = only("bytes");
    assert_eq!((text(&bytes.samples[2]), red(&bytes.samples[2])), ("text 2", 40));
    let other = only("other-names");
    assert_eq!((text(&other.samples[2]), red(&other.samples[2])), ("text 2", 40));
    let said = |n: &String| n.contains("text `ocr_text`") && n.contains("not read: url");
    assert!(other.notes.iter().any(said), "{:?}", other.notes);
    let two = only("two-texts");
    assert!(two.samples.iter().all(|s| s.parts[1].is_none()));
    let said = |n: &String| n.contains("no text (text, caption") && n.contains("not read: question, answer");
    assert!(two.notes.iter().any(said), "{:?}", two.notes);
}

#[test]
fn splits_come_from_files_folders_and_a_column() {
    let (a, b) = ("codec-none", "codec-zstd");
    for files in [
        [("data/train-00000-of-00002.parquet", a), ("data/validation-0.parquet", b), ("data/test-0.parquet", a)],
        [("train/0000.parquet", a), ("valid/0000.parquet", b), ("eval/0000.parquet", a)],
        [("default/train/0000.parquet", a), ("default/dev/0000.parquet", b), ("default/test/0000.parquet", a)],
        [("memes-training.parquet", a), ("memes_val_1.parquet", b), ("memes.test.parquet", a)],
    ] {
        let data = read(folder(&files).path()).unwrap();
        assert_eq!((counts(&data), data.problems.len()), ([N, N, N], 0), "{files:?}");
    }
    let some = read(folder(&[("train.parquet", a), ("test.parquet", b), ("more.parquet", a)]).path()).unwrap();
    let said = |n: &String| n.contains("such as more: what names no split is training data");
    assert!(some.notes.iter().any(said), "{:?}", some.notes);
    let column = only("split-column");
    assert_eq!((counts(&column), column.problems.len()), ([3, 1, 1], 1));
    assert!(column.problems[0].what.contains("unknown split `extra`"), "{:?}", column.problems);
    // Ids that count anew in each split lose nobody.
    assert_eq!(column.samples[3].id, "all-val/0");
}

#[test]
fn a_damaged_page_is_one_problem_and_ends_its_file() {
    let folder = folder(&[("train.parquet", "codec-none"), ("test.parquet", "codec-none")]);
    let path = folder.path().join("train.parquet");
    let mut bytes = fs::read(&path).unwrap();
    // The text's length, in its dictionary.
    let at = bytes.windows(6).position(|w| w == b"text 0").unwrap() - 1;
    bytes[at] ^= 255;
    fs::write(&path, bytes).unwrap();
    let said = read(folder.path()).map_or_else(|e| e.to_string(), |d| d.problems[0].to_string());
    assert!(said.contains("train.parquet: row 1") && said.contains("the last 6 row(s) are left out"), "{said}");
    let fail = ReadOptions { on_bad_sample: OnBadSample::Fail, ..ReadOptions::default() };
    assert!(open(folder.path().to_str().unwrap(), &fail).is_err());
}

#[test]
fn a_bomb_takes_neither_time_nor_memory() {
    for name in ["bomb-zstd", "bomb-dictionary"] {
        let (folder, start) = (folder(&[("train.parquet", name)]), Instant::now());
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("train.parquet") || error.contains("class(es)"), "{name}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn no_flipped_bit_or_cut_makes_a_panic_or_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let (mut seed, mut read_whole) = (1u64, 0);
    for name in ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "zstd-v2", "delta"] {
        let whole = fs::read(fixture(&format!("codec-{name}"))).unwrap();
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..=seed % 3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] ^= 1 << (seed >> 60 & 7);
            }
            if (seed >> 20).is_multiple_of(16) {
                let at = (seed >> 33) as usize % bytes.len();
                bytes.truncate(at);
            }
            fs::write(&path, bytes).unwrap();
            let start = Instant::now();
            read_whole += usize::from(read(folder.path()).is_ok());
            assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
        }
    }
    assert!(read_whole > 0, "some flips are in pixels and harmless");
}
