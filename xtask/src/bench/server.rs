//! `assay up`: how soon it serves, what it costs when idle, and jobs back to back.

use super::clock::{self, Pace};
use super::proc::Tree;
use super::product::Product;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(3);

/// A server with its worker.
pub(super) struct Server {
    tree: Tree,
    data: Utf8PathBuf,
    /// From the start of the program to the first page, whole.
    pub(super) first_page: Duration,
}

impl Server {
    /// Starts `assay up` on a data directory without a server and fetches `/`.
    pub(super) fn start(product: &Product, data: &Utf8Path) -> Result<Self> {
        let address_file = data.join("server.json");
        if address_file.exists() {
            fs_err::remove_file(&address_file)?;
        }
        let mut command = product.command(data, &["up", "--listen", "127.0.0.1:0", "--slots", "1"]);
        fs_err::create_dir_all(data)?;
        let log = data.join("bench-up.log");
        command
            .stdout(Stdio::null())
            .stderr(std::process::Stdio::from(fs_err::File::create(&log)?.into_file()));
        let tree = Tree::start(&mut command)?;
        let mut pace = Pace::new(Duration::from_millis(1));
        let deadline = clock::now() + PATIENCE;
        while clock::now() < deadline && tree.is_running()? {
            if let Some(address) = address(&address_file)
                && let Ok(200) = get(&address)
            {
                let first_page = tree.age();
                return Ok(Self { tree, data: data.to_owned(), first_page });
            }
            pace.wait();
        }
        let said = fs_err::read_to_string(&log).unwrap_or_default();
        bail!("`assay up` served no page; it said: {}", said.lines().last().unwrap_or("nothing"))
    }

    /// Memory of server and worker in bytes and their number, after 3 s without work.
    pub(super) fn idle_memory(&mut self) -> (u64, usize) {
        clock::sleep(IDLE);
        self.tree.memory()
    }

    /// Posts the example `count` times and waits for all; from the first post to the end of the last job.
    pub(super) fn jobs(&mut self, product: &Product, example: &Utf8Path, count: usize) -> Result<Duration> {
        let began = clock::now();
        let mut numbers = Vec::new();
        for _ in 0..count {
            let mut post = product.command(&self.data, &["job", "post", example.as_str(), "--quiet"]);
            let output = post.stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                bail!("{post:?} ended with {}", output.status);
            }
            numbers.push(String::from_utf8(output.stdout)?.trim().to_owned());
        }
        let mut wait = product.command(&self.data, &["job", "wait"]);
        wait.args(&numbers).stdout(Stdio::null());
        let status = wait.status()?;
        let took = began.elapsed();
        if !status.success() {
            bail!("not all of the jobs {} passed: {wait:?} ended with {status}", numbers.join(" "));
        }
        Ok(took)
    }

    /// Ends the server; an error if something stays behind.
    pub(super) fn end(self) -> Result<()> {
        let left = self.tree.end()?;
        if left.is_empty() { Ok(()) } else { bail!("`assay up` left running: {}", left.join(", ")) }
    }
}

/// `HOST:PORT`, once the server has written it.
fn address(file: &Utf8Path) -> Option<String> {
    let value: Value = serde_json::from_slice(&fs_err::read(file).ok()?).ok()?;
    let url = value["url"].as_str()?;
    Some(url.strip_prefix("http://")?.trim_end_matches('/').to_owned())
}

/// The status of `GET /`, after the whole page has come.
fn get(address: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP answer")
}
