//! `cargo xtask bench results`: results posted and asked for, and decisions, by clients that keep their connections.
//!
//! The release program on a fresh data directory on a disk, all on loopback. The peer's figures are those of the
//! reference (fedora.md), measured with PostgreSQL on two cores of the same kind and not run again here: ResultsDB's server
//! is in no package registry. Where Debian's openQA is installed, it is the yardstick: a service of the same field and of the
//! same make whose figures on the machine of the reference are known, and which is measured in the same run.

use super::clock;
use super::figures::{self, Figure, Peer, Unit};
use super::http::Client;
use super::openqa::{self, OpenQa};
use super::product::Product;
use super::scheduling::World;
use super::served::Served as _;
use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long requests are sent one after the other.
const RUSH: Duration = Duration::from_secs(5);
const CLIENTS: usize = 4;
/// Results that are there when it is asked for some.
const COUNT: usize = 100_000;
/// So many are a store of years.
const MANY: usize = 10_000_000;
/// Results of an item.
const OF_ITEM: usize = 50;
/// Test cases that a decision requires.
const REQUIRED: usize = 50;
const DECISIONS: usize = 101;

/// Measures and prints; an error with `--check` if not everything is reached.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (mut json, mut check, mut count, mut stored, mut program) = (false, false, COUNT, 0, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match *word {
            "--json" => json = true,
            "--check" => check = true,
            "--count" => count = value()?.parse().context("--count needs a number")?,
            "--stored" => stored = value()?.parse().context("--stored needs a number")?,
            "--assay" => program = Some(Utf8PathBuf::from(value()?)),
            _ => bail!("unknown option {word}; see `cargo xtask help`"),
        }
    }
    let product = Product::new(program.as_deref())?;
    let data = product.fresh("results");
    fs_err::create_dir_all(&data)?;
    fs_err::write(data.join("policy.yaml"), policy())?;
    let config = data.join("bench.toml");
    fs_err::write(&config, "[results]\npolicies = \"policy.yaml\"\n")?;
    if stored > 0 {
        fill(&data, stored)?;
    }
    let yardstick = Yardstick::take(&product)?;
    let world = World::start(&product, &data, &["--config", config.as_str()])?;
    let measured = measure(&world, (stored, count), &yardstick);
    world.end()?;
    let figures = measured?;
    let load = fs_err::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut notes = vec![
        "peer: ResultsDB's reference figures on 2 cores with PostgreSQL, not run again here".to_owned(),
        format!(
            "{stored} results stored before, {count} posted, {OF_ITEM} of each item; load {}",
            load.split(' ').next().unwrap_or("unknown")
        ),
    ];
    if yardstick.0.is_none() {
        notes.push("openQA is not installed (apt-get install openqa): there is no yardstick".to_owned());
    }
    if json {
        println!("{}", figures::json(&figures, &notes)?);
    } else {
        print!("{}", figures::table(&figures, &notes));
    }
    if check && !figures.iter().all(Figure::reached) {
        bail!("not every figure is reached");
    }
    Ok(())
}

/// What is asked of a server.
#[derive(Clone, Copy)]
enum Kind {
    Post,
    Read,
}

/// What openQA does in a second for four clients: jobs posted, and jobs shown. Nothing where it is not installed.
struct Yardstick(Option<[f64; 2]>);

impl Yardstick {
    /// The same on the machine of the reference.
    const REFERENCE: [f64; 2] = [156.0, 305.0];

    fn take(product: &Product) -> Result<Self> {
        if !openqa::is_there() {
            return Ok(Self(None));
        }
        eprintln!("openQA, for a yardstick");
        let peer = OpenQa::start(&product.fresh("openqa"))?;
        let [_, posted] = peer.posted()?;
        let shown = peer.shown(1, 100)?;
        peer.end()?;
        Ok(Self(Some([posted, shown])))
    }

    /// As the peer of a rate; or of a time, by how long one of the four clients waits.
    fn peer(&self, kind: Kind, unit: Unit, reach: f64) -> Option<Peer> {
        let (name, index) = match kind {
            Kind::Post => ("openQA's POST of jobs", 0),
            Kind::Read => ("openQA's GET of jobs", 1),
        };
        let (seen, reference) = (self.0?[index], Self::REFERENCE[index]);
        let clients = CLIENTS as f64;
        Some(match unit {
            Unit::PerSecond => Peer::measured(name, vec![seen], reach, reference),
            _ => Peer::measured(name, vec![clients / seen], reach, clients / reference),
        })
    }
}

fn policy() -> String {
    let mut text = "--- !Policy\nid: bench\nproduct_versions: [bench-*]\ndecision_context: release\n\
                    subject_type: compose\nrules:\n"
        .to_owned();
    for number in 0..REQUIRED {
        let _ = writeln!(text, "  - !PassingTestCaseRule {{test_case_name: compose.t{number}}}");
    }
    text
}

/// As Fedora's reporter sends them; each item has each test case once.
fn result(number: usize) -> Value {
    let (item, test) = (number / OF_ITEM, number % OF_ITEM);
    json!({
        "outcome": if number.is_multiple_of(7) { "FAILED" } else { "PASSED" },
        "testcase": {"name": format!("compose.t{test}"), "ref_url": null},
        "groups": [{"uuid": "0f3309ea-6d4c-59b2-b422-d73e9b8511f3", "description": "source.bench"}],
        "note": "",
        "ref_url": format!("https://tests.example.org/tests/{number}"),
        "data": {
            "item": format!("Bench-1-{item}"), "type": "compose", "arch": "x86_64", "firmware": "uefi", "source": "bench",
            "scenario": format!("bench.dvd.x86_64.m{}", test % 4), "meta.conventions": "result",
        },
        "_auth_token": null,
    })
}

/// Stores results as posts would, but thousands in a transaction: ten million posts would take an hour.
fn fill(data: &Utf8Path, stored: usize) -> Result<()> {
    let (url, count, of_item) =
        (format!("sqlite:{}", data.join("assay.db")), stored.to_string(), OF_ITEM.to_string());
    eprintln!("storing {stored} results");
    let build =
        ["run", "--release", "--quiet", "--package", "assay-store", "--example", "many_results", "--"];
    tools::succeed(tools::cargo()?.args(build).args([&url, &count, &of_item]))
}

/// Requests per second, and the time that 99 of 100 took at most.
fn rush(
    world: &World,
    until: impl Fn(usize, Duration) -> bool + Sync,
    ask: impl Fn(&mut Client, usize) -> Result<()> + Sync,
) -> Result<(f64, f64)> {
    let count = AtomicUsize::new(0);
    let times = Mutex::new(Vec::new());
    let began = clock::now();
    let one = || -> Result<()> {
        let mut client = world.client()?;
        let mut mine = Vec::new();
        loop {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if until(number, began.elapsed()) {
                break;
            }
            let sent = clock::now();
            ask(&mut client, number)?;
            mine.push(sent.elapsed().as_secs_f64());
        }
        times.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?.extend(mine);
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        })
    })?;
    let took = began.elapsed().as_secs_f64();
    let mut times = times.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    times.sort_by(f64::total_cmp);
    let worst = times.get(times.len() * 99 / 100).copied().unwrap_or(0.0);
    Ok((times.len() as f64 / took, worst))
}

/// Measures a server that has so many results and is posted more.
fn measure(world: &World, (stored, count): (usize, usize), yardstick: &Yardstick) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |what, unit, seen: Vec<f64>, reach: f64, (kind, peer): (Kind, &[f64])| {
        let reference = peer.iter().map(|peer| Peer::new("ResultsDB (reference)", vec![*peer]));
        let peers = reference.chain(yardstick.peer(kind, unit, reach)).collect();
        figures.push(Figure::of(what, unit, seen, Some(reach), peers));
    };
    // The reach is another one for ten million.
    let many = stored >= MANY;
    let post = |client: &mut Client, number: usize| {
        client.post_json("/api/v2.0/results", &result(stored + number)).map(drop)
    };
    let (rate, worst) = rush(world, |number, _| number >= count, post)?;
    add("results posted, 4 clients", Unit::PerSecond, vec![rate], 3_000.0, (Kind::Post, &[125.0]));
    add("99 of 100 posts take at most", Unit::Milliseconds, vec![worst], 0.010, (Kind::Post, &[0.059]));
    let items = ((stored + count) / OF_ITEM).max(1);
    let over = |_: usize, took: Duration| took >= RUSH;
    let item = |number: usize| number * 7919 % items;
    let get = |path: &(dyn Fn(usize) -> String + Sync)| {
        rush(world, over, |client, number| client.get(&path(number)).map(drop)).map(|(rate, _)| rate)
    };
    let by_item =
        get(&|number| format!("/api/v2.0/results?item=Bench-1-{}&type=compose&limit=1", item(number)))?;
    add(
        "results by item and type",
        Unit::PerSecond,
        vec![by_item],
        if many { 3_000.0 } else { 5_000.0 },
        (Kind::Read, &[122.0]),
    );
    let latest = get(&|number| {
        format!(
            "/api/v2.0/results/latest?item=Bench-1-{}&type=compose&testcases=compose.t{}\
             &_distinct_on=scenario,system_architecture,system_variant",
            item(number),
            number % OF_ITEM
        )
    })?;
    add("latest with _distinct_on", Unit::PerSecond, vec![latest], 4_000.0, (Kind::Read, &[165.0]));
    let page = get(&|number| format!("/api/v2.0/results?page={}", number % 50))?;
    add("page of 20", Unit::PerSecond, vec![page], 3_000.0, (Kind::Read, &[54.0]));
    let mut client = world.client()?;
    let mut decisions = Vec::new();
    for number in 0..DECISIONS {
        let ask = json!({
            "product_version": "bench-1", "decision_context": "release", "subject_type": "compose",
            "subject_identifier": format!("Bench-1-{}", item(number)),
        });
        let began = clock::now();
        let decision = client.post_json("/api/v1.0/decision", &ask)?;
        decisions.push(began.elapsed().as_secs_f64());
        let lists = ["satisfied_requirements", "unsatisfied_requirements"];
        let seen: usize = lists.iter().filter_map(|list| decision[*list].as_array()).map(Vec::len).sum();
        if seen < REQUIRED {
            bail!("the decision has {seen} requirements");
        }
    }
    add("a decision over 50 tests", Unit::Milliseconds, decisions, 0.005, (Kind::Read, &[]));
    Ok(figures)
}
