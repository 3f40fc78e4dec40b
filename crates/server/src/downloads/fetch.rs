//! One file over HTTP: continued where it broke off, from hosts that are allowed, no larger and no slower than allowed.

use super::settings::DownloadSettings;
use super::unpack::too_large;
use assay_connect::http::{Http, Pieces};
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE,
};
use axum::http::{HeaderName, Request, Response, StatusCode};
use camino::Utf8Path;
use fs_err as fs;
use openidconnect::url::Url;
use tokio::io::AsyncWriteExt;

/// Redirects until it is a circle.
const REDIRECTS: usize = 8;

/// Why a file has not come.
#[derive(Debug)]
pub(super) enum Failure {
    /// And never will.
    ForGood(String),
    /// It may yet.
    ForNow(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::ForNow(error.to_string())
    }
}

/// Fetches what is at `url` into `part`, or what is missing of it.
pub(super) async fn fetch(
    http: &Http,
    settings: &DownloadSettings,
    url: &str,
    part: &Utf8Path,
) -> Result<(), Failure> {
    let mut at = checked(settings, url, None)?;
    for _ in 0..REDIRECTS {
        let tag = fs::tokio::read_to_string(part.with_extension("tag")).await.ok();
        let have = match &tag {
            Some(_) => fs::tokio::metadata(part).await.map_or(0, |metadata| metadata.len()),
            None => 0,
        };
        let mut request = Request::get(at.as_str()).header(ACCEPT_ENCODING, "identity");
        if let Some(tag) = tag.filter(|_| have > 0) {
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, tag);
        }
        let request = request.body(Vec::new()).map_err(|error| Failure::ForGood(error.to_string()))?;
        let answer = tokio::time::timeout(settings.patience, http.open(request)).await;
        let answer = answer.map_err(|_| Failure::ForNow(silence(settings)))?;
        let answer = answer.map_err(|error| Failure::ForNow(error.why))?;
        match answer.status() {
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let to = header(&answer, &LOCATION).unwrap_or_default();
                at = checked(settings, to, Some(&at))?;
            }
            StatusCode::OK => return receive(settings, answer, part, 0).await,
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&answer, &CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {have}-")) {
                    forget(part).await?;
                    let why = format!("the server sent the range {range:?} instead of that from {have}");
                    return Err(Failure::ForNow(why));
                }
                return receive(settings, answer, part, have).await;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                forget(part).await?;
                return Err(Failure::ForNow("what had come before does not fit any more".to_owned()));
            }
            status => return Err(refused(status)),
        }
    }
    Err(Failure::ForGood(format!("more than {REDIRECTS} redirects follow each other")))
}

fn refused(status: StatusCode) -> Failure {
    let why = format!("the server answers {status}");
    let passes = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_EARLY]
            .contains(&status);
    if passes { Failure::ForNow(why) } else { Failure::ForGood(why) }
}

fn silence(settings: &DownloadSettings) -> String {
    format!("nothing came for {} s", settings.patience.as_secs())
}

fn header<'a, T>(answer: &'a Response<T>, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Why an address may not be asked; nothing if it may.
pub(super) fn never(settings: &DownloadSettings, address: &str) -> Option<String> {
    match checked(settings, address, None) {
        Err(Failure::ForGood(why)) => Some(why),
        _ => None,
    }
}

/// The address, if it may be asked.
fn checked(settings: &DownloadSettings, text: &str, from: Option<&Url>) -> Result<Url, Failure> {
    let parsed = match from {
        Some(from) => from.join(text),
        None => Url::parse(text),
    };
    let refuse = |why: String| Err(Failure::ForGood(why));
    let Ok(mut url) = parsed else { return refuse(format!("{text:?} is no address")) };
    let secure = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return refuse(format!("{other} is not fetched; use http or https")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("an address with a name and a password is not fetched".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    if !settings.allows(host) {
        let how = from.map_or("", |_| "it leads on to another host: ");
        return refuse(format!(
            "{how}files of {host:?} may not be fetched; add it to hosts in the section [downloads] of assay.toml"
        ));
    }
    if from.is_some_and(|from| from.scheme() == "https") && !secure {
        return refuse("it leads from https to http".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

async fn forget(part: &Utf8Path) -> Result<(), Failure> {
    for path in [part.to_owned(), part.with_extension("tag")] {
        match fs::tokio::remove_file(path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Adds the answer's body to the `from` bytes that there are.
async fn receive(
    settings: &DownloadSettings,
    answer: Response<Pieces>,
    part: &Utf8Path,
    from: u64,
) -> Result<(), Failure> {
    let length: Option<u64> = header(&answer, &CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let total = length.map(|length| length.saturating_add(from));
    let larger = |bytes: u64| bytes > settings.most;
    if total.is_some_and(larger) {
        return Err(Failure::ForGood(too_large(settings.most)));
    }
    let dir = part.parent().unwrap_or(part);
    let free = rustix::fs::statvfs(dir.as_str()).map(|stat| stat.f_bavail * stat.f_frsize);
    if let (Some(length), Ok(free)) = (length, free)
        && free < length
    {
        let (need, free) = (length >> 20, free >> 20);
        return Err(Failure::ForNow(format!(
            "it needs {need} MiB, and the server's disk has {free} MiB free"
        )));
    }
    if from == 0 {
        forget(part).await?;
        // A weak tag may stand for other bytes.
        let strong = header(&answer, &ETAG).filter(|tag| !tag.starts_with("W/"));
        if let Some(tag) = strong.or_else(|| header(&answer, &LAST_MODIFIED)) {
            fs::tokio::write(part.with_extension("tag"), tag).await?;
        }
    }
    let mut file = fs::tokio::OpenOptions::new().create(true).append(true).open(part).await?;
    let (mut body, mut have) = (answer.into_body(), from);
    loop {
        let piece = match tokio::time::timeout(settings.patience, body.next()).await {
            Ok(None) => break,
            Ok(Some(piece)) => piece.map_err(|error| error.why),
            Err(_) => Err(silence(settings)),
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(why) => {
                // What has come is gone on with.
                file.sync_all().await?;
                return Err(Failure::ForNow(format!("it broke off after {have} bytes: {why}")));
            }
        };
        have += piece.len() as u64;
        if larger(have) {
            return Err(Failure::ForGood(too_large(settings.most)));
        }
        file.write_all(&piece).await?;
    }
    file.sync_all().await?;
    match total {
        Some(total) if total != have => {
            Err(Failure::ForNow(format!("{have} bytes came, and {total} were announced")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    const MIB: u64 = 1 << 20;

    /// A host whose `/endless` never ends, and from whose `/round/N` one is led to `/round/N+1`, and from the tenth back
    /// to the first. Returns its address and how often it was asked.
    async fn host(announced: bool) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                if let Some(round) = path.strip_prefix("/round/") {
                    let next = (round.parse::<u32>().unwrap_or_default() + 1) % 10;
                    let to =
                        format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /round/{next}\r\nContent-Length: 0\r\n\r\n");
                    let _ = stream.write_all(to.as_bytes()).await;
                    continue;
                }
                let length = if announced { "Content-Length: 3000000\r\n" } else { "" };
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n").as_bytes()).await;
                let piece = vec![b'x'; 65536];
                while stream.write_all(&piece).await.is_ok() {}
            }
        });
        (address, asked)
    }

    async fn try_fetch(address: &str, path: &str) -> (String, u64) {
        let dir = tempfile::tempdir().expect("a directory");
        let part = camino::Utf8Path::from_path(dir.path()).expect("UTF-8").join("part");
        let settings = DownloadSettings {
            hosts: vec!["127.0.0.1".to_owned()],
            most: 2 * MIB,
            patience: Duration::from_mins(1),
            ..DownloadSettings::default()
        };
        let http = Http::new(false, None, 0).expect("a client");
        match fetch(&http, &settings, &format!("{address}{path}"), &part).await {
            Err(Failure::ForGood(why)) => (why, fs::metadata(&part).map_or(0, |metadata| metadata.len())),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_cut_off_at_the_limit() {
        for (announced, wanted) in [(false, MIB..=2 * MIB), (true, 0..=0)] {
            let (address, _) = host(announced).await;
            let (why, bytes) = try_fetch(&address, "/endless").await;
            assert_eq!(why, too_large(2 * MIB));
            assert!(
                why.ends_with("which is the most that is fetched; raise max-gigabytes in [downloads]"),
                "{why}"
            );
            assert!(wanted.contains(&bytes), "{bytes} bytes were stored");
        }
    }

    #[tokio::test]
    async fn a_circle_of_redirects_is_left() {
        let (address, asked) = host(false).await;
        let (why, bytes) = try_fetch(&address, "/round/3").await;
        assert_eq!((why.as_str(), bytes), ("more than 8 redirects follow each other", 0));
        assert_eq!(asked.load(Ordering::Relaxed), REDIRECTS);
    }
}
