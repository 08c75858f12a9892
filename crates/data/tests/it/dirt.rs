//! Data as users have it: each kind of dirt has one clear report, and no sample is lost silently.

use std::fs;
use std::path::Path;

use crate::written::{Real, samples};
use balgrad_data::modalities::image::decode;
use balgrad_data::{DataError, Dataset, OnBadSample, ReadOptions, open};

const N: usize = 60;

/// What a reader or a decoder must say, and of how many samples.
enum Says {
    /// Reading skips so many samples, each with these words.
    Skips(usize, &'static str),
    /// Everything is read, but decoding one image fails with these words.
    CannotDecode(&'static str),
    /// Everything is read and decoded.
    Nothing,
    /// Nothing can be read.
    Refuses(&'static str),
}
use Says::{CannotDecode, Nothing, Refuses, Skips};

struct Dirt {
    name: &'static str,
    write: fn(&Path, &[Real]),
    dirty: fn(&Path),
    /// Samples that the dirt adds to those that were written.
    added: usize,
    says: Says,
}

fn edit(path: &Path, change: impl Fn(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

fn edit_json(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn first_jpeg(folder: &Path) -> std::path::PathBuf {
    let line = fs::read_to_string(folder.join("train.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    folder.join(line["img"].as_str().unwrap())
}

fn append(path: &Path, line: &str) {
    edit(path, |text| format!("{text}{line}\n"));
}

fn reopen(folder: &Path, bytes: impl Fn(Vec<u8>) -> Vec<u8>) {
    let path = first_jpeg(folder);
    fs::write(&path, bytes(fs::read(&path).unwrap())).unwrap();
}

fn encoded(picture: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn as_deep(bytes: &[u8]) -> image::DynamicImage {
    image::load_from_memory(bytes).unwrap().to_rgb16().into()
}

/// A manifest of the real samples.
fn manifest(folder: &Path, real: &[Real]) {
    let line = |(i, s): (usize, &Real)| {
        let image = format!("{i}.png");
        crate::written::save(&s.picture, &folder.join(&image));
        let split = ["train", "train", "train", "val", "test"][i % 5];
        serde_json::json!({"id": s.id, "image": image, "text": s.text, "label": s.class, "split": split}).to_string()
            + "\n"
    };
    fs::write(folder.join("manifest.jsonl"), real.iter().enumerate().map(line).collect::<String>()).unwrap();
}

const IMDB: fn(&Path, &[Real]) = |folder, real| {
    crate::written::mm_imdb(folder, real, false);
    // Without films that are nothing but news.
    for i in 0..N {
        edit_json(&folder.join(format!("dataset/{i:07}.json")), |film| {
            film["genres"] = serde_json::json!(["Drama", "War"]);
        });
    }
};

const DIRT: &[Dirt] = &[
    Dirt {
        name: "a JPEG cut short",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |b| b[..200].to_vec()),
        added: 0,
        says: CannotDecode("not a whole image"),
    },
    Dirt {
        name: "an empty image file",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |_| Vec::new()),
        added: 0,
        says: CannotDecode("the file is empty"),
    },
    Dirt {
        name: "a web page saved as .jpg",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |_| b"<!DOCTYPE html><html>404</html>".to_vec()),
        added: 0,
        says: CannotDecode("looks like a web page"),
    },
    Dirt {
        name: "a text file saved as .jpg",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |_| b"not found".to_vec()),
        added: 0,
        says: CannotDecode("no known format"),
    },
    Dirt {
        name: "a GIF saved as .jpg",
        write: crate::written::mmbt,
        dirty: |f| {
            reopen(f, |b| encoded(&image::load_from_memory(&b).unwrap().to_rgba8().into(), image::ImageFormat::Gif));
        },
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a PNG of 16 bits saved as .jpg",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |b| encoded(&as_deep(&b), image::ImageFormat::Png)),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a grey image with transparency",
        write: crate::written::mmbt,
        dirty: |f| {
            reopen(f, |b| {
                encoded(&image::load_from_memory(&b).unwrap().to_luma_alpha8().into(), image::ImageFormat::Png)
            });
        },
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a CMYK JPEG",
        write: crate::written::mmbt,
        dirty: |f| reopen(f, |_| include_bytes!("cmyk.jpg").to_vec()),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a missing image file",
        write: crate::written::mmbt,
        dirty: |f| fs::remove_file(first_jpeg(f)).unwrap(),
        added: 0,
        says: Skips(1, "does not exist"),
    },
    Dirt {
        name: "a path out of the folder",
        write: crate::written::mmbt,
        dirty: |f| {
            append(
                &f.join("train.jsonl"),
                r#"{"id": "x", "label": "Objects", "text": "x", "img": "../../secret.png"}"#,
            );
        },
        added: 1,
        says: Skips(1, "leads out of the data folder"),
    },
    Dirt {
        name: "an absolute path",
        write: crate::written::mmbt,
        dirty: |f| {
            append(&f.join("train.jsonl"), r#"{"id": "x", "label": "Objects", "text": "x", "img": "/etc/passwd"}"#);
        },
        added: 1,
        says: Skips(1, "leads out of the data folder"),
    },
    Dirt {
        name: "a line that is no JSON",
        write: crate::written::mmbt,
        dirty: |f| append(&f.join("train.jsonl"), "{\"id\": \"x\", "),
        added: 1,
        says: Skips(1, "not a sample"),
    },
    Dirt {
        name: "neither image nor text",
        write: crate::written::mmbt,
        dirty: |f| append(&f.join("train.jsonl"), r#"{"id": "x", "label": "Objects", "text": "  ", "img": null}"#),
        added: 1,
        says: Skips(1, "neither image nor text"),
    },
    Dirt {
        name: "a null text",
        write: crate::written::mmbt,
        dirty: |f| edit(&f.join("train.jsonl"), |t| t.replacen("\"text\":\"", "\"text\":null,\"was\":\"", 1)),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a label that train does not have",
        write: crate::written::mmbt,
        dirty: |f| append(&f.join("test.jsonl"), r#"{"id": "x", "label": "Objekts", "text": "x", "img": null}"#),
        added: 1,
        says: Skips(1, "did you mean `Objects`"),
    },
    Dirt {
        name: "a duplicate id",
        write: crate::written::mmbt,
        dirty: |f| edit(&f.join("dev.jsonl"), |t| format!("{t}{}\n", t.lines().next().unwrap())),
        added: 1,
        says: Skips(1, "was seen before"),
    },
    Dirt {
        name: "a byte-order mark and CRLF",
        write: crate::written::mmbt,
        dirty: |f| edit(&f.join("train.jsonl"), |t| format!("\u{feff}{}", t.replace('\n', "\r\n"))),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "blank lines",
        write: crate::written::mmbt,
        dirty: |f| edit(&f.join("train.jsonl"), |t| t.replace('\n', "\n\n \n")),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a file that is not UTF-8",
        write: crate::written::mmbt,
        dirty: |f| fs::write(f.join("train.jsonl"), b"{\"id\": \"caf\xe9\"}\n").unwrap(),
        added: 0,
        says: Refuses("not UTF-8 text from byte 11 on"),
    },
    Dirt {
        name: "commas, quotes and line breaks in CSV text",
        write: crate::written::food101,
        dirty: |f| {
            edit(&f.join("texts/train_titles.csv"), |t| {
                t.replacen(",\"", ",\"Mum's \"\"best\"\" pie,\nwith cream, ", 1)
            });
        },
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a CSV row with too few columns",
        write: crate::written::food101,
        dirty: |f| append(&f.join("texts/train_titles.csv"), "lonely.jpg"),
        added: 1,
        says: Skips(1, "1 columns; expected image path, text, label"),
    },
    Dirt {
        name: "a byte-order mark and CRLF in CSV",
        write: crate::written::food101,
        dirty: |f| edit(&f.join("texts/test_titles.csv"), |t| format!("\u{feff}{}", t.replace('\n', "\r\n"))),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a CSV field that is not UTF-8",
        write: crate::written::food101,
        dirty: |f| {
            let path = f.join("texts/train_titles.csv");
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend(b"x.jpg,caf\xe9,Objects\n");
            fs::write(path, bytes).unwrap();
        },
        added: 1,
        says: Skips(1, "not UTF-8"),
    },
    Dirt {
        name: "a label of 2 where 0 or 1 is due",
        write: crate::written::hateful_memes,
        dirty: |f| edit(&f.join("train.jsonl"), |t| t.replacen("\"label\":0", "\"label\":2", 1)),
        added: 0,
        says: Skips(1, "expected 0 or 1"),
    },
    Dirt {
        name: "a test file without labels",
        write: crate::written::hateful_memes,
        dirty: |f| {
            edit(&f.join("test_seen.jsonl"), |t| t.replace(",\"label\":0", "").replace(",\"label\":1", ""));
            fs::rename(f.join("test_seen.jsonl"), f.join("test.jsonl")).unwrap();
        },
        added: 0,
        says: Skips(N / 5, "no label"),
    },
    Dirt {
        name: "a film without a file",
        write: IMDB,
        dirty: |f| fs::remove_file(f.join("dataset/0000000.json")).unwrap(),
        added: 0,
        says: Skips(1, "cannot read"),
    },
    Dirt {
        name: "a film whose file is broken",
        write: IMDB,
        dirty: |f| fs::write(f.join("dataset/0000000.json"), "{\"plot\": ").unwrap(),
        added: 0,
        says: Skips(1, "not a film"),
    },
    Dirt {
        name: "a film with dropped genres alone",
        write: IMDB,
        dirty: |f| edit_json(&f.join("dataset/0000000.json"), |j| j["genres"] = serde_json::json!(["News", "Adult"])),
        added: 0,
        says: Skips(1, "no genre is left"),
    },
    Dirt {
        name: "an unknown genre",
        write: IMDB,
        dirty: |f| edit_json(&f.join("dataset/0000000.json"), |j| j["genres"] = serde_json::json!(["Dramma"])),
        added: 0,
        says: Skips(1, "did you mean `Drama`"),
    },
    Dirt {
        name: "an id that leads out of the folder",
        write: IMDB,
        dirty: |f| edit_json(&f.join("split.json"), |j| j["train"][0] = "../../etc/passwd".into()),
        added: 0,
        says: Skips(1, "leads out of the data folder"),
    },
    Dirt {
        name: "a split file that is no table",
        write: IMDB,
        dirty: |f| fs::write(f.join("split.json"), "[]").unwrap(),
        added: 0,
        says: Refuses("expected lists of ids by split"),
    },
    Dirt {
        name: "a missing column",
        write: crate::written::memotion,
        dirty: |f| edit(&f.join("labels.csv"), |t| t.replacen("text_ocr", "ocr", 1)),
        added: 0,
        says: Refuses("no column `text_ocr`"),
    },
    Dirt {
        name: "a row longer than the header",
        write: crate::written::memotion,
        dirty: |f| append(&f.join("labels.csv"), "9,a.jpg,b,c,d,neutral,too,many"),
        added: 1,
        says: Skips(1, "8 columns; the header has 6"),
    },
    Dirt {
        name: "an image without a class",
        write: crate::written::cub,
        dirty: |f| append(&f.join("CUB_200_2011/images.txt"), "99999 001.X/none.jpg"),
        added: 1,
        says: Skips(1, "has no class"),
    },
    Dirt {
        name: "a caption that is missing",
        write: crate::written::cub,
        dirty: |f| {
            let class = fs::read_dir(f.join("text_c10")).unwrap().next().unwrap().unwrap().path();
            fs::remove_file(fs::read_dir(class).unwrap().next().unwrap().unwrap().path()).unwrap();
        },
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "an application of no main category",
        write: crate::written::appstream,
        dirty: |f| {
            let entry = "Type: desktop-application\nID: org.example.odd\nSummary:\n  C: odd\nCategories:\n- Qt\n";
            fs::write(f.join("more_Components-amd64.yml"), entry).unwrap();
        },
        added: 1,
        says: Skips(1, "none of the main categories"),
    },
    Dirt {
        name: "a Parquet file cut short",
        write: crate::written::parquet,
        dirty: |f| {
            let path = f.join("data/test-00000-of-00001.parquet");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        added: 0,
        says: Refuses("not Parquet"),
    },
    Dirt {
        name: "a split of another name",
        write: manifest,
        dirty: |f| edit(&f.join("manifest.jsonl"), |t| t.replacen("\"split\":\"train\"", "\"split\":\"training\"", 1)),
        added: 0,
        says: Skips(1, "unknown split `training`; expected train, val or test"),
    },
    Dirt {
        name: "splits of other spellings",
        write: manifest,
        dirty: |f| {
            edit(&f.join("manifest.jsonl"), |t| {
                t.replace("\"val\"", "\"Validation\"").replacen("\"test\"", "\"TEST\"", 3)
            });
        },
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a label that is null",
        write: manifest,
        dirty: |f| edit(&f.join("manifest.jsonl"), |t| t.replacen("\"label\":\"", "\"label\":null,\"was\":\"", 1)),
        added: 0,
        says: Skips(1, "no label"),
    },
    Dirt {
        name: "paths as Windows writes them",
        write: manifest,
        dirty: |f| edit(&f.join("manifest.jsonl"), |t| t.replace("\"image\":\"", "\"image\":\".\\\\")),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a field that nobody knows",
        write: manifest,
        dirty: |f| edit(&f.join("manifest.jsonl"), |t| t.replacen("\"text\"", "\"txet\"", 1)),
        added: 0,
        says: Nothing,
    },
    Dirt {
        name: "a manifest with one class",
        write: manifest,
        dirty: |f| {
            edit(&f.join("manifest.jsonl"), |t| t.lines().next().unwrap().to_owned());
        },
        added: 0,
        says: Refuses("a multiclass task needs two or more"),
    },
    Dirt {
        name: "an empty manifest",
        write: manifest,
        dirty: |f| fs::write(f.join("manifest.jsonl"), "").unwrap(),
        added: 0,
        says: Refuses("no sample could be read"),
    },
    Dirt {
        name: "an unknown key in dataset.toml",
        write: manifest,
        dirty: |f| fs::write(f.join("dataset.toml"), "titel = 'x'").unwrap(),
        added: 0,
        says: Refuses("unknown field `titel`"),
    },
];

fn read(folder: &Path, on_bad_sample: OnBadSample) -> Result<Dataset, DataError> {
    open(folder.to_str().unwrap(), &ReadOptions { on_bad_sample, ..ReadOptions::default() })
}

#[test]
fn every_kind_of_dirt_is_reported_and_counted() {
    let real = samples(N);
    assert!(DIRT.len() >= 25);
    for dirt in DIRT {
        let (name, folder) = (dirt.name, tempfile::tempdir().unwrap());
        (dirt.write)(folder.path(), &real);
        (dirt.dirty)(folder.path());
        let read_it = |policy| read(folder.path(), policy);
        let data = match (read_it(OnBadSample::Skip), &dirt.says) {
            (Ok(data), Skips(..) | CannotDecode(_) | Nothing) => data,
            (Err(error), Refuses(words)) => {
                let text = error.to_string();
                assert!(text.contains(words) && !text.contains('\n'), "{name}: {text}");
                continue;
            }
            (result, _) => panic!("{name}: {:?}", result.map(|d| d.samples.len())),
        };
        assert_eq!(data.samples.len() + data.problems.len(), N + dirt.added, "{name}: {:?}", data.problems);
        let decoding = data.samples.iter().filter_map(|s| decode(s.parts[0].as_ref()?).err());
        let broken: Vec<String> = decoding.map(|e| e.to_string()).collect();
        let (skipped, undecodable) = match &dirt.says {
            Skips(n, words) => {
                assert!(data.problems.iter().all(|p| p.what.contains(words)), "{name}: {:?}", data.problems);
                assert!(data.problems.iter().all(|p| !p.place.is_empty()), "{name}");
                (*n, 0)
            }
            CannotDecode(words) => {
                assert!(broken.iter().all(|e| e.contains(words)), "{name}: {broken:?}");
                (0, 1)
            }
            Nothing | Refuses(_) => (0, 0),
        };
        assert_eq!((data.problems.len(), broken.len()), (skipped, undecodable), "{name}: {:?}", data.problems);
        // Under the policy `fail` the first bad sample stops the reader, with its place.
        match read_it(OnBadSample::Fail) {
            Err(error) if skipped > 0 => assert!(error.to_string().contains("--on-bad-sample skip"), "{name}: {error}"),
            result => assert_eq!(result.is_err(), skipped > 0, "{name}"),
        }
    }
}
