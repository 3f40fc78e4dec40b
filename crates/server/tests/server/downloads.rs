//! Files that jobs wait for: fetched from a small host of the test's own, which misbehaves by path.

use crate::common::{Server, sha256};
use reqwest::StatusCode;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// A host of files. Every connection is for one request.
#[derive(Clone)]
struct Host {
    port: u16,
    /// Path and range of each request.
    asked: Arc<Mutex<Vec<String>>>,
    /// `/gated.iso` goes on past its first half when there is a permit.
    gate: Arc<Semaphore>,
}

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Host {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = Self { port, asked: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let own = host.clone();
        TaskTracker::new().spawn(async move {
            let answers = TaskTracker::new();
            while let Ok((stream, _)) = listener.accept().await {
                let own = own.clone();
                answers.spawn(async move { own.answer(stream).await });
            }
        });
        host
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self, path: &str) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|line| line.starts_with(path)).cloned().collect()
    }

    async fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
        let range = range.map(|range| range.trim_end_matches('-').to_owned());
        self.asked.lock().unwrap().push(format!("{path} {}", range.clone().unwrap_or_default()));
        let whole = content();
        let from: usize = range.map_or(0, |range| range.parse().unwrap());
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let fits = format!(
            "HTTP/1.1 {status}\r\nETag: \"one\"\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
            whole.len() - from,
            whole.len() - 1,
            whole.len()
        );
        let half = whole.len() / 2;
        let (head, body) = match path.as_str() {
            // It dies midway until it is asked for the rest.
            "/dying.iso" if from == 0 => (fits, &whole[..half]),
            "/good.iso" | "/dying.iso" => (fits, &whole[from..]),
            "/gated.iso" => {
                stream.write_all(fits.as_bytes()).await.unwrap();
                if from < half {
                    stream.write_all(&whole[from..half]).await.unwrap();
                    let Ok(permit) = self.gate.acquire().await else { return };
                    permit.forget();
                }
                (String::new(), &whole[from.max(half)..])
            }
            "/hop.iso" => {
                ("HTTP/1.1 302 Found\r\nLocation: good.iso\r\nContent-Length: 0\r\n\r\n".into(), &[][..])
            }
            "/round.iso" => {
                ("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /round.iso\r\nContent-Length: 0\r\n\r\n".into(), &[][..])
            }
            "/away.iso" => {
                let to = format!("http://localhost:{}/good.iso", self.port);
                (format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"), &[][..])
            }
            "/busy.iso" => ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".into(), &[][..]),
            "/vast.iso" => ("HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n".into(), &[][..]),
            _ => ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(), &[][..]),
        };
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body).await;
        let _ = stream.shutdown().await;
    }
}

async fn server(pauses: Duration) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    fs_err::write(&file, "[downloads]\nhosts = [\"127.0.0.1\"]\nmax-gigabytes = 1\n").unwrap();
    let server = Server::start_with(|config| {
        config.config = Some(file.clone());
        config.pauses = Some((pauses, pauses));
    })
    .await;
    drop(dir);
    server
}

#[tokio::test]
async fn a_job_waits_until_its_files_are_there() {
    let host = Host::start().await;
    let server = server(Duration::from_millis(1)).await;
    let job = |key: &str, path: &str| json!({"TEST": "t", "BACKEND": "dummy", key: host.url(path)});
    let mut ready = Vec::new();
    for path in ["/good.iso", "/good.iso", "/dying.iso", "/hop.iso"] {
        ready.push(server.post(job("ISO_URL", path)).await);
    }
    for id in &ready {
        let job = server.until(*id, "the file is there", |job| {
            job.reason.as_deref().is_some_and(|why| why.contains("no worker is online"))
        });
        let job = job.await;
        let name = job.settings["ISO"].value.clone();
        let (status, asset) = server.get(&format!("/api/assay/v1/assets/iso/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{asset}");
        assert_eq!(asset["versions"][0]["sha256"], sha256(&content()), "{asset}");
        assert_eq!(asset["versions"].as_array().unwrap().len(), 1, "{asset}");
    }
    assert_eq!(host.asked("/dying.iso"), ["/dying.iso ", "/dying.iso 600000"]);
    // One for both jobs, and the one that is led there.
    assert_eq!(host.asked("/good.iso").len(), 2);

    for (key, path, why) in [
        ("HDD_1_URL", "/none.qcow2", "the server answers 404 Not Found"),
        ("ISO_URL", "/away.iso", "it leads on to another host: files of \"localhost\" may not be fetched"),
        ("ISO_URL", "/round.iso", "more than 8 redirects follow each other"),
        ("ISO_URL", "/vast.iso", "it is larger than 1 GiB"),
        ("ISO_URL", "/busy.iso", "given up after 8 tries: the server answers 503"),
        ("HDD_1_DECOMPRESS_URL", "/good.iso", "it is not packed with gzip, xz or Zstandard"),
    ] {
        let ended = server.finished(server.post(job(key, path)).await).await;
        let reason = ended.reason.clone().unwrap_or_default();
        assert!(ended.result == "incomplete" && reason.contains(why), "{path}: {} {reason}", ended.result);
        assert!(reason.contains(&host.url(path)), "{reason}");
    }
    assert_eq!(host.asked("/busy.iso").len(), 8);
    let elsewhere = server.post(json!({"TEST": "t", "ISO_URL": "https://example.org/x.iso"})).await;
    let reason = server.finished(elsewhere).await.reason.unwrap_or_default();
    assert!(reason.contains("add it to hosts in the section [downloads] of assay.toml"), "{reason}");
    let left = fs_err::read_dir(server.dir.join("assets/downloads")).unwrap().count();
    assert_eq!(left, 0, "nothing is left over");
}

#[tokio::test]
async fn a_download_goes_on_after_a_kill() {
    let host = Host::start().await;
    let server = server(Duration::from_millis(1)).await;
    let id = server.post(json!({"TEST": "t", "ISO_URL": host.url("/gated.iso")})).await;
    let waits = server.job(id).await.reason.unwrap_or_default();
    assert!(waits.contains("waits for its files to be fetched: gated.iso"), "{waits}");
    let part = || {
        let dir = fs_err::read_dir(server.dir.join("assets/downloads")).ok()?;
        let sizes = dir.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len());
        sizes.max()
    };
    while part().unwrap_or_default() < 100_000 {
        tokio::task::yield_now().await;
    }
    let file = server.dir.parent().unwrap().join("again.toml");
    fs_err::write(&file, "[downloads]\nhosts = [\"127.0.0.1\"]\n").unwrap();
    let server = server.kill_and_restart_with(|config| config.config = Some(file)).await;
    host.gate.add_permits(10);
    server
        .until(id, "the file is there", |job| {
            job.reason.as_deref().is_some_and(|why| why.contains("no worker is online"))
        })
        .await;
    let (_, asset) = server.get("/api/assay/v1/assets/iso/gated.iso").await;
    assert_eq!(asset["versions"][0]["sha256"], sha256(&content()), "{asset}");
    let asked = host.asked("/gated.iso");
    assert!(asked.len() == 2 && asked[1] != "/gated.iso ", "{asked:?}");
}
