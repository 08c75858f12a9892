//! Every layout, read from a folder of 240 real samples in exactly that layout.

use std::collections::BTreeMap;
use std::path::Path;

use crate::written::{Real, part, samples};
use balgrad_data::modalities::image::decode;
use balgrad_data::{Dataset, LAYOUTS, ReadOptions, Sample, Source, Split, Task, open};

const N: usize = 240;

fn image(sample: &Sample) -> &Source {
    sample.parts[0].as_ref().unwrap()
}

fn text(sample: &Sample) -> &str {
    sample.parts[1].as_ref().and_then(Source::text).unwrap()
}

struct Case {
    layout: &'static str,
    write: fn(&Path, &[Real]),
    task: Task,
    /// Whether the files bring a validation split, and a test split.
    brings: (bool, bool),
    /// Whether images are stored without loss.
    exact: bool,
}

const CASES: &[Case] = &[
    Case {
        layout: "food101",
        write: crate::written::food101,
        task: Task::MultiClass,
        brings: (false, true),
        exact: false,
    },
    Case { layout: "food101", write: crate::written::mmbt, task: Task::MultiClass, brings: (true, true), exact: false },
    Case {
        layout: "hateful-memes",
        write: crate::written::hateful_memes,
        task: Task::Binary,
        brings: (true, true),
        exact: true,
    },
    Case {
        layout: "mm-imdb",
        write: |f, r| crate::written::mm_imdb(f, r, false),
        task: Task::MultiLabel,
        brings: (true, true),
        exact: false,
    },
    Case {
        layout: "mm-imdb",
        write: |f, r| crate::written::mm_imdb(f, r, true),
        task: Task::MultiLabel,
        brings: (true, true),
        exact: false,
    },
    Case {
        layout: "memotion",
        write: crate::written::memotion,
        task: Task::MultiClass,
        brings: (false, false),
        exact: false,
    },
    Case { layout: "cub", write: crate::written::cub, task: Task::MultiClass, brings: (false, true), exact: false },
    Case {
        layout: "appstream",
        write: crate::written::appstream,
        task: Task::MultiLabel,
        brings: (false, false),
        exact: true,
    },
    Case {
        layout: "parquet",
        write: crate::written::parquet,
        task: Task::MultiClass,
        brings: (true, true),
        exact: true,
    },
    Case {
        layout: "webdataset",
        write: crate::written::webdataset,
        task: Task::MultiClass,
        brings: (true, true),
        exact: true,
    },
];

fn read(folder: &Path, layout: Option<&str>) -> Dataset {
    let options = ReadOptions { layout: layout.map(str::to_owned), ..ReadOptions::default() };
    open(folder.to_str().unwrap(), &options).unwrap()
}

#[test]
fn every_layout_is_recognised_and_read_whole() {
    let real = samples(N);
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        (case.write)(folder.path(), &real);
        let data = read(folder.path(), None);
        let name = case.layout;
        assert_eq!(data.layout, name);
        assert!(data.notes[0].starts_with(&format!("read as `{name}`")), "{:?}", data.notes);
        assert_eq!(data.task, case.task, "{name}");
        // MM-IMDb loses what is `News` and nothing else, and says so.
        let lost = if name == "mm-imdb" { data.problems.len() } else { 0 };
        assert_eq!(data.samples.len() + lost, N, "{name}: {:?}", data.problems);
        assert_eq!(data.problems.len(), lost, "{name}: {:?}", data.problems);
        for split in Split::ALL {
            assert!(!data.indices(split).is_empty(), "{name}: no {}", split.name());
        }
        let tests = (0..N).filter(|i| part(*i) == "test").count();
        let (val, test) = case.brings;
        assert_eq!(data.notes.iter().any(|n| n.contains("no validation split")), !val, "{name}: {:?}", data.notes);
        assert_eq!(data.notes.iter().any(|n| n.contains("no splits")), !test, "{name}: {:?}", data.notes);
        if test && lost == 0 {
            assert_eq!(data.indices(Split::Test).len(), tests, "{name}");
        }
        assert!(data.samples.iter().all(|s| s.parts.iter().all(Option::is_some)), "{name}");
        for sample in data.samples.iter().take(30) {
            // Texts are real; the layout may add to them, but not lose them.
            let text = text(sample).to_lowercase();
            let words = |t: &str| {
                t.split(|c: char| !c.is_alphanumeric())
                    .filter(|w| !w.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let text = words(&text);
            let wanted = |r: &&Real| text.contains(&words(&r.text.to_lowercase()));
            let pictured = decode(image(sample)).unwrap();
            let matches: Vec<&Real> = real.iter().filter(wanted).collect();
            assert!(!matches.is_empty(), "{name}: `{text}` is nobody's");
            let off = |r: &&Real| {
                let pairs = r.picture.as_raw().iter().zip(pictured.as_raw());
                pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / pictured.as_raw().len() as f64
            };
            let least = matches.iter().map(off).fold(f64::INFINITY, f64::min);
            assert!(least <= if case.exact { 0.0 } else { 12.0 }, "{name}: the picture of `{text}` is off by {least}");
        }
    }
}

#[test]
fn made_splits_are_stratified_seeded_and_stable() {
    let (folder, real) = (tempfile::tempdir().unwrap(), samples(N));
    crate::written::memotion(folder.path(), &real);
    let with = |split_seed: u64| {
        let options = ReadOptions { split_seed, ..ReadOptions::default() };
        let data = open(folder.path().to_str().unwrap(), &options).unwrap();
        data.samples.iter().map(|s| (s.target.classes()[0], s.split)).collect::<Vec<_>>()
    };
    let (a, again, b) = (with(0), with(0), with(1));
    assert_eq!(a, again);
    assert_ne!(a, b);
    for class in 0..3 {
        let of_class: Vec<Split> = a.iter().filter(|(c, _)| *c == class).map(|(_, s)| *s).collect();
        let share = of_class.iter().filter(|s| **s == Split::Test).count() as f64 / of_class.len() as f64;
        assert!((share - 0.2).abs() < 0.02, "class {class}: {share} in test");
    }
}

#[test]
fn mm_imdb_keeps_the_longest_plot_and_23_genres() {
    let (folder, real) = (tempfile::tempdir().unwrap(), samples(N));
    crate::written::mm_imdb(folder.path(), &real, false);
    let data = read(folder.path(), None);
    assert_eq!(data.classes.len(), 23);
    assert!(data.samples.iter().all(|s| text(s).ends_with(", at length")));
    assert!(!data.classes.iter().any(|c| c == "News"));
    assert!(data.notes.iter().any(|n| n.contains("labels dropped")));
    let options = ReadOptions { first_plot: true, ..ReadOptions::default() };
    let first = open(folder.path().to_str().unwrap(), &options).unwrap();
    assert!(first.samples.iter().all(|s| text(s) == "short"));
}

#[test]
fn images_in_parquet_are_unpacked_once_and_found_again() {
    let (folder, cache, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), samples(N));
    crate::written::parquet(folder.path(), &real);
    let held = read(folder.path(), None);
    let options = ReadOptions { unpacked: Some(cache.path().join("unpacked")), ..ReadOptions::default() };
    let unpacked = || open(folder.path().to_str().unwrap(), &options).unwrap();
    let written = || {
        let files = std::fs::read_dir(cache.path().join("unpacked")).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let (first, files, second) = (unpacked(), written(), unpacked());
    assert_eq!((files.len(), written()), (3, files.clone()), "written once");
    assert_eq!(first.samples, second.samples);
    for (packed, whole) in first.samples.iter().zip(&held.samples) {
        let (packed_image, whole_image) = (image(packed), image(whole));
        assert!(matches!(packed_image, Source::Packed { .. }) && matches!(whole_image, Source::Bytes(_)));
        assert_eq!(decode(packed_image).unwrap(), decode(whole_image).unwrap());
        assert_eq!((&packed.id, text(packed), &packed.target), (&whole.id, text(whole), &whole.target));
    }
    // One that was cut short is unpacked again.
    let (path, _) = files.first_key_value().unwrap();
    std::fs::write(path, &std::fs::read(path).unwrap()[..1000]).unwrap();
    assert_eq!(unpacked().samples, first.samples);
    assert!(decode(image(&first.samples[0])).is_ok());
}

#[test]
fn hdf5_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("multimodal_imdb.hdf5"), b"\x89HDF").unwrap();
    let error = open(folder.path().to_str().unwrap(), &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("HDF5 is not read") && error.contains("h5py"), "{error}");
}

#[test]
fn packed_images_come_from_the_file() {
    let (folder, real) = (tempfile::tempdir().unwrap(), samples(N));
    crate::written::parquet(folder.path(), &real);
    let data = read(folder.path(), Some("parquet"));
    assert!(data.samples.iter().all(|s| matches!(image(s), Source::Bytes(_))));
    let mut classes: Vec<&str> = real.iter().map(|r| r.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(data.classes, classes);
}

#[test]
fn a_layout_is_a_row_of_the_table() {
    let names: Vec<&str> = LAYOUTS.iter().map(|l| l.name).collect();
    for case in CASES {
        assert!(names.contains(&case.layout), "{}", case.layout);
    }
    assert!(LAYOUTS.iter().all(|l| !l.about.is_empty() && !l.paper.is_empty()));
}

/// What a tar file says wrongly skips a sample or ends the file, and nothing more.
#[test]
fn shards_that_are_cut_or_lack_something_are_read_as_far_as_they_go() {
    let folder = tempfile::tempdir().unwrap();
    let picture = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cmyk.jpg")).unwrap();
    let mut members = Vec::new();
    for i in 0..12 {
        members.push((format!("{i:03}.JPG"), picture.clone()));
        members.push((format!("{i:03}.caption"), format!("number {i}").into_bytes()));
        members.push((format!("{i:03}.cls"), (i % 2).to_string().into_bytes()));
        members.push((format!("{i:03}.wav"), vec![0; 8]));
    }
    members.push(("100.jpg".into(), picture.clone())); // No label.
    members.push(("101.cls".into(), vec![0xff, 0xfe])); // No text.
    members.push(("102.json".into(), b"{\"label\": ".to_vec())); // Cut short.
    members.push((".hidden".into(), b"x".to_vec())); // No key.
    crate::written::tar(&folder.path().join("all.tar"), &members);
    let data = read(folder.path(), None);
    assert_eq!((data.layout, data.samples.len(), data.classes.join(",").as_str()), ("webdataset", 12, "0,1"));
    let what: Vec<&str> = data.problems.iter().map(|p| p.what.as_str()).collect();
    assert_eq!(what.len(), 3, "{what:?}");
    for said in ["no label", "its .cls is not UTF-8 from byte 0 on", "its .json cannot be read: EOF"] {
        assert_eq!(what.iter().filter(|w| w.contains(said)).count(), 1, "{said}: {what:?}");
    }
    assert!(data.notes.iter().any(|n| n == "members of other kinds are not read: 12 .wav"), "{:?}", data.notes);
    let whole = std::fs::read(folder.path().join("all.tar")).unwrap();
    for cut in [0, 100, 512, 700, whole.len() / 2, whole.len() - 1024] {
        let cut_folder = tempfile::tempdir().unwrap();
        std::fs::write(cut_folder.path().join("all.tar"), &whole[..cut]).unwrap();
        let read = open(cut_folder.path().to_str().unwrap(), &ReadOptions::default());
        let count = read.map_or(0, |data| data.samples.len());
        assert!(count <= 12 && (cut < 10_000 || count >= 5), "{cut}: {count}");
    }
}
