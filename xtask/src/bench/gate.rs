//! `cargo xtask bench gate`: from an event to running jobs, alone, in a deep queue, and after its head has failed.
//!
//! A fake Gerrit on SSH, a small repository, warm connections, dummy workers; "started" is when the server has stored
//! that a worker runs the job. The peers' figures are those of the reference (zuul.md §8.2), measured on two cores of
//! the same kind; their programs do not run on this machine's Python.

use super::figures::{self, Figure, Peer, Unit};
use super::http::{Events, address, ask, text};
use super::proc::Tree;
use super::product::Product;
use super::{clock, clock::Pace};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);
/// Jobs of a change.
const JOBS: usize = 2;
/// Single changes whose median counts.
const SINGLE: usize = 21;
/// Changes of the queue whose board is looked at, and how often it is.
const BOARD: usize = 500;
const LOOKS: usize = 21;
/// How deep, and within how many seconds: enqueued, reset. Zuul 2.6's seconds, then Zuul 14's where it was measured.
const DEPTHS: &[Depth] = &[
    Depth { changes: 20, reach: 0.3, enqueue: (5.9, Some(12.7)), reset: (6.1, Some(11.0)) },
    Depth { changes: 50, reach: 0.7, enqueue: (26.7, Some(58.0)), reset: (28.9, Some(59.0)) },
    Depth { changes: 100, reach: 1.5, enqueue: (142.0, None), reset: (163.0, None) },
];

struct Depth {
    changes: usize,
    reach: f64,
    enqueue: (f64, Option<f64>),
    reset: (f64, Option<f64>),
}

const CONFIG: &str = r#"
pipelines:
  - check
  - template: gate
    trigger: {event: comment-added, approval: {Workflow: 1}}
    require: {open: true, current-patchset: true, approval: [{Workflow: 1}, {Code-Review: 2}]}
    success: [{review: {Verified: 2}, submit: true}]
    failure: [{review: {Verified: -2}}]
    window: 0
projects:
  single: {merge-mode: merge-if-necessary, check: [a, b]}
  deep: {merge-mode: merge-if-necessary, gate: [a, b]}
jobs:
  a: &job
    imported: true
    env: {BACKEND: dummy, DUMMY_WAIT_FILE: "GO/{TEST}-{ZUUL_CHANGE}"}
  b: *job
"#;

/// The Gerrit, the server and the workers.
struct World {
    trees: Vec<Tree>,
    gerrit: String,
    server: String,
    go: Utf8PathBuf,
}

/// Measures and prints; true if everything is reached or `--check` was not asked for.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (mut json, mut check, mut program) = (false, false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" => json = true,
            "--check" => check = true,
            "--assay" => program = Some(Utf8PathBuf::from(words.next().context("--assay needs a program")?)),
            _ => bail!("unknown option {word}; see `cargo xtask help`"),
        }
    }
    let product = Product::new(program.as_deref())?;
    let mut found = vec![single(&product)?];
    for depth in DEPTHS {
        found.extend(deep(&product, depth)?);
    }
    found.extend(board(&product)?);
    let notes = ["peers: reference figures of the same programs on 2 cores, not rerun here".to_owned()];
    if json {
        println!("{}", figures::json(&found, &notes)?);
    } else {
        print!("{}", figures::table(&found, &notes));
    }
    if check && !found.iter().all(Figure::reached) {
        bail!("not every figure is reached");
    }
    Ok(())
}

/// One change at a time.
fn single(product: &Product) -> Result<Figure> {
    eprintln!("single changes");
    let world = World::start(product)?;
    let mut samples = Vec::new();
    for turn in 0..SINGLE {
        world.fake("events", &json!({"mishap": "delay", "count": 1}))?;
        let change = world.upload("single", turn)?;
        let began = clock::unix_us();
        world.fake("events/release", &json!({}))?;
        let started = world.until_started("check", |item| item["changes"][0]["number"] == change, 1)?;
        samples.push(seconds(began, started));
    }
    world.end()?;
    let peers =
        vec![Peer::new("zuul 2.6 (reference)", vec![0.24]), Peer::new("zuul 14 (reference)", vec![0.92])];
    Ok(Figure::of("patchset-created → 2 jobs started", Unit::Milliseconds, samples, Some(0.05), peers))
}

/// Many at once, and then the first of them fails.
fn deep(product: &Product, depth: &Depth) -> Result<[Figure; 2]> {
    let count = depth.changes;
    eprintln!("{count} changes");
    let world = World::start(product)?;
    // One change that stays, so that the connections are warm and the head is known.
    let head = world.upload("deep", 0)?;
    world.approve(head)?;
    world.until_started("gate", |_| true, 1)?;
    let mut changes = Vec::new();
    for turn in 1..=count {
        changes.push(world.upload("deep", turn)?);
    }
    world.fake("events", &json!({"mishap": "delay", "count": count}))?;
    for change in &changes {
        world.approve(*change)?;
    }
    let began = clock::unix_us();
    world.fake("events/release", &json!({}))?;
    let behind = |item: &Value| item["changes"][0]["number"] != head;
    let enqueued = seconds(began, world.until_started("gate", behind, count)?);

    world.tell(&format!("a-{head}"), "failed")?;
    let anew = |item: &Value| behind(item) && item["buildset"].as_u64() > Some(1);
    let restarted = world.until_started("gate", anew, count)?;
    let reset = seconds(world.ended("gate", head)?, restarted);
    world.end()?;
    let peers = |(old, new): (f64, Option<f64>)| {
        let new = new.map(|seen| Peer::new("zuul 14 (reference)", vec![seen]));
        [Some(Peer::new("zuul 2.6 (reference)", vec![old])), new].into_iter().flatten().collect()
    };
    let reach = Some(depth.reach);
    let names = match count {
        20 => ["20 enqueued → all started", "head of 20 fails → all restarted"],
        50 => ["50 enqueued → all started", "head of 50 fails → all restarted"],
        _ => ["100 enqueued → all started", "head of 100 fails → all restarted"],
    };
    Ok([
        Figure::of(names[0], Unit::Milliseconds, vec![enqueued], reach, peers(depth.enqueue)),
        Figure::of(names[1], Unit::Milliseconds, vec![reset], reach, peers(depth.reset)),
    ])
}

/// The pages of a queue of many changes, and how soon one that is open shows that a job has ended.
fn board(product: &Product) -> Result<[Figure; 3]> {
    eprintln!("the board with {BOARD} changes");
    let world = World::start(product)?;
    let mut changes = Vec::new();
    for turn in 0..BOARD {
        let change = world.upload("deep", turn)?;
        world.approve(change)?;
        changes.push(change);
    }
    // A worker has 256 slots; the rest waits, as it would.
    world.until("the queue", || Ok((world.items("gate")?.len() >= BOARD).then_some(())))?;
    world.until_started("gate", |item| item["changes"][0]["number"] == changes[0], 1)?;
    let looks = |path: &str| -> Result<Vec<f64>> {
        let look = |_| {
            let began = clock::unix_us();
            text(&world.server, path, None)?;
            Ok(seconds(began, clock::unix_us()))
        };
        (0..LOOKS).map(look).collect()
    };
    let (page, status) = (looks("/gate")?, looks("/status.json")?);

    let mut shown = Vec::new();
    for change in changes.iter().take(LOOKS) {
        let page = text(&world.server, "/gate", None)?;
        let version = page.split("data-version=\"").nth(1).and_then(|rest| rest.split('"').next());
        let version = version.context("the board has no version")?;
        let mut events = Events::open(&world.server, &format!("/gate/live?version={version}"))?;
        world.tell(&format!("b-{change}"), "passed")?;
        // The link of the change, in the HTML in the JSON.
        while !events.next()?.contains(&format!("/{change}\\\"")) {}
        let seen = clock::unix_us();
        shown.push(seconds(world.ended("gate", *change)?, seen));
    }
    world.end()?;
    let of = |name, samples| Figure::of(name, Unit::Milliseconds, samples, None, Vec::new());
    Ok([
        of("the board of 500 changes, whole", page),
        of("/status.json of 500 changes", status),
        of("job of one of 500 ends → an open board is told", shown),
    ])
}

fn seconds(began_us: i64, ended_us: i64) -> f64 {
    (ended_us - began_us) as f64 / 1e6
}

impl World {
    fn start(product: &Product) -> Result<Self> {
        let dir = product.fresh("gate");
        let go = dir.join("go");
        fs_err::create_dir_all(&go)?;
        let config = dir.join("config");
        fs_err::create_dir_all(&config)?;
        fs_err::write(config.join("gate.yaml"), CONFIG.replace("GO", go.as_str()))?;
        let key = dir.join("id");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()])
            .status()?;
        if !made.success() {
            bail!("ssh-keygen (package openssh-client) ended with {made}");
        }
        let mut trees = Vec::new();
        let ready = dir.join("gerrit.json");
        let repositories = dir.join("repositories");
        let users = ["--user", "alice:core,admin", "--user", "assay:ci"];
        let place = ["staging", "gerrit", "--dir", repositories.as_str(), "--ready-file", ready.as_str()];
        let projects = ["--project", "single", "--project", "deep"];
        trees.push(start(product, &dir, "gerrit", &[&place[..], &users, &projects].concat())?);
        let gerrit = read_json(&ready)?;
        let port =
            gerrit["ssh"].as_str().and_then(|ssh| ssh.rsplit(':').next()).context("no port")?.to_owned();
        let toml = dir.join("assay.toml");
        let text = format!(
            "[connection.gerrit]\ndriver = \"gerrit\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"assay\"\n\
             key = \"id\"\n\n[gate]\nconfig = \"config\"\n"
        );
        fs_err::write(&toml, text)?;
        let ready = dir.join("server.ready");
        let data = dir.join("data");
        let listen =
            ["server", "--listen", "127.0.0.1:0", "--config", toml.as_str(), "--ready-file", ready.as_str()];
        trees.push(start(product, &data, "server", &listen)?);
        let server = read(&ready)?;
        for name in ["w1", "w2"] {
            let pool = dir.join(name);
            let class =
                ["worker", "--name", name, "--slots", "256", "--class", "dummy", "--pool", pool.as_str()];
            // On the data directory of the server: that is where its address and the token are.
            trees.push(start(product, &data, name, &class)?);
        }
        let url = gerrit["url"].as_str().context("no address")?;
        let world = Self { trees, gerrit: address(url)?, server: address(server.trim())?, go };
        world.fake_ready()?;
        Ok(world)
    }

    /// Waits until the server listens to events and both workers are there.
    fn fake_ready(&self) -> Result<()> {
        ask(&self.gerrit, "/fake/streams?at_least=1", None)?;
        self.until("the workers", || {
            let workers = ask(&self.server, "/api/assay/v1/workers", None)?;
            let online = workers.to_string().matches("\"online\"").count();
            Ok((online >= 2).then_some(()))
        })
    }

    fn fake(&self, what: &str, body: &Value) -> Result<Value> {
        ask(&self.gerrit, &format!("/fake/{what}"), Some(body))
    }

    fn upload(&self, project: &str, turn: usize) -> Result<u64> {
        let file = format!("file-{turn}");
        let body = json!({
            "project": project, "user": "alice", "subject": format!("Change {turn}"), "files": {file: "text\n"},
        });
        self.fake("upload", &body)?["number"].as_u64().context("no number")
    }

    fn approve(&self, change: u64) -> Result<()> {
        self.fake(
            "review",
            &json!({"user": "alice", "number": change, "labels": {"Code-Review": 2, "Workflow": 1}}),
        )?;
        Ok(())
    }

    fn tell(&self, file: &str, word: &str) -> Result<()> {
        let draft = self.go.join(".draft");
        fs_err::write(&draft, word)?;
        fs_err::rename(draft, self.go.join(file))?;
        Ok(())
    }

    /// Waits until `count` items of a pipeline that fit have all their jobs running; when the last of them began.
    fn until_started(&self, pipeline: &str, fits: impl Fn(&Value) -> bool, count: usize) -> Result<i64> {
        self.until("jobs to start", || {
            let items = self.items(pipeline)?;
            let fitting: Vec<&Value> = items.iter().filter(|item| fits(item)).collect();
            let started: Vec<i64> = fitting
                .iter()
                .flat_map(|item| item["jobs"].as_array().into_iter().flatten())
                .filter_map(|job| job["started"].as_str().and_then(unix_us))
                .collect();
            let all = fitting.len() >= count && started.len() == fitting.len() * JOBS;
            Ok(started.into_iter().max().filter(|_| all))
        })
    }

    /// When the first job of a change ended.
    fn ended(&self, pipeline: &str, change: u64) -> Result<i64> {
        self.until("the failure", || {
            let items = self.items(pipeline)?;
            let item = items.iter().find(|item| item["changes"][0]["number"] == change);
            let jobs = item.and_then(|item| item["jobs"].as_array()).into_iter().flatten();
            Ok(jobs.filter_map(|job| job["ended"].as_str().and_then(unix_us)).min())
        })
    }

    fn items(&self, pipeline: &str) -> Result<Vec<Value>> {
        let status = ask(&self.server, "/api/assay/v1/gate", None)?;
        let pipelines = status["pipelines"].as_array().cloned().unwrap_or_default();
        let queues = pipelines
            .iter()
            .filter(|one| one["name"] == pipeline)
            .flat_map(|one| one["queues"].as_array().cloned().unwrap_or_default());
        Ok(queues.flat_map(|queue| queue["items"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// Looks every 20 ms: what is measured has its time from the server, not from here.
    fn until<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let deadline = clock::now() + PATIENCE;
        let mut pace = Pace::new(Duration::from_millis(20));
        while clock::now() < deadline {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            pace.wait();
        }
        bail!("in vain: {what}; {}", ask(&self.server, "/api/assay/v1/gate", None)?)
    }

    fn end(self) -> Result<()> {
        for tree in self.trees.into_iter().rev() {
            tree.end()?;
        }
        Ok(())
    }
}

pub(super) fn start(product: &Product, data: &Utf8Path, name: &str, words: &[&str]) -> Result<Tree> {
    fs_err::create_dir_all(data)?;
    let log = fs_err::File::create(data.join(format!("{name}.log")))?.into_file();
    Tree::start(product.command(data, words).stdout(Stdio::null()).stderr(Stdio::from(log)))
}

/// A file that a program writes when it is ready.
pub(super) fn read(path: &Utf8Path) -> Result<String> {
    let deadline = clock::now() + PATIENCE;
    let mut pace = Pace::new(Duration::from_millis(20));
    while clock::now() < deadline {
        if let Ok(text) = fs_err::read_to_string(path)
            && !text.is_empty()
        {
            return Ok(text);
        }
        pace.wait();
    }
    bail!("{path} was not written; see the logs beside it")
}

fn read_json(path: &Utf8Path) -> Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| path.to_string())
}

/// RFC 3339 in microseconds.
fn unix_us(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
