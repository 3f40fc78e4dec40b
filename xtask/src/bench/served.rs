//! What a server with openQA's API is asked by `cargo xtask bench product`: Assay and openQA the same.

use super::clock;
use super::http::Client;
use super::openqa::OpenQa;
use super::scheduling::World;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long requests are sent one after the other.
const RUSH: Duration = Duration::from_secs(4);
/// Jobs of a product: each suite on each machine.
pub(super) const SUITES: usize = 100;
pub(super) const MACHINES: usize = 10;
/// Products with so many jobs each.
pub(super) const FLAVORS: usize = 10;

/// A server with openQA's API.
pub(super) trait Served: Sync {
    /// Products that are posted.
    const POSTS: usize = 7;
    /// Times that a list or a page is looked at.
    const LOOKS: usize = 21;

    fn client(&self) -> Result<Client>;

    /// Machines, suites, products, and a group with a template for each of them: openQA takes minutes for ten products.
    fn fill_catalog(&self, flavors: usize) -> Result<()> {
        let mut client = self.client()?;
        for machine in 0..MACHINES {
            let form = format!(
                "name=m{machine}&backend=qemu&settings[QEMUCPU]=host&settings[QEMURAM]=2048&settings[WORKER_CLASS]=m{machine}"
            );
            client.post("/api/v1/machines", &form)?;
        }
        for suite in 0..SUITES {
            let form = format!(
                "name=s{suite}&settings[DESKTOP]=gnome&settings[HDD_1]=%25DISTRI%25-%25VERSION%25.qcow2&settings[EXTRATEST]=e{suite}"
            );
            client.post("/api/v1/test_suites", &form)?;
        }
        let mut yaml = "defaults:\n  x86_64:\n    machine: m0\n    priority: 50\nproducts:\n".to_owned();
        let mut scenarios = "scenarios:\n  x86_64:\n".to_owned();
        let machines: Vec<_> = (0..MACHINES).map(|machine| format!("m{machine}")).collect();
        for flavor in 0..flavors {
            let form = format!(
                "distri=bench&version=1&flavor=f{flavor}&arch=x86_64&settings[ISO_MAXSIZE]=4700000000&settings[GRUB]=quiet"
            );
            client.post("/api/v1/products", &form)?;
            let _ =
                write!(yaml, "  p{flavor}:\n    distri: bench\n    version: '1'\n    flavor: f{flavor}\n");
            let _ = writeln!(scenarios, "    p{flavor}:");
            for suite in 0..SUITES {
                let _ = write!(scenarios, "    - s{suite}:\n        machine: [{}]\n", machines.join(", "));
            }
        }
        let group = client.post("/api/v1/job_groups", "name=bench")?["id"].as_i64().context("no group")?;
        let form =
            format!("schema=JobTemplates-01.yaml&preview=0&template={}", escaped(&(yaml + &scenarios)));
        client.post(&format!("/api/v1/job_templates_scheduling/{group}"), &form)?;
        Ok(())
    }

    /// Answers within [`RUSH`], per second, of clients that each send one request after the other.
    fn rush(&self, clients: usize, ask: impl Fn(&mut Client, usize) -> Result<()> + Sync) -> Result<f64> {
        let count = AtomicUsize::new(0);
        let began = clock::now();
        let one = || -> Result<()> {
            let mut client = self.client()?;
            while began.elapsed() < RUSH {
                ask(&mut client, count.fetch_add(1, Ordering::Relaxed))?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            })
        })?;
        Ok(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
    }

    /// How long posts of 1,000 jobs take, and lists of those that wait.
    fn posts_and_lists(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        self.fill_catalog(1)?;
        let mut client = self.client()?;
        let mut posts = vec![post_product(&mut client, 0, "b0")?];
        let mut lists = Vec::new();
        for _ in 0..Self::LOOKS {
            let began = clock::now();
            let list = client.get("/api/v1/jobs?state=scheduled")?;
            lists.push(began.elapsed().as_secs_f64());
            let count = list.windows(10).filter(|at| at == b"\"settings\"").count();
            if count != SUITES * MACHINES {
                bail!("the list has {count} jobs");
            }
        }
        for post in 1..Self::POSTS {
            posts.push(post_product(&mut client, 0, &format!("b{post}"))?);
        }
        Ok((posts, lists))
    }

    /// Jobs posted in a second by one client and by four.
    fn posted(&self) -> Result<[f64; 2]> {
        let post = |client: &mut Client, number: usize| {
            let form = format!(
                "DISTRI=bench&VERSION=1&FLAVOR=f&ARCH=x86_64&BUILD=b&TEST=t{number}&MACHINE=m&WORKER_CLASS=none&\
                 QEMURAM=2048&ISO=bench.iso&DESKTOP=gnome"
            );
            client.post("/api/v1/jobs", &form).map(drop)
        };
        Ok([self.rush(1, post)?, self.rush(4, post)?])
    }

    /// Jobs shown in a second to four clients: some of `jobs`, the first of which has the number `first`.
    fn shown(&self, first: usize, jobs: usize) -> Result<f64> {
        self.rush(4, |client: &mut Client, number: usize| {
            client.get(&format!("/api/v1/jobs/{}", first + number * 7 % jobs)).map(drop)
        })
    }

    /// How long the overview of a build takes.
    fn overviews(&self, build: &str) -> Result<Vec<f64>> {
        let path = format!("/tests/overview?distri=bench&version=1&build={build}");
        let mut client = self.client()?;
        let look = || {
            let began = clock::now();
            client.get(&path)?;
            Ok(began.elapsed().as_secs_f64())
        };
        std::iter::repeat_with(look).take(Self::LOOKS).collect()
    }
}

impl Served for OpenQa {
    // A post takes it ten seconds.
    const POSTS: usize = 2;
    const LOOKS: usize = 5;

    fn client(&self) -> Result<Client> {
        self.client()
    }
}

impl Served for World {
    fn client(&self) -> Result<Client> {
        self.client()
    }
}

/// Posts one product; how long it took.
pub(super) fn post_product(client: &mut Client, flavor: usize, build: &str) -> Result<f64> {
    let form = format!("DISTRI=bench&VERSION=1&FLAVOR=f{flavor}&ARCH=x86_64&BUILD={build}");
    let began = clock::now();
    let answer = client.post("/api/v1/isos", &form)?;
    let took = began.elapsed().as_secs_f64();
    if answer["count"] != SUITES * MACHINES {
        bail!("the product made {} jobs", answer["count"]);
    }
    Ok(took)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
