//! Folders of files, on the web as a server lists them, or on this machine: Koji's packages, repositories of packages.

use crate::events::composes::listed;
use crate::http::{Http, Pieces};
use crate::pace::Backoff;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use hyper::{Request, Response, StatusCode};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The longest list of a folder.
const LONGEST: usize = 32 << 20;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Redirects until it is a circle.
const REDIRECTS: usize = 8;
/// Tries until it is given up.
const TRIES: u32 = 3;

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFile {
    /// There is none of this name.
    #[error("{0} is not there")]
    Missing(String),
    /// It will never be given.
    #[error("{0}")]
    Refused(String),
    /// It may be given another time.
    #[error("{0}")]
    Later(String),
    /// The same; nobody is there who could say so.
    #[error("{0}")]
    Silence(String),
}

/// Reads folders and files.
#[derive(Debug, Clone)]
pub struct Files {
    http: Http,
    local: bool,
}

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is called.
    pub name: String,
    /// Where it is.
    pub url: String,
}

impl Files {
    /// `local`: also folders of this machine, as paths or `file:///`.
    pub fn new(local: bool) -> Result<Self, String> {
        let http = Http::new(true, None, LONGEST).or_else(|_| Http::new(false, None, LONGEST))?;
        Ok(Self { http, local })
    }

    /// What a folder holds, sorted by name.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>, NoFile> {
        let folder = folder.trim_end_matches('/');
        let mut entries: Vec<Entry> = if let Some(path) = self.on_disk(folder)? {
            let names = fs::read_dir(&path).map_err(|error| of_disk(&path, &error))?;
            let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.map(|name| Entry { url: path.join(&name).into_string(), name }).collect()
        } else {
            let answer = self.opened(&format!("{folder}/")).await?;
            let page = text_of(answer, LONGEST).await?;
            let entry = |href: String| Entry { name: decoded(&href), url: format!("{folder}/{href}") };
            listed(&page).into_iter().map(entry).collect()
        };
        entries.retain(|entry| is_name(&entry.name));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup();
        Ok(entries)
    }

    /// The text at an address of the web, if it has no more than `most` bytes. It is asked once: deadlines and repetitions
    /// are the caller's.
    pub async fn text(&self, url: &str, most: usize) -> Result<String, NoFile> {
        if !is_remote(url) {
            return Err(no_address(url));
        }
        text_of(self.opened(url).await?, most).await
    }

    /// Copies a file to `to`, if it has no more than `most` bytes; answers how many it has.
    pub async fn fetch(&self, url: &str, to: &Utf8Path, most: u64) -> Result<u64, NoFile> {
        if let Some(path) = self.on_disk(url)? {
            let copied = async {
                let size = fs::tokio::metadata(&path).await?.len();
                if size <= most {
                    fs::tokio::copy(&path, to).await?;
                }
                Ok(size)
            };
            let size = copied.await.map_err(|error| of_disk(&path, &error))?;
            return if size > most { Err(too_large(url, most)) } else { Ok(size) };
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_fetch(url, to, most).await {
                Err(NoFile::Later(why) | NoFile::Silence(why)) if tries < TRIES => {
                    tracing::info!(url, why, "trying again");
                    tokio::time::sleep(Backoff::default().draw(tries)).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_fetch(&self, url: &str, to: &Utf8Path, most: u64) -> Result<u64, NoFile> {
        let later = |why: String| NoFile::Later(format!("{url}: {why}"));
        let answer = self.opened(url).await?;
        let announced: Option<u64> =
            answer.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let mut file = fs::tokio::File::create(to).await.map_err(|error| later(error.to_string()))?;
        let (mut body, mut size) = (answer.into_body(), 0);
        loop {
            let piece = tokio::time::timeout(PATIENCE, body.next()).await.map_err(|_| later(silence()))?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| later(error.why))?;
            size += piece.len() as u64;
            if size > most {
                return Err(too_large(url, most));
            }
            file.write_all(&piece).await.map_err(|error| later(error.to_string()))?;
        }
        file.flush().await.map_err(|error| later(error.to_string()))?;
        match announced {
            Some(wanted) if wanted != size => Err(later(format!("{size} of {wanted} bytes came"))),
            _ => Ok(size),
        }
    }

    /// A good answer, wherever it leads.
    async fn opened(&self, url: &str) -> Result<Response<Pieces>, NoFile> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let request = Request::get(&at).header("accept-encoding", "identity").body(Vec::new());
            let request = request.map_err(|_| NoFile::Refused(format!("{at} is no address")))?;
            let answer = tokio::time::timeout(PATIENCE, self.http.open(request)).await;
            let answer = answer.map_err(|_| NoFile::Silence(format!("{at}: {}", silence())))?;
            let answer = answer.map_err(|error| {
                let why = format!("{at}: {}", error.why);
                if error.sent { NoFile::Later(why) } else { NoFile::Silence(why) }
            })?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                status if status.is_redirection() => {
                    let to = answer.headers().get("location").and_then(|value| value.to_str().ok());
                    at = to.and_then(|to| joined(&at, to)).ok_or_else(|| {
                        NoFile::Refused(format!("{at} leads to no address of http or https"))
                    })?;
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(NoFile::Missing(url.to_owned())),
                status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    return Err(NoFile::Later(format!("{at} answers {status}")));
                }
                status => return Err(NoFile::Refused(format!("{at} answers {status}"))),
            }
        }
        Err(NoFile::Refused(format!("{url}: more than {REDIRECTS} redirects follow each other")))
    }

    /// The path, if it is one of this machine.
    fn on_disk(&self, url: &str) -> Result<Option<Utf8PathBuf>, NoFile> {
        if is_remote(url) {
            return Ok(None);
        }
        let path = url.strip_prefix("file://").unwrap_or(url);
        match (self.local, path.starts_with('/')) {
            (true, true) => Ok(Some(path.into())),
            (false, true) => Err(NoFile::Refused(format!(
                "{url} is on this machine, which only `assay run` may read; use http:// or https://"
            ))),
            (_, false) => Err(no_address(url)),
        }
    }
}

async fn text_of(answer: Response<Pieces>, most: usize) -> Result<String, NoFile> {
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    loop {
        let piece = tokio::time::timeout(PATIENCE, body.next()).await;
        let piece = piece.map_err(|_| NoFile::Later(silence()))?;
        let Some(piece) = piece else { return Ok(String::from_utf8_lossy(&bytes).into_owned()) };
        bytes.extend_from_slice(&piece.map_err(|error| NoFile::Later(error.why))?);
        if bytes.len() > most {
            return Err(NoFile::Refused(format!("the answer has more than {most} bytes")));
        }
    }
}

/// True for what is asked for over the network.
pub fn is_remote(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn no_address(url: &str) -> NoFile {
    NoFile::Refused(format!("{url} is no address; it begins with http:// or https://"))
}

fn silence() -> String {
    format!("nothing came for {} s", PATIENCE.as_secs())
}

fn too_large(url: &str, most: u64) -> NoFile {
    NoFile::Refused(format!("{url} has more than the {most} bytes that are left"))
}

fn of_disk(path: &Utf8Path, error: &std::io::Error) -> NoFile {
    match error.kind() {
        std::io::ErrorKind::NotFound => NoFile::Missing(path.to_string()),
        _ => NoFile::Later(error.to_string()),
    }
}

/// A name of a file, and no way out of its folder.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['.', '?', '#'])
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

/// Where a redirect leads: a whole address, or another path of the same host.
fn joined(from: &str, to: &str) -> Option<String> {
    if to.starts_with("https://") || to.starts_with("http://") && !from.starts_with("https://") {
        return Some(to.to_owned());
    }
    let after = from.find("://")? + 3;
    let host = from[after..].find('/').map_or(from.len(), |at| after + at);
    to.starts_with('/').then(|| format!("{}{to}", &from[..host])).filter(|_| !to.starts_with("//"))
}

/// `%2B` is `+`. What is no such code stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let code = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let pair = more.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        if let (b'%', Some(byte)) = (first, pair.and_then(code)) {
            bytes.push(byte);
            rest = &more[2..];
        } else {
            bytes.push(first);
            rest = more;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_redirects() {
        for (name, good) in
            [("a.rpm", true), ("..", false), ("a/b", false), ("?C=N", false), ("", false), ("a\nb", false)]
        {
            assert_eq!(is_name(name), good, "{name:?}");
        }
        for (text, plain) in
            [("libstdc%2b%2B-1.rpm", "libstdc++-1.rpm"), ("a%", "a%"), ("a%zz", "a%zz"), ("%+1", "%+1")]
        {
            assert_eq!(decoded(text), plain);
        }
        for (from, to, wanted) in [
            ("http://a/b/c", "/d", Some("http://a/d")),
            ("http://a", "https://b/c", Some("https://b/c")),
            ("https://a/b", "http://c/", None),
            ("https://a/b", "//c/", None),
            ("https://a/b", "c", None),
        ] {
            assert_eq!(joined(from, to).as_deref(), wanted, "{from} {to}");
        }
    }

    #[tokio::test]
    async fn folders_of_this_machine_are_for_local_runs() {
        let tmp = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(tmp.path()).expect("UTF-8");
        fs::write(dir.join("b.rpm"), "12345").expect("written");
        let files = Files::new(true).expect("a client");
        let found = files.list(&format!("file://{dir}/")).await.expect("a list");
        assert_eq!(found.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["b.rpm"]);
        let to = dir.join("copy");
        assert_eq!(files.fetch(&found[0].url, &to, 5).await, Ok(5));
        assert!(matches!(files.fetch(&found[0].url, &to, 4).await, Err(NoFile::Refused(_))));
        assert!(matches!(files.list(dir.join("no").as_str()).await, Err(NoFile::Missing(_))));
        let web = Files::new(false).expect("a client");
        assert!(matches!(web.list(dir.as_str()).await, Err(NoFile::Refused(_))));
        assert!(matches!(web.list("ftp://x").await, Err(NoFile::Refused(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_decoded(text in "\\PC{0,30}") {
            let _ = decoded(&text);
        }
    }
}
