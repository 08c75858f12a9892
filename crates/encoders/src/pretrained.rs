//! Pretrained models as Hugging Face lays them out: a folder, or a repository of the hub.

mod hub;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use balgrad_nn::InitialValues as _;
use hf_hub::RepoType;
pub use hub::{HubSettings, hub_dataset};

use crate::preprocessor::{Preprocessor, Takes};
use crate::tokenizer::Casing;
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

    /// All that [`open`](Self::open) needs of a folder, as names and contents of files: settings, `tokenizer.json`, and the weights
    /// as `model.safetensors`.
    ///
    /// # Errors
    /// If one cannot be fetched or read.
    pub fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut all: BTreeMap<String, Vec<u8>> =
            self.settings()?.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        if let Some(tokenizer) = self.tokenizer()? {
            all.insert("tokenizer.json".to_owned(), tokenizer.to_json()?.into_bytes());
        }
        all.insert("model.safetensors".to_owned(), self.weights()?.to_safetensors()?);
        Ok(all)
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

    /// The weights: `model.safetensors`, else `pytorch_model.bin`, each whole or in the parts that an index names, else the only
    /// `.safetensors` or `.pth` of a folder.
    ///
    /// # Errors
    /// If there are none, several, or they cannot be read.
    pub fn weights(&self) -> Result<Weights> {
        if let Source::Kept { weights, prefix, .. } = &self.source {
            return Ok(Weights::open(weights)?.renamed(|name| Some(name.strip_prefix(prefix)?.to_owned())));
        }
        for name in ["model.safetensors", "pytorch_model.bin"] {
            if let Some(path) = self.file(name)? {
                return Ok(Weights::open(&path)?.unwrapped());
            }
            if let Some(weights) = self.parts(&format!("{name}.index.json"))? {
                return Ok(weights.unwrapped());
            }
        }
        let bad = |problem: String| Err(Error::invalid(&self.place, problem));
        let Source::Folder(folder) = &self.source else { return bad("no model.safetensors".into()) };
        let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, source))?;
        let wanted =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors" || extension == "pth");
        let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
        match (found.pop(), found.len()) {
            (Some(path), 0) => Ok(Weights::open(&path)?.unwrapped()),
            (Some(_), more) => bad(format!("{} files of weights; name one model.safetensors", more + 1)),
            (None, _) => bad("no model.safetensors and no .pth".into()),
        }
    }

    /// The weights whose parts the index `name` lists; `None` if there is no such index.
    fn parts(&self, name: &str) -> Result<Option<Weights>> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let Some(Index { weight_map }) = self.json(name)? else { return Ok(None) };
        let bad = |problem: String| Error::invalid(&self.place, format!("{name}: {problem}"));
        let mut all: Option<Weights> = None;
        for part in weight_map.values().collect::<BTreeSet<_>>() {
            let inside = Path::new(part).components().all(|piece| matches!(piece, Component::Normal(_)));
            let path = if inside { self.file(part)? } else { None };
            let path = path.ok_or_else(|| bad(format!("the part `{part}` is missing")))?;
            let weights = Weights::open(&path)?;
            let here = weight_map.iter().filter(|(_, file)| *file == part);
            if let Some((lost, _)) = here.into_iter().find(|(tensor, _)| !weights.contains(tensor)) {
                return Err(bad(format!("`{part}` lacks `{lost}`")));
            }
            all = Some(match all {
                Some(before) => before.and(weights),
                None => weights,
            });
        }
        all.map(Some).ok_or_else(|| bad("it lists no parts".into()))
    }

    /// `tokenizer.json`, or `vocab.txt` with what `tokenizer_config.json` says of it; `None` if there is neither.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        if let Source::Kept { texts, .. } = &self.source {
            return texts.get("tokenizer.json").map(|json| Tokenizer::from_json(json)).transpose();
        }
        if let Some(path) = self.file("tokenizer.json")? {
            return Tokenizer::open(&path).map(Some);
        }
        let Some(path) = self.file("vocab.txt")? else { return Ok(None) };
        let casing: Casing = self.json("tokenizer_config.json")?.unwrap_or_default();
        Tokenizer::from_vocabulary(&path, &casing).map(Some)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    fn folder(parts: &[(&str, &[&str])], index: &str) -> (tempfile::TempDir, ModelFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (file, names) in parts {
            let tensor = |name: &&str| ((*name).to_owned(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
            let tensors: HashMap<String, Tensor> = names.iter().map(tensor).collect();
            candle_core::safetensors::save(&tensors, folder.path().join(file)).unwrap();
        }
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let files = ModelFiles::open(folder.path().to_str().unwrap(), &HubSettings::default()).unwrap();
        (folder, files)
    }

    const PARTS: &[(&str, &[&str])] = &[("1.safetensors", &["module.a"]), ("2.safetensors", &["module.b", "module.c"])];

    #[test]
    fn weights_in_parts_are_put_together() {
        let index = r#"{"metadata": {}, "weight_map": {"module.a": "1.safetensors", "module.b": "2.safetensors"}}"#;
        let (_folder, files) = folder(PARTS, index);
        assert_eq!(files.weights().unwrap().unused(), ["a", "b", "c"]);
    }

    #[test]
    fn an_index_that_does_not_hold_is_refused() {
        for (map, word) in [
            (r#"{"module.a": "3.safetensors"}"#, "`3.safetensors` is missing"),
            (r#"{"module.a": "../1.safetensors"}"#, "`../1.safetensors` is missing"),
            (r#"{"module.b": "1.safetensors"}"#, "`1.safetensors` lacks `module.b`"),
            ("{}", "lists no parts"),
            ("7", "invalid type"),
        ] {
            let (_folder, files) = folder(PARTS, &format!(r#"{{"weight_map": {map}}}"#));
            let error = files.weights().err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
