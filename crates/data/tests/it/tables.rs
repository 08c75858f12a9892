//! Tables as people have them: CSV of any make, JSON lines, and folders of images.

use std::fs;
use std::path::{Path, PathBuf};

use balgrad_data::{
    Columns, DataError, Dataset, OnMissingFile, Problem, ReadOptions, Source, Split, Target, Task, open,
};

const CLASSES: [&str; 3] = ["red", "green", "blue"];

/// A folder with thirty images in `photos/`.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    for i in 0..30 {
        let picture = image::RgbImage::from_pixel(4, 4, image::Rgb([i as u8 * 8, 0, 0]));
        picture.save(folder.path().join(format!("photos/{i}.png"))).unwrap();
    }
    folder
}

fn with(path: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    open(path.to_str().unwrap(), options)
}

fn read(path: &Path) -> Dataset {
    with(path, &ReadOptions::default()).unwrap()
}

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A table of thirty products, its fields separated by `mark`.
fn products(mark: &str) -> String {
    let row = |i: usize| {
        let fields =
            [format!("P{i}"), format!("photos/{i}.png"), format!("\"Thing no. {i}{mark} new\""), CLASSES[i % 3].into()];
        fields.join(mark) + "\n"
    };
    format!("sku{mark}photo{mark}name{mark}category\n{}", (0..30).map(row).collect::<String>())
}

fn text(data: &Dataset, i: usize) -> &str {
    data.samples[i].parts[1].as_ref().and_then(Source::text).unwrap()
}

fn is_products(data: &Dataset, mark: &str) {
    assert_eq!((data.layout, data.task, data.samples.len()), ("csv", Task::MultiClass, 30), "{:?}", data.problems);
    assert_eq!(data.classes, ["blue", "green", "red"]);
    assert_eq!(data.samples[7].id, "P7");
    assert_eq!(text(data, 7), format!("Thing no. 7{mark} new"));
    assert!(data.samples[7].parts[0].as_ref().unwrap().bytes().is_ok());
    let said = "columns: image `photo`, text `name`, label `category`, id `sku`";
    assert!(data.notes.iter().any(|n| n == said), "{:?}", data.notes);
}

#[test]
fn a_table_is_read_whatever_separates_its_fields() {
    for (mark, ending) in [(",", "csv"), (";", "csv"), ("\t", "tsv"), ("|", "csv"), (";", "txt")] {
        let folder = pictures();
        let file = put(folder.path(), &format!("products.{ending}"), products(mark));
        let data = read(&file);
        is_products(&data, mark);
        assert_eq!(data.name, "products");
        if ending != "txt" {
            is_products(&read(folder.path()), mark);
        }
    }
}

#[test]
fn a_table_is_read_whatever_it_is_encoded_in() {
    let text = products(",").replace("new", "néw “x”");
    let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let western = text.chars().map(|c| match c {
        '“' => 0x93,
        '”' => 0x94,
        c => c as u8,
    });
    for (bytes, name) in [
        (text.clone().into_bytes(), "UTF-8"),
        ([b"\xef\xbb\xbf", text.as_bytes()].concat(), "UTF-8"),
        ([vec![0xff, 0xfe], wide(u16::to_le_bytes)].concat(), "UTF-16"),
        ([vec![0xfe, 0xff], wide(u16::to_be_bytes)].concat(), "UTF-16"),
        (wide(u16::to_le_bytes), "UTF-16"),
        (western.collect(), "Windows-1252"),
        (text.replace('\n', "\r\n").into_bytes(), "UTF-8"),
        (format!("sep=,\r\n{text}").into_bytes(), "UTF-8"),
    ] {
        let folder = pictures();
        let data = read(&put(folder.path(), "products.csv", bytes));
        assert_eq!(self::text(&data, 3), "Thing no. 3, néw “x”", "{name}");
        assert!(data.notes.iter().any(|n| n.contains(&format!("30 rows in {name}"))), "{:?}", data.notes);
    }
}

#[test]
fn splits_that_are_made_are_70_15_15_by_class_and_keep_groups() {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: usize| format!("text number {i},{},g{}\n", CLASSES[i / 2 % 3], i / 2);
    let rows: String = (0..600).map(row).collect();
    let data = read(&put(folder.path(), "t.csv", format!("text,label,group\n{rows}")));
    let counts = Split::ALL.map(|split| data.indices(split).len());
    assert_eq!(counts.iter().sum::<usize>(), 600);
    assert!(counts[0].abs_diff(420) <= 6 && counts[1].abs_diff(90) <= 6 && counts[2].abs_diff(90) <= 6, "{counts:?}");
    for pair in data.samples.chunks(2) {
        assert_eq!(pair[0].split, pair[1].split);
    }
    assert!(data.notes.iter().any(|n| n.contains("no splits")), "{:?}", data.notes);
    assert!(
        data.notes.iter().any(|n| n == "no sample has any image: it is missing in all of them"),
        "{:?}",
        data.notes
    );
}

#[test]
fn columns_are_named_where_they_cannot_be_told() {
    let folder = pictures();
    let row = |i: usize| format!("photos/{i}.png,a,b {i},{},{},{}.5\n", CLASSES[i % 3], ["x", "y"][i % 2], i);
    let file = put(folder.path(), "t.csv", format!("p,q,r,s,t,u\n{}", (0..30).map(row).collect::<String>()));
    let error = with(&file, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no column is surely the label") && error.contains("p, q, r, s, t, u"), "{error}");
    let word = |name: &str| Some(name.to_owned());
    let columns = Columns { label: word("s"), text: vec!["r".into(), "q".into()], ..Columns::default() };
    let data = with(&file, &ReadOptions { columns, ..ReadOptions::default() }).unwrap();
    assert_eq!((text(&data, 4), data.classes.len()), ("b 4 a", 3));
    let columns = Columns { target: word("u"), group: word("s"), ..Columns::default() };
    let data = with(&file, &ReadOptions { columns, ..ReadOptions::default() }).unwrap();
    assert_eq!((data.task, &data.samples[4].target), (Task::Regression, &Target::Value(vec![4.5])));
    assert_eq!((data.classes.as_slice(), data.samples[4].group.as_deref()), (&["u".to_owned()][..], Some("green")));
    let columns = Columns { label: word("z"), ..Columns::default() };
    let error = with(&file, &ReadOptions { columns, ..ReadOptions::default() }).unwrap_err().to_string();
    assert!(error.contains("no column `z` for the label"), "{error}");
}

#[test]
fn labels_take_every_form() {
    let labels = |cells: [&str; 4]| {
        let folder = tempfile::tempdir().unwrap();
        let row = |i: usize| format!("some text {i},{},train\n", cells[i % 4]);
        let rows: String = (0..40).map(row).collect();
        read(&put(folder.path(), "t.csv", format!("text,label,split\n{rows}")))
    };
    let several = labels(["a|b", "b", "a", "b|c"]);
    assert_eq!(
        (several.task, several.classes.len(), several.samples[3].target.classes()),
        (Task::MultiLabel, 3, &[1, 2][..])
    );
    assert_eq!(labels(["\"a, b\"", "b", "a", "\"b, c\""]).classes, ["a", "b", "c"]);
    assert_eq!(labels(["\"['a', 'b']\"", "['b']", "['a']", "['c']"]).classes, ["a", "b", "c"]);
    let commas = labels(["\"Home, garden\"", "Toys", "\"Pets, food\"", "Toys"]);
    assert_eq!((commas.task, commas.classes.len()), (Task::MultiClass, 3));
    let codes = labels(["0", "1.0", "2", "-1"]);
    assert_eq!((codes.task, codes.classes.as_slice()), (Task::MultiClass, &["0", "1", "2"].map(str::to_owned)[..]));
    assert_eq!((codes.samples.len(), codes.problems.len(), codes.problems[0].what.as_str()), (30, 10, "no label"));
    let amounts = labels(["0.5", "12.25", "3", "7"]);
    assert_eq!(amounts.task, Task::Regression);
    assert_eq!(labels(["x", "", "y", "x"]).problems.len(), 10);
}

#[test]
fn a_manifest_takes_numbers_lists_and_vectors_as_labels() {
    let manifest = |label: &dyn Fn(usize) -> String, card: &str| {
        let folder = tempfile::tempdir().unwrap();
        let line = |i: usize| format!("{{\"id\": {i}, \"text\": \"text {i}\", \"label\": {}}}\n", label(i));
        put(folder.path(), "manifest.jsonl", (0..48).map(line).collect::<String>());
        put(folder.path(), "dataset.toml", card);
        read(folder.path())
    };
    let whole = manifest(&|i| (i % 12).to_string(), "");
    assert_eq!(
        (whole.task, whole.classes.len(), whole.classes[2].as_str(), whole.classes[11].as_str()),
        (Task::MultiClass, 12, "2", "11")
    );
    let floats = manifest(&|i| format!("{}.0", i % 3), "classes = ['a', 'b', 'c']");
    assert_eq!((floats.task, floats.classes.as_slice()), (Task::MultiClass, &["a", "b", "c"].map(str::to_owned)[..]));
    assert_eq!(floats.samples[2].target, Target::Class(2));
    let vectors = manifest(&|i| format!("[{}, 1, {}]", i % 2, i % 3 / 2), "classes = ['a', 'b', 'c']");
    assert_eq!((vectors.task, vectors.samples[5].target.classes()), (Task::MultiLabel, &[0, 1, 2][..]));
    assert_eq!(vectors.samples[0].target.classes(), [1]);
    let lists = manifest(&|i| if i % 2 == 0 { "[0]".into() } else { "[0, 2]".into() }, "classes = ['a', 'b', 'c']");
    assert_eq!((lists.task, lists.samples[1].target.classes()), (Task::MultiLabel, &[0, 2][..]));
    let open_ones = manifest(&|i| ["-1", "0", "1", "null"][i % 4].into(), "");
    assert_eq!((open_ones.samples.len(), open_ones.problems.len()), (24, 24));
    let amounts = manifest(&|i| format!("{i}.25"), "");
    assert_eq!(amounts.task, Task::Regression);
    let asked = manifest(&|i| (i % 3).to_string(), "task = 'regression'");
    assert_eq!((asked.task, &asked.samples[2].target), (Task::Regression, &Target::Value(vec![2.0])));
}

#[test]
fn a_file_that_is_missing_is_skipped_or_missing_or_an_end() {
    let folder = pictures();
    let file = put(folder.path(), "products.csv", products(",").replace("photos/3.png", "photos/none.png"));
    let read = |on_missing_file| with(&file, &ReadOptions { on_missing_file, ..ReadOptions::default() });
    let skipped = read(OnMissingFile::Skip).unwrap();
    assert_eq!((skipped.samples.len(), skipped.problems.len()), (29, 1));
    assert!(
        skipped.notes.iter().any(|n| n.starts_with("1 samples name a file that does not exist")),
        "{:?}",
        skipped.notes
    );
    let missing = read(OnMissingFile::Missing).unwrap();
    assert_eq!((missing.samples.len(), missing.problems.len()), (30, 0));
    assert!(missing.samples[3].parts[0].is_none() && missing.samples[3].parts[1].is_some());
    let error = read(OnMissingFile::Fail).unwrap_err().to_string();
    assert!(error.contains("photos/none.png` does not exist; set on_missing_file"), "{error}");
}

#[test]
fn images_are_found_in_a_folder_beside_the_table_and_without_their_ending() {
    for (from, to, said) in
        [("photos/", "", "`photos/NAME`"), (".png", "", "`NAME.png`"), ("photos/", ".\\photos\\", "")]
    {
        let folder = pictures();
        let data = read(&put(folder.path(), "products.csv", products(",").replace(from, to)));
        assert_eq!(data.samples.iter().filter(|s| s.parts[0].is_some()).count(), 30, "{from}");
        assert!(said.is_empty() || data.notes.iter().any(|n| n.contains(said)), "{:?}", data.notes);
    }
    let folder = pictures();
    let whole = folder.path().canonicalize().unwrap();
    let absolute = products(",").replace("photos/", &format!("{}/photos/", whole.display()));
    assert_eq!(read(&put(folder.path(), "products.csv", absolute)).samples.len(), 30);
}

#[test]
fn tables_of_splits_are_one_data_set_and_others_are_asked_about() {
    let folder = pictures();
    let (all, header) = (products(","), "sku,photo,name,category\n");
    let rows: Vec<&str> = all.lines().skip(1).collect();
    for (name, of) in [("train.csv", 0..18), ("validation.csv", 18..24), ("test.csv", 24..30)] {
        put(folder.path(), name, format!("{header}{}\n", rows[of].join("\n")));
    }
    let data = read(folder.path());
    assert_eq!(Split::ALL.map(|split| data.indices(split).len()), [18, 6, 6]);
    let folder = pictures();
    put(folder.path(), "a.csv", &all);
    put(folder.path(), "b.csv", &all);
    let error = with(folder.path(), &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("several tables (a.csv, b.csv)"), "{error}");
}

#[test]
fn rows_of_one_id_are_a_group() {
    let folder = pictures();
    let twice = (0..30).map(|i| format!("P{},photos/{i}.png,a thing,{}\n", i / 2, CLASSES[i / 2 % 3]));
    let data = read(&put(folder.path(), "t.csv", format!("id,photo,name,category\n{}", twice.collect::<String>())));
    assert_eq!(
        (data.samples.len(), data.samples[5].id.as_str(), data.samples[5].group.as_deref()),
        (30, "6", Some("P2"))
    );
    assert!(data.notes.iter().any(|n| n.starts_with("`id` repeats")), "{:?}", data.notes);
}

#[test]
fn a_quote_that_is_not_closed_is_named() {
    let folder = pictures();
    let many: String = (0..400).map(|i| format!("photos/{}.png,thing {i},a\n", i % 30)).collect();
    let file = put(folder.path(), "t.csv", format!("photo,name,category\n0.png,\"open,b\n{many}"));
    let error = with(&file, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("t.csv:2") && error.contains("a quote in this record is not closed"), "{error}");
}

#[test]
fn lists_of_labels_in_json_lines_are_several() {
    let folder = pictures();
    for (name, of) in [("train", 0..20), ("dev", 20..25), ("test", 25..30)] {
        let line = |i: usize| {
            format!(
                "{{\"id\": {i}, \"img\": \"photos/{i}.png\", \"label\": [\"{}\"], \"text\": \"x\"}}\n",
                CLASSES[i % 3]
            )
        };
        put(folder.path(), &format!("{name}.jsonl"), of.map(line).collect::<String>());
    }
    let data = read(folder.path());
    assert_eq!((data.layout, data.task, data.samples.len()), ("jsonl", Task::MultiLabel, 30));
    assert_eq!(Split::ALL.map(|split| data.indices(split).len()), [20, 5, 5]);
}

#[test]
fn folders_of_images_are_classes_or_have_metadata() {
    let source = pictures();
    let folder = tempfile::tempdir().unwrap();
    for i in 0..30 {
        let (split, class) = (["train", "validation", "test"][i / 3 % 3], CLASSES[i % 3]);
        let place = folder.path().join(split).join(class);
        fs::create_dir_all(&place).unwrap();
        fs::copy(source.path().join(format!("photos/{i}.png")), place.join(format!("{i}.png"))).unwrap();
    }
    let data = read(folder.path());
    assert_eq!((data.layout, data.samples.len(), data.classes.len()), ("imagefolder", 30, 3), "{:?}", data.notes);
    assert_eq!(Split::ALL.map(|split| data.indices(split).len()), [12, 9, 9]);
    assert!(data.notes.iter().any(|n| n == "no sample has any text: it is missing in all of them"), "{:?}", data.notes);
    for (name, lines) in [
        (
            "metadata.csv",
            format!(
                "file_name,caption\n{}",
                (0..29).map(|i| format!("photos/{i}.png,a nice thing\n")).collect::<String>()
            ),
        ),
        (
            "metadata.jsonl",
            (0..29)
                .map(|i| format!("{{\"file_name\": \"photos/{i}.png\", \"caption\": \"a nice thing\"}}\n"))
                .collect(),
        ),
    ] {
        let folder = pictures();
        let labelled: String = lines
            .lines()
            .enumerate()
            .map(|(i, line)| match (name, i) {
                ("metadata.csv", 0) => format!("{line},kind\n"),
                ("metadata.csv", i) => format!("{line},{}\n", CLASSES[i % 3]),
                (_, i) => line.replace('}', &format!(", \"kind\": \"{}\"}}\n", CLASSES[i % 3])),
            })
            .collect();
        put(folder.path(), name, labelled);
        let data = read(folder.path());
        assert_eq!((data.layout, data.samples.len(), data.classes.len()), ("imagefolder", 29, 3), "{:?}", data.notes);
        assert_eq!((text(&data, 3), data.samples[3].id.as_str()), ("a nice thing", "photos/3.png"));
        assert!(data.notes.iter().any(|n| n.starts_with("1 images that no metadata")), "{:?}", data.notes);
    }
}

#[test]
fn problems_are_grouped_by_kind() {
    let problem = |what: &str| Problem { place: "x".into(), what: what.into() };
    let problems = [
        "no label",
        "the image `a` does not exist",
        "the image `b c` does not exist",
        "cannot read /a/b: gone",
        "cannot read /c: gone",
        "the image `d` does not exist",
    ]
    .map(problem);
    let kinds: Vec<(usize, &str)> =
        Problem::by_kind(&problems).into_iter().map(|(n, p)| (n, p.what.as_str())).collect();
    assert_eq!(kinds, [(3, "the image `a` does not exist"), (2, "cannot read /a/b: gone"), (1, "no label")]);
}

#[test]
fn films_with_other_genres_keep_theirs() {
    let (folder, real) = (tempfile::tempdir().unwrap(), crate::written::samples(60));
    crate::written::mm_imdb(folder.path(), &real, false);
    for entry in fs::read_dir(folder.path().join("dataset")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap() == "json" {
            let text = fs::read_to_string(&path)
                .unwrap()
                .replace("Drama", "Telenovela")
                .replace("News", "Comedy")
                .replace("Short", "Comedy");
            fs::write(path, text).unwrap();
        }
    }
    let data = read(folder.path());
    assert_eq!(data.samples.len(), 60, "{:?}", data.problems);
    assert!(
        data.classes.iter().any(|c| c == "Telenovela") && !data.classes.iter().any(|c| c == "War"),
        "{:?}",
        data.classes
    );
}
