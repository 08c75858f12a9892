//! A hub on the loopback address, as small as its protocol: listings, ranges, hashes, and whatever can go wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// The commit of every repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong when a file is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Requests for content end after so many bytes, so many times.
    Cut { after: usize, times: usize },
    /// So many requests get this status, with a `Retry-After` in seconds.
    Busy { status: u16, seconds: Option<u64>, times: usize },
    /// The hash that is announced is that of other content.
    OtherHash,
    /// The size that is announced is not the content's.
    OtherSize(usize),
    /// Ranges are ignored, and the whole file sent.
    NoRanges,
    /// Content lies elsewhere, at the start of this address.
    Elsewhere(String),
    /// Nothing is said for this time.
    Silent(std::time::Duration),
}

#[derive(Default)]
struct State {
    /// By `owner/name` or `datasets/owner/name`.
    repositories: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    faults: BTreeMap<String, Fault>,
    /// Repositories that are shown to the token `secret` alone.
    private: Vec<String>,
    requests: Vec<String>,
    tokens: Vec<bool>,
}

/// A running hub; its threads end with the process.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                // A client that hangs up is no failure of the server.
                std::thread::spawn(move || answer(stream.unwrap(), &shared).ok());
            }
        });
        Self { endpoint, state }
    }

    pub(crate) fn put(&self, repository: &str, file: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.repositories.entry(repository.into()).or_default().insert(file.into(), content.into());
    }

    /// Puts every file below a folder.
    pub(crate) fn put_folder(&self, repository: &str, folder: &std::path::Path) {
        let mut open = vec![folder.to_owned()];
        while let Some(here) = open.pop() {
            for path in std::fs::read_dir(here).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    open.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    self.put(repository, &name, &std::fs::read(&path).unwrap());
                }
            }
        }
    }

    pub(crate) fn fault(&self, file: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(file.into(), fault);
    }

    pub(crate) fn hide(&self, repository: &str) {
        self.state.lock().unwrap().private.push(repository.into());
    }

    /// Whether the requests since the last call carried the token.
    pub(crate) fn tokens(&self) -> Vec<bool> {
        std::mem::take(&mut self.state.lock().unwrap().tokens)
    }

    /// Paths and ranges asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut token) = (None, false);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").and_then(bounds),
            "authorization" => token = value == "Bearer secret",
            _ => {}
        }
    }
    let silence = state.lock().unwrap().faults.iter().find_map(|(file, fault)| match fault {
        Fault::Silent(time) if path.ends_with(file.as_str()) => Some(*time),
        _ => None,
    });
    silence.into_iter().for_each(std::thread::sleep);
    let (head, body) = respond(&path, range.as_ref(), token, &mut state.lock().unwrap());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

fn bounds(range: &str) -> Option<(String, String)> {
    range.split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned()))
}

/// Head and body; a body that is cut is shorter than its head says.
fn respond(path: &str, range: Option<&(String, String)>, token: bool, state: &mut State) -> (String, Vec<u8>) {
    let from = range.map_or_else(String::new, |(a, b)| format!(" {a}-{b}"));
    state.requests.push(format!("{path}{from}"));
    state.tokens.push(token);
    let plain = |status: &str, more: &str, body: &str| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        (head, body.as_bytes().to_vec())
    };
    let (listing, rest) = match path.strip_prefix("/api/") {
        Some(rest) => (true, rest.strip_prefix("models/").unwrap_or(rest)),
        None => (false, path.trim_start_matches('/')),
    };
    let Some((repository, rest)) = rest.split_once(if listing { "/revision/" } else { "/resolve/" }) else {
        return plain("404 Not Found", "", "");
    };
    if state.private.iter().any(|hidden| hidden == repository) && !token {
        return plain("401 Unauthorized", "x-error-code: GatedRepo\r\n", "Access is restricted");
    }
    let Some(files) = state.repositories.get(repository) else {
        return plain("404 Not Found", "x-error-code: RepoNotFound\r\n", "Repository not found");
    };
    if listing {
        let siblings: Vec<String> = files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        return plain("200 OK", "", &format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", ")));
    }
    let file = rest.split_once('/').map_or("", |(_, file)| file);
    let Some(content) = files.get(&unescaped(file)) else {
        return plain("404 Not Found", "x-error-code: EntryNotFound\r\n", "Entry not found");
    };
    let probe = range.is_some_and(|(_, end)| end == "0");
    let mut fault = state.faults.get_mut(&unescaped(file));
    if let Some(Fault::Busy { status, seconds, times }) = &mut fault
        && *times > 0
    {
        *times -= 1;
        let wait = seconds.map_or_else(String::new, |s| format!("Retry-After: {s}\r\n"));
        return plain(&format!("{status} Busy"), &wait, "");
    }
    if let (Some(Fault::Elsewhere(server)), false) = (&fault, probe) {
        return plain("302 Found", &format!("Location: {server}{path}\r\n"), "");
    }
    let mut hash = Sha256::digest(content);
    let mut size = content.len();
    let start: usize = range.and_then(|(a, _)| a.parse().ok()).unwrap_or(0);
    let (mut status, mut start, end) = ("206 Partial Content", start.min(size), if probe { 1.min(size) } else { size });
    let mut sent = end;
    match fault {
        Some(Fault::OtherHash) => hash = Sha256::digest(b"other"),
        Some(Fault::OtherSize(other)) => size = *other,
        Some(Fault::NoRanges) if !probe => (status, start) = ("200 OK", 0),
        Some(Fault::Cut { after, times }) if !probe && *times > 0 => {
            *times -= 1;
            sent = (start + *after).min(end);
        }
        _ => {}
    }
    let etag: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{size}\r\n\
         etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\n\r\n",
        end - start,
        end.saturating_sub(1),
    );
    (head, content[start..sent].to_vec())
}

/// A name without its percent signs; in an address they must be there.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        assert!(first.is_ascii_graphic(), "{name}");
        match (first, after) {
            (b'%', [a, b, after @ ..]) => {
                let digits = String::from_utf8(vec![*a, *b]).unwrap();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
