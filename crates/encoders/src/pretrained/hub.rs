//! Repositories of a Hugging Face hub, through its cache.

use std::path::PathBuf;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::{Error, Result};

/// Where models come from. [`from_env`](Self::from_env) is what users want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubSettings {
    /// The server; the public hub if `None`.
    pub endpoint: Option<String>,
    /// The folder of the cache; the user's own if `None`.
    pub cache: Option<PathBuf>,
    /// The access token.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
}

impl HubSettings {
    /// `HF_ENDPOINT`, `HF_HOME` (its folder `hub`), `HF_TOKEN` and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Self {
            endpoint: var("HF_ENDPOINT"),
            cache: var("HF_HOME").map(|home| PathBuf::from(home).join("hub")),
            token: var("HF_TOKEN"),
            offline: var("HF_HUB_OFFLINE").is_some_and(on),
        }
    }
}

/// One repository at one revision.
pub(super) struct Repository {
    name: String,
    cached: CacheRepo,
    /// `None` when offline.
    remote: Option<ApiRepo>,
}

impl Repository {
    pub(super) fn open(name: &str, settings: &HubSettings) -> Result<Self> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        if id.split('/').filter(|part| !part.is_empty()).count() != 2 {
            let problem = "neither a folder nor a repository `owner/name`";
            return Err(Error::invalid(name, problem));
        }
        let cache = settings.cache.clone().map_or_else(Cache::from_env, Cache::new);
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        let cached = cache.repo(repo.clone());
        let remote = if settings.offline {
            None
        } else {
            let mut builder = ApiBuilder::from_cache(cache).with_progress(false);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
            }
            if let Some(token) = &settings.token {
                builder = builder.with_token(Some(token.clone()));
            }
            let api = builder.build().map_err(|error| Error::invalid(name, error.to_string()))?;
            Some(api.repo(repo))
        };
        Ok(Self { name: name.to_owned(), cached, remote })
    }

    /// A file from the cache, else from the server; `None` if the repository lacks it.
    pub(super) fn file(&self, file: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = self.cached.get(file) {
            return Ok(Some(path));
        }
        let Some(remote) = &self.remote else {
            // Offline, an absent file may be absent from the repository: unless nothing of it was ever fetched.
            return match self.cached.get("config.json") {
                Some(_) => Ok(None),
                None => Err(Error::invalid(&self.name, "not in the cache, and HF_HUB_OFFLINE is set")),
            };
        };
        match remote.download(file) {
            Ok(path) => Ok(Some(path)),
            Err(ApiError::RequestError(error)) if error.to_string().contains("404") => Ok(None),
            Err(error) => Err(Error::invalid(format!("{}/{file}", self.name), error.to_string())),
        }
    }
}
