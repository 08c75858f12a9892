//! Samples of which nothing is known but what they show: what a trained model is asked about.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::located::{Located, unix};
use super::roles::Roles;
use super::table::{Row, Table, home, joined, members, prose, word};
use super::{Draft, delimited, imagefolder};
use crate::{DataError, ReadOptions, Source};

/// A sample without a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlabelled {
    /// What its table calls it, the number of its row, or below a folder its path.
    pub id: String,
    /// File and line, for errors.
    pub place: String,
    /// What there is of it, by the names of modalities; or why its row cannot be read.
    pub parts: Result<BTreeMap<String, Source>, String>,
}

/// Samples in order, and notes on how they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnlabelledSamples {
    /// The samples.
    pub samples: Vec<Unlabelled>,
    /// What was found out, such as which columns hold what.
    pub notes: Vec<String>,
}

/// Reads a CSV or TSV file, a folder that holds one, or a folder of images, with `metadata.csv` or `metadata.jsonl` or without.
/// Columns are found as those of training data are; labels are not needed.
///
/// # Errors
/// A path that holds neither, a file that is no table, or a table without a column of images or texts.
pub fn unlabelled(path: &Path, options: &ReadOptions) -> Result<UnlabelledSamples, DataError> {
    let place = path.display().to_string();
    let tables = members(path, &["csv", "tsv", "tab", "txt"][..if path.is_dir() { 3 } else { 4 }]);
    let tables = tables.map_err(|what| DataError::invalid(place.clone(), what))?;
    let (folder, _) = home(path);
    let mut draft = Draft::new(folder, "unlabelled", options);
    let table = match tables.is_empty() {
        false => joined(tables, &mut draft, delimited::read)?,
        true if path.is_dir() => {
            let (table, unlisted) = imagefolder::table(folder, &mut draft)?;
            if unlisted > 0 {
                draft.notes.push(format!("{unlisted} images that no metadata file lists were passed over"));
            }
            if table.rows.is_empty() && draft.sieve.problems.is_empty() {
                return Err(DataError::invalid(place, "the folder holds no image and no CSV file"));
            }
            table
        }
        true => return Err(DataError::invalid(place, "neither a folder nor a CSV or TSV file")),
    };
    let roles = Roles::find(&place, &table, &options.columns, &options.modalities, false, false)?;
    if roles.image.is_none() && roles.texts.is_empty() && roles.others.is_empty() {
        let columns = table.names.join(", ");
        let what = format!("no column holds images or texts; the columns are {columns}: call one `image` or `text`");
        return Err(DataError::invalid(place, what));
    }
    draft.notes.push(roles.said(&table));
    let located = roles.image.map(|i| Located::find(folder, table.column(i), &table.rows));
    draft.notes.extend(located.as_ref().and_then(Located::said));
    let located = located.unwrap_or_default();
    let mut samples: Vec<_> = table.rows.iter().map(|row| sample(row, &roles, &located, folder)).collect();
    let broken = std::mem::take(&mut draft.sieve.problems).into_iter();
    samples.extend(broken.map(|p| Unlabelled { id: String::new(), place: p.place, parts: Err(p.what) }));
    // Rows that cannot be read stand where they stood.
    samples.sort_by_cached_key(|sample| line(&sample.place));
    Ok(UnlabelledSamples { samples, notes: draft.notes })
}

/// File and number of a place such as `a.csv:12`.
fn line(place: &str) -> (String, u64) {
    let numbered = place.rsplit_once(':').and_then(|(file, line)| Some((file.to_owned(), line.parse().ok()?)));
    numbered.unwrap_or_else(|| (place.to_owned(), 0))
}

/// A record of named fields as a sample, and the fields that nothing is read from. Names alone decide; a path of an image starts from
/// `folder`.
pub fn unlabelled_record(
    record: Map<String, Value>,
    folder: &Path,
    options: &ReadOptions,
) -> (Unlabelled, Option<String>) {
    let place = String::new();
    let (names, cells) = record.into_iter().unzip();
    let row = Row {
        place: place.clone(),
        id: String::new(),
        cells,
        split: None,
        class: None,
        base: String::new(),
        parts: Vec::new(),
    };
    let table = Table { names, rows: vec![row], flat: false };
    let roles = match Roles::find(&place, &table, &options.columns, &options.modalities, true, false) {
        Ok(roles) => roles,
        Err(error) => return (Unlabelled { id: String::new(), place, parts: Err(error.to_string()) }, None),
    };
    let row = &table.rows[0];
    let mut found = sample(row, &roles, &Located::default(), folder);
    let held = roles.image.into_iter().chain(roles.texts.iter().copied()).chain(roles.others.iter().map(|(_, i)| *i));
    if let Some(i) = held.into_iter().find(|&i| row.cells[i].is_object()) {
        found.parts = Err(format!("`{}` is an object; expected a text or the path of a file", table.names[i]));
    }
    (found, roles.unused(&table))
}

fn sample(row: &Row, roles: &Roles, located: &Located, folder: &Path) -> Unlabelled {
    let file = |path: &str| Source::File(folder.join(unix(path)));
    let mut parts = BTreeMap::new();
    if let Some(path) = roles.image.and_then(|i| word(&row.cells[i])) {
        parts.insert("image".to_owned(), file(&located.path(&row.base, &path)));
    }
    let texts: Vec<String> = roles.texts.iter().filter_map(|&i| prose(&row.cells[i])).collect();
    if !texts.is_empty() {
        parts.insert("text".to_owned(), Source::Text(texts.join(" ")));
    }
    for &(modality, i) in &roles.others {
        let content = if modality.inline { prose(&row.cells[i]) } else { word(&row.cells[i]) };
        let source = |content: String| match modality.inline {
            true => Source::Text(content),
            false => file(&format!("{}{content}", row.base)),
        };
        parts.extend(content.map(|content| (modality.name.to_owned(), source(content))));
    }
    let id = roles.id.and_then(|i| word(&row.cells[i])).unwrap_or_else(|| row.id.clone());
    Unlabelled { id, place: row.place.clone(), parts: Ok(parts) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(path: &Path) -> Vec<(String, Result<Vec<String>, String>)> {
        let shown = |source: &Source| match source {
            Source::File(file) => file.file_name().unwrap().to_string_lossy().into_owned(),
            other => other.text().unwrap().to_owned(),
        };
        let all = unlabelled(path, &ReadOptions::default()).unwrap().samples;
        all.into_iter().map(|s| (s.id, s.parts.map(|p| p.values().map(shown).collect()))).collect()
    }

    #[test]
    fn a_table_without_labels_is_read_in_order_with_its_bad_rows() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("photos")).unwrap();
        image::RgbImage::new(2, 2).save(folder.path().join("photos/a.png")).unwrap();
        let file = folder.path().join("new.csv");
        std::fs::write(&file, "sku;photo;title;price\n7;a.png;a red apple;3\n8;;a pear;2\n9;b.png\n10;a.png;;1\n")
            .unwrap();
        let row = |id: &str, parts: &[&str]| (id.to_owned(), Ok(parts.iter().map(|p| (*p).to_owned()).collect()));
        let expected = vec![
            row("7", &["a.png", "a red apple"]),
            row("8", &["a pear"]),
            (String::new(), Err("2 columns; the header has 4".to_owned())),
            row("10", &["a.png"]),
        ];
        assert_eq!(read(&file), expected);
        assert_eq!(read(folder.path()), expected);
        let found = unlabelled(&file, &ReadOptions::default()).unwrap();
        let image = &found.samples[0].parts.as_ref().unwrap()["image"];
        assert_eq!(*image, Source::File(folder.path().join("photos/a.png")));
        assert!(found.notes.iter().any(|note| note.contains("image `photo`, text `title`")), "{:?}", found.notes);
    }

    #[test]
    fn a_folder_of_images_is_read_in_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.png", "a.png", "more/c.png"] {
            image::RgbImage::new(2, 2).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("notes.md"), "no image").unwrap();
        let ids: Vec<String> = read(folder.path()).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["a.png", "b.png", "more/c.png"]);
        std::fs::write(folder.path().join("metadata.jsonl"), "{\"file_name\": \"a.png\", \"text\": \"red\"}\n")
            .unwrap();
        assert_eq!(read(folder.path()), [("a.png".to_owned(), Ok(vec!["a.png".to_owned(), "red".to_owned()]))]);
    }

    #[test]
    fn a_record_is_read_by_the_names_of_its_fields() {
        let of = |json: &str| {
            let record = serde_json::from_str(json).unwrap();
            unlabelled_record(record, Path::new("here"), &ReadOptions::default())
        };
        let (found, unused) = of(r#"{"img": "a\\b.png", "caption": "red", "label": "x", "price": 3, "id": 7}"#);
        let parts = found.parts.unwrap();
        assert_eq!(parts["image"], Source::File("here/a/b.png".into()));
        assert_eq!((parts["text"].text(), unused.as_deref()), (Some("red"), Some("price")));
        assert_eq!(
            of(r#"{"image": null, "text": ["two", "texts"]}"#).0.parts.unwrap()["text"].text(),
            Some("two texts")
        );
        assert_eq!(of("{}").0.parts, Ok(BTreeMap::new()));
        let (odd, _) = of(r#"{"image": {"bytes": "…"}}"#);
        assert!(odd.parts.unwrap_err().contains("`image` is an object"));
    }

    #[test]
    fn what_holds_nothing_to_ask_about_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| unlabelled(path, &ReadOptions::default()).unwrap_err().to_string();
        assert!(error(folder.path()).contains("no image and no CSV"));
        let file = folder.path().join("a.csv");
        std::fs::write(&file, "x,y\n1,2\n").unwrap();
        assert!(error(&file).contains("the columns are x, y: call one"), "{}", error(&file));
    }
}
