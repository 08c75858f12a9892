//! Pretrained models as Hugging Face lays them out: a folder, or a repository of the hub.

mod hub;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use hub::HubSettings;

use crate::weights::Weights;
use crate::{Error, Expects, Result, Tokenizer};

/// A model's files: `config.json`, weights, and what preprocessing needs.
pub struct ModelFiles {
    place: String,
    source: Source,
    image_size: Option<usize>,
}

enum Source {
    Folder(PathBuf),
    Hub(Box<hub::Repository>),
}

impl ModelFiles {
    /// A folder if `name` is one, else the repository `owner/name` or `owner/name@revision` of the hub.
    ///
    /// # Errors
    /// If it is neither.
    pub fn open(name: &str, settings: &HubSettings) -> Result<Self> {
        let source = if Path::new(name).is_dir() {
            Source::Folder(name.into())
        } else {
            Source::Hub(Box::new(hub::Repository::open(name, settings)?))
        };
        Ok(Self { place: name.to_owned(), source, image_size: None })
    }

    /// Images of `size` instead of the model's own: for convolutional networks, which take any.
    #[must_use]
    pub fn at_size(mut self, size: usize) -> Self {
        self.image_size = Some(size);
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
        for name in ["tokenizer.json", "vocab.txt"] {
            if let Some(path) = self.file(name)? {
                return Tokenizer::open(&path).map(Some);
            }
        }
        Ok(None)
    }

    /// Up to `limit` tokens; the empty text is what the tokenizer makes of it.
    pub(crate) fn expects_tokens(&self, limit: usize) -> Result<Expects> {
        let empty = self.tokenizer()?.map(|tokenizer| tokenizer.encode("")).transpose()?;
        Ok(Expects::Tokens { limit, empty: empty.filter(|ids| !ids.is_empty()).unwrap_or_else(|| vec![0]) })
    }

    /// Pixels of `size`, normalised as `preprocessor_config.json` says, else by `mean` and `std`.
    pub(crate) fn expects_pixels(&self, size: usize, mean: [f32; 3], std: [f32; 3]) -> Result<Expects> {
        #[derive(serde::Deserialize)]
        struct Preprocessor {
            image_mean: Option<[f32; 3]>,
            image_std: Option<[f32; 3]>,
        }
        let (own_mean, own_std) = match self.json::<Preprocessor>("preprocessor_config.json")? {
            Some(own) => (own.image_mean, own.image_std),
            None => (None, None),
        };
        let size = self.image_size.unwrap_or(size);
        Ok(Expects::Pixels { size, mean: own_mean.unwrap_or(mean), std: own_std.unwrap_or(std) })
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(path) = self.file(name)? else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        let bad = |error: serde_json::Error| Error::invalid(path.display().to_string(), error.to_string());
        serde_json::from_str(&text).map(Some).map_err(bad)
    }
}
