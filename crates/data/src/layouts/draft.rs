//! From what a layout finds to a data set: classes, splits, and the checks that all layouts share.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::located::unix;
use super::{Sieve, escapes, leads_out};
use crate::error::{meant, nearest};
use crate::modalities::{image, text};
use crate::seed::stable_hash;
use crate::source::Pack;
use crate::{DataError, Dataset, Modality, OnMissingFile, ReadOptions, Sample, Source, Split, Target, Task};

/// The longest text, in bytes, the most labels of a sample, classes and samples: beyond it stands another kind of thing.
const MAX_TEXT: usize = 1 << 20;
const MAX_LABELS: usize = 10_000;
const MAX_CLASSES: usize = 100_000;
const MAX_SAMPLES: usize = 50_000_000;

/// Unknown labels, and characters of one, for which the nearest known one is looked for.
const MAX_NEAREST: usize = 100;

/// What a layout has of one modality of a sample.
pub(crate) enum Part {
    /// A path below the data folder, as written there.
    Path(String),
    /// Bytes that stand in the layout's own file.
    Bytes(Vec<u8>),
    /// A range of the bytes of a file that holds many.
    Packed { file: Arc<Pack>, offset: u64, len: u64 },
    /// The content itself.
    Text(String),
}

/// The parts of a sample that has an image and a text, or lacks either.
pub(crate) fn image_and_text(image: Option<Part>, text: Option<String>) -> Vec<(&'static Modality, Part)> {
    let image = image.map(|image| (&image::MODALITY, image));
    image.into_iter().chain(text.map(|text| (&text::MODALITY, Part::Text(text)))).collect()
}

/// The true answer as a layout names it.
pub(crate) enum Answer {
    /// Names of classes.
    Classes(Vec<String>),
    /// Numbers.
    Values(Vec<f32>),
}

impl Answer {
    fn classes(&self) -> &[String] {
        if let Self::Classes(names) = self { names } else { &[] }
    }
}

/// A sample as a layout finds it, before anything is known of the others.
pub(crate) struct Found {
    /// File and line, for reports.
    pub(crate) place: String,
    pub(crate) id: String,
    pub(crate) parts: Vec<(&'static Modality, Part)>,
    pub(crate) answer: Answer,
    /// `None` where the layout leaves the split to us.
    pub(crate) split: Option<Split>,
    pub(crate) group: Option<String>,
}

/// A data set in the making.
pub(crate) struct Draft<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) name: String,
    pub(crate) layout: &'static str,
    /// What samples are seen by, in the order of a model's towers.
    pub(crate) modalities: Vec<&'static Modality>,
    /// `None`: multi-label if a sample has another number of labels than one, else by the number of classes.
    pub(crate) task: Option<Task>,
    /// `None`: the labels of the training split, in order of name.
    pub(crate) classes: Option<Vec<String>>,
    pub(crate) found: Vec<Found>,
    pub(crate) sieve: Sieve,
    pub(crate) notes: Vec<String>,
    pub(crate) licence: Option<String>,
    pub(crate) show_samples: bool,
    pub(crate) metric: Option<String>,
    /// How many samples to hold out for validation and for testing where the layout brings no such split.
    pub(crate) held_out: HeldOut,
    /// Whether the names of classes are numbers, and stand in their order.
    pub(crate) numbered: bool,
    on_missing_file: OnMissingFile,
}

/// Fractions of the data that become a split which the layout does not bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldOut {
    /// The most samples of the training split that become the validation split.
    pub(crate) val: usize,
    /// The most, as a fraction of the training split.
    pub(crate) val_fraction: f64,
    /// The fraction of samples without any split that becomes the test split.
    pub(crate) test_fraction: f64,
}

impl HeldOut {
    /// 70 % to learn from, 15 % to choose by, 15 % to test on.
    pub(crate) const SEVENTY: Self = Self { val: usize::MAX, val_fraction: 0.15 / 0.85, test_fraction: 0.15 };
}

impl Default for HeldOut {
    fn default() -> Self {
        Self { val: usize::MAX, val_fraction: 0.15, test_fraction: 0.2 }
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
            modalities: vec![&image::MODALITY, &text::MODALITY],
            task: None,
            classes: None,
            found: Vec::new(),
            sieve: Sieve::new(options),
            notes: Vec::new(),
            licence: None,
            show_samples: false,
            metric: None,
            held_out: HeldOut::default(),
            numbered: false,
            on_missing_file: options.on_missing_file,
        }
    }

    /// In the order of `known`: the modalities that a sample has. Image and text stay while there would be fewer than two, since
    /// there is nothing to balance then.
    pub(crate) fn keep_used_modalities(&mut self, known: &[&'static Modality]) {
        let used = |m: &&'static Modality| self.found.iter().any(|f| f.parts.iter().any(|(of, _)| of == m));
        let kept: Vec<_> = known.iter().copied().filter(|m| used(m)).collect();
        if kept.len() >= 2 {
            self.modalities = kept;
        }
    }

    /// Makes missing splits, settles task and classes, checks every sample.
    ///
    /// # Errors
    /// No sample, fewer than two classes, or under `fail` the first bad sample.
    pub(crate) fn finish(mut self, split_seed: u64) -> Result<Dataset, DataError> {
        let place = self.folder.display().to_string();
        let first = self.sieve.problems.first().map_or_else(String::new, |p| format!("; the first problem: {p}"));
        if self.found.is_empty() {
            return Err(DataError::invalid(place, format!("no sample could be read{first}")));
        }
        if self.found.len() > MAX_SAMPLES {
            let what = format!("{} samples; {MAX_SAMPLES} are read at most: split the data", self.found.len());
            return Err(DataError::invalid(place, what));
        }
        self.make_splits(split_seed);
        let values = self.found.iter().any(|f| matches!(f.answer, Answer::Values(_)));
        let (task, classes) = match (self.task, self.classes.take()) {
            (Some(Task::Regression), names) => (Task::Regression, self.value_names(names)?),
            (None, names) if values => (Task::Regression, self.value_names(names)?),
            (task, classes) => {
                let classes = classes.unwrap_or_else(|| self.seen_classes());
                (task.unwrap_or_else(|| self.task_for(classes.len())), classes)
            }
        };
        if task != Task::Regression && (classes.len() < 2 || task == Task::Binary && classes.len() != 2) {
            let needs = if task == Task::Binary { "two" } else { "two or more" };
            let what = format!("found {} class(es); a {} task needs {needs}{first}", classes.len(), task.name());
            return Err(DataError::invalid(place, what));
        }
        if classes.len() > MAX_CLASSES {
            let what = "does the label hold ids or texts? name a column of classes";
            return Err(DataError::invalid(place, format!("{} classes; {MAX_CLASSES} at most: {what}", classes.len())));
        }
        let classifier = Classifier {
            unknown: Cell::new(0),
            index: classes.iter().zip(0..).map(|(c, i)| (c.as_str(), i)).collect(),
            classes: &classes,
            task,
            modalities: &self.modalities,
            folder: self.folder,
            on_missing_file: self.on_missing_file,
            missing: Cell::new(0),
        };
        let mut samples = Vec::with_capacity(self.found.len());
        for found in self.found {
            let place = found.place.clone();
            match classifier.sample(found, &mut self.sieve) {
                Ok(sample) => samples.push(sample),
                Err(what) if self.on_missing_file == OnMissingFile::Fail && classifier.missing.get() > 0 => {
                    let what = format!("{what}; set on_missing_file to `skip` or `missing` to go on");
                    return Err(DataError::invalid(place, what));
                }
                Err(what) => self.sieve.bad(place, what)?,
            }
        }
        self.notes.extend(classifier.said());
        Ok(Dataset {
            name: self.name,
            layout: self.layout,
            task,
            modalities: self.modalities,
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
            let taken =
                self.hold_out(|f| f.split.is_none(), self.held_out.test_fraction, usize::MAX, seed, Split::Test);
            self.notes.push(format!("the data has no splits: {taken} samples held out as test, by class, seed {seed}"));
        }
        for found in self.found.iter_mut().filter(|f| f.split.is_none()) {
            found.split = Some(Split::Train);
        }
        if !self.found.iter().any(|f| f.split == Some(Split::Val)) {
            let HeldOut { val, val_fraction, .. } = self.held_out;
            let taken = self.hold_out(|f| f.split == Some(Split::Train), val_fraction, val, seed, Split::Val);
            self.notes.push(format!("no validation split: {taken} samples held out of train, by class, seed {seed}"));
        }
    }

    /// Moves a fraction of some samples, `most` at most, to a split; returns how many.
    fn hold_out(&mut self, from: impl Fn(&Found) -> bool, fraction: f64, most: usize, seed: u64, to: Split) -> usize {
        // A group counts under the class of its first sample.
        let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let candidates = self.found.iter().filter(|f| from(f)).count();
        for (i, found) in self.found.iter().enumerate().filter(|(_, f)| from(f)) {
            units.entry(found.group.as_deref().unwrap_or(&found.id)).or_default().push(i);
        }
        let mut classes: BTreeMap<&str, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
        for (unit, members) in units {
            let class = self.found[members[0]].answer.classes().first().map_or("", String::as_str);
            let order = stable_hash(&[&seed.to_le_bytes(), to.name().as_bytes(), unit.as_bytes()]);
            classes.entry(class).or_default().entry(order).or_default().extend(members);
        }
        let fraction = fraction.min(most as f64 / candidates.max(1) as f64);
        let mut taken = Vec::new();
        let several = classes.values().filter(|units| units.len() > 1);
        let small: BTreeMap<u64, Vec<usize>> =
            several.filter_map(|units| units.first_key_value().map(|(order, unit)| (*order, unit.clone()))).collect();
        for units in classes.into_values() {
            let target = (fraction * units.values().map(Vec::len).sum::<usize>() as f64).round() as usize;
            let before = taken.len();
            for unit in units.into_values() {
                if taken.len() - before >= target {
                    break;
                }
                taken.extend(unit);
            }
        }
        if taken.is_empty() {
            // Classes so small that each rounds to none: one unit of as many as make up the fraction.
            let target = (fraction * candidates as f64).round() as usize;
            let spare = small.into_values().flatten();
            taken.extend(spare.take(target));
        }
        taken.iter().for_each(|&i| self.found[i].split = Some(to));
        taken.len()
    }

    /// Names of a regression's numbers: those given, or `value`, or `value 1`, `value 2`, ….
    fn value_names(&self, given: Option<Vec<String>>) -> Result<Vec<String>, DataError> {
        if let Some(names) = given {
            return Ok(names);
        }
        let count =
            self.found.iter().find_map(|f| if let Answer::Values(v) = &f.answer { Some(v.len()) } else { None });
        match count {
            None | Some(0) => Err(DataError::invalid(self.folder.display().to_string(), "a regression needs numbers")),
            Some(1) => Ok(vec!["value".to_owned()]),
            Some(count) => Ok((1..=count).map(|i| format!("value {i}")).collect()),
        }
    }

    fn seen_classes(&self) -> Vec<String> {
        let train = self.found.iter().filter(|f| f.split == Some(Split::Train));
        let set: BTreeSet<&String> = train.flat_map(|f| f.answer.classes()).collect();
        let mut classes: Vec<String> = set.into_iter().cloned().collect();
        if self.numbered {
            classes.sort_by_key(|name| name.parse::<u64>().ok());
        }
        classes
    }

    fn task_for(&self, classes: usize) -> Task {
        if self.found.iter().any(|f| f.answer.classes().len() > 1) {
            Task::MultiLabel
        } else if classes == 2 {
            Task::Binary
        } else {
            Task::MultiClass
        }
    }
}

/// Turns what was found into samples, once classes and task are settled.
struct Classifier<'a> {
    /// Labels that no class has, so far.
    unknown: Cell<usize>,
    index: HashMap<&'a str, u32>,
    classes: &'a [String],
    task: Task,
    modalities: &'a [&'static Modality],
    folder: &'a Path,
    on_missing_file: OnMissingFile,
    /// Files named that do not exist.
    missing: Cell<usize>,
}

impl Classifier<'_> {
    fn sample(&self, found: Found, sieve: &mut Sieve) -> Result<Sample, String> {
        let target = self.target(&found.answer)?;
        let mut parts: Vec<Option<Source>> = vec![None; self.modalities.len()];
        for (modality, part) in found.parts {
            let Some(m) = self.modalities.iter().position(|known| *known == modality) else { continue };
            parts[m] = self.source(modality, part)?;
        }
        if parts.iter().all(Option::is_none) {
            return Err(nothing(self.modalities));
        }
        if !sieve.is_new(&found.id) {
            return Err(format!("the id `{}` was seen before", found.id));
        }
        let split = found.split.unwrap_or(Split::Train);
        Ok(Sample { id: found.id, parts, target, split, group: found.group })
    }

    /// Where a part is; `None` for an empty text, or a file that is missing and may be.
    fn source(&self, modality: &Modality, part: Part) -> Result<Option<Source>, String> {
        let named = match part {
            Part::Text(text) if text.len() > MAX_TEXT => {
                return Err(format!("a {} of {} KiB; {} at most", modality.name, text.len() >> 10, MAX_TEXT >> 10));
            }
            Part::Text(text) => return Ok(Some(text).filter(|t| !t.trim().is_empty()).map(Source::Text)),
            Part::Bytes(bytes) => return Ok(Some(Source::Bytes(bytes.into()))),
            Part::Packed { file, offset, len } => return Ok(Some(Source::Packed { file, offset, len })),
            Part::Path(path) => path,
        };
        let found = place(self.folder, Path::new(&named));
        // As Windows writes it, where it is not found as it stands.
        let found = match found {
            Ok(None) | Err(_) if named.contains('\\') => place(self.folder, Path::new(&unix(&named))),
            found => found,
        }?;
        if let Some(full) = found {
            let file = full.is_file().then_some(Some(Source::File(full)));
            return file.ok_or_else(|| format!("the {} `{named}` is not a file", modality.name));
        }
        self.missing.set(self.missing.get() + 1);
        match self.on_missing_file {
            OnMissingFile::Missing => Ok(None),
            OnMissingFile::Skip | OnMissingFile::Fail => Err(format!("the {} `{named}` does not exist", modality.name)),
        }
    }

    /// What was done about files that do not exist.
    fn said(&self) -> Option<String> {
        let done = match self.on_missing_file {
            OnMissingFile::Missing => "taken as missing modalities",
            _ => "skipped (on_missing_file = \"missing\" keeps them without it)",
        };
        let count = self.missing.get();
        (count > 0).then(|| format!("{count} samples name a file that does not exist: {done}"))
    }

    fn target(&self, answer: &Answer) -> Result<Target, String> {
        let task = self.task.name();
        let names = match answer {
            Answer::Values(values) if self.task == Task::Regression => {
                if values.len() != self.classes.len() || values.iter().any(|v| !v.is_finite()) {
                    return Err(format!("expected {} finite number(s), found {values:?}", self.classes.len()));
                }
                return Ok(Target::Value(values.clone()));
            }
            Answer::Classes(names) if self.task != Task::Regression => names,
            Answer::Values(_) => return Err(format!("numbers; a {task} sample has class names")),
            Answer::Classes(_) => return Err("class names; a regression sample has numbers".to_owned()),
        };
        let class = |name: &String| self.index.get(name.as_str()).copied().ok_or_else(|| self.unknown(name));
        if names.len() > MAX_LABELS {
            return Err(format!("{} labels; a sample has {MAX_LABELS} at most", names.len()));
        }
        if self.task == Task::MultiLabel {
            let mut labels = names.iter().map(class).collect::<Result<Vec<u32>, _>>()?;
            labels.sort_unstable();
            labels.dedup();
            return Ok(Target::Labels(labels));
        }
        match names.as_slice() {
            [name] => class(name).map(Target::Class),
            names => Err(format!("{} labels; a {task} sample has one", names.len())),
        }
    }
}

impl Classifier<'_> {
    /// What is said of a label that no class has; the nearest class is sought for a few.
    fn unknown(&self, name: &str) -> String {
        self.unknown.set(self.unknown.get() + 1);
        let known = "(classes are those of the training split, or those that the data set names)";
        if name.chars().nth(MAX_NEAREST).is_some() {
            return format!("unknown label `{}…` {known}", name.chars().take(MAX_NEAREST).collect::<String>());
        }
        if self.unknown.get() > MAX_NEAREST {
            return format!("unknown label `{name}` {known}");
        }
        let short = self.classes.iter().map(String::as_str).filter(|c| c.len() <= 4 * MAX_NEAREST);
        format!("unknown label `{name}`{} {known}", meant(nearest(name, short)))
    }
}

/// What is said of a sample without any modality.
fn nothing(modalities: &[&Modality]) -> String {
    match modalities {
        [a, b] => format!("neither {} nor {}", a.name, b.name),
        all => format!("none of {}", all.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")),
    }
}

/// Where a path below the data folder leads, if it exists; an absolute path may stand for one below it.
fn place(folder: &Path, path: &Path) -> Result<Option<PathBuf>, String> {
    let whole = if path.is_absolute() { folder.canonicalize().ok() } else { None };
    let path = whole.and_then(|whole| path.strip_prefix(whole).ok()).unwrap_or(path);
    if let Some(why) = escapes(folder, path) {
        return Err(why);
    }
    let full = folder.join(path);
    let full = written_link(&full).filter(|target| !leads_out(folder, target)).unwrap_or(full);
    Ok(Some(full).filter(|full| full.exists()))
}

/// Where a link leads that was unpacked as a small file with a path in it, as git does where there are no links.
fn written_link(path: &Path) -> Option<PathBuf> {
    let small = std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() < 200);
    let text = small.then(|| std::fs::read_to_string(path).ok())??;
    let target = Path::new(text.trim_end());
    let same = target.is_relative() && target.extension().is_some() && target.extension() == path.extension();
    same.then(|| path.parent().map(|folder| folder.join(target)))?.filter(|target| target.is_file())
}
