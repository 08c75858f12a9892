//! From what a layout finds to a data set: classes, splits, and the checks that all layouts share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Sieve, escapes};
use crate::seed::stable_hash;
use crate::{DataError, Dataset, ImageSource, ReadOptions, Sample, Split, Task};

/// An image as a layout names it.
pub(crate) enum Picture {
    /// A path below the data folder, as written there.
    Path(String),
    /// Bytes that stand in the layout's own file.
    Bytes(Vec<u8>),
    /// A part of a file of images.
    Packed { file: Arc<PathBuf>, offset: u64, len: u64 },
}

/// A sample as a layout finds it, before anything is known of the others.
pub(crate) struct Found {
    /// File and line, for reports.
    pub(crate) place: String,
    pub(crate) id: String,
    pub(crate) image: Option<Picture>,
    pub(crate) text: Option<String>,
    pub(crate) labels: Vec<String>,
    /// `None` where the layout leaves the split to us.
    pub(crate) split: Option<Split>,
    pub(crate) group: Option<String>,
}

/// A data set in the making.
pub(crate) struct Draft<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) layout: &'static str,
    /// `None`: multi-label if a sample has another number of labels than one, else by the number of classes.
    pub(crate) task: Option<Task>,
    /// `None`: the labels of the training split, in order of name.
    pub(crate) classes: Option<Vec<String>>,
    pub(crate) found: Vec<Found>,
    pub(crate) sieve: Sieve,
    pub(crate) notes: Vec<String>,
    pub(crate) licence: Option<String>,
    pub(crate) show_samples: bool,
    pub(crate) metric: Option<&'static str>,
    /// How many samples to hold out for validation and for testing where the layout brings no such split.
    pub(crate) held_out: HeldOut,
}

/// Parts of the data that become a split which the layout does not bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldOut {
    /// The most samples of the training split that become the validation split.
    pub(crate) val: usize,
    /// The most, as a part of the training split.
    pub(crate) val_part: f64,
    /// The part of samples without any split that becomes the test split.
    pub(crate) test_part: f64,
}

impl Default for HeldOut {
    fn default() -> Self {
        Self { val: usize::MAX, val_part: 0.15, test_part: 0.2 }
    }
}

impl<'a> Draft<'a> {
    /// An empty draft of the data in `folder`, named as the folder is.
    pub(crate) fn new(folder: &'a Path, layout: &'static str, options: &ReadOptions) -> Self {
        let name = folder.file_name().map_or_else(|| layout.to_owned(), |n| n.to_string_lossy().into_owned());
        Self {
            folder,
            name,
            layout,
            task: None,
            classes: None,
            found: Vec::new(),
            sieve: Sieve::new(options),
            notes: Vec::new(),
            licence: None,
            show_samples: false,
            metric: None,
            held_out: HeldOut::default(),
        }
    }

    /// Makes missing splits, settles task and classes, checks every sample.
    ///
    /// # Errors
    /// No sample, fewer than two classes, or under `fail` the first bad sample.
    pub(crate) fn finish(mut self, split_seed: u64) -> Result<Dataset, DataError> {
        let place = self.folder.display().to_string();
        if self.found.is_empty() {
            let first = self.sieve.problems.first().map_or_else(String::new, |p| format!("; the first problem: {p}"));
            return Err(DataError::invalid(place, format!("no sample could be read{first}")));
        }
        self.make_splits(split_seed);
        let classes = self.classes.take().unwrap_or_else(|| self.seen_classes());
        let task = self.task.unwrap_or_else(|| self.task_for(classes.len()));
        if classes.len() < 2 || task == Task::Binary && classes.len() != 2 {
            let needs = if task == Task::Binary { "two" } else { "two or more" };
            let what = format!("found {} class(es); a {} task needs {needs}", classes.len(), task.name());
            return Err(DataError::invalid(place, what));
        }
        let index: HashMap<&str, u32> = classes.iter().zip(0..).map(|(c, i)| (c.as_str(), i)).collect();
        let mut samples = Vec::with_capacity(self.found.len());
        for found in self.found {
            let place = found.place.clone();
            match sample(self.folder, found, &index, &classes, task, &mut self.sieve) {
                Ok(sample) => samples.push(sample),
                Err(what) => self.sieve.bad(place, what)?,
            }
        }
        Ok(Dataset {
            name: self.name,
            layout: self.layout,
            task,
            classes,
            samples,
            problems: self.sieve.problems,
            notes: self.notes,
            licence: self.licence,
            show_samples: self.show_samples,
            metric: self.metric,
        })
    }

    /// Stratified by the first label and seeded; samples of one group stay together.
    fn make_splits(&mut self, seed: u64) {
        let whole = self.found.iter().all(|f| f.split.is_none());
        if whole {
            let taken = self.hold_out(|f| f.split.is_none(), self.held_out.test_part, usize::MAX, seed, Split::Test);
            self.notes.push(format!("the data has no splits: {taken} samples held out as test, by class, seed {seed}"));
        }
        for found in self.found.iter_mut().filter(|f| f.split.is_none()) {
            found.split = Some(Split::Train);
        }
        if !self.found.iter().any(|f| f.split == Some(Split::Val)) {
            let HeldOut { val, val_part, .. } = self.held_out;
            let taken = self.hold_out(|f| f.split == Some(Split::Train), val_part, val, seed, Split::Val);
            self.notes.push(format!("no validation split: {taken} samples held out of train, by class, seed {seed}"));
        }
    }

    /// Moves a part of some samples, `most` at most, to a split; returns how many.
    fn hold_out(&mut self, from: impl Fn(&Found) -> bool, part: f64, most: usize, seed: u64, to: Split) -> usize {
        // A group counts under the class of its first sample.
        let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let candidates = self.found.iter().filter(|f| from(f)).count();
        for (i, found) in self.found.iter().enumerate().filter(|(_, f)| from(f)) {
            units.entry(found.group.as_deref().unwrap_or(&found.id)).or_default().push(i);
        }
        let mut classes: BTreeMap<&str, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
        for (unit, members) in units {
            let class = self.found[members[0]].labels.first().map_or("", String::as_str);
            let order = stable_hash(&[&seed.to_le_bytes(), to.name().as_bytes(), unit.as_bytes()]);
            classes.entry(class).or_default().entry(order).or_default().extend(members);
        }
        let part = part.min(most as f64 / candidates.max(1) as f64);
        let mut taken = Vec::new();
        for units in classes.into_values() {
            let target = (part * units.values().map(Vec::len).sum::<usize>() as f64).round() as usize;
            let before = taken.len();
            for unit in units.into_values() {
                if taken.len() - before >= target {
                    break;
                }
                taken.extend(unit);
            }
        }
        taken.iter().for_each(|&i| self.found[i].split = Some(to));
        taken.len()
    }

    fn seen_classes(&self) -> Vec<String> {
        let train = self.found.iter().filter(|f| f.split == Some(Split::Train));
        let set: BTreeSet<&String> = train.flat_map(|f| &f.labels).collect();
        set.into_iter().cloned().collect()
    }

    fn task_for(&self, classes: usize) -> Task {
        if self.found.iter().any(|f| f.labels.len() > 1) {
            Task::MultiLabel
        } else if classes == 2 {
            Task::Binary
        } else {
            Task::MultiClass
        }
    }
}

fn sample(
    folder: &Path,
    found: Found,
    index: &HashMap<&str, u32>,
    classes: &[String],
    task: Task,
    sieve: &mut Sieve,
) -> Result<Sample, String> {
    if task != Task::MultiLabel && found.labels.len() != 1 {
        return Err(format!("{} labels; a {} sample has one", found.labels.len(), task.name()));
    }
    let class = |name: &String| {
        index.get(name.as_str()).copied().ok_or_else(|| {
            let near = crate::error::nearest(name, classes.iter().map(String::as_str));
            format!("unknown label `{name}`; did you mean `{near}`? (classes are those of the training split, or those that the data set names)")
        })
    };
    let mut labels = found.labels.iter().map(class).collect::<Result<Vec<u32>, _>>()?;
    labels.sort_unstable();
    labels.dedup();
    let image = found.image.map(|picture| source(folder, picture)).transpose()?;
    let text = found.text.filter(|t| !t.trim().is_empty());
    if image.is_none() && text.is_none() {
        return Err("neither image nor text".to_owned());
    }
    if !sieve.is_new(&found.id) {
        return Err(format!("the id `{}` was seen before", found.id));
    }
    let split = found.split.unwrap_or(Split::Train);
    Ok(Sample { id: found.id, image, text, labels, split, group: found.group })
}

fn source(folder: &Path, picture: Picture) -> Result<ImageSource, String> {
    let path = match picture {
        Picture::Bytes(bytes) => return Ok(ImageSource::Bytes(bytes.into())),
        Picture::Packed { file, offset, len } => return Ok(ImageSource::Packed { file, offset, len }),
        Picture::Path(path) => path,
    };
    let path = Path::new(&path);
    if let Some(why) = escapes(folder, path) {
        return Err(why);
    }
    let full: PathBuf = folder.join(path);
    if full.is_file() {
        Ok(ImageSource::File(full))
    } else {
        Err(format!("the image `{}` does not exist", path.display()))
    }
}
