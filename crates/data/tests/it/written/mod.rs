//! Real samples, of the bundled `emoji` task, written as each layout has them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use balgrad_data::modalities::image::decode;
use balgrad_data::{ReadOptions, Source, open};
use image::RgbImage;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A real sample.
pub(crate) struct Real {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) class: String,
    pub(crate) picture: RgbImage,
}

/// `n` samples of the larger classes, in a fixed order, so that every class is in every split.
pub(crate) fn samples(n: usize) -> Vec<Real> {
    let emoji = open("emoji", &ReadOptions::default()).unwrap();
    let class = |s: &balgrad_data::Sample| s.target.classes()[0] as usize;
    let mut counts = vec![0; emoji.classes.len()];
    emoji.samples.iter().for_each(|s| counts[class(s)] += 1);
    let large: Vec<_> = emoji.samples.iter().filter(|s| counts[class(s)] >= 150).collect();
    let real = |s: &&balgrad_data::Sample| Real {
        id: s.id.clone(),
        text: s.parts[1].as_ref().and_then(Source::text).unwrap().to_owned(),
        class: emoji.classes[class(s)].replace(' ', "_"),
        picture: decode(s.parts[0].as_ref().unwrap()).unwrap(),
    };
    large.iter().step_by(large.len() / n).take(n).map(real).collect()
}

/// Every fifth sample is for testing, every fifth after that for validation.
pub(crate) fn part(i: usize) -> &'static str {
    ["train", "train", "train", "dev", "test"][i % 5]
}

pub(crate) fn save(picture: &RgbImage, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

pub(crate) fn food101(folder: &Path, real: &[Real]) {
    let mut titles = [String::new(), String::from("image_path,text,label\n")];
    for (i, s) in real.iter().enumerate() {
        let (split, file) = (usize::from(part(i) == "test"), format!("{}_{i}.jpg", s.class));
        let name = ["train", "test"][split];
        writeln!(titles[split], "{file},{},{}", quoted(&s.text), s.class).unwrap();
        save(&s.picture, &folder.join("images").join(name).join(&s.class).join(file));
    }
    fs::create_dir_all(folder.join("texts")).unwrap();
    fs::write(folder.join("texts/train_titles.csv"), &titles[0]).unwrap();
    fs::write(folder.join("texts/test_titles.csv"), &titles[1]).unwrap();
}

fn lines(folder: &Path, name: &str, rows: &[serde_json::Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
}

pub(crate) fn mmbt(folder: &Path, real: &[Real]) {
    for split in ["train", "dev", "test"] {
        let of_split = real.iter().enumerate().filter(|(i, _)| part(*i) == split);
        let row = |(i, s): (usize, &Real)| {
            let img = format!("images/{split}/{i}.jpg");
            save(&s.picture, &folder.join(&img));
            serde_json::json!({"id": format!("{}_{i}", s.class), "label": s.class, "text": s.text, "img": img})
        };
        lines(folder, split, &of_split.map(row).collect::<Vec<_>>());
    }
}

pub(crate) fn hateful_memes(folder: &Path, real: &[Real]) {
    for (split, file) in [("train", "train"), ("dev", "dev_seen"), ("test", "test_seen")] {
        let of_split = real.iter().enumerate().filter(|(i, _)| part(*i) == split);
        let row = |(i, s): (usize, &Real)| {
            let img = format!("img/{i:05}.png");
            save(&s.picture, &folder.join(&img));
            serde_json::json!({"id": 10000 + i, "img": img, "label": i % 2, "text": s.text})
        };
        lines(folder, file, &of_split.map(row).collect::<Vec<_>>());
    }
}

/// `apart`: films and posters in folders of their own.
pub(crate) fn mm_imdb(folder: &Path, real: &[Real], apart: bool) {
    let (films, posters) = if apart { ("labels", "images") } else { ("dataset", "dataset") };
    let genres = ["Drama", "Comedy", "Film-Noir", "News", "Short"];
    let mut split = serde_json::json!({"train": [], "dev": [], "test": []});
    fs::create_dir_all(folder.join(films)).unwrap();
    for (i, s) in real.iter().enumerate() {
        let id = format!("{i:07}");
        split[part(i)].as_array_mut().unwrap().push(id.clone().into());
        save(&s.picture, &folder.join(posters).join(format!("{id}.jpeg")));
        let film = serde_json::json!({"plot": ["short", s.text.clone() + ", at length"],
            "genres": [genres[i % 5], genres[(i / 5) % 3]]});
        fs::write(folder.join(films).join(format!("{id}.json")), film.to_string()).unwrap();
    }
    fs::write(folder.join("split.json"), split.to_string()).unwrap();
}

pub(crate) fn memotion(folder: &Path, real: &[Real]) {
    let moods = ["very_positive", "positive", "neutral", "negative", "very_negative"];
    let mut text = String::from(",image_name,text_ocr,text_corrected,humour,overall_sentiment\n");
    for (i, s) in real.iter().enumerate() {
        let (file, raw) = (format!("image_{i}.jpg"), quoted(&s.text.to_uppercase()));
        let corrected = if i % 7 == 0 { String::new() } else { quoted(&s.text) };
        writeln!(text, "{i},{file},{raw},{corrected},funny,{}", moods[i % 5]).unwrap();
        save(&s.picture, &folder.join("images").join(file));
    }
    fs::write(folder.join("labels.csv"), text).unwrap();
}

pub(crate) fn cub(folder: &Path, real: &[Real]) {
    let birds = folder.join("CUB_200_2011");
    let mut classes: Vec<&str> = real.iter().map(|s| s.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    let number = |class: &str| classes.iter().position(|c| *c == class).unwrap() + 1;
    let [mut images, mut labels, mut splits, mut names] = [const { String::new() }; 4];
    classes.iter().for_each(|c| writeln!(names, "{} {:03}.{c}", number(c), number(c)).unwrap());
    for (i, s) in real.iter().enumerate() {
        let (class, stem) = (format!("{:03}.{}", number(&s.class), s.class), format!("{}_{i:04}", s.class));
        writeln!(images, "{} {class}/{stem}.jpg", i + 1).unwrap();
        writeln!(labels, "{} {}", i + 1, number(&s.class)).unwrap();
        writeln!(splits, "{} {}", i + 1, u8::from(part(i) != "test")).unwrap();
        save(&s.picture, &birds.join("images").join(&class).join(format!("{stem}.jpg")));
        let captions = folder.join("text_c10").join(&class);
        fs::create_dir_all(&captions).unwrap();
        fs::write(captions.join(format!("{stem}.txt")), format!("{}\na second caption\n", s.text)).unwrap();
    }
    for (file, text) in [
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", splits),
        ("classes.txt", names),
    ] {
        fs::write(birds.join(file), text).unwrap();
    }
}

pub(crate) fn appstream(folder: &Path, real: &[Real]) {
    let categories = ["Game", "Education", "Utility", "Graphics", "Office"];
    let mut text = String::from("---\nFile: DEP-11\nVersion: '0.16'\nOrigin: example\n");
    for (i, s) in real.iter().enumerate() {
        let name = format!("app_{i}.png");
        let own = s.text.replace(['\'', '"', ':'], " ");
        write!(
            text,
            "---\nType: desktop-application\nID: org.example.app{i}\nPackage: app{i}\nName:\n  C: App {i}\n\
             Summary:\n  C: {own}\n  de: etwas\nDescription:\n  C: >-\n    <p>A program about {own},</p>\n\n    \
             <ul><li>with &amp; without lists</li></ul>\nCategories:\n- Qt\n- {}\n- {}\nIcon:\n  cached:\n  - name: {name}\n    \
             width: 48\n    height: 48\n  - name: {name}\n    width: 64\n    height: 64\n  stock: app\nLaunchable:\n  \
             desktop-id:\n  - app{i}.desktop\n",
            categories[i % 5],
            categories[(i / 5) % 5],
        )
        .unwrap();
        save(&s.picture, &folder.join("icons/example/64x64").join(name));
    }
    text += "---\nType: font\nID: org.example.font\nSummary:\n  C: a font\n";
    let file = fs::File::create(folder.join("example_main_dep11_Components-amd64.yml.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

pub(crate) fn parquet(folder: &Path, real: &[Real]) {
    fs::create_dir_all(folder.join("data")).unwrap();
    let mut classes: Vec<&str> = real.iter().map(|s| s.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    let schema = "message schema { optional group image { optional binary bytes; optional binary path (UTF8); } \
                  optional binary text (UTF8); optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let names = serde_json::json!({"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}}}});
    let hub = KeyValue::new("huggingface".to_owned(), names.to_string());
    for (split, file) in [("train", "train"), ("dev", "validation"), ("test", "test")] {
        let rows: Vec<&Real> = real.iter().enumerate().filter(|(i, _)| part(*i) == split).map(|(_, s)| s).collect();
        let png = |s: &&Real| ByteArray::from(png(&s.picture));
        let texts = |f: &dyn Fn(&Real) -> String| rows.iter().map(|s| ByteArray::from(f(s).into_bytes())).collect();
        let columns: [Vec<ByteArray>; 3] =
            [rows.iter().map(png).collect(), texts(&|s| format!("{}.png", s.id)), texts(&|s| s.text.clone())];
        let labels: Vec<i64> =
            rows.iter().map(|s| classes.iter().position(|c| *c == s.class).unwrap() as i64).collect();
        let path = folder.join(format!("data/{file}-00000-of-00001.parquet"));
        let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![hub.clone()])).build();
        let file = fs::File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema.clone(), Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for (values, depth) in columns.iter().zip([2, 2, 1]) {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(values, Some(&vec![depth; rows.len()]), None).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Two shards for each split; captions and classes in files of their own, or in one JSON.
pub(crate) fn webdataset(folder: &Path, real: &[Real]) {
    for (split, file) in [("train", "train"), ("dev", "val"), ("test", "test")] {
        let rows: Vec<&Real> = real.iter().enumerate().filter(|(i, _)| part(*i) == split).map(|(_, s)| s).collect();
        for (shard, rows) in rows.chunks(rows.len().div_ceil(2)).enumerate() {
            let mut members = Vec::new();
            for (i, s) in rows.iter().enumerate() {
                let key = format!("part.d/{i:05}");
                members.push((format!("{key}.png"), png(&s.picture)));
                if shard == 0 {
                    members.push((format!("{key}.txt"), format!("{}\n", s.text).into_bytes()));
                    members.push((format!("{key}.cls"), s.class.clone().into_bytes()));
                } else {
                    let fields = serde_json::json!({"text": s.text, "label": s.class, "file_name": "gone.png"});
                    members.push((format!("{key}.json"), fields.to_string().into_bytes()));
                }
            }
            tar(&folder.join(format!("{file}-{shard:06}.tar")), &members);
        }
    }
}

/// A tar file of these members.
pub(crate) fn tar(path: &Path, members: &[(String, Vec<u8>)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.finish().unwrap();
}
