//! `cargo xtask bench product`: a product of a thousand jobs, jobs by the API, and a server with a hundred thousand of
//! them.
//!
//! The release program on a fresh data directory, clients that keep their connections, all on loopback. Where Debian's
//! openQA is installed it is asked the same in the same run; else the peer's figures are those of the reference
//! (openqa.md), measured on two cores of the same kind.

use super::figures::{self, Figure, Peer, Unit, median};
use super::gate::{read, start};
use super::http::{Client, address};
use super::openqa::{self, OpenQa};
use super::proc::Tree;
use super::product::Product;
use super::served::{FLAVORS, MACHINES, SUITES, Served as _, post_product};
use super::{clock, clock::Pace};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(5);
/// Jobs one after the other on one slot.
const RELAY: usize = 31;
const UNRUNNABLE: usize = 5_000;
const WAITING: usize = 100_000;
const WORKERS: usize = 1_000;
/// Jobs that the workers do.
const DONE: usize = 20_000;
/// Jobs in one request.
const AT_ONCE: usize = 5_000;

/// What the peer can be asked as well.
const POST_PRODUCT: &str = "post of a product that makes 1,000 jobs";
const LIST: &str = "list of 1,000 scheduled jobs";
const POST_ONE: &str = "jobs posted, 1 client";
const POST_FOUR: &str = "jobs posted, 4 clients";
const SHOW: &str = "jobs shown, 4 clients";
const OVERVIEW: &str = "overview of 1,000 jobs";

type Measure = fn(&mut Bench) -> Result<()>;

const PARTS: [(&str, Measure); 7] = [
    ("peer", Bench::peer),
    ("post", Bench::post),
    ("jobs", Bench::jobs),
    ("overview", Bench::overview),
    ("slot", Bench::slot),
    ("start", Bench::start),
    ("fleet", Bench::fleet),
];

struct Bench {
    product: Product,
    memory: bool,
    figures: Vec<Figure>,
    notes: Vec<String>,
    /// What the peer did in this run.
    peer: HashMap<&'static str, Vec<f64>>,
    /// A data directory with jobs that wait.
    crowded: Option<Utf8PathBuf>,
}

/// Measures and prints; an error with `--check` if not everything is reached.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (mut json, mut check, mut memory, mut program) = (false, false, false, None);
    let mut wanted: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match *word {
            "--json" => json = true,
            "--check" => check = true,
            "--memory" => memory = true,
            "--assay" => program = Some(Utf8PathBuf::from(value()?)),
            "--only" => wanted = value()?.split(',').collect(),
            _ => bail!("unknown option {word}; see `cargo xtask help`"),
        }
    }
    if let Some(part) = wanted.iter().find(|part| PARTS.iter().all(|(name, _)| name != *part)) {
        bail!("unknown part {part}; there are {}", PARTS.map(|(name, _)| name).join(", "));
    }
    let product = Product::new(program.as_deref())?;
    let (figures, notes) = (Vec::new(), Vec::new());
    let mut bench = Bench { product, memory, figures, notes, peer: HashMap::new(), crowded: None };
    if memory {
        bench.notes.push("the data directory is in memory: what is stored is not on a disk".to_owned());
    }
    let mut failed = 0;
    for (name, measure) in PARTS.iter().filter(|(name, _)| wanted.contains(name)) {
        eprintln!("{name}");
        bench.note_load(name);
        if let Err(error) = measure(&mut bench) {
            eprintln!("{name}: {error:#}");
            bench.notes.push(format!("{name} was not measured: {error:#}"));
            failed += 1;
        }
    }
    if json {
        println!("{}", figures::json(&bench.figures, &bench.notes)?);
    } else {
        print!("{}", figures::table(&bench.figures, &bench.notes));
    }
    if failed > 0 || (check && !bench.figures.iter().all(Figure::reached)) {
        bail!("not every figure is reached, or not every part was measured");
    }
    Ok(())
}

/// A server of its own.
pub(super) struct World {
    tree: Tree,
    data: Utf8PathBuf,
    address: String,
    token: String,
    /// Until the first answer.
    began: Duration,
}

impl World {
    pub(super) fn start(product: &Product, data: &Utf8Path, more: &[&str]) -> Result<Self> {
        let ready = data.join("bench.ready");
        if ready.exists() {
            fs_err::remove_file(&ready)?;
        }
        let mut words = vec!["server", "--listen", "127.0.0.1:0", "--ready-file", ready.as_str()];
        words.extend(more);
        let tree = start(product, data, "server", &words)?;
        let address = address(read(&ready)?.trim())?;
        let token = fs_err::read_to_string(data.join("tokens/admin"))?.trim().to_owned();
        Client::new(&address, &token)?.get("/api/v1/jobs?limit=1")?;
        let began = tree.age();
        Ok(Self { tree, data: data.to_owned(), address, token, began })
    }

    pub(super) fn client(&self) -> Result<Client> {
        Client::new(&self.address, &self.token)
    }

    /// Ends it as a crash would.
    pub(super) fn kill(self) {
        drop(self.tree);
    }

    pub(super) fn end(self) -> Result<Utf8PathBuf> {
        self.tree.end()?;
        Ok(self.data)
    }

    /// Jobs that wait for workers of a class, which there are not.
    fn post_waiting(&self, count: usize, class: &str) -> Result<()> {
        let mut client = self.client()?;
        for from in (0..count).step_by(AT_ONCE) {
            let mut form =
                format!("DISTRI=bench&VERSION=1&FLAVOR=w&ARCH=x86_64&BUILD=w&WORKER_CLASS={class}");
            for number in from..(from + AT_ONCE).min(count) {
                let _ = write!(form, "&TEST:{number}=t{number}");
            }
            client.post("/api/v1/jobs", &form)?;
        }
        Ok(())
    }
}

impl Bench {
    fn data(&self, name: &str) -> Utf8PathBuf {
        if self.memory { self.product.fresh_in_memory(name) } else { self.product.fresh(name) }
    }

    fn world(&self, name: &str) -> Result<World> {
        World::start(&self.product, &self.data(name), &[])
    }

    fn note_load(&mut self, part: &str) {
        let load = fs_err::read_to_string("/proc/loadavg").unwrap_or_default();
        self.notes.push(format!("{part}: load {}", load.split(' ').next().unwrap_or("unknown")));
    }

    fn reach(&mut self, what: &'static str, unit: Unit, seen: Vec<f64>, reach: f64, peer: &[f64]) {
        let peers = match (self.peer.get(what), peer) {
            (Some(seen), [reference]) => {
                vec![Peer::measured("openQA of Debian", seen.clone(), reach, *reference)]
            }
            _ => peer.iter().map(|peer| Peer::new("openQA (reference)", vec![*peer])).collect(),
        };
        self.figures.push(Figure::of(what, unit, seen, Some(reach), peers));
    }

    /// What the peer cannot do is held against something else that it did in the same run, and would have done in
    /// `reference` seconds on the machine of the reference.
    fn reach_by(&mut self, what: &'static str, seen: Vec<f64>, reach: f64, (other, reference): (&str, f64)) {
        let name = if other == OVERVIEW { "openQA's overview of 1,000" } else { "openQA's list of 1,000" };
        let peer = self.peer.get(other);
        let peer = peer.map(|seen| Peer::measured(name, seen.clone(), reach, reference));
        self.figures.push(Figure::of(
            what,
            Unit::Milliseconds,
            seen,
            Some(reach),
            peer.into_iter().collect(),
        ));
    }

    /// What the peer does, for the parts that come after.
    fn peer(&mut self) -> Result<()> {
        if !openqa::is_there() {
            let why = "openQA is not installed (apt-get install openqa): its figures are the reference's";
            self.notes.push(why.to_owned());
            return Ok(());
        }
        eprintln!("openQA: a catalog, and posts of products; some minutes");
        let peer = OpenQa::start(&self.data("openqa"))?;
        let (posts, lists) = peer.posts_and_lists()?;
        eprintln!("openQA: pages and jobs");
        let small = peer.overviews("b0")?;
        let [one, four] = peer.posted()?;
        let shown = peer.shown(1, SUITES * MACHINES)?;
        peer.end()?;
        self.peer.extend([
            (POST_PRODUCT, posts),
            (LIST, lists),
            (OVERVIEW, small),
            (POST_ONE, vec![one]),
            (POST_FOUR, vec![four]),
            (SHOW, vec![shown]),
        ]);
        Ok(())
    }

    /// A product of 1,000 jobs, and the list of so many.
    fn post(&mut self) -> Result<()> {
        let world = self.world("post")?;
        let (posts, lists) = world.posts_and_lists()?;
        self.reach(POST_PRODUCT, Unit::Milliseconds, posts, 0.1, &[8.3]);
        self.reach(LIST, Unit::Milliseconds, lists, 0.008, &[0.271]);
        world.end()?;
        Ok(())
    }

    fn jobs(&mut self) -> Result<()> {
        let world = self.world("jobs")?;
        let (middle, worst) = sync_times(&world.data)?;
        self.notes.push(format!(
            "a write of 4 KiB is on the disk after {:.2} ms (median of 50; worst {:.1} ms)",
            middle * 1e3,
            worst * 1e3
        ));
        let [one, four] = world.posted()?;
        self.reach(POST_ONE, Unit::PerSecond, vec![one], 1_500.0, &[110.0]);
        self.reach(POST_FOUR, Unit::PerSecond, vec![four], 3_000.0, &[156.0]);
        let shown = world.shown(1, SUITES * MACHINES)?;
        self.reach(SHOW, Unit::PerSecond, vec![shown], 10_000.0, &[305.0]);
        world.end()?;
        Ok(())
    }

    fn overview(&mut self) -> Result<()> {
        let world = self.world("overview")?;
        world.fill_catalog(FLAVORS)?;
        let mut client = world.client()?;
        post_product(&mut client, 0, "small")?;
        for flavor in 0..FLAVORS {
            post_product(&mut client, flavor, "large")?;
        }
        let (small, large) = (world.overviews("small")?, world.overviews("large")?);
        self.reach(OVERVIEW, Unit::Milliseconds, small, 0.01, &[0.325]);
        self.reach_by("overview of 10,000 jobs", large, 0.06, (OVERVIEW, 0.325));
        world.end()?;
        Ok(())
    }

    /// From the end of a job to the start of the next on the same slot, by the server's own records.
    fn slot(&mut self) -> Result<()> {
        let world = self.world("slot")?;
        let words = ["worker", "--name", "w", "--slots", "1", "--class", "relay"];
        let worker = start(&self.product, &world.data, "worker", &words)?;
        let alone = relay(&world, 1)?;
        world.post_waiting(UNRUNNABLE, "none")?;
        let crowded = relay(&world, 1 + RELAY + UNRUNNABLE)?;
        worker.end()?;
        world.end()?;
        self.reach("free slot to the next job's start", Unit::Milliseconds, alone, 0.02, &[20.0]);
        self.reach("the same with 5,000 unrunnable jobs", Unit::Milliseconds, crowded, 0.02, &[0.56]);
        Ok(())
    }

    /// The data directory with all the jobs, and its server's memory.
    fn crowd(&mut self) -> Result<Utf8PathBuf> {
        if let Some(data) = &self.crowded {
            return Ok(data.clone());
        }
        let world = self.world("crowd")?;
        let began = clock::now();
        world.post_waiting(WAITING, "crew")?;
        let took = began.elapsed().as_secs_f64();
        self.notes.push(format!("100,000 jobs were posted in {took:.1} s, {AT_ONCE} in a request"));
        let data = world.end()?;
        self.crowded = Some(data.clone());
        Ok(data)
    }

    fn start(&mut self) -> Result<()> {
        let data = self.crowd()?;
        let mut starts = Vec::new();
        for _ in 0..3 {
            let world = World::start(&self.product, &data, &[])?;
            starts.push(world.began.as_secs_f64());
            world.end()?;
        }
        self.reach("start with 100,000 waiting jobs", Unit::Seconds, starts, 2.0, &[]);
        Ok(())
    }

    fn fleet(&mut self) -> Result<()> {
        let data = self.crowd()?;
        let mut world = World::start(&self.product, &data, &[])?;
        let (count, jobs) = (WORKERS.to_string(), DONE.to_string());
        let words = ["staging", "workers", "--count", &count, "--class", "crew", "--jobs", &jobs];
        let mut command = self.product.command(&data, &words);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let crew = command.spawn().context("the workers did not start")?;
        // Looks while they work; what this costs is little beside what they do.
        let watched = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| crew.wait_with_output());
            let mut peak = 0;
            let mut pace = Pace::new(Duration::from_millis(500));
            while !waiting.is_finished() {
                peak = peak.max(world.tree.memory().0);
                pace.wait();
            }
            (waiting.join(), peak)
        });
        let (output, peak) = watched;
        let output = output.map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        let tally: Value = serde_json::from_slice(&output.stdout).context("the workers said nothing")?;
        let (jobs, took) = (tally["jobs"].as_f64(), tally["took_us"].as_f64());
        let each = took.context("no time")? / jobs.context("no jobs")? / 1e6;
        self.crowded = None;
        let what = "one decision of 1,000 workers and 100,000 jobs";
        self.reach_by(what, vec![each], 0.001, (LIST, 0.271));
        self.figures.push(Figure::worst(
            "memory of the server then",
            Unit::Megabytes,
            vec![peak as f64 / 1e6],
            400.0,
            Vec::new(),
        ));
        world.end()?;
        Ok(())
    }
}

/// Jobs one after the other; `first` is the number that the first of them gets.
fn relay(world: &World, first: usize) -> Result<Vec<f64>> {
    let mut client = world.client()?;
    let mut form = "DISTRI=bench&VERSION=1&BACKEND=dummy&WORKER_CLASS=relay".to_owned();
    for number in 0..RELAY {
        let _ = write!(form, "&TEST:{number}=r{number}");
    }
    client.post("/api/v1/jobs", &form)?;
    let mut pace = Pace::new(Duration::from_millis(200));
    let deadline = clock::now() + PATIENCE;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for id in first..first + RELAY {
        loop {
            let job: Value = serde_json::from_slice(&client.get(&format!("/api/assay/v1/jobs/{id}"))?)?;
            let time = |key: &str| job[key].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            if let (Some(started), Some(finished)) = (time("started"), time("finished")) {
                starts.push(started.as_microsecond());
                ends.push(finished.as_microsecond());
                break;
            }
            if clock::now() > deadline {
                bail!("job {id} does not end: {job}");
            }
            pace.wait();
        }
    }
    Ok(ends.iter().zip(&starts[1..]).map(|(end, start)| (start - end) as f64 / 1e6).collect())
}

/// How long it takes until 4 KiB are on the disk: the median of many, and the worst.
fn sync_times(dir: &Utf8Path) -> Result<(f64, f64)> {
    let path = dir.join("bench.sync");
    let mut file = fs_err::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = clock::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64());
    }
    fs_err::remove_file(&path)?;
    Ok((median(&times), times.iter().copied().fold(0.0, f64::max)))
}
