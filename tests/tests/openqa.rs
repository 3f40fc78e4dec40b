//! openQA's own clients on an Assay server: Debian's `openqa-client`, and `openqa_client` from PyPI.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Ended, Place, Started, Up, eventually, free_port, http, repository};
use camino::Utf8PathBuf;
use fs_err as fs;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

/// Machines, suites, a product and templates, as `openqa-load-templates` takes them.
fn templates() -> Value {
    let product = json!({"arch": "x86_64", "distri": "fedora", "flavor": "universal", "version": "*"});
    let template = |suite: &str, prio: i64| {
        json!({
            "group_name": "fedora", "machine": {"name": "64bit"}, "prio": prio, "product": product,
            "test_suite": {"name": suite},
        })
    };
    let settings = |key: &str, value: &str| json!([{"key": key, "value": value}]);
    json!({
        "Machines": [{"name": "64bit", "backend": "dummy", "settings": settings("WORKER_CLASS", "dummy")}],
        "TestSuites": [
            {"name": "install", "settings": settings("NOTE", "x y~z+%2B")},
            {"name": "update", "settings": settings("START_AFTER_TEST", "install")},
        ],
        "Products": [{
            "name": "", "distri": "fedora", "version": "*", "flavor": "universal", "arch": "x86_64",
            "settings": settings("MEDIUM", "1"),
        }],
        "JobTemplates": [template("install", 40), template("update", 50)],
    })
}

/// Where openQA's clients find their key.
struct Clients<'a> {
    place: &'a Place,
    conf: Utf8PathBuf,
}

impl<'a> Clients<'a> {
    /// With a new key of this role for the server of the place.
    async fn of(place: &'a Place, role: &str) -> Self {
        let made = place.run(&["key", "create", "--role", role, "--quiet"]).await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let conf = place.join(&format!("{role}.conf"));
        let home = place.join("home/.config/openqa");
        for dir in [&conf, &home] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("client.conf"), &made.stdout).unwrap();
        }
        Self { place, conf }
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        let mut command = self.place.command(program);
        command.args(arguments).env("OPENQA_CONFIG", self.conf.as_str());
        self.place.run_command(command).await
    }

    async fn must(&self, program: &str, arguments: &[&str]) -> String {
        let ended = self.run(program, arguments).await;
        assert_eq!(ended.code, Some(0), "{program} {arguments:?}: {}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// `openqa-cli api`.
    async fn api(&self, up: &Up<'_>, arguments: &[&str]) -> Value {
        let text = self.must("openqa-cli", &[&["api", "--host", &up.url], arguments].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    async fn load_templates(&self, up: &Up<'_>, file: &str) {
        self.must("openqa-load-templates", &["--host", &up.url, file]).await;
    }
}

const PRODUCT: [&str; 4] = ["DISTRI=fedora", "VERSION=43", "FLAVOR=universal", "ARCH=x86_64"];

async fn loaded(place: &Place, up: &Up<'_>) {
    let file = place.join("templates.json");
    fs::write(&file, templates().to_string()).unwrap();
    Clients::of(place, "admin").await.load_templates(up, file.as_str()).await;
}

#[tokio::test]
async fn a_team_works_with_its_own_clients() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    loaded(&place, &up).await;
    let clients = Clients::of(&place, "operator").await;

    let old = "/usr/share/openqa/script/client";
    let posted = clients
        .must(old, &[&["--host", &up.url, "isos", "post", "BUILD=1", "SAID=a b~c"], &PRODUCT[..]].concat())
        .await;
    assert!(posted.contains("ids => [1, 2]"), "{posted}");
    let posted =
        clients.api(&up, &[&["-X", "POST", "isos", "BUILD=2", "SAID=é/: +"], &PRODUCT[..]].concat()).await;
    assert_eq!(
        (&posted["count"], &posted["ids"], &posted["failed"]),
        (&json!(2), &json!([3, 4]), &json!([]))
    );
    for job in 1..=4 {
        assert_eq!(up.wait(job).await.result, "passed");
    }
    let job = clients.api(&up, &["jobs/4"]).await["job"].clone();
    assert_eq!((&job["result"], &job["parents"]["Chained"]), (&json!("passed"), &json!([3])));
    assert_eq!((&job["settings"]["SAID"], &job["settings"]["MEDIUM"]), (&json!("é/: +"), &json!("1")));
    let first = clients.api(&up, &["jobs/1"]).await["job"].clone();
    assert_eq!((&first["settings"]["NOTE"], &first["priority"]), (&json!("x y~z+%2B"), &json!(40)));
    let list = clients.api(&up, &["jobs", "latest=1", "test=update"]).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);

    let refused =
        clients.run("openqa-cli", &["api", "--host", &up.url, "-X", "POST", "machines", "name=x"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stdout.contains("Administrator level required"), "{}", refused.stdout);
    let refused =
        clients.run("openqa-cli", &["api", "--host", &up.url, "-X", "POST", "isos", "FLAVOR=x"]).await;
    assert!(refused.stdout.contains("DISTRI, VERSION, ARCH"), "{}", refused.stdout);

    clients.api(&up, &["-X", "POST", "jobs/4/comments", "text=boo#4"]).await;
    assert_eq!(clients.api(&up, &["bugs"]).await["bugs"], json!({"1": "boo#4"}));
    clients.api(&up, &["-X", "PUT", "bugs/1", "title=It breaks", "open=1"]).await;
    assert_eq!(clients.api(&up, &["bugs/1"]).await["title"], "It breaks");
    let by = ["distri=fedora", "version=43", "flavor=universal", "arch=x86_64", "build=2", "note=é fine"];
    clients.api(&up, &[&["-X", "PUT", "experimental/isos/note"], &by[..]].concat()).await;
    assert_eq!(clients.api(&up, &["isos/2"]).await["note"], "é fine");
    let links = clients.run("openqa-cli", &["api", "--host", &up.url, "--links", "jobs", "limit=1"]).await;
    assert!(format!("{}{}", links.stdout, links.stderr).contains("next"), "{links:?}");

    let archive = place.join("archive");
    clients.must("openqa-cli", &["archive", "--host", &up.url, "2", archive.as_str()]).await;
    let log = fs::read_to_string(archive.join("testresults/autoinst-log.txt")).unwrap();
    assert!(log.contains("dummy attempt ends"), "{log}");
    let vars: Value =
        serde_json::from_slice(&fs::read(archive.join("testresults/vars.json")).unwrap()).unwrap();
    assert_eq!(vars["TEST"], "update");
    assert!(archive.join("testresults/details-dummy.json").exists());
    up.stop().await;
}

#[tokio::test]
async fn templates_come_back_as_they_were() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    loaded(&place, &up).await;
    let clients = Clients::of(&place, "admin").await;
    let tables = ["Machines", "TestSuites", "Products", "JobTemplates"];
    let dump = async || {
        let text = clients
            .must("openqa-dump-templates", &[&["--host", &up.url, "--json", "--full"], &tables[..]].concat())
            .await;
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let first = dump().await;
    assert_eq!(first["TestSuites"], templates()["TestSuites"]);
    assert_eq!(first["Machines"], templates()["Machines"]);
    assert_eq!(first["JobTemplates"].as_array().unwrap().len(), 2);
    let groups = clients.must("openqa-dump-templates", &["--host", &up.url, "--json", "JobGroups"]).await;
    assert!(groups.contains("start") || groups.contains("update"), "{groups}");
    let file = place.join("dump.json");
    fs::write(&file, first.to_string()).unwrap();
    let again = clients.must("openqa-load-templates", &["--host", &up.url, "--clean", file.as_str()]).await;
    assert!(again.contains("JobTemplates => { added => 2, of => 2 }"), "{again}");
    assert_eq!(dump().await, first);
    // What is there is changed only with --update.
    let mut changed = first.clone();
    changed["TestSuites"][0]["settings"] = json!([{"key": "NOTE", "value": "another"}]);
    changed["Machines"][0]["backend"] = json!("qemu");
    fs::write(&file, changed.to_string()).unwrap();
    clients.load_templates(&up, file.as_str()).await;
    assert_eq!(dump().await, first);
    clients.must("openqa-load-templates", &["--host", &up.url, "--update", file.as_str()]).await;
    assert_eq!(dump().await, changed);
    // What a group's YAML names keeps its name; the rest of it may change.
    let yaml = "template=products:\n  p:\n    distri: fedora\n    version: '*'\n    flavor: universal\nscenarios:\n  x86_64:\n    p:\n    \
                - own:\n        machine: 64bit\n        testsuite: update\n";
    clients.api(&up, &["-X", "POST", "job_groups", "name=yaml"]).await;
    let by_yaml =
        ["-X", "POST", "job_templates_scheduling", "name=yaml", "schema=JobTemplates-01.yaml", yaml];
    clients.api(&up, &by_yaml).await;
    let put = async |kind: &str, key: &str, name: &str, rest: &[&str]| {
        let listed = clients.api(&up, &[kind]).await;
        let rows = listed.as_object().unwrap().values().next().unwrap().as_array().unwrap();
        let row = rows.iter().find(|row| row[key] == name).unwrap_or_else(|| panic!("{name}: {listed}"));
        let path = format!("{kind}/{}", row["id"]);
        clients.run("openqa-cli", &[&["api", "--host", &up.url, "-X", "PUT", &path], rest].concat()).await
    };
    for (kind, key, name, rest) in [
        ("machines", "name", "64bit", &["name=renamed", "backend=qemu"][..]),
        ("test_suites", "name", "update", &["name=renamed"]),
        (
            "products",
            "flavor",
            "universal",
            &["distri=fedora", "version=44", "arch=x86_64", "flavor=universal"],
        ),
    ] {
        let refused = put(kind, key, name, rest).await;
        let said = "Groups yaml must be updated through the YAML template";
        assert!(refused.code == Some(1) && refused.stdout.contains(said), "{kind}: {}", refused.stdout);
    }
    let changed = put("machines", "name", "64bit", &["name=64bit", "backend=kvm"]).await;
    assert_eq!(changed.code, Some(0), "{}", changed.stdout);
    let renamed = put("test_suites", "name", "install", &["name=renamed"]).await;
    assert_eq!(renamed.code, Some(0), "only the group of tables has it: {}", renamed.stdout);
    up.stop().await;
}

#[tokio::test]
async fn jobs_are_cloned_within_a_server_and_to_another() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (up, other) = (Up::start(&place, &[]).await, Up::start(&elsewhere, &[]).await);
    loaded(&place, &up).await;
    let clients = Clients::of(&place, "operator").await;
    clients.api(&up, &[&["-X", "POST", "isos", "BUILD=1"], &PRODUCT[..]].concat()).await;
    for job in [1, 2] {
        assert_eq!(up.wait(job).await.result, "passed");
    }
    let from = format!("{}/tests/2", up.url);
    let within =
        clients.must("openqa-clone-job", &["--within-instance", &from, "SAID=again", "TEST+=-clone"]).await;
    assert_eq!(within.lines().filter(|line| line.starts_with("Created job")).count(), 2, "{within}");
    let there = Clients::of(&elsewhere, "operator").await;
    let arguments = ["--skip-download", "--from", &up.url, "--host", &other.url, "2", "_GROUP=0"];
    let between = there.must("openqa-clone-job", &arguments).await;
    assert_eq!(between.lines().filter(|line| line.starts_with("Created job")).count(), 2, "{between}");
    let list = there.api(&other, &["jobs"]).await;
    let jobs = list["jobs"].as_array().unwrap();
    let update = jobs.iter().find(|job| job["test"] == "update").unwrap();
    let install = jobs.iter().find(|job| job["test"] == "install").unwrap();
    assert_eq!(update["parents"]["Chained"], json!([install["id"]]));
    assert_eq!(update["settings"]["CLONED_FROM"], json!(from));
    for id in [1, 2] {
        assert_eq!(other.wait(id).await.result, "passed");
    }
    for id in [3, 4] {
        assert_eq!(up.wait(id).await.result, "passed");
    }
    up.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn files_come_along_with_a_clone_and_an_archive() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (up, other) = (Up::start(&place, &[]).await, Up::start(&elsewhere, &[]).await);
    let iso: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    up.upload("a.iso", &iso).await;
    let job = up.post(&[("BACKEND", "dummy"), ("ISO", "a.iso")]).await;
    up.wait(job).await;
    let clients = Clients::of(&place, "operator").await;
    let archive = place.join("archive");
    clients.must("openqa-cli", &["archive", "--host", &up.url, &job.to_string(), archive.as_str()]).await;
    assert!(fs::read(archive.join("iso/a.iso")).unwrap() == iso, "the archive has the ISO");
    let there = Clients::of(&elsewhere, "operator").await;
    let files = elsewhere.join("files");
    fs::create_dir_all(files.join("iso")).unwrap();
    let arguments =
        ["--from", &up.url, "--host", &other.url, "--dir", files.as_str(), &job.to_string(), "_GROUP=0"];
    let cloned = there.must("openqa-clone-job", &arguments).await;
    assert!(cloned.contains("Created job"), "{cloned}");
    assert!(fs::read(files.join("iso/a.iso")).unwrap() == iso, "the clone has the ISO");
    up.stop().await;
    other.stop().await;
}

/// openQA itself, as Debian packages it, on a PostgreSQL of its own.
struct Original<'a> {
    place: &'a Place,
    url: String,
    database: Utf8PathBuf,
    _process: Started,
}

/// The key and the secret of its admin.
const ORIGINAL_KEY: &str = "1234567890ABCDEF";

impl<'a> Original<'a> {
    async fn start(place: &'a Place) -> Self {
        let database = place.join("postgres");
        let script = repository().join("scripts/postgres-for-tests");
        let mut command = place.command(script.as_str());
        command.args(["start", database.as_str()]);
        let address = place.run_command(command).await.expect(0).stdout.clone();
        let socket = address.split("host=").nth(1).unwrap().split('&').next().unwrap().trim();
        fs::create_dir_all(place.join("etc")).unwrap();
        for folder in ["db", "images", "webui", "testresults", "share"] {
            fs::create_dir_all(place.join("base/openqa").join(folder)).unwrap();
        }
        let dsn = format!("[production]\ndsn = DBI:Pg:dbname=assay;host={socket}\nuser = assay\n");
        fs::write(place.join("etc/database.ini"), dsn).unwrap();
        let settings = "[global]\nplugins =\n[auth]\nmethod = Fake\n[logging]\nlevel = error\n";
        fs::write(place.join("etc/openqa.ini"), settings).unwrap();
        let command = |program: &str| {
            let mut command = place.command(program);
            command.env("OPENQA_CONFIG", place.join("etc")).env("OPENQA_BASEDIR", place.join("base"));
            command.env("OPENQA_DATABASE", "production").env("MOJO_MODE", "production");
            command
        };
        let mut admin = command("/usr/share/openqa/script/create_admin");
        admin.args(["--key", ORIGINAL_KEY, "--secret", ORIGINAL_KEY, "--email", "a@example.org", "arthur"]);
        place.run_command(admin).await.expect(0);
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut daemon = command("/usr/share/openqa/script/openqa");
        daemon.args(["daemon", "-m", "production", "-l", &url]);
        let process = place.start_command(daemon);
        eventually("openQA answers", || std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop))
            .await;
        Self { place, url, database, _process: process }
    }

    async fn stop(self) {
        let mut command = self.place.command(repository().join("scripts/postgres-for-tests").as_str());
        command.args(["stop", self.database.as_str()]);
        self.place.run_command(command).await.expect(0);
    }
}

#[tokio::test]
async fn jobs_of_openqa_itself_are_cloned() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let original = Original::start(&elsewhere).await;
    let up = Up::start(&place, &[]).await;
    let post = async |settings: &[&str]| {
        let mut command = elsewhere.command("openqa-cli");
        command.args(["api", "--host", &original.url, "--apikey", ORIGINAL_KEY, "--apisecret", ORIGINAL_KEY]);
        command.args([
            "-X",
            "POST",
            "jobs",
            "DISTRI=fedora",
            "VERSION=43",
            "FLAVOR=universal",
            "ARCH=x86_64",
        ]);
        let ended = elsewhere.run_command({
            command.args(settings);
            command
        });
        ended.await.expect(0).json()["id"].as_i64().unwrap()
    };
    let parent = post(&["TEST=install", "BACKEND=dummy", "MACHINE=64bit", "NOTE=é y~z+%2B"]).await;
    let child =
        post(&["TEST=update", "BACKEND=dummy", "MACHINE=64bit", &format!("_START_AFTER_JOBS={parent}")])
            .await;
    let clients = Clients::of(&place, "operator").await;
    let arguments =
        ["--skip-download", "--from", &original.url, "--host", &up.url, &child.to_string(), "_GROUP=0"];
    let said = clients.must("openqa-clone-job", &arguments).await;
    assert_eq!(said.lines().filter(|line| line.starts_with("Created job")).count(), 2, "{said}");
    let list = clients.api(&up, &["jobs"]).await;
    let jobs = list["jobs"].as_array().unwrap();
    let named = |test: &str| jobs.iter().find(|job| job["test"] == test).unwrap();
    assert_eq!(named("update")["parents"]["Chained"], json!([named("install")["id"]]));
    assert_eq!(named("install")["settings"]["NOTE"], "é y~z+%2B");
    for job in jobs {
        assert_eq!(up.wait(job["id"].as_i64().unwrap()).await.result, "passed");
    }
    // And back to where they came from.
    let update = named("update")["id"].to_string();
    let mut arguments = vec!["--skip-download", "--from", &up.url, "--host", &original.url];
    arguments.extend(["--apikey", ORIGINAL_KEY, "--apisecret", ORIGINAL_KEY, &update, "_GROUP=0"]);
    let said = clients.must("openqa-clone-job", &arguments).await;
    assert_eq!(said.lines().filter(|line| line.starts_with("Created job")).count(), 2, "{said}");
    let list: Value =
        http().get(format!("{}/api/v1/jobs", original.url)).send().await.unwrap().json().await.unwrap();
    let jobs = list["jobs"].as_array().unwrap();
    let newest = |test: &str| {
        let own = jobs.iter().filter(|job| job["test"] == test);
        own.max_by_key(|job| job["id"].as_i64()).unwrap()
    };
    assert_eq!(jobs.len(), 4);
    assert_eq!(newest("update")["parents"]["Chained"], json!([newest("install")["id"]]));
    assert_eq!(newest("install")["settings"]["NOTE"], "é y~z+%2B");
    up.stop().await;
    original.stop().await;
}

const PYTHON: &str = r#"
import json, sys
from openqa_client.client import OpenQA_Client
from openqa_client.exceptions import RequestError
client = OpenQA_Client(server=sys.argv[1], retries=0)
product = {"DISTRI": "fedora", "VERSION": "43", "FLAVOR": "universal", "ARCH": "x86_64", "BUILD": "py~1", "SAID": "é/:+ z"}
posted = client.openqa_request("POST", "isos", product)
jobs = client.get_jobs(build="py~1")
by_id = client.get_jobs(jobs=posted["ids"])
said = client.openqa_request("GET", "jobs/%d" % posted["ids"][0])["job"]["settings"]["SAID"]
try:
    client.openqa_request("POST", "machines", {"name": "q", "backend": "q"})
    refused = None
except RequestError as error:
    refused = error.status_code
yaml = client.openqa_request("GET", "job_templates_scheduling")
print(json.dumps([posted["ids"], [j["id"] for j in jobs], len(by_id), said, refused, sorted(yaml)]))
"#;

#[tokio::test]
async fn the_python_client() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    loaded(&place, &up).await;
    let clients = Clients::of(&place, "operator").await;
    let script = place.join("script.py");
    fs::write(&script, PYTHON).unwrap();
    let said = clients.must(&place.python().await, &[script.as_str(), &up.url]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!([[1, 2], [1, 2], 2, "é/:+ z", 403, ["fedora"]]));
    up.stop().await;
}

/// One thousand suites for one product, none of which any worker can run.
fn thousand() -> Value {
    let product = json!({"arch": "x86_64", "distri": "fedora", "flavor": "universal", "version": "*"});
    let names: Vec<_> = (0..1_000).map(|number| format!("suite-{number}")).collect();
    let template = |name: &String| {
        json!({
            "group_name": "fedora", "machine": {"name": "64bit"}, "prio": 50, "product": product,
            "test_suite": {"name": name},
        })
    };
    json!({
        "Machines": [{"name": "64bit", "backend": "dummy", "settings": [{"key": "WORKER_CLASS", "value": "nobody"}]}],
        "TestSuites": names.iter().map(|name| json!({"name": name, "settings": []})).collect::<Vec<_>>(),
        "Products": [{
            "name": "", "distri": "fedora", "version": "*", "flavor": "universal", "arch": "x86_64", "settings": [],
        }],
        "JobTemplates": names.iter().map(template).collect::<Vec<_>>(),
    })
}

/// Posts a build of a thousand jobs; what the server answered, if it did.
async fn post_thousand(up: &Up<'_>, build: &str) -> Option<Value> {
    let form = format!("DISTRI=fedora&VERSION=43&FLAVOR=universal&ARCH=x86_64&BUILD={build}");
    let request = up.request(Method::POST, "/api/v1/isos");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    request.send().await.ok()?.json().await.ok()
}

#[tokio::test]
async fn a_server_killed_within_a_post_has_made_all_of_it_or_nothing() {
    // How often the database has grown when the kill comes; 0 is at once, the last one is after the answer.
    const POINTS: [u32; 10] = [0, 1, 2, 3, 5, 8, 13, 21, 34, u32::MAX];
    let place = Place::new();
    let mut up = Up::start_as(&place, "server", &[]).await;
    let file = place.join("thousand.json");
    fs::write(&file, thousand().to_string()).unwrap();
    place.run(&["template", "load", file.as_str()]).await.expect(0);
    assert_eq!(post_thousand(&up, "0").await.unwrap()["count"], 1_000);
    let (mut all, mut none) = (1, 0);
    for point in POINTS {
        let build = format!("after-{point}");
        let answered = AtomicBool::new(false);
        let (posted, ended) = tokio::join!(
            async {
                let posted = post_thousand(&up, &build).await;
                answered.store(true, Ordering::SeqCst);
                posted
            },
            async {
                let log = up.data().join("assay.db-wal");
                let size = || fs::metadata(&log).map_or(0, |found| found.len());
                let (mut before, mut grown) = (size(), 0);
                while grown < point && !answered.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                    let now = size();
                    grown += u32::from(now != before);
                    before = now;
                }
                rustix::process::kill_process(
                    rustix::process::Pid::from_raw(i32::try_from(up.pid()).unwrap()).unwrap(),
                    rustix::process::Signal::KILL,
                )
            }
        );
        ended.unwrap();
        up.end_by(rustix::process::Signal::KILL).await;
        up = Up::start_as(&place, "server", &[]).await;
        let path = format!("/api/v1/jobs?build={build}&limit=10000");
        let list: Value = up.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        let jobs = list["jobs"].as_array().unwrap();
        let runs = up.get(&format!("products?build={build}")).await["products"].as_array().unwrap().clone();
        assert!(matches!(jobs.len(), 0 | 1_000), "killed {build}: {} jobs", jobs.len());
        assert_eq!(runs.len(), jobs.len() / 1_000, "killed {build}: {runs:?}");
        if posted.is_some_and(|posted| posted["count"] == 1_000) {
            assert_eq!(jobs.len(), 1_000, "it had answered");
        }
        if jobs.is_empty() {
            none += 1;
        } else {
            all += 1;
            let ids: Vec<_> = jobs.iter().map(|job| job["id"].clone()).collect();
            assert_eq!(runs[0]["jobs"], json!(ids), "killed {build}");
        }
    }
    assert!(none > 0 && all > 1, "{none} posts were killed before their end, {all} after it");
    // It goes on as if nothing had been.
    assert_eq!(post_thousand(&up, "last").await.unwrap()["count"], 1_000);
    up.stop().await;
}

#[tokio::test]
async fn two_operators_restart_one_cluster_at_once() {
    let place = Place::new();
    let up = Up::start(&place, &["--slots", "2"]).await;
    let clients = Clients::of(&place, "operator").await;
    let cluster = [
        "-X",
        "POST",
        "jobs",
        "TEST:a=server",
        "BACKEND:a=dummy",
        "DUMMY_RESULT:a=failed",
        "TEST:b=client",
        "BACKEND:b=dummy",
        "DUMMY_RESULT:b=failed",
        "_PARALLEL:b=a",
        "TEST:c=after",
        "BACKEND:c=dummy",
        "_START_AFTER:c=a",
    ];
    let posted = clients.api(&up, &cluster).await;
    let ids = ["a", "b", "c"].map(|suffix| posted["ids"][suffix].as_i64().unwrap());
    for id in ids {
        up.wait(id).await;
    }
    let restart = |id: i64| {
        let (path, clients, up) = (format!("jobs/{id}/restart"), &clients, &up);
        async move { clients.api(up, &["-X", "POST", &path]).await }
    };
    // Each names another job of the cluster.
    let (first, second, third) = tokio::join!(restart(ids[0]), restart(ids[1]), restart(ids[0]));
    let list = clients.api(&up, &["jobs"]).await;
    let jobs = list["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 6, "{first} {second} {third} {list}");
    for (place, id) in ids.iter().enumerate() {
        let clones: Vec<_> = jobs.iter().filter(|job| job["origin_id"] == *id).collect();
        assert_eq!(clones.len(), 1, "job {id} (number {place}) was cloned {} times", clones.len());
        let old = jobs.iter().find(|job| job["id"] == *id).unwrap();
        assert_eq!(old["clone_id"], clones[0]["id"]);
    }
    for job in jobs {
        up.wait(job["id"].as_i64().unwrap()).await;
    }
    up.stop().await;
}

#[tokio::test]
async fn a_clone_from_a_server_that_is_gone_makes_nothing() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (up, other) = (Up::start(&place, &[]).await, Up::start(&elsewhere, &[]).await);
    let gone = up.url.clone();
    up.stop().await;
    let there = Clients::of(&elsewhere, "operator").await;
    let arguments = ["--skip-download", "--from", &gone, "--host", &other.url, "1"];
    let ended = there.run("openqa-clone-job", &arguments).await;
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("refused") || said.contains("failed") || said.contains("Connection"), "{said}");
    // And one of a job that there is not, or to a server that is gone.
    let ended = there
        .run("openqa-clone-job", &["--skip-download", "--from", &other.url, "--host", &other.url, "7"])
        .await;
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("Job does not exist") || said.contains("404"), "{said}");
    assert_eq!(there.api(&other, &["jobs"]).await["jobs"], json!([]));
    let mut command = elsewhere.assay(&["job", "clone", "1"]);
    command.env("ASSAY_SERVER", &gone);
    elsewhere.run_command(command).await.expect(3).says("does not answer");
    other.stop().await;
}

#[tokio::test]
async fn templates_with_everything_wrong_are_told_at_once() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    loaded(&place, &up).await;
    let yaml = "defaults:\n  x86_64:\n    machine: 64bitt\n    priority: many\nproducts:\n  f:\n    distri: fedora\n    \
                flavor: universal\n    version: '*'\nscenarios:\n  x86_64:\n    f:\n    - instal\n    - update:\n        \
                settings:\n          NUMBER: 5\n          lower: 'x'\n    g:\n    - install\n";
    let file = place.join("wrong.yaml");
    fs::write(&file, yaml).unwrap();
    let ended = place.run(&["template", "check", "--group", "wrong", file.as_str()]).await;
    ended.expect(2);
    for (line, word) in
        [(3, "64bitt"), (4, "priority"), (13, "instal"), (16, "NUMBER"), (17, "lower"), (18, "g")]
    {
        let place = format!("wrong.yaml:{line}:");
        let found = ended.stderr.lines().any(|said| said.contains(&place) && said.contains(word));
        assert!(found, "line {line} ({word}) is not named:\n{}", ended.stderr);
    }
    assert!(
        ended.stderr.contains("64bit") && ended.stderr.contains("install"),
        "what was meant: {}",
        ended.stderr
    );
    // A circle is found when it is posted, with its path; what is not in it is made.
    let template = |suite: &str| {
        json!({
            "group_name": "fedora", "machine": {"name": "64bit"}, "prio": 50, "test_suite": {"name": suite},
            "product": {"arch": "x86_64", "distri": "fedora", "flavor": "universal", "version": "*"},
        })
    };
    let after = |suite: &str, parent: &str| json!({"name": suite, "settings": [{"key": "START_AFTER_TEST", "value": parent}]});
    let circle = json!({
        "TestSuites": [after("one", "two"), after("two", "three"), after("three", "one")],
        "JobTemplates": [template("one"), template("two"), template("three")],
    });
    let file = place.join("circle.json");
    fs::write(&file, circle.to_string()).unwrap();
    place.run(&["template", "load", file.as_str()]).await.expect(0);
    let posted =
        place.run(&[&["product", "post", "--json", "BUILD=9"], &PRODUCT[..]].concat()).await.expect(0).json();
    assert_eq!(posted["jobs"].as_array().unwrap().len(), 2, "{posted}");
    let failed = posted["failed"].to_string();
    assert!(failed.contains("in a circle: one@64bit starts after two@64bit"), "{failed}");
    up.stop().await;
}
