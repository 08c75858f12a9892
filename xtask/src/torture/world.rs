//! Where the faults happen: a scratch folder, small data, the program, and the shim that lets its writes fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fixtures;

pub(super) struct World {
    program: PathBuf,
    shim: PathBuf,
    /// Emptied at the end.
    pub(super) root: PathBuf,
    random: u64,
    /// When the part at work is to end.
    pub(super) until: Instant,
    pub(super) faults: Vec<String>,
}

/// What the shim does, and with which call below the scratch folder, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) how: &'static str,
    pub(super) at: usize,
}

/// How a process is started and ended.
#[derive(Clone, Copy, Default)]
pub(super) struct How {
    pub(super) fault: Option<Fault>,
    /// Killed after this time.
    pub(super) kill: Option<Duration>,
    /// With about 1 GiB of memory, and this long at most. No call is counted.
    pub(super) bounded: Option<Duration>,
}

/// How a process ended.
pub(super) struct Ended {
    /// None where a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) out: Vec<u8>,
    pub(super) error: String,
    pub(super) took: Duration,
    /// It did not end by itself.
    pub(super) hung: bool,
    /// Calls that change files, where it left in order.
    pub(super) calls: usize,
}

impl Ended {
    /// What is wrong with the end of a process that may fail: a panic, an abort, a hang, or words that say nothing.
    pub(super) fn fault(&self) -> Option<String> {
        let first = self.error.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        if self.hung {
            return Some("it hung".to_owned());
        }
        match self.code {
            _ if self.error.contains("panicked at") => Some(format!("it panicked: {first}")),
            None => Some(format!("it was aborted: {first}")),
            Some(0) => None,
            // `check` prints what is wrong with data.
            Some(1 | 2) if !first.is_empty() || !self.out.is_empty() => None,
            Some(code) => Some(format!("exit code {code}, `{first}`")),
        }
    }
}

/// The longest that a process may take.
const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    pub(super) fn new(seed: u64, program: Option<PathBuf>) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let root = folder.join(format!("balgrad-torture-{}", std::process::id()));
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
        let shim = root.join("fault.so");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&shim);
        cc.arg(crate::root().join("xtask/src/torture/fault.c")).arg("-ldl");
        if !cc.status().context("the fault injector needs a C compiler, `cc`")?.success() {
            bail!("the fault injector does not compile");
        }
        fixtures::data(&root.join("data"))?;
        let program = program.unwrap_or_else(|| target.join("debug/balgrad"));
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
        Ok(Self { program, shim, root, random, until: Instant::now(), faults: Vec::new() })
    }

    /// The folder of the programs beside this one.
    pub(super) fn example(&self, name: &str) -> PathBuf {
        self.program.with_file_name("examples").join(name)
    }

    pub(super) fn has_time(&self) -> bool {
        Instant::now() < self.until
    }

    /// A number below `n`: splitmix64.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    pub(super) fn blame(&mut self, fault: String) {
        eprintln!("FAULT {fault}");
        self.faults.push(fault);
    }

    /// An empty folder.
    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Runs the program, its cache in `folder/cache`; faults happen below `folder`.
    pub(super) fn balgrad<S: AsRef<str>>(&self, folder: &Path, arguments: &[S], how: How) -> Result<Ended> {
        let program = self.program.display().to_string();
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        self.start(&program, folder, &words, how)
    }

    pub(super) fn start(&self, program: &str, folder: &Path, arguments: &[&str], how: How) -> Result<Ended> {
        let mut command = Command::new("sh");
        // About 1 GiB beside what threads reserve.
        let limits = if how.bounded.is_some() { "ulimit -c 0; ulimit -v 1600000; " } else { "ulimit -c 0; " };
        command.args(["-c", &format!("{limits}exec \"$0\" \"$@\""), program]).args(arguments);
        let (count, [out, error]) = (self.root.join("calls"), ["out", "error"].map(|name| self.root.join(name)));
        let _ = fs::remove_file(&count);
        command.current_dir(folder).env("BALGRAD_CACHE", folder.join("cache")).env("HF_HUB_OFFLINE", "1");
        command.env("RUST_BACKTRACE", "0").env("RAYON_NUM_THREADS", "2");
        if how.bounded.is_none() {
            command.env("LD_PRELOAD", &self.shim).env("FAULT_UNDER", folder).env("FAULT_COUNT", &count);
        }
        if let Some(Fault { how, at }) = how.fault {
            command.env("FAULT_AT", at.to_string()).env("FAULT_HOW", how);
        }
        command.stdin(Stdio::null()).stdout(fs::File::create(&out)?).stderr(fs::File::create(&error)?);
        let began = Instant::now();
        let mut child = command.spawn().context("no sh")?;
        let end = how.kill.or(how.bounded).unwrap_or(PATIENCE);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if began.elapsed() > end {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let calls = fs::read_to_string(&count).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        Ok(Ended {
            code: status.and_then(|status| status.code()),
            out: fs::read(out)?,
            error: String::from_utf8_lossy(&fs::read(error)?).into_owned(),
            took: began.elapsed(),
            hung: status.is_none() && how.kill.is_none(),
            calls,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
