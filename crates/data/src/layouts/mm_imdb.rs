//! MM-IMDb (Arevalo et al., 2017): `split.json` and `dataset/<id>.json` with `<id>.jpeg`; or `images/` and `labels/`.
//!
//! The text is the longest plot, as in GMU and MMBT. The labels News, Adult, Talk-Show and Reality-TV are dropped, and a
//! sample is skipped only if no label is left: 23 genres remain. A folder of this form with other genres, more than one sample in ten
//! having one, keeps all that it has. `multimodal_imdb.hdf5` is not read, since that needs a
//! system library.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Answer, Draft, Found, Layout, Part, image_and_text, text_of};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "mm-imdb",
    about: "split.json and dataset/ID.json (plot, genres) with dataset/ID.jpeg; or images/ and labels/",
    paper: "Arevalo et al., Gated Multimodal Units, ICLR workshop 2017",
    detect,
    read,
};

const GENRES: [&str; 23] = [
    "Drama",
    "Comedy",
    "Romance",
    "Thriller",
    "Crime",
    "Action",
    "Adventure",
    "Horror",
    "Documentary",
    "Mystery",
    "Sci-Fi",
    "Fantasy",
    "Family",
    "Biography",
    "War",
    "History",
    "Music",
    "Animation",
    "Musical",
    "Western",
    "Sport",
    "Short",
    "Film-Noir",
];
const DROPPED: [&str; 4] = ["News", "Adult", "Talk-Show", "Reality-TV"];
const HDF5: &str = "multimodal_imdb.hdf5";
const SPLITS: [(&str, Split); 3] = [("train", Split::Train), ("dev", Split::Val), ("test", Split::Test)];

#[derive(Deserialize)]
struct Film {
    #[serde(default)]
    plot: Plot,
    #[serde(default)]
    genres: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Plot {
    Many(Vec<String>),
    One(String),
}

impl Default for Plot {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Plot {
    /// The longest, or the first.
    fn one(self, first: bool) -> Option<String> {
        match self {
            Self::Many(plots) if first => plots.into_iter().next(),
            // The earliest of equals.
            Self::Many(plots) => plots.into_iter().rev().max_by_key(|p| p.chars().count()),
            Self::One(plot) => Some(plot),
        }
    }
}

fn detect(folder: &Path) -> Option<String> {
    if folder.join("split.json").is_file() {
        return Some("it holds a split.json".to_owned());
    }
    folder.join(HDF5).is_file().then(|| format!("it holds {HDF5}"))
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let path = folder.join("split.json");
    if !path.is_file() && folder.join(HDF5).is_file() {
        let what = "HDF5 is not read; unpack the original archive (dataset/ID.json, dataset/ID.jpeg, split.json), or \
                    write a manifest.jsonl from the file with h5py";
        return Err(DataError::invalid(folder.join(HDF5).display().to_string(), what));
    }
    let splits: BTreeMap<String, Vec<serde_json::Value>> = serde_json::from_str(&text_of(&path)?)
        .map_err(|e| DataError::invalid(path.display().to_string(), format!("expected lists of ids by split: {e}")))?;
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::MultiLabel);
    let (films, pictures) = match folder.join("labels").is_dir() {
        true => ("labels", "images"),
        false => ("dataset", "dataset"),
    };
    for (name, split) in SPLITS {
        for id in splits.get(name).into_iter().flatten() {
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            let place = format!("{films}/{id}.json");
            if let Some(why) = super::escapes(folder, Path::new(&place)) {
                draft.sieve.bad(format!("{}: {id}", path.display()), why)?;
                continue;
            }
            let film: Film = match text_of(&folder.join(&place)).map(|text| serde_json::from_str(&text)) {
                Ok(Ok(film)) => film,
                Ok(Err(e)) => {
                    draft.sieve.bad(place, format!("not a film: {e}"))?;
                    continue;
                }
                Err(e) => {
                    draft.sieve.bad(place, e.to_string())?;
                    continue;
                }
            };
            let endings = ["jpeg", "jpg", "png"];
            let image = endings.iter().map(|e| format!("{pictures}/{id}.{e}")).find(|p| folder.join(p).is_file());
            let image = image.unwrap_or_else(|| format!("{pictures}/{id}.jpeg"));
            let parts = image_and_text(Some(Part::Path(image)), film.plot.one(options.first_plot));
            let answer = Answer::Classes(film.genres);
            draft.found.push(Found { place, id, parts, answer, split: Some(split), group: None });
        }
    }
    genres(&mut draft)?;
    draft.finish(options.split_seed)
}

/// Settles the classes: the 23 genres, or those that a folder with other ones has.
fn genres(draft: &mut Draft<'_>) -> Result<(), DataError> {
    let names = |found: &Found| match &found.answer {
        Answer::Classes(names) => names.clone(),
        Answer::Values(_) => Vec::new(),
    };
    let known = |name: &String| GENRES.contains(&name.as_str()) || DROPPED.contains(&name.as_str());
    let strange = draft.found.iter().filter(|found| !names(found).iter().all(known)).count();
    if strange * 10 > draft.found.len() {
        draft
            .notes
            .push(format!("{strange} samples have genres that are not MM-IMDb's: all that there are become classes"));
        return Ok(());
    }
    draft.classes = Some(GENRES.map(str::to_owned).to_vec());
    let mut dropped = 0;
    for mut found in std::mem::take(&mut draft.found) {
        let all = names(&found);
        let labels: Vec<String> = all.iter().filter(|g| !DROPPED.contains(&g.as_str())).cloned().collect();
        dropped += all.len() - labels.len();
        if labels.is_empty() {
            draft.sieve.bad(found.place, format!("no genre is left ({} are dropped)", DROPPED.join(", ")))?;
            continue;
        }
        found.answer = Answer::Classes(labels);
        draft.found.push(found);
    }
    if dropped > 0 {
        draft.notes.push(format!("{dropped} labels dropped: {}", DROPPED.join(", ")));
    }
    Ok(())
}
