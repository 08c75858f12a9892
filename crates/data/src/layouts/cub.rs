//! Caltech-UCSD Birds 200-2011 (Wah et al., 2011) with the captions of Reed et al. (CVPR 2016): the folder
//! `CUB_200_2011/` and `text_c10/<class>/<image>.txt` with ten captions an image, of which the first is read.
//!
//! The official split has train and test; validation is held out of train.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Answer, Draft, Found, Layout, Part, image_and_text, text_of};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "cub",
    about: "CUB_200_2011/{images.txt,image_class_labels.txt,train_test_split.txt,images/} and text_c10/CLASS/IMAGE.txt",
    paper: "Wah et al., CUB-200-2011; captions: Reed et al., CVPR 2016",
    detect: |folder| {
        let found = [BIRDS, "."].into_iter().find(|f| folder.join(f).join("image_class_labels.txt").is_file());
        found.map(|f| format!("{f} holds image_class_labels.txt"))
    },
    read,
};

const BIRDS: &str = "CUB_200_2011";

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let inner = if folder.join(BIRDS).is_dir() { Path::new(BIRDS) } else { Path::new("") };
    let birds = folder.join(inner);
    let captions = [folder.join("text_c10"), birds.join("text_c10")].into_iter().find(|f| f.is_dir());
    let classes = pairs(&birds.join("image_class_labels.txt"))?;
    let training = pairs(&birds.join("train_test_split.txt"))?;
    let names = match birds.join("classes.txt") {
        path if path.is_file() => pairs(&path)?,
        _ => HashMap::new(),
    };
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::MultiClass);
    if captions.is_none() {
        draft.notes.push("no text_c10 folder: every text is missing".to_owned());
    }
    let list = birds.join("images.txt");
    for (number, line) in text_of(&list)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", list.display(), number + 1);
        let Some((id, image)) = line.trim().split_once(' ') else {
            draft.sieve.bad(place, "expected an id and a path")?;
            continue;
        };
        let (Some(class), Some(train)) = (classes.get(id), training.get(id)) else {
            draft.sieve.bad(place, format!("the image {id} has no class or no split"))?;
            continue;
        };
        let text = captions.as_ref().and_then(|folder| first_caption(folder, image));
        draft.found.push(Found {
            place,
            id: id.to_owned(),
            parts: image_and_text(Some(Part::Path(inner.join("images").join(image).display().to_string())), text),
            answer: Answer::Classes(vec![names.get(class).unwrap_or(class).clone()]),
            split: Some(if train == "1" { Split::Train } else { Split::Test }),
            group: None,
        });
    }
    draft.finish(options.split_seed)
}

/// Lines of a key and a value.
fn pairs(path: &Path) -> Result<HashMap<String, String>, DataError> {
    let pair = |line: &str| line.trim().split_once(' ').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
    Ok(text_of(path)?.lines().filter_map(pair).collect())
}

fn first_caption(folder: &Path, image: &str) -> Option<String> {
    let path = PathBuf::from(image).with_extension("txt");
    if super::escapes(folder, &path).is_some() {
        return None;
    }
    text_of(&folder.join(path)).ok()?.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
