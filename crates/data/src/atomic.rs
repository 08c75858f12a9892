//! Files that are written whole or not at all, whatever happens meanwhile.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What stands between a file's name and that of the temporary file it is written as.
const MARK: &str = ".tmp-";

/// A file in the making. It stands under a name of its own beside its place, and goes there by [`commit`](Self::commit); dropped
/// before, it leaves nothing. A writer that is killed leaves the temporary file, which [`remove_leftovers`] takes away.
///
/// A link stays, and the file that it names is replaced. A device or a pipe cannot be replaced, and is written to as it is.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    /// None where `path` is written to as it is.
    temporary: Option<PathBuf>,
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// A file that will stand at `path`; its mode follows the umask.
    ///
    /// # Errors
    /// A folder that does not exist or cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = BufWriter::new(OpenOptions::new().write(true).open(path)?);
            return Ok(Self { path: path.to_owned(), temporary: None, file: Some(file) });
        }
        let path = &followed(path);
        let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it names no file"))?;
        let random = RandomState::new().build_hasher().finish();
        let mut temporary = name.to_owned();
        temporary.push(format!("{MARK}{}-{}-{random:016x}", host(), std::process::id()));
        let temporary = path.with_file_name(temporary);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&temporary)?;
        // Held until the file is closed, however this process ends; where there are no locks, the process's number has to do.
        let _ = file.try_lock();
        Ok(Self { path: path.clone(), temporary: Some(temporary), file: Some(BufWriter::new(file)) })
    }

    /// Puts the file in its place: the content is on the disk before the name is, and the name before this returns.
    ///
    /// # Errors
    /// When the disk refuses; what stood there before is untouched.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let Some(temporary) = &self.temporary else { return file.flush() };
        let placed =
            file.flush().and_then(|()| file.get_ref().sync_all()).and_then(|()| fs::rename(temporary, &self.path));
        if placed.is_err() {
            let _ = fs::remove_file(temporary);
        }
        placed?;
        sync_folder(&self.path);
        Ok(())
    }

    /// The file as it stands under its temporary name.
    ///
    /// # Errors
    /// None before [`commit`](Self::commit).
    pub fn file(&self) -> io::Result<&File> {
        self.file.as_ref().map(BufWriter::get_ref).ok_or_else(|| ErrorKind::BrokenPipe.into())
    }

    fn open(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.file.as_mut().ok_or_else(|| ErrorKind::BrokenPipe.into())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.open()?.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let (Some(_), Some(temporary)) = (self.file.take(), &self.temporary) {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The file that a path stands for: at the end of a link, whether it exists or not.
fn followed(path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) => fs::canonicalize(path).unwrap_or_else(|_| path.with_file_name(target)),
        Err(_) => path.to_owned(),
    }
}

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never half of either.
///
/// # Errors
/// When the disk is full or the folder cannot be written; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Makes the names in the folder of `path` outlast a power cut, where the system can.
pub fn sync_folder(path: &Path) {
    let parent = path.parent().map_or(Path::new("."), |p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    if cfg!(unix) {
        let _ = File::open(parent).and_then(|folder| folder.sync_all());
    }
}

/// Removes the temporary files that writers left in `folder` when they were killed. Those of a writer at work stay.
pub fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(writer) = name.to_str().and_then(|name| Some(name.rsplit_once(MARK)?.1)) else { continue };
        if is_dead(writer) && entry.file_type().is_ok_and(|t| t.is_file()) {
            let path = entry.path();
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Whether the writer of a temporary file, `HOST-PID-RANDOM`, cannot be at work on it any more, as far as its name tells.
fn is_dead(writer: &str) -> bool {
    let mut parts = writer.rsplitn(3, '-');
    let (Some(random), Some(process), Some(place)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let known = random.len() == 16 && process.parse::<u32>().is_ok();
    let processes = Path::new("/proc");
    let alive = place == host() && processes.join("self").exists() && processes.join(process).exists();
    known && !alive
}

/// This machine's name, of letters, digits and dots alone.
pub fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let named = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let named = named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
        let name: String = named.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').take(64).collect();
        if name.is_empty() { "localhost".to_owned() } else { name }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"old".to_vec(), 2));
        drop(file);
        assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"old".to_vec(), 1));
        write_atomic(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path()).len()), (b"new".to_vec(), 1));
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_is_that_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, usual] = ["a", "b"].map(|name| folder.path().join(name));
        write_atomic(&ours, b"").unwrap();
        fs::write(&usual, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&usual));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let [real, link, dangling] = ["real", "link", "dangling"].map(|name| folder.path().join(name));
        fs::write(&real, b"old").unwrap();
        symlink(&real, &link).unwrap();
        symlink("new", &dangling).unwrap();
        write_atomic(&link, b"new").unwrap();
        write_atomic(&dangling, b"made").unwrap();
        assert!(link.is_symlink() && dangling.is_symlink());
        assert_eq!(
            [fs::read(&real).unwrap(), fs::read(folder.path().join("new")).unwrap()],
            [b"new".to_vec(), b"made".to_vec()]
        );
        let null = folder.path().join("null");
        symlink("/dev/null", &null).unwrap();
        write_atomic(&null, b"lost").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert_eq!(names(folder.path()), ["dangling", "link", "new", "null", "real"]);
    }

    #[test]
    fn leftovers_of_the_dead_go_and_files_at_work_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dead = format!("a.tmp-{}-4194999-0123456789abcdef", host());
        fs::write(folder.path().join(dead), b"x").unwrap();
        for other in ["b.tmp", "c.tmp-notes", "d"] {
            fs::write(folder.path().join(other), b"x").unwrap();
        }
        let at_work = AtomicFile::create(&folder.path().join("e")).unwrap();
        remove_leftovers(folder.path());
        let left = names(folder.path());
        assert_eq!(left.len(), 4, "{left:?}");
        assert_eq!(&left[..3], ["b.tmp", "c.tmp-notes", "d"]);
        at_work.commit().unwrap();
        assert!(folder.path().join("e").exists());
    }
}
