//! Features on disk, found again by the content that made them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Everything that a feature depends on. Equal keys, equal features.
#[derive(Debug, Clone, Copy)]
pub struct CacheKey<'a> {
    /// The featuriser's key, or the hash of an encoder's weights.
    pub encoder: &'a str,
    /// Size, normalisation, tokenizer.
    pub preprocessing: &'a str,
    /// The data set's fingerprint.
    pub dataset: &'a str,
    /// The impairment and its seed, or `full`.
    pub condition: &'a str,
}

impl CacheKey<'_> {
    /// The hash of all parts; each goes in with its length, so that no two keys run together.
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.encoder, self.preprocessing, self.dataset, self.condition] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// A folder of feature files. Several processes may share it.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
}

/// Features of one data set under one condition: `rows` vectors of `dim`.
pub struct CachedFeatures {
    values: Vec<f32>,
    dim: usize,
    /// What the user should know, such as that a corrupt file was rebuilt.
    pub note: Option<String>,
}

impl CachedFeatures {
    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// All rows, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row, in the data set's order.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.values.get(index * self.dim..(index + 1) * self.dim)
    }
}

const MAGIC: &[u8; 8] = b"BGFEAT01";
/// Magic, key digest, rows, dim, and the digest of the values.
const HEADER: usize = 8 + 32 + 8 + 8 + 32;

impl FeatureCache {
    /// A cache in `folder`, made when first written to.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file that `key` lives in.
    pub fn path(&self, key: &CacheKey<'_>) -> PathBuf {
        let name: String = key.digest()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{name}.features"))
    }

    /// The features of `key`: read, or made by `build` and kept. A file that is damaged is built again, and one that cannot
    /// be written costs time and nothing else: both with a note.
    ///
    /// # Errors
    /// If `build` fails or gives another number of values than `rows · dim`.
    pub fn get_or_build<E: From<Error>>(
        &self,
        key: &CacheKey<'_>,
        (rows, dim): (usize, usize),
        build: impl FnOnce() -> std::result::Result<Vec<f32>, E>,
    ) -> std::result::Result<CachedFeatures, E> {
        let path = self.path(key);
        let mut note = match fs::read(&path) {
            Ok(bytes) => match parse(&bytes, key, rows, dim) {
                Ok(values) => return Ok(CachedFeatures { values, dim, note: None }),
                Err(problem) => Some(format!("{}: {problem}; built again", path.display())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("{}: {error}; built again", path.display())),
        };
        let values = build()?;
        if values.len() != rows * dim {
            let problem = format!("{} features were made, expected {rows} x {dim}", values.len());
            return Err(Error::invalid(path.display().to_string(), problem).into());
        }
        if let Err(error) = self.write(&path, key, (rows, dim), &values) {
            note = Some(format!("going on without the feature cache: {error}"));
        }
        Ok(CachedFeatures { values, dim, note })
    }

    /// Whole or not at all: readers see the old file, or the new one.
    fn write(&self, path: &Path, key: &CacheKey<'_>, (rows, dim): (usize, usize), values: &[f32]) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|source| Error::io(&self.folder, source))?;
        let part = path.with_extension(format!("part{}", std::process::id()));
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let write = || {
            let mut file = BufWriter::new(fs::File::create(&part)?);
            file.write_all(MAGIC)?;
            file.write_all(&key.digest())?;
            file.write_all(&(rows as u64).to_le_bytes())?;
            file.write_all(&(dim as u64).to_le_bytes())?;
            file.write_all(&Sha256::digest(&bytes))?;
            file.write_all(&bytes)?;
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&part, path)
        };
        write().map_err(|source| Error::io(path, source))
    }
}

fn parse(bytes: &[u8], key: &CacheKey<'_>, rows: usize, dim: usize) -> Result<Vec<f32>, &'static str> {
    let mut expected = MAGIC.to_vec();
    expected.extend(key.digest());
    expected.extend((rows as u64).to_le_bytes());
    expected.extend((dim as u64).to_le_bytes());
    if !bytes.starts_with(&expected) {
        return Err("header of another feature file");
    }
    let (Some(digest), Some(body)) = (bytes.get(expected.len()..HEADER), bytes.get(HEADER..)) else {
        return Err("cut short");
    };
    if Sha256::digest(body).as_slice() != digest {
        return Err("damaged");
    }
    Ok(body.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: CacheKey<'_> = CacheKey { encoder: "e", preprocessing: "p", dataset: "d", condition: "full" };

    fn never() -> Result<Vec<f32>> {
        Err(Error::invalid("test", "built although cached"))
    }

    #[test]
    fn built_once_and_read_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path().join("features"));
        let values = vec![1.5, -0.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0];
        cache.get_or_build(&KEY, (2, 3), || Ok::<_, Error>(values.clone())).unwrap();
        let read = cache.get_or_build(&KEY, (2, 3), never).unwrap();
        assert_eq!((read.values(), read.row(1), read.row(2)), (&values[..], Some(&values[3..]), None));
        assert_eq!(fs::read_dir(cache.folder).unwrap().count(), 1);
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let cache = FeatureCache::new("nowhere");
        let keys = [
            KEY,
            CacheKey { encoder: "x", ..KEY },
            CacheKey { preprocessing: "x", ..KEY },
            CacheKey { dataset: "x", ..KEY },
            CacheKey { condition: "x", ..KEY },
            CacheKey { encoder: "ep", preprocessing: "", ..KEY },
        ];
        let paths: std::collections::BTreeSet<_> = keys.iter().map(|key| cache.path(key)).collect();
        assert_eq!(paths.len(), keys.len());
    }

    #[test]
    fn damage_is_noticed_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let build = || Ok::<_, Error>(vec![1.0, 2.0]);
        cache.get_or_build(&KEY, (1, 2), build).unwrap();
        let good = fs::read(cache.path(&KEY)).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [&good[..20], &good[..good.len() - 1], &flipped[..], b""] {
            fs::write(cache.path(&KEY), bad).unwrap();
            let mended = cache.get_or_build(&KEY, (1, 2), build).unwrap();
            assert!(mended.note.unwrap().contains("built again"));
            assert_eq!(mended.values, [1.0, 2.0]);
            assert_eq!(fs::read(cache.path(&KEY)).unwrap(), good);
        }
        assert!(
            cache.get_or_build(&CacheKey { dataset: "other", ..KEY }, (1, 2), || Ok::<_, Error>(vec![1.0])).is_err()
        );
    }
}
