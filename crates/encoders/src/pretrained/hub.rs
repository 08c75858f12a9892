//! Repositories of a Hugging Face hub, through its cache.

mod patience;
mod remote;

use std::path::{Component, Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use remote::Remote;

use crate::{Error, Result};

/// Where models come from. [`from_env`](Self::from_env) is what users want.
#[derive(Debug, Clone, Default)]
pub struct HubSettings {
    /// The server; the public hub if `None`.
    pub endpoint: Option<String>,
    /// The folder of the cache; the user's own if `None`.
    pub cache: Option<PathBuf>,
    /// The access token; that of the user's `token` file if `None`.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
    /// Asked now and then while something is downloaded: whether to stop. What has come is kept, and gone on with later.
    pub stop: Option<fn() -> bool>,
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
            stop: None,
        }
    }
}

/// The folder of the data set `owner/name` or `owner/name@revision` of the hub: downloaded whole the first time, found in
/// the cache afterwards.
///
/// # Errors
/// A name of another form, a server that does not answer or refuses, content that is not what was announced, or offline a
/// data set that is not wholly in the cache.
pub fn hub_dataset(name: &str, settings: &HubSettings) -> Result<PathBuf> {
    Repository::open(name, RepoType::Dataset, settings)?.whole()
}

/// One repository at one revision.
pub(super) struct Repository {
    name: String,
    repo: Repo,
    cached: CacheRepo,
    /// `None` when offline.
    remote: Option<Remote>,
}

/// Left in a snapshot that holds every file of its repository.
const WHOLE: &str = ".whole";

/// Whether a word from outside can be part of a path without leading anywhere.
fn plain(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// A file's name as a part of an address, with all that means something there escaped.
fn escaped(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    file.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Repository {
    pub(super) fn open(name: &str, kind: RepoType, settings: &HubSettings) -> Result<Self> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let fits = id.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
        if !fits || !revision.split('/').all(plain) {
            return Err(Error::invalid(name, "neither a folder nor a repository `owner/name` of the hub"));
        }
        let cache = settings.cache.clone().map_or_else(Cache::from_env, Cache::new);
        let token = settings.token.clone().or_else(|| cache.token());
        let repo = Repo::with_revision(id.to_owned(), kind, revision.to_owned());
        let cached = cache.repo(repo.clone());
        let remote = (!settings.offline).then(|| Remote::new(name, token, settings));
        Ok(Self { name: name.to_owned(), repo, cached, remote })
    }

    /// A file from the cache, else from the server; `None` if the repository lacks it.
    pub(super) fn file(&self, file: &str) -> Result<Option<PathBuf>> {
        if let Some(path) = self.cached.get(file) {
            return Ok(Some(path));
        }
        let known = self.commit();
        let lacks = |commit: &str| self.lacking(commit).join(file);
        if known.as_deref().is_some_and(|commit| lacks(commit).exists()) {
            return Ok(None);
        }
        let Some(remote) = &self.remote else {
            // Offline, an absent file may be absent from the repository: unless nothing of it was ever fetched.
            return if known.is_some() { Ok(None) } else { Err(self.not_cached("not in the cache")) };
        };
        if let Some((_, path)) = self.fetch(remote, file)? {
            return Ok(Some(path));
        }
        if let Some(commit) = self.commit() {
            // Not asked for again; where this cannot be noted, it is.
            let note = lacks(&commit);
            let _ = note.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(note, "");
        }
        Ok(None)
    }

    /// The folder of all files.
    fn whole(&self) -> Result<PathBuf> {
        if let Some(commit) = self.commit() {
            let folder = self.cached.pointer_path(&commit);
            if folder.join(WHOLE).exists() {
                return Ok(folder);
            }
        }
        let Some(remote) = &self.remote else { return Err(self.not_cached("not, or not wholly, in the cache")) };
        let listing = remote.listing(&self.repo.api_url())?;
        if !plain(&listing.sha) {
            return Err(Error::invalid(&self.name, format!("the server names an odd commit `{}`", listing.sha)));
        }
        for file in listing.siblings.iter().map(|sibling| &sibling.rfilename).filter(|file| !file.starts_with('.')) {
            if self.cached.pointer_path(&listing.sha).join(file).exists() {
                continue;
            }
            match self.fetch(remote, file)? {
                Some((commit, _)) if commit == listing.sha => {}
                Some(_) => return Err(Error::invalid(&self.name, "it changed while it was downloaded; start again")),
                None => {
                    return Err(Error::invalid(&self.name, format!("the server lists `{file}` and does not have it")));
                }
            }
        }
        let folder = self.cached.pointer_path(&listing.sha);
        let mark = || {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(WHOLE), "")?;
            self.cached.create_ref(&listing.sha)
        };
        mark().map_err(|source| Error::io(&folder, source))?;
        Ok(folder)
    }

    /// Downloads a file into the cache, and returns its commit and path.
    fn fetch(&self, remote: &Remote, file: &str) -> Result<Option<(String, PathBuf)>> {
        if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::invalid(&self.name, format!("the file name `{file}` leads out of the cache")));
        }
        let url = format!("{}/resolve/{}/{}", self.repo.url(), self.repo.url_revision(), escaped(file));
        let Some(about) = remote.about(&url)? else { return Ok(None) };
        let blob = self.cached.blob_path(&about.etag);
        remote.download(&url, &about, &blob, &format!("{}/{file}", self.name))?;
        let path = self.cached.pointer_path(&about.commit).join(file);
        let place = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            if !path.exists() {
                link(&blob, &path, Path::new(file).components().count())?;
            }
            self.cached.create_ref(&about.commit)
        };
        place().map_err(|source| Error::io(&path, source))?;
        Ok(Some((about.commit, path)))
    }

    /// The commit that the revision was last seen at.
    fn commit(&self) -> Option<String> {
        let path = self.root().join("refs").join(self.repo.revision());
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|commit| plain(commit))
    }

    /// Where files that a commit lacks are noted.
    fn lacking(&self, commit: &str) -> PathBuf {
        self.root().join(".no_exist").join(commit)
    }

    /// The repository's folder in the cache.
    fn root(&self) -> PathBuf {
        let snapshot = self.cached.pointer_path("x");
        snapshot.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
    }

    fn not_cached(&self, what: &str) -> Error {
        Error::invalid(&self.name, format!("{what}, and HF_HUB_OFFLINE is set; fetch it once without"))
    }
}

/// Places a blob in a snapshot, `depth` folders deep.
fn link(blob: &Path, path: &Path, depth: usize) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let up: PathBuf = std::iter::repeat_n("..", depth + 1).collect();
        let target = up.join("blobs").join(blob.file_name().unwrap_or_default());
        match std::os::unix::fs::symlink(target, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = depth;
        std::fs::copy(blob, path).map(drop)
    }
}
