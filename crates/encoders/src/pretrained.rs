//! Pretrained models as Hugging Face lays them out: a folder, or a repository of the hub.

mod hub;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use hf_hub::RepoType;
pub use hub::{HubSettings, hub_dataset};

use crate::preprocessor::{Preprocessor, Takes};
use crate::weights::Weights;
use crate::{Error, Pixels, Result, Tokenizer, Tokens};

/// A model's files: `config.json`, weights, and what preprocessing needs.
pub struct ModelFiles {
    place: String,
    source: Source,
    image_size: Option<usize>,
    max_tokens: usize,
}

enum Source {
    Folder(PathBuf),
    Hub(Box<hub::Repository>),
    Kept { texts: BTreeMap<String, String>, weights: PathBuf, prefix: String },
}

/// The small files that decide a model's form and preprocessing.
const SETTINGS: [&str; 2] = ["config.json", "preprocessor_config.json"];

impl ModelFiles {
    /// A folder if `name` is one, else the repository `owner/name` or `owner/name@revision` of the hub.
    ///
    /// # Errors
    /// If it is neither.
    pub fn open(name: &str, settings: &HubSettings) -> Result<Self> {
        let source = if Path::new(name).is_dir() {
            Source::Folder(name.into())
        } else {
            Source::Hub(Box::new(hub::Repository::open(name, RepoType::Model, settings)?))
        };
        Ok(Self { place: name.to_owned(), source, image_size: None, max_tokens: usize::MAX })
    }

    /// A model that was trained further: its [`settings`](Self::settings) (for a text model with its `tokenizer.json`), and
    /// its weights as those tensors of the file `weights` whose names start with `prefix`.
    pub fn kept(settings: BTreeMap<String, String>, weights: &Path, prefix: &str) -> Self {
        let (place, prefix) = (weights.display().to_string(), prefix.to_owned());
        let source = Source::Kept { texts: settings, weights: weights.to_owned(), prefix };
        Self { place, source, image_size: None, max_tokens: usize::MAX }
    }

    /// The small files that decide the model's form and preprocessing, by name: `config.json` and
    /// `preprocessor_config.json`, where they exist.
    ///
    /// # Errors
    /// If one cannot be fetched or read.
    pub fn settings(&self) -> Result<BTreeMap<String, String>> {
        let text = |name: &str| Ok(self.text(name)?.map(|(_, text)| (name.to_owned(), text)));
        SETTINGS.into_iter().filter_map(|name| text(name).transpose()).collect()
    }

    /// Images of `size` instead of the model's own: for convolutional networks, which take any.
    #[must_use]
    pub fn at_size(mut self, size: usize) -> Self {
        self.image_size = Some(size);
        self
    }

    /// Texts of at most `tokens`, special ones included, however many the model could read.
    #[must_use]
    pub fn at_most_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = tokens;
        self
    }

    /// The folder or repository, as given.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The path of a file, downloaded if need be; `None` if the model has no such file.
    ///
    /// # Errors
    /// If the hub cannot be reached, or not used offline.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        match &self.source {
            Source::Folder(folder) => Ok(Some(folder.join(name)).filter(|path| path.is_file())),
            Source::Hub(repository) => repository.file(name),
            Source::Kept { .. } => Ok(None),
        }
    }

    /// `config.json`.
    ///
    /// # Errors
    /// If there is none, or a field is missing or of the wrong type.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        self.json("config.json")?.ok_or_else(|| Error::invalid(&self.place, "no config.json"))
    }

    /// The weights: `model.safetensors`, else `pytorch_model.bin`, else the only `.safetensors` or `.pth` of a folder.
    ///
    /// # Errors
    /// If there are none, several, or they cannot be read.
    pub fn weights(&self) -> Result<Weights> {
        if let Source::Kept { weights, prefix, .. } = &self.source {
            return Ok(Weights::open(weights)?.renamed(|name| Some(name.strip_prefix(prefix)?.to_owned())));
        }
        for name in ["model.safetensors", "pytorch_model.bin"] {
            if let Some(path) = self.file(name)? {
                return Weights::open(&path);
            }
        }
        let bad = |problem: String| Err(Error::invalid(&self.place, problem));
        let Source::Folder(folder) = &self.source else { return bad("no model.safetensors".into()) };
        let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
        let wanted =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors" || extension == "pth");
        let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
        match (found.pop(), found.len()) {
            (Some(path), 0) => Weights::open(&path),
            (Some(_), more) => bad(format!("{} files of weights; name one model.safetensors", more + 1)),
            (None, _) => bad("no model.safetensors and no .pth".into()),
        }
    }

    /// `tokenizer.json` or `vocab.txt`; `None` if there is neither.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        if let Source::Kept { texts, .. } = &self.source {
            return texts.get("tokenizer.json").map(|json| Tokenizer::from_json(json)).transpose();
        }
        for name in ["tokenizer.json", "vocab.txt"] {
            if let Some(path) = self.file(name)? {
                return Tokenizer::open(&path).map(Some);
            }
        }
        Ok(None)
    }

    /// Up to `limit` tokens; the empty text is what the tokenizer makes of it.
    pub(crate) fn tokens(&self, limit: usize) -> Result<Tokens> {
        let tokenizer = self.tokenizer()?;
        let empty = tokenizer.as_ref().map(|tokenizer| tokenizer.encode("")).transpose()?;
        let empty = empty.filter(|ids| !ids.is_empty()).unwrap_or_else(|| vec![0]);
        Ok(Tokens { place: self.place.clone(), tokenizer, limit: limit.min(self.max_tokens), empty, learnt: false })
    }

    /// Pixels, framed and normalised as `preprocessor_config.json` says, else stretched and by `mean` and `std`.
    pub(crate) fn pixels(&self, takes: Takes, mean: [f32; 3], std: [f32; 3]) -> Result<Pixels> {
        let own: Preprocessor = self.json("preprocessor_config.json")?.unwrap_or_default();
        own.pixels(self.image_size, takes, (mean, std), &self.place)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some((place, text)) = self.text(name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| Error::invalid(place, error.to_string()))
    }

    /// A small file's place and content.
    fn text(&self, name: &str) -> Result<Option<(String, String)>> {
        if let Source::Kept { texts, .. } = &self.source {
            return Ok(texts.get(name).map(|text| (format!("{} ({name})", self.place), text.clone())));
        }
        let Some(path) = self.file(name)? else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        Ok(Some((path.display().to_string(), text)))
    }
}
