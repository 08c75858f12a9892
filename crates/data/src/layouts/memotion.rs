//! Memotion (Sharma et al., SemEval 2020, task 8): `labels.csv` and `images/`.
//!
//! The label is the overall sentiment of task A in three classes: `very_positive` counts as `positive`, `very_negative`
//! as `negative`. The text is the corrected OCR, or the raw one where that is empty. Splits are made.

use std::path::Path;

use super::{Answer, Draft, Found, Layout, Part, csv_rows, image_and_text};
use crate::{DataError, Dataset, ReadOptions, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "memotion",
    about: "labels.csv (image_name, text_ocr, text_corrected, overall_sentiment, …) and images/",
    paper: "Sharma et al., Memotion analysis, SemEval 2020",
    detect,
    read,
};

fn detect(folder: &Path) -> Option<String> {
    let header = super::first_line(&folder.join("labels.csv"))?;
    header.contains("overall_sentiment").then(|| "its labels.csv has a column overall_sentiment".to_owned())
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let path = folder.join("labels.csv");
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::MultiClass);
    draft.classes = Some(["negative", "neutral", "positive"].map(str::to_owned).to_vec());
    let mut rows = csv_rows(&path, &mut draft.sieve)?.into_iter();
    let header = rows.next().map_or_else(Vec::new, |(_, fields)| fields);
    let column = |names: &[&str]| {
        header.iter().position(|h| names.contains(&h.trim())).ok_or_else(|| {
            let place = format!("{}:1", path.display());
            DataError::invalid(place, format!("no column `{}`; found: {}", names[0], header.join(", ")))
        })
    };
    let (name, label) = (column(&["image_name", "Image_name"])?, column(&["overall_sentiment"])?);
    let texts = [column(&["text_corrected"])?, column(&["text_ocr"])?];
    for (place, fields) in rows {
        if fields.len() != header.len() {
            draft.sieve.bad(place, format!("{} columns; the header has {}", fields.len(), header.len()))?;
            continue;
        }
        let label = fields[label].trim().trim_start_matches("very_").to_owned();
        draft.found.push(Found {
            place,
            id: fields[name].clone(),
            parts: image_and_text(
                Some(Part::Path(format!("images/{}", fields[name]))),
                texts.iter().map(|&i| &fields[i]).find(|t| !t.trim().is_empty()).cloned(),
            ),
            answer: Answer::Classes(vec![label]),
            split: None,
            group: None,
        });
    }
    draft.finish(options.split_seed)
}
