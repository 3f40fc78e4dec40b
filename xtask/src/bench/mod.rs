//! `cargo xtask bench run`: the figures of docs/performance.md, measured here and now.

mod clock;
pub(crate) mod events;
mod figures;
pub(crate) mod gate;
mod grub;
mod http;
pub(crate) mod import;
mod isotovideo;
mod latency;
pub(crate) mod merge;
mod minimal;
mod monitor;
mod openqa;
mod proc;
mod product;
pub(crate) mod results;
pub(crate) mod scheduling;
mod scratch;
mod served;
mod server;
pub(crate) mod step;

use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use figures::{Figure, Peer, Unit};
use grub::Reference;
use isotovideo::{Pool, Setting};
use proc::{Cost, Tree};
use product::Product;
use server::Server;
use std::process::{Command, Stdio};

const PARTS: &[&str] = &["wall", "latency", "cost", "server", "jobs", "isotovideo"];
/// Jobs back to back.
const JOBS: usize = 5;
const JOBS_TURNS: usize = 3;

struct Options {
    json: bool,
    check: bool,
    runs: usize,
    parts: Vec<String>,
    assay: Option<Utf8PathBuf>,
    example: Utf8PathBuf,
    hold: u32,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            json: false,
            check: false,
            runs: 7,
            parts: PARTS.iter().map(|part| (*part).to_owned()).collect(),
            assay: None,
            example: "examples/grub".into(),
            hold: minimal::HOLD_MS,
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--runs" => options.runs = value()?.parse().context("--runs takes a number")?,
                "--only" => options.parts = value()?.split(',').map(ToOwned::to_owned).collect(),
                "--assay" => options.assay = Some(value()?.into()),
                "--example" => options.example = value()?.into(),
                "--hold" => options.hold = value()?.parse().context("--hold takes milliseconds")?,
                _ => bail!("unknown option {word}; see `cargo xtask help`"),
            }
        }
        if let Some(part) = options.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("unknown part {part}; there are {}", PARTS.join(", "));
        }
        if options.runs == 0 {
            bail!("--runs takes a number from 1");
        }
        // As given by whoever stands somewhere below the root, or as it stands in the repository.
        if !options.example.is_dir() {
            options.example = tools::root()?.join(&options.example);
        }
        options.example = options.example.canonicalize_utf8().context("the GRUB test")?;
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|wanted| wanted == part)
    }
}

/// `cargo xtask bench driver EXAMPLE HOLD`.
pub(crate) fn drive(example: &str, hold: &str) -> Result<()> {
    minimal::drive(Utf8Path::new(example), hold.parse()?)
}

/// `cargo xtask bench run`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let references = Reference::load_all(&options.example)?;
    let product = Product::new(options.assay.as_deref())?;
    let mut bench = Bench {
        options,
        references,
        product,
        figures: Vec::new(),
        notes: Vec::new(),
        failed: Vec::new(),
        peer: false,
    };
    bench.measure()?;
    bench.notes.extend(bench.failed.iter().cloned());
    if bench.options.json {
        println!("{}", figures::json(&bench.figures, &bench.notes)?);
    } else {
        print!("{}", figures::table(&bench.figures, &bench.notes));
    }
    if !bench.failed.is_empty() {
        bail!("{} parts could not be measured", bench.failed.len());
    }
    let missed: Vec<_> =
        bench.figures.iter().filter(|figure| !figure.reached()).map(|figure| figure.what).collect();
    if bench.options.check && !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// A part of the measurement.
type Measure = fn(&mut Bench) -> Result<()>;

struct Bench {
    options: Options,
    references: Vec<Reference>,
    product: Product,
    figures: Vec<Figure>,
    notes: Vec<String>,
    /// Parts that could not be measured, and why.
    failed: Vec<String>,
    /// isotovideo is wanted and starts.
    peer: bool,
}

impl Bench {
    fn measure(&mut self) -> Result<()> {
        if self.options.wants("isotovideo") {
            let missing = isotovideo::missing();
            self.peer = missing.is_none();
            self.notes.extend(missing);
        }
        eprintln!("warming up");
        self.product.run(&self.options.example, false)?;
        let parts: [(&str, Measure); 5] = [
            ("wall", Self::wall),
            ("latency", Self::latency),
            ("cost", Self::cost),
            ("server", Self::server),
            ("jobs", Self::jobs),
        ];
        for (part, measure) in parts {
            if self.options.wants(part)
                && let Err(error) = measure(self)
            {
                eprintln!("{part}: {error:#}");
                self.failed.push(format!("{part} was not measured: {error:#}"));
            }
        }
        Ok(())
    }

    /// The GRUB test end to end, in turns with the minimal driver.
    fn wall(&mut self) -> Result<()> {
        let (mut ours, mut minimal, mut lost) = (Vec::new(), Vec::new(), 0);
        while ours.len() < self.options.runs {
            eprintln!("wall: {} of {}", ours.len() + 1, self.options.runs);
            let cost = self.minimal()?;
            if cost.success {
                minimal.push(cost.wall.as_secs_f64());
            } else {
                lost += 1;
            }
            if lost > self.options.runs {
                bail!("the minimal driver does not reach the end of the test; see what it says above");
            }
            ours.push(self.product.run(&self.options.example, false)?.wall.as_secs_f64());
        }
        if lost > 0 {
            self.notes.push(format!("{lost} runs of the minimal driver failed and do not count"));
        }
        let mut peers = vec![Peer::new("minimal driver", minimal)];
        let reach = 1.25 * peers[0].seen;
        for setting in self.peer_settings() {
            let runs = self.options.runs.div_ceil(2);
            let seen = (0..runs).map(|_| Ok(self.isotovideo(setting, false)?.wall.as_secs_f64()));
            peers.push(Peer::new(setting.name(), seen.collect::<Result<_>>()?));
        }
        self.figures.push(Figure::of("GRUB test, wall", Unit::Seconds, ours, Some(reach), peers));
        Ok(())
    }

    fn latency(&mut self) -> Result<()> {
        let mut ours = Vec::new();
        for turn in 0..self.options.runs {
            eprintln!("latency: {} of {}", turn + 1, self.options.runs);
            ours.extend(self.product.delays(&self.options.example, &self.references)?);
        }
        let mut peers = Vec::new();
        for setting in self.peer_settings() {
            eprintln!("latency: {}", setting.name());
            let mut delays = Vec::new();
            for _ in 0..2 {
                delays.extend(self.isotovideo_delays(setting)?);
            }
            peers.push(Peer::mean(setting.name(), delays));
        }
        self.figures.push(Figure::mean(
            "screen shows -> call returns, mean",
            Unit::Milliseconds,
            ours,
            0.050,
            peers,
        ));
        Ok(())
    }

    fn cost(&mut self) -> Result<()> {
        let runs = self.options.runs.div_ceil(2);
        let (mut cpu, mut memory) = (Vec::new(), Vec::new());
        for turn in 0..runs {
            eprintln!("cost: {} of {runs}", turn + 1);
            let cost = self.product.run(&self.options.example, true)?;
            cpu.push(cost.cpu.as_secs_f64());
            memory.push(cost.peak_pss as f64 / 1e6);
        }
        let (mut cpu_peers, mut memory_peers) = (Vec::new(), Vec::new());
        for setting in self.peer_settings() {
            eprintln!("cost: {}", setting.name());
            let cost = self.isotovideo(setting, true)?;
            cpu_peers.push(Peer::new(setting.name(), vec![cost.cpu.as_secs_f64()]));
            memory_peers.push(Peer::new(setting.name(), vec![cost.peak_pss as f64 / 1e6]));
        }
        self.figures.push(Figure::of("CPU of all but QEMU", Unit::Seconds, cpu, Some(0.25), cpu_peers));
        self.figures.push(Figure::worst(
            "peak memory of all but QEMU",
            Unit::Megabytes,
            memory,
            60.0,
            memory_peers,
        ));
        Ok(())
    }

    fn server(&mut self) -> Result<()> {
        let (mut first_page, mut memory) = (Vec::new(), Vec::new());
        for turn in 0..self.options.runs.div_ceil(2) {
            eprintln!("server: {}", turn + 1);
            let mut server = Server::start(&self.product, &self.product.fresh("up"))?;
            first_page.push(server.first_page.as_secs_f64());
            let (bytes, processes) = server.idle_memory();
            memory.push(bytes as f64 / 1e6);
            if turn == 0 {
                self.notes.push(format!("`assay up` is {processes} processes when idle"));
            }
            server.end()?;
        }
        self.figures.push(Figure::of(
            "assay up to first page",
            Unit::Seconds,
            first_page,
            Some(0.5),
            Vec::new(),
        ));
        self.figures.push(Figure::worst(
            "idle memory of assay up",
            Unit::Megabytes,
            memory,
            40.0,
            Vec::new(),
        ));
        Ok(())
    }

    /// In turns with as many runs without a server, so that both meet the same machine.
    fn jobs(&mut self) -> Result<()> {
        let (mut took, mut runs) = (Vec::new(), Vec::new());
        for turn in 0..JOBS_TURNS {
            eprintln!("jobs: {} of {JOBS_TURNS}", turn + 1);
            for _ in 0..JOBS {
                runs.push(self.product.run(&self.options.example, false)?.wall.as_secs_f64());
            }
            let mut server = Server::start(&self.product, &self.product.data())?;
            took.push(server.jobs(&self.product, &self.options.example, JOBS)?.as_secs_f64());
            server.end()?;
        }
        let one = Peer::new("one assay run", runs);
        let reach = one.seen * JOBS as f64 + 1.0;
        self.figures.push(Figure::of(
            "5 GRUB jobs back to back",
            Unit::Seconds,
            took,
            Some(reach),
            vec![one],
        ));
        Ok(())
    }

    /// As a process of its own, so that it pays for its start as everybody does.
    fn minimal(&self) -> Result<Cost> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "driver", self.options.example.as_str(), &self.options.hold.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Tree::start(&mut command)?.wait()
    }

    fn peer_settings(&self) -> Vec<Setting> {
        if self.peer { vec![Setting::Default, Setting::Tuned] } else { Vec::new() }
    }

    fn isotovideo(&self, setting: Setting, watched: bool) -> Result<Cost> {
        let pool = Pool::new(&self.options.example, setting, None)?;
        let tree = Tree::start(&mut pool.command()?)?;
        let cost = if watched { tree.watch()? } else { tree.wait()? };
        pool.verify()?;
        Ok(cost)
    }

    fn isotovideo_delays(&self, setting: Setting) -> Result<Vec<f64>> {
        // The socket of the observer is known only inside, the log only with the pool: both in one place.
        let holder = scratch::Scratch::new()?;
        let log = holder.path("log");
        let mut pool = None;
        let (shown, lines) = latency::observe(&self.references, &log, |append| {
            let made = Pool::new(&self.options.example, setting, Some(append))?;
            fs_err::os::unix::fs::symlink(made.log(), &log)?;
            pool.insert(made).command()
        })?;
        pool.context("isotovideo did not start")?.verify()?;
        latency::delays(&shown, &latency::returned_by_isotovideo(&lines))
    }
}
