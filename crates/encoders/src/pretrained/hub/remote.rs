//! The server's side: requests that are patient within bounds, and downloads that go on where they were cut and are kept
//! only if they are what was announced.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::patience::{Body as Reading, patiently};
use super::{HubSettings, plain};
use crate::{Error, Result};

/// How often a request is made, or a cut download taken up.
const ATTEMPTS: u32 = 5;

/// The longest wait that a server may ask for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often an answer may be elsewhere.
const REDIRECTS: u32 = 10;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A server, asked for one repository.
pub(super) struct Remote {
    /// What errors call the repository.
    name: String,
    endpoint: String,
    token: Option<String>,
    /// Follows no redirect by itself.
    agent: Agent,
    stop: Option<fn() -> bool>,
}

/// What the server says of a file.
pub(super) struct About {
    pub(super) commit: String,
    pub(super) etag: String,
    size: u64,
}

/// What the server says of a repository.
#[derive(Deserialize)]
pub(super) struct Listing {
    pub(super) sha: String,
    #[serde(default)]
    pub(super) siblings: Vec<Sibling>,
}

/// A file of a listing.
#[derive(Deserialize)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
}

impl Remote {
    pub(super) fn new(name: &str, token: Option<String>, settings: &HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // Parts of a compressed answer could not be put together.
            .accept_encoding("identity")
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        let endpoint = settings.endpoint.as_deref().unwrap_or("https://huggingface.co").trim_end_matches('/');
        Self {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            token,
            agent: Agent::new_with_config(config.build()),
            stop: settings.stop,
        }
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::invalid(&self.name, what.to_string())
    }

    /// All files of the repository.
    pub(super) fn listing(&self, url: &str) -> Result<Listing> {
        let mut answer = self.follow(format!("{}/api/{url}", self.endpoint), None)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(self.error("the hub has no such data set or revision"));
        }
        let json = patiently(|| self.go_on(), move || answer.body_mut().read_to_string())?;
        let json = json.map_err(|error| self.error(error))?;
        serde_json::from_str(&json).map_err(|error| self.error(format!("the hub's listing is not understood: {error}")))
    }

    /// What a file is; `None` if there is none.
    pub(super) fn about(&self, url: &str) -> Result<Option<About>> {
        let mut url = format!("{}/{url}", self.endpoint);
        for _ in 0..ATTEMPTS {
            let answer = self.ask(&url, Some("0-0"))?;
            let headers = answer.headers();
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            if answer.status() == StatusCode::NOT_FOUND {
                return match header("x-error-code") {
                    Some("RepoNotFound" | "RevisionNotFound") => {
                        Err(self.error("the hub has no such repository or revision"))
                    }
                    _ => Ok(None),
                };
            }
            // A repository that was renamed; elsewhere on the same server.
            if let (true, Some(elsewhere)) = (answer.status().is_redirection(), header("location"))
                && elsewhere.starts_with('/')
            {
                url = format!("{}{elsewhere}", self.endpoint);
                continue;
            }
            let missing = |name: &str| self.error(format!("the server's answer has no `{name}`"));
            let etag = header("x-linked-etag").or(header("etag")).ok_or_else(|| missing("etag"))?;
            let commit = header("x-repo-commit").ok_or_else(|| missing("x-repo-commit"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            if !plain(etag) || !plain(commit) {
                return Err(self.error(format!("odd names from the server: etag `{etag}`, commit `{commit}`")));
            }
            let size = match header("x-linked-size").and_then(|size| size.parse().ok()).or_else(|| whole_size(&answer))
            {
                Some(size) => size,
                // What is stored elsewhere is measured there.
                None => whole_size(&self.follow(url, Some("0-0"))?).ok_or_else(|| missing("Content-Range"))?,
            };
            return Ok(Some(About { commit: commit.to_owned(), etag: etag.to_owned(), size }));
        }
        Err(self.error("the server sends us round in circles"))
    }

    /// [`ask`](Self::ask), wherever the answer is said to be.
    fn follow(&self, mut url: String, range: Option<&str>) -> Result<Response<Body>> {
        for _ in 0..REDIRECTS {
            let answer = self.ask(&url, range)?;
            let elsewhere = answer.headers().get("location").and_then(|to| to.to_str().ok());
            match elsewhere.filter(|_| answer.status().is_redirection()) {
                Some(elsewhere) => url = absolute(&url, elsewhere),
                None => return Ok(answer),
            }
        }
        Err(self.error("the server sends us round in circles"))
    }

    /// A request, of a range of bytes such as `0-0` or `500-`, made again where that may help. The token is for the server alone
    /// that it was given for.
    fn ask(&self, url: &str, range: Option<&str>) -> Result<Response<Body>> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = self.agent.get(url).header("User-Agent", concat!("balgrad/", env!("CARGO_PKG_VERSION")));
            if let Some(token) =
                self.token.as_ref().filter(|_| origin(url).is_some_and(|o| Some(o) == origin(&self.endpoint)))
            {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(range) = range {
                request = request.header("Range", format!("bytes={range}"));
            }
            let (problem, asked) = match patiently(|| self.go_on(), move || request.call())? {
                Ok(answer) => match answer.status() {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        let mend = match &self.token {
                            None => "it is private, gated or does not exist: set HF_TOKEN to a token that may read it",
                            Some(_) => {
                                "the token in HF_TOKEN may not read it: accept its terms on the hub, or use another"
                            }
                        };
                        return Err(self.error(format!("{}: {mend}", answer.status())));
                    }
                    status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                        (status.to_string(), retry_after(answer.headers()))
                    }
                    status if status.is_client_error() && !has_meaning(status) => {
                        return Err(self.error(format!("the server answers {status} to {url}")));
                    }
                    _ => return Ok(answer),
                },
                Err(error) => (error.to_string(), None),
            };
            if attempt == ATTEMPTS {
                return Err(self.error(format!("{problem} from {}, {ATTEMPTS} times", self.endpoint)));
            }
            if let Some(asked) = asked.filter(|asked| *asked > PATIENCE) {
                return Err(
                    self.error(format!("{problem}: the server asks to wait {} s; try again then", asked.as_secs()))
                );
            }
            self.rest(asked.unwrap_or_else(|| backoff(attempt)))?;
        }
    }

    /// Waits, unless told to stop.
    fn rest(&self, time: Duration) -> Result<()> {
        let mut left = time;
        while !left.is_zero() {
            self.go_on()?;
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
        }
        self.go_on()
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.is_some_and(|stop| stop()) {
            return Err(self.error("the download was stopped; the same command goes on with it"));
        }
        Ok(())
    }

    /// Brings a file to `blob`; one process at a time does, the others wait for it. `label` is what the user sees.
    pub(super) fn download(&self, url: &str, about: &About, blob: &Path, label: &str) -> Result<()> {
        let part = blob.with_file_name(format!("{}.incomplete", about.etag));
        let lock = blob.with_file_name(format!("{}.lock", about.etag));
        let start = || {
            fs::create_dir_all(blob.parent().unwrap_or(blob))?;
            let lock = File::create(&lock)?;
            // Where there are no locks, two may download.
            let _ = lock.lock();
            Ok(lock)
        };
        let _held = start().map_err(|source| Error::io(&lock, source))?;
        if blob.exists() {
            return Ok(());
        }
        let bar = ProgressBar::new(about.size).with_message(label.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            bar.set_style(style);
        }
        let url = format!("{}/{url}", self.endpoint);
        let mut attempt = 0;
        while let Some(problem) = self.more(&url, about, &part, &bar)? {
            attempt += 1;
            if attempt == ATTEMPTS {
                let came = fs::metadata(&part).map_or(0, |part| part.len());
                let size = about.size;
                return Err(Error::invalid(
                    label,
                    format!(
                        "{problem}, {ATTEMPTS} times; {came} of {size} bytes are kept, and the same command goes on from there"
                    ),
                ));
            }
            self.rest(backoff(attempt))?;
        }
        bar.finish_and_clear();
        if let Some(found) = mismatch(&part, &about.etag).map_err(|source| Error::io(&part, source))? {
            let _ = fs::remove_file(&part);
            let problem = format!("what came has the hash {found}, announced was {}; refused", about.etag);
            return Err(Error::invalid(label, problem));
        }
        fs::rename(&part, blob).map_err(|source| Error::io(blob, source))
    }

    /// Appends to `part` what the server sends; says what went wrong if that was not the rest.
    fn more(&self, url: &str, about: &About, part: &Path, bar: &ProgressBar) -> Result<Option<String>> {
        let failed = |source| Error::io(part, source);
        let mut file = File::options().create(true).append(true).open(part).map_err(failed)?;
        let mut have = file.metadata().map_err(failed)?.len();
        if have > about.size {
            file.set_len(0).map_err(failed)?;
            have = 0;
        }
        if have == about.size {
            return Ok(None);
        }
        let answer = self.follow(url.to_owned(), Some(&format!("{have}-")))?;
        match answer.status() {
            // The whole file, whatever was asked.
            StatusCode::OK => {
                file.set_len(0).map_err(failed)?;
                have = 0;
            }
            StatusCode::PARTIAL_CONTENT => {}
            status => return Err(self.error(format!("the server answers {status} to {url}"))),
        }
        bar.set_position(have);
        // One byte more than is due shows that the file is longer than was announced.
        let body = Reading::new(answer.into_body().into_reader().take(about.size - have + 1));
        while let Some(piece) = body.next(|| self.go_on())? {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Ok(Some(format!("the connection was cut ({error})"))),
            };
            file.write_all(&piece).map_err(failed)?;
            have += piece.len() as u64;
            bar.set_position(have);
        }
        if have > about.size {
            drop(file);
            let _ = fs::remove_file(part);
            return Err(
                self.error(format!("{url} is longer than the {} bytes that were announced; refused", about.size))
            );
        }
        Ok((have < about.size).then(|| "the connection was cut".to_owned()))
    }
}

/// Whom a token may be sent to: scheme, host and port.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_lowercase(), port))
}

/// Where a redirect from `url` leads.
fn absolute(url: &str, elsewhere: &str) -> String {
    if elsewhere.contains("://") {
        return elsewhere.to_owned();
    }
    let scheme = url.find("://").map_or(0, |at| at + 3);
    if let Some(host) = elsewhere.strip_prefix("//") {
        return format!("{}{host}", &url[..scheme]);
    }
    let path = url[scheme..].find('/').map_or(url.len(), |at| scheme + at);
    if elsewhere.starts_with('/') {
        return format!("{}{elsewhere}", &url[..path]);
    }
    let folder = url.split(['?', '#']).next().unwrap_or(url).rfind('/').filter(|at| *at >= path).unwrap_or(path);
    format!("{}/{elsewhere}", &url[..folder])
}

/// Client errors that callers understand: no such file, and a range beyond an empty file's end.
fn has_meaning(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE)
}

/// The size of the whole file, of which an answer holds a part or all.
fn whole_size(answer: &Response<Body>) -> Option<u64> {
    let header = |name: &str| answer.headers().get(name)?.to_str().ok();
    match answer.status() {
        StatusCode::OK => header("content-length")?.parse().ok(),
        _ => header("content-range")?.rsplit('/').next()?.parse().ok(),
    }
}

/// The wait that a server asks for, in whole seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.min(6))
}

/// The hash of a file where it is not the announced one. Large files are announced by their SHA-256, small ones by SHA-1 as
/// git has it, after a header; any other etag says nothing of the content.
fn mismatch(path: &Path, etag: &str) -> io::Result<Option<String>> {
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let is_hash = etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut file = File::open(path)?;
    let found = match etag.len() {
        64 if is_hash => {
            let mut hash = Sha256::new();
            io::copy(&mut file, &mut hash)?;
            hex(&hash.finalize())
        }
        40 if is_hash => {
            let mut hash = Sha1::new();
            hash.update(format!("blob {}\0", file.metadata()?.len()));
            io::copy(&mut file, &mut hash)?;
            hex(&hash.finalize())
        }
        _ => return Ok(None),
    };
    Ok((found != etag).then_some(found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_is_for_one_scheme_host_and_port() {
        let is_same = |url: &str| origin(url) == origin("https://hub.org");
        for same in ["https://hub.org/a", "https://HUB.org:443/a?b", "https://hub.org"] {
            assert!(is_same(same), "{same}");
        }
        let others =
            ["http://hub.org/a", "https://hub.org:8443/a", "https://hub.org.evil.com/", "https://cdn.hub.org/", "x"];
        for other in others.into_iter().chain(["https://hub.org@evil.com/a"]) {
            assert!(!is_same(other), "{other}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = "http://hub.org:8080/owner/model/file?x=/y";
        for (to, at) in [
            ("https://cdn.org/a", "https://cdn.org/a"),
            ("//cdn.org/a", "http://cdn.org/a"),
            ("/b/c", "http://hub.org:8080/b/c"),
            ("d", "http://hub.org:8080/owner/model/d"),
        ] {
            assert_eq!(absolute(from, to), at);
        }
        assert_eq!(absolute("http://hub.org", "d"), "http://hub.org/d");
    }
}
