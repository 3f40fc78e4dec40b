//! A page of a wiki that Assay, Wikitcms and people write: in Debian's own MediaWiki, and in the fake.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Place, Signal, Started, Up, asking, free_port};
use camino::Utf8PathBuf;
use fs_err as fs;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Where Debian puts it.
const MEDIAWIKI: &str = "/usr/share/mediawiki";

/// A MediaWiki of the place, with a database of its own, behind PHP's own HTTP server.
struct MediaWiki {
    address: String,
    dir: Utf8PathBuf,
    _process: Started,
}

impl MediaWiki {
    const LOGIN: (&str, &str) = ("Admin", "reports of Assay");

    async fn start(place: &Place) -> Self {
        let (port, dir) = (free_port(), place.join("mediawiki"));
        let (data, root) = (dir.join("data"), dir.join("root"));
        for part in [&data, &root] {
            fs::create_dir_all(part).unwrap();
        }
        let address = format!("http://127.0.0.1:{port}");
        let (user, password) = Self::LOGIN;
        let mut command = place.command("php");
        command.arg(format!("{MEDIAWIKI}/maintenance/install.php"));
        command.args(["--dbtype", "sqlite", "--dbpath", data.as_str(), "--dbname", "wiki"]);
        command.args(["--server", &address, "--scriptpath", "/w", "--lang", "en", "--pass", password]);
        command.args(["--confpath", dir.as_str(), "Test", user]);
        place.run_command(command).await.expect(0);
        fs::os::unix::fs::symlink(MEDIAWIKI, root.join("w")).unwrap();
        let mut command = place.command("php");
        command.args(["-S", &format!("127.0.0.1:{port}"), "-t", root.as_str()]);
        // Who writes a page waits for nobody who reads one.
        command.env("MW_CONFIG_FILE", dir.join("LocalSettings.php")).env("PHP_CLI_SERVER_WORKERS", "4");
        let process = place.start_command(command);
        asking("PHP answers", async || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)).await;
        Self { address, dir, _process: process }
    }

    fn api(&self) -> String {
        format!("{}/w/api.php", self.address)
    }

    /// Writes a page by MediaWiki's own tool.
    async fn put(&self, place: &Place, title: &str, text: &str) {
        let file = self.dir.join("page");
        fs::write(&file, text).unwrap();
        let mut command = place.command("sh");
        command.args(["-c", "php \"$0/maintenance/edit.php\" --user Admin \"$1\" <\"$2\"", MEDIAWIKI, title]);
        command.arg(&file).env("MW_CONFIG_FILE", self.dir.join("LocalSettings.php"));
        place.run_command(command).await.expect(0);
    }

    async fn revisions(&self, title: &str) -> usize {
        let query = "action=query&prop=revisions&rvlimit=50&format=json&formatversion=2";
        let url =
            reqwest::Url::parse_with_params(&format!("{}?{query}", self.api()), [("titles", title)]).unwrap();
        let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        answer["query"]["pages"][0]["revisions"].as_array().unwrap().len()
    }
}

/// Wikitcms itself reads what was written, and writes beside it.
const WIKITCMS: &str = r#"
import json, sys
import mwclient
from wikitcms.wiki import ResTuple, Wiki
host, user, password = sys.argv[1:4]
site = Wiki(host, scheme="http", path="/w/", max_retries=1)
# Fedora's own login is by OIDC; this is MediaWiki's.
mwclient.Site.login(site, user, password)
which = {"testtype": "Installation", "release": "45", "milestone": "Rawhide", "compose": "20261121.n.0"}
result = ResTuple(testcase="QA:Testcase_install_to_PATA", env="x86_64 UEFI", status="warn", user="human", bugs=["123"], **which)
insufficient, dupes = site.report_validation_results([result])
assert (insufficient, dupes) == ([], []), (insufficient, dupes)
bot = result._replace(testcase="QA:Testcase_Boot_default_install", testname="Server dvd", status="pass", user="coconut", bugs=[])
insufficient, dupes = site.report_validation_results([bot])
assert not insufficient and len(dupes) == 1, "Assay's result is known to be there"
page = site.get_validation_page(*which.values())
rows = page.get_resultrows()
print(json.dumps([[row.testcase, row.name, row.section,
    {env: [[one.status, one.user, one.bot] for one in found] for env, found in row.results.items()}] for row in rows]))
"#;

const TITLE: &str = "Test Results:Fedora 45 Rawhide 20261121.n.0 Installation";
const PAGE: &str = "== Key ==\nx\n== Test Matrix ==\n=== Default boot and install ===\n{| class=\"wikitable sortable\" width=100%\n|-\n\
    ! style=\"width: 5em\" | Milestone !! Test Case !! x86_64 BIOS !! x86_64 UEFI\n\
    |-\n| Basic\n| [[QA:Testcase_Boot_default_install|Server dvd]]\n| {{result|none}}\n| {{result|none}}\n\
    |-\n| Basic\n| [[QA:Testcase_Boot_default_install|Everything boot]]\n| {{result|none}}\n| {{result|none}}\n|-\n|}\n\
    === Storage devices ===\n{|\n|-\n! Milestone !! Test Case !! x86_64 BIOS !! x86_64 UEFI\n\
    |-\n| Final\n| [[QA:Testcase_install_to_PATA]]\n| {{result|none}}\n| {{result|none}}\n|-\n|}\n";

/// Assay reports a test to the wiki that `api` belongs to, and Wikitcms writes beside it and reads all.
async fn share_a_page(place: &Place, api: &str, (user, password): (&str, &str)) {
    let cases = "user = \"coconut\"\n\
        pages = [{ version = \"Rawhide\", title = \"Test Results:Fedora {RAWREL} Rawhide {compose} {type}\" }]\n\
        [suites]\ninstall_default = [\"QA:Testcase_Boot_default_install\"]\n\
        [cases.\"QA:Testcase_Boot_default_install\"]\ntype = \"Installation\"\nsection = \"Default boot and install\"\n\
        name = \"$SUBVARIANT$ $IMAGETYPE$\"\nenv = \"$BOOTMETHOD$\"\n";
    let config = place.join("assay.toml");
    let text = format!(
        "[reporter.wiki]\ndriver = \"mediawiki\"\nurl = {api:?}\nuser = {user:?}\npassword-file = \"password\"\ncases = \"cases.toml\"\n"
    );
    for (name, text) in [("assay.toml", text.as_str()), ("password", password), ("cases.toml", cases)] {
        fs::write(place.join(name), text).unwrap();
    }
    let mut up = Up::start(place, &["--config", config.as_str()]).await;
    up.until_online().await;
    let settings = [
        ("TEST", "install_default"),
        ("BUILD", "Fedora-Rawhide-20261121.n.0"),
        ("DISTRI", "fedora"),
        ("VERSION", "Rawhide"),
        ("ARCH", "x86_64"),
        ("UEFI", "1"),
        ("SUBVARIANT", "Server"),
        ("IMAGETYPE", "dvd"),
        ("RAWREL", "45"),
        ("BACKEND", "dummy"),
    ];
    let id = up.post(&settings).await;
    up.until(id, "it ends", assay_proto::api::Job::is_final).await;
    up.told("wiki").await;
    let mut command = place.command(&place.python().await);
    let host = api.replace("http://", "").replace("/w/api.php", "");
    command.args(["-c", WIKITCMS, &host, user, password]);
    let rows: Value = place.run_command(command).await.expect(0).json();
    let bot = json!([["pass", "coconut", true]]);
    let none = json!([[null, null, false]]);
    let find = |name: &str| rows.as_array().unwrap().iter().find(|row| row[1] == name).unwrap().clone();
    assert_eq!(find("Server dvd")[3], json!({"x86_64 BIOS": none, "x86_64 UEFI": bot}), "{rows:#}");
    assert_eq!(find("Everything boot")[3]["x86_64 UEFI"], none);
    let human = &rows[2][3]["x86_64 UEFI"];
    assert_eq!(human, &json!([["warn", "human", false]]), "{rows:#}");
    // The place ends what else runs in it.
    assert_eq!(up.end_by(Signal::TERM).await, Some(0));
}

#[tokio::test]
async fn wikitcms_and_assay_share_a_page() {
    let place = Place::new();
    let wiki = assay_fakes::wiki::FakeWiki::start().await.unwrap();
    wiki.put(TITLE, PAGE);
    share_a_page(&place, &wiki.api(), assay_fakes::wiki::LOGIN).await;
    assert_eq!(wiki.revisions(TITLE).len(), 3, "one edit of each");
}

#[tokio::test]
async fn they_share_one_of_mediawiki() {
    let place = Place::new();
    let wiki = MediaWiki::start(&place).await;
    wiki.put(&place, TITLE, PAGE).await;
    share_a_page(&place, &wiki.api(), MediaWiki::LOGIN).await;
    assert_eq!(wiki.revisions(TITLE).await, 3, "one edit of each");
}
