//! openQA as Debian ships it, beside Assay in the same run: its web interface in production mode with four processes,
//! on a PostgreSQL of its own that syncs nothing to the disk, which is in its favour.

use super::http::Client;
use super::proc::Tree;
use super::{clock, clock::Pace};
use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = "/usr/share/openqa/script/openqa";
const PATIENCE: Duration = Duration::from_mins(1);
/// The first person who signs in with the fake method is its administrator, with this name, key and secret.
const AUTHORIZATION: &str = "Basic RGVtbzoxMjM0NTY3ODkwQUJDREVGOjEyMzQ1Njc4OTBBQkNERUY=";

/// It is installed.
pub(super) fn is_there() -> bool {
    Utf8Path::new(PROGRAM).exists()
}

/// A running openQA.
pub(super) struct OpenQa {
    tree: Option<Tree>,
    database: Utf8PathBuf,
    address: String,
}

impl OpenQa {
    pub(super) fn start(dir: &Utf8Path) -> Result<Self> {
        let (config, base, database) = (dir.join("etc"), dir.join("base"), dir.join("postgres"));
        for part in ["db", "share/factory", "share/tests", "testresults", "images", "webui/cache"] {
            fs_err::create_dir_all(base.join("openqa").join(part))?;
        }
        fs_err::create_dir_all(&config)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut peer = Self { tree: None, database, address };
        peer.postgres("start")?;
        let host = fs_err::read_to_string(peer.database.join("cluster"))?;
        let dsn = format!("[production]\ndsn = DBI:Pg:dbname=assay;host={}\nuser = assay\n", host.trim());
        fs_err::write(config.join("database.ini"), dsn)?;
        fs_err::write(config.join("openqa.ini"), "[auth]\nmethod = Fake\n[logging]\nlevel = error\n")?;
        let log = fs_err::File::create(dir.join("openqa.log"))?.into_file();
        let url = format!("http://{}", peer.address);
        let mut command = Command::new(PROGRAM);
        command.args([
            "prefork",
            "-m",
            "production",
            "-w",
            "4",
            "-c",
            "1",
            "-G",
            "800",
            "-i",
            "100",
            "-H",
            "400",
            "-l",
            &url,
        ]);
        command.env("OPENQA_CONFIG", config).env("OPENQA_BASEDIR", base);
        peer.tree = Some(Tree::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?);
        peer.until_it_answers().context("openQA does not answer; see openqa.log beside its data")?;
        Ok(peer)
    }

    fn until_it_answers(&self) -> Result<()> {
        let deadline = clock::now() + PATIENCE;
        let mut pace = Pace::new(Duration::from_millis(200));
        loop {
            let signed_in = self.client().and_then(|mut client| client.visit("/login"));
            match signed_in {
                Ok(()) => return Ok(()),
                Err(error) if clock::now() > deadline => return Err(error),
                Err(_) => pace.wait(),
            }
        }
    }

    pub(super) fn client(&self) -> Result<Client> {
        Client::with(&self.address, AUTHORIZATION)
    }

    pub(super) fn end(mut self) -> Result<()> {
        if let Some(tree) = self.tree.take() {
            tree.end()?;
        }
        Ok(())
    }

    fn postgres(&self, what: &str) -> Result<()> {
        let script = tools::root()?.join("scripts/postgres-for-tests");
        let ended =
            Command::new(script).args([what, self.database.as_str()]).stdout(Stdio::null()).status()?;
        if ended.success() { Ok(()) } else { bail!("postgres-for-tests {what} ended with {ended}") }
    }
}

impl Drop for OpenQa {
    fn drop(&mut self) {
        drop(self.tree.take());
        let _ = self.postgres("stop");
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
