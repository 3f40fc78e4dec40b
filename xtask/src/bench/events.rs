//! `cargo xtask bench events`: AMQP → stored → matched by 500 rules → jobs made.
//!
//! Two runs on a RabbitMQ of our own. *Undisturbed*: the queue is filled while no server runs, then the release program
//! empties it; the figure is events by the seconds from its start until the last job is there. *Proof*: messages are
//! published one by one, each confirmed by the broker and written down, while the server and the broker are killed again
//! and again. Then the first thousand are published once more, and after them one that is new: queues keep their order, so
//! when that one has its job, nothing that was published before is still on its way. Then every confirmed number must have
//! exactly one job, and there must be no other job.

use super::figures::{self, Figure, Unit};
use super::http::Client;
use super::product::Product;
use super::scheduling::World;
use super::{clock, clock::Pace};
use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(30);
const RULES: usize = 500;

struct Options {
    json: bool,
    check: bool,
    assay: Option<Utf8PathBuf>,
    undisturbed: usize,
    events: usize,
    kills: usize,
    broker_kills: usize,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            json: false,
            check: false,
            assay: None,
            undisturbed: 20_000,
            events: 100_000,
            kills: 20,
            broker_kills: 5,
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--assay" => options.assay = Some(value()?.into()),
                "--undisturbed" => {
                    options.undisturbed = value()?.parse().context("--undisturbed takes a number")?;
                }
                "--events" => options.events = value()?.parse().context("--events takes a number")?,
                "--kills" => options.kills = value()?.parse().context("--kills takes a number")?,
                "--broker-kills" => {
                    options.broker_kills = value()?.parse().context("--broker-kills takes a number")?;
                }
                _ => bail!("unknown option {word}; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }
}

/// A RabbitMQ of our own; stopped with it.
struct Broker {
    dir: Utf8PathBuf,
    url: String,
}

impl Broker {
    fn script(arguments: &[&str]) -> Result<String> {
        let script = tools::root()?.join("scripts/rabbitmq-for-tests");
        let output = Command::new(script).args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("scripts/rabbitmq-for-tests {} ended with {}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn start(dir: Utf8PathBuf) -> Result<Self> {
        let url = Self::script(&["start", dir.as_str()])?;
        Ok(Self { dir, url })
    }

    fn crash(&self) -> Result<()> {
        Self::script(&["kill", self.dir.as_str()])?;
        Self::script(&["start", self.dir.as_str()]).map(drop)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = Self::script(&["stop", self.dir.as_str()]) {
            eprintln!("the broker is not stopped: {error:#}");
        }
    }
}

/// `assay server` with the rules and the queue.
struct Server {
    world: World,
    client: Client,
}

impl Server {
    fn start(product: &Product, data: &Utf8Path, config: &Utf8Path) -> Result<Self> {
        let world = World::start(product, data, &["--config", config.as_str()])?;
        let client = world.client()?;
        Ok(Self { world, client })
    }

    fn get(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.client.get(&format!("/api/assay/v1/{path}"))?)?)
    }

    /// Effects of all rules together.
    fn effects(&mut self) -> Result<usize> {
        let rules = self.get("rules")?;
        let counts =
            rules["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["effects"].as_u64());
        Ok(counts.sum::<u64>() as usize)
    }

    /// The number of the newest job: there are no others than those of events.
    fn jobs(&mut self) -> Result<usize> {
        Ok(self.get("jobs?limit=1")?["jobs"][0]["id"].as_u64().unwrap_or(0) as usize)
    }

    fn kill(self) {
        self.world.kill();
    }
}

fn configure(dir: &Utf8Path, broker: &Broker) -> Result<Utf8PathBuf> {
    fs_err::create_dir_all(dir)?;
    let mut rules = "rules:\n".to_owned();
    for number in 0..RULES {
        writeln!(
            rules,
            "  - name: r{number}\n    when: {{topic: 'org.bench.build.{number}', body.state: done, body.rule: {number}}}\n    \
             item: {{type: koji_build, id: '{{body.nvr}}', revision: '{{body.id}}'}}\n    \
             run: {{job: {{TEST: check, NVR: '{{body.nvr}}', WORKER_CLASS: nobody}}}}"
        )?;
    }
    fs_err::write(dir.join("rules.yaml"), rules)?;
    let config = dir.join("assay.toml");
    let text = format!(
        "[events]\nrules = \"rules.yaml\"\n[source.bench]\ndriver = \"amqp\"\nurl = {:?}\nqueue = \"bench\"\nbindings = [\"org.bench.#\"]\n",
        broker.url
    );
    fs_err::write(&config, text)?;
    Ok(config)
}

/// Messages that are published once more at the end of the proof.
const AGAIN: usize = 1_000;

fn publish(broker: &Broker, first: usize, count: usize, confirmed: &Utf8Path) -> Result<Child> {
    let root = tools::root()?;
    let programs = Command::new(root.join("scripts/python-for-tests")).stderr(Stdio::inherit()).output()?;
    let python = format!("{}/python", String::from_utf8(programs.stdout)?.trim());
    let mut command = Command::new(python);
    command.arg(root.join("xtask/src/bench/events.py")).args([
        &broker.url,
        &first.to_string(),
        &count.to_string(),
        confirmed.as_str(),
    ]);
    Ok(command.stdin(Stdio::null()).spawn()?)
}

fn lines(file: &Utf8Path) -> usize {
    fs_err::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// Waits until `is_so`, and says what else.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = clock::now() + PATIENCE;
    let mut pace = Pace::new(Duration::from_millis(20));
    while !is_so()? {
        if clock::now() > deadline {
            bail!("in vain: {what}");
        }
        pace.wait();
    }
    Ok(())
}

fn undisturbed(product: &Product, broker: &Broker, count: usize) -> Result<f64> {
    let dir = product.fresh("events");
    let config = configure(&dir, broker)?;
    let mut server = Server::start(product, &dir.join("data"), &config)?;
    until("the queue is there", || Ok(server.get("sources")?["sources"][0]["doing"] == "consuming"))?;
    server.kill();
    let mut publisher = publish(broker, 0, count, &dir.join("confirmed"))?;
    if !publisher.wait()?.success() {
        bail!("the publisher failed");
    }
    let began = clock::now();
    let mut server = Server::start(product, &dir.join("data"), &config)?;
    until("all jobs are made", || Ok(server.jobs()? >= count))?;
    let took = began.elapsed();
    server.kill();
    Ok(count as f64 / took.as_secs_f64())
}

/// Numbers that were confirmed, and how many jobs each has. Redelivered messages go back to the head of the queue, so that
/// the last one published is the last one to be stored.
fn proof(product: &Product, broker: &Broker, options: &Options) -> Result<String> {
    let dir = product.fresh("proof");
    let (config, data, confirmed) = (configure(&dir, broker)?, dir.join("data"), dir.join("confirmed"));
    let mut server = Server::start(product, &data, &config)?;
    until("the queue is there", || Ok(server.get("sources")?["sources"][0]["doing"] == "consuming"))?;
    let mut publisher = publish(broker, 0, options.events, &confirmed)?;
    let (mut kills, mut crashes) = (0, 0);
    while publisher.try_wait()?.is_none() {
        let published = lines(&confirmed);
        if kills < options.kills && published > (kills + 1) * options.events / (options.kills + 1) {
            server.kill();
            kills += 1;
            server = Server::start(product, &data, &config)?;
        }
        if crashes < options.broker_kills
            && published > (2 * crashes + 1) * options.events / (2 * options.broker_kills + 1)
        {
            broker.crash()?;
            crashes += 1;
        }
        clock::sleep(Duration::from_millis(20));
    }
    let wanted = lines(&confirmed);
    if wanted != options.events || kills != options.kills || crashes != options.broker_kills {
        bail!("{wanted} confirmed of {}, {kills} and {crashes} kills: this proves nothing", options.events);
    }
    until("every effect is planned", || Ok(server.effects()? >= wanted))?;
    until("every job is made", || Ok(server.jobs()? >= wanted))?;
    // The first ones once more, and then one that is new: when that has its job, nothing is on its way any more that could
    // make a second one of another's.
    for (first, count) in [(0, wanted.min(AGAIN)), (wanted, 1)] {
        if !publish(broker, first, count, &dir.join("again"))?.wait()?.success() {
            bail!("the publisher failed");
        }
    }
    let wanted = wanted + 1;
    until("the last effect is planned", || Ok(server.effects()? >= wanted))?;
    until("the last job is made", || Ok(server.jobs()? >= wanted))?;
    let (mut jobs, mut before) = (BTreeMap::<String, usize>::new(), String::new());
    loop {
        let page = server.get(&format!("jobs?limit=500{before}"))?;
        for job in page["jobs"].as_array().into_iter().flatten() {
            let setting = &job["settings"]["NVR"];
            let nvr = setting["value"].as_str().or_else(|| setting.as_str()).unwrap_or_default();
            *jobs.entry(nvr.to_owned()).or_default() += 1;
        }
        match page["next_before"].as_u64() {
            Some(number) => before = format!("&before={number}"),
            None => break,
        }
    }
    server.kill();
    let lost = (0..wanted).filter(|number| !jobs.contains_key(&format!("p-1-{number}"))).count();
    let doubled = jobs.values().filter(|count| **count > 1).count();
    let foreign = jobs.len() + lost - wanted;
    let text = format!(
        "{wanted} events confirmed, {kills} kills of the server, {crashes} of the broker: {lost} lost, {doubled} done twice, {foreign} from nowhere"
    );
    if lost + doubled + foreign > 0 {
        bail!(text);
    }
    Ok(text)
}

/// Measures and prints; an error if an event was lost or doubled, and with `--check` if the rate is not reached.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let product = Product::new(options.assay.as_deref())?;
    let (mut list, mut notes) = (Vec::new(), Vec::new());
    if options.undisturbed > 0 {
        let broker = Broker::start(product.fresh("rabbitmq"))?;
        let rate = undisturbed(&product, &broker, options.undisturbed)?;
        let what = "events: AMQP → stored → 500 rules → jobs made";
        list.push(Figure::of(what, Unit::PerSecond, vec![rate], Some(2_000.0), Vec::new()));
    }
    if options.events > 0 {
        let broker = Broker::start(product.fresh("rabbitmq"))?;
        notes.push(proof(&product, &broker, &options)?);
    }
    if options.json {
        println!("{}", figures::json(&list, &notes)?);
    } else {
        print!("{}", figures::table(&list, &notes));
    }
    let missed: Vec<_> = list.iter().filter(|figure| !figure.reached()).map(|figure| figure.what).collect();
    if options.check && !missed.is_empty() {
        bail!("not reached: {}", missed.join(", "));
    }
    Ok(())
}
