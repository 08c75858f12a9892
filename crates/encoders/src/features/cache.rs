//! Features on disk, found again by the content that made them, and mapped into memory.

mod parts;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use balgrad_data::atomic::{AtomicFile, remove_leftovers};
use balgrad_nn::MappedFile;
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

/// Features of one data set under one condition: `rows` vectors of `dim`, paged in from their file as they are read.
#[derive(Debug)]
pub struct CachedFeatures {
    place: Held,
    dim: usize,
    /// What the user should know, such as that a corrupt file was rebuilt.
    pub note: Option<String>,
}

#[derive(Debug)]
enum Held {
    /// The file, whose values start after the header.
    Mapped(MappedFile),
    /// Where no file could be written.
    Memory(Vec<f32>),
}

impl CachedFeatures {
    /// Features that stand in no file: rows of length `dim`, one after the other.
    pub fn in_memory(values: Vec<f32>, dim: usize) -> Self {
        Self { place: Held::Memory(values), dim, note: None }
    }

    /// The length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.values().len() / self.dim.max(1)
    }

    /// All rows, one after the other.
    pub fn values(&self) -> &[f32] {
        match &self.place {
            Held::Memory(values) => values,
            // That the file can be viewed was seen when it was opened.
            Held::Mapped(file) => file.floats().map_or(&[], |all| &all[HEADER / 4..]),
        }
    }

    /// One row, in the data set's order.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.values().get(index * self.dim..(index + 1) * self.dim)
    }
}

const MAGIC: &[u8; 8] = b"BGFEAT01";
/// Magic, key digest, rows, dim, and the digest of the values.
const HEADER: usize = 8 + 32 + 8 + 8 + 32;

/// What must stand at the start of a file, before the digest of its values.
fn header(key: &CacheKey<'_>, (rows, dim): (usize, usize)) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(key.digest());
    header.extend((rows as u64).to_le_bytes());
    header.extend((dim as u64).to_le_bytes());
    header
}

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

    /// The features of `key`, `rows` of `dim`: found, or handed by `build` to the writer, in order and in pieces of any
    /// size, and kept. While one process builds, others wait for it. A file that is damaged is built again, and one that
    /// cannot be written costs memory and time (`build` is then called again) and nothing else: both with a note.
    ///
    /// # Errors
    /// If `build` fails or gives another number of values than `rows · dim`.
    pub fn get_or_build<E: From<Error>>(
        &self,
        key: &CacheKey<'_>,
        shape: (usize, usize),
        build: impl FnMut(&mut FeatureWriter) -> std::result::Result<(), E>,
    ) -> std::result::Result<CachedFeatures, E> {
        Self::at(&self.path(key), key, shape, build)
    }

    fn at<E: From<Error>>(
        path: &Path,
        key: &CacheKey<'_>,
        (rows, dim): (usize, usize),
        mut build: impl FnMut(&mut FeatureWriter) -> std::result::Result<(), E>,
    ) -> std::result::Result<CachedFeatures, E> {
        let header = header(key, (rows, dim));
        let found = |note| -> std::result::Result<_, String> {
            let file = read(path, &header, (rows, dim))?;
            Ok(file.map(|file| CachedFeatures { place: Held::Mapped(file), dim, note }))
        };
        let mut note = None;
        match found(None) {
            Ok(Some(features)) => return Ok(features),
            Ok(None) => {}
            Err(problem) => note = Some(format!("{}: {problem}; built again", path.display())),
        }
        let lock = Lock::wait(path);
        // Whoever held the lock may have built it.
        if let Ok(Some(features)) = found(None) {
            return Ok(features);
        }
        let mut checked = |writer: &mut FeatureWriter| {
            build(writer)?;
            if writer.values != rows * dim {
                let problem = format!("{} features were made, expected {rows} x {dim}", writer.values);
                return Err(E::from(Error::invalid(path.display().to_string(), problem)));
            }
            Ok(())
        };
        let problem = match FeatureWriter::create(path, &header) {
            Err(error) => error.to_string(),
            Ok(mut writer) => match checked(&mut writer) {
                Err(error) if writer.failure.is_none() => return Err(error),
                _ => match writer.finish().map_err(|error| error.to_string()).and_then(|()| found(note)) {
                    Ok(Some(features)) => return Ok(features),
                    Ok(None) => "the file is gone again".to_owned(),
                    Err(problem) => problem,
                },
            },
        };
        drop(lock);
        let note = Some(format!("going on without the feature cache: {}: {problem}", path.display()));
        let mut writer = FeatureWriter::new(Sink::Memory(Vec::with_capacity(rows * dim)));
        checked(&mut writer)?;
        let place = Held::Memory(match writer.sink {
            Sink::Memory(values) => values,
            Sink::File(..) => Vec::new(),
        });
        Ok(CachedFeatures { place, dim, note })
    }
}

/// Takes features as they are made.
pub struct FeatureWriter {
    sink: Sink,
    hash: Sha256,
    values: usize,
    /// Why the file cannot be written.
    failure: Option<io::Error>,
}

enum Sink {
    File(PathBuf, AtomicFile),
    Memory(Vec<f32>),
}

impl FeatureWriter {
    fn new(sink: Sink) -> Self {
        Self { sink, hash: Sha256::new(), values: 0, failure: None }
    }

    /// A writer of the file at `path`.
    fn create(path: &Path, header: &[u8]) -> io::Result<Self> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(header)?;
        file.write_all(&[0; HEADER][header.len()..])?;
        Ok(Self::new(Sink::File(path.to_owned(), file)))
    }

    /// Takes the next values: whole rows or not.
    ///
    /// # Errors
    /// If the disk refuses them.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        self.values += values.len();
        let (path, file) = match &mut self.sink {
            Sink::Memory(all) => {
                all.extend_from_slice(values);
                return Ok(());
            }
            Sink::File(path, file) => (path, file),
        };
        for some in values.chunks(4096) {
            let bytes: Vec<u8> = some.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.hash.update(&bytes);
            if let Err(error) = file.write_all(&bytes) {
                let path = path.clone();
                self.failure = Some(io::Error::new(error.kind(), error.to_string()));
                return Err(Error::Io { path, source: error });
            }
        }
        Ok(())
    }

    /// Puts the whole file in its place.
    fn finish(self) -> io::Result<()> {
        let Sink::File(_, mut file) = self.sink else { return Ok(()) };
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        file.seek(SeekFrom::Start((HEADER - 32) as u64))?;
        file.write_all(&self.hash.finalize())?;
        file.commit()
    }
}

/// The right to build a file, held by one process at a time. The system takes it back from a process that ends, however it
/// ends; where there are no such locks, several may build.
struct Lock(Option<(File, PathBuf)>);

impl Lock {
    fn wait(path: &Path) -> Self {
        let path = path.with_extension("lock");
        let file = path.parent().and_then(|folder| {
            fs::create_dir_all(folder).ok()?;
            remove_leftovers(folder);
            // A pipe of that name would be waited for without end.
            if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                return None;
            }
            let file = File::create(&path).ok()?;
            file.lock().ok().map(|()| file)
        });
        Self(file.map(|file| (file, path)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Those who wait for it look for the finished file next; should it be missing, two may build, which is harmless.
        if let Some((_, path)) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// The file at `path`, if there is one: verified piece by piece, then mapped.
fn read(path: &Path, header: &[u8], (rows, dim): (usize, usize)) -> Result<Option<MappedFile>, String> {
    let mut file = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err("no regular file".into()),
        Ok(_) => File::open(path).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "cut short".to_owned(),
        _ => error.to_string(),
    };
    let mut start = [0; HEADER];
    file.read_exact(&mut start).map_err(failed)?;
    let (found, digest) = start.split_at(header.len());
    if found != header {
        return Err("header of another feature file".into());
    }
    let mut hash = Sha256::new();
    let length = io::copy(&mut file, &mut hash).map_err(failed)?;
    if length != 4 * (rows * dim) as u64 {
        return Err("cut short".into());
    }
    if hash.finalize().as_slice() != digest {
        return Err("damaged".into());
    }
    let mapped = MappedFile::open(path).map_err(|error| error.to_string())?;
    mapped.floats().map_err(|error| error.to_string())?;
    Ok(Some(mapped))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: CacheKey<'_> = CacheKey { encoder: "e", preprocessing: "p", dataset: "d", condition: "full" };

    fn never(_: &mut FeatureWriter) -> Result<()> {
        Err(Error::invalid("test", "built although cached"))
    }

    #[test]
    fn built_once_in_pieces_and_mapped_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path().join("features"));
        let values = [1.5, -0.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0];
        let build = |writer: &mut FeatureWriter| values.chunks(4).try_for_each(|some| writer.append(some));
        let built = cache.get_or_build(&KEY, (2, 3), build).unwrap();
        let read = cache.get_or_build(&KEY, (2, 3), never).unwrap();
        for features in [&built, &read] {
            assert!(matches!(features.place, Held::Mapped(_)) && features.note.is_none());
            assert_eq!((features.values(), features.row(1), features.row(2)), (&values[..], Some(&values[3..]), None));
            assert_eq!((features.rows(), features.dim()), (2, 3));
        }
        assert_eq!(fs::read_dir(cache.folder).unwrap().count(), 1, "neither lock nor part is left");
    }

    #[test]
    fn a_build_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        for build in [
            never as fn(&mut FeatureWriter) -> Result<()>,
            |writer| writer.append(&[1.0]),
            |writer| writer.append(&[1.0; 9]),
        ] {
            assert!(cache.get_or_build(&KEY, (2, 3), build).is_err());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn many_at_once_build_once() {
        let folder = tempfile::tempdir().unwrap();
        let builds = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let build = |writer: &mut FeatureWriter| {
                        builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        writer.append(&[7.0; 6])
                    };
                    let features = FeatureCache::new(folder.path()).get_or_build(&KEY, (2, 3), build).unwrap();
                    assert_eq!(features.values(), [7.0; 6]);
                });
            }
        });
        assert_eq!(builds.into_inner(), 1);
    }

    #[test]
    fn what_a_crash_leaves_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let path = cache.path(&KEY);
        fs::write(path.with_extension("lock"), b"").unwrap();
        let part = format!("x.tmp-{}-4194999-0123456789abcdef", balgrad_data::atomic::host());
        fs::write(folder.path().join(part), vec![3; 1000]).unwrap();
        let built = cache.get_or_build(&KEY, (1, 2), |writer| writer.append(&[1.0, 2.0])).unwrap();
        assert_eq!(built.values(), [1.0, 2.0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_folder_memory_has_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), b"").unwrap();
        let cache = FeatureCache::new(folder.path().join("file"));
        let built = cache.get_or_build(&KEY, (1, 2), |writer| writer.append(&[1.0, 2.0])).unwrap();
        assert_eq!(built.values(), [1.0, 2.0]);
        assert!(built.note.unwrap().contains("going on without the feature cache"));
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
        let build = |writer: &mut FeatureWriter| writer.append(&[1.0, 2.0]);
        cache.get_or_build(&KEY, (1, 2), build).unwrap();
        let good = fs::read(cache.path(&KEY)).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [&good[..20], &good[..good.len() - 1], &flipped[..], b""] {
            fs::write(cache.path(&KEY), bad).unwrap();
            let mended = cache.get_or_build(&KEY, (1, 2), build).unwrap();
            assert!(mended.note.as_ref().unwrap().contains("built again"));
            assert_eq!(mended.values(), [1.0, 2.0]);
            assert_eq!(fs::read(cache.path(&KEY)).unwrap(), good);
        }
        // As long, and of another shape.
        assert!(cache.get_or_build(&KEY, (2, 1), build).unwrap().note.unwrap().contains("header of another"));
    }
}
