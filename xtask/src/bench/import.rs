//! `cargo xtask bench import`: `assay import zuul` as a program, from its start to its end.

#[path = "../../../crates/formats/tests/synthetic/mod.rs"]
mod synthetic;

use super::clock;
use super::figures::{self, Figure, Peer, Unit};
use super::product::Product;
use crate::tools;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::process::Stdio;

/// Where the real layout is, seen from the repository; it is no part of it.
const REAL: &str = "../shared/data/openstack-2014/layout.yaml";
const REACH_REAL: f64 = 0.05;
const PROJECTS: usize = 10_000;
const REACH_LARGE: f64 = 0.3;

struct Options {
    json: bool,
    check: bool,
    runs: usize,
    assay: Option<Utf8PathBuf>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { json: false, check: false, runs: 11, assay: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--runs" => options.runs = value()?.parse().context("--runs takes a number")?,
                "--assay" => options.assay = Some((*value()?).into()),
                _ => bail!("unknown option {word}; see `cargo xtask help`"),
            }
        }
        if options.runs == 0 {
            bail!("--runs takes a number from 1");
        }
        Ok(options)
    }
}

/// `cargo xtask bench import`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let product = Product::new(options.assay.as_deref())?;
    let mut seen = Vec::new();
    let mut notes = vec!["the peers' figures are quoted from zuul.md §8.2, not measured here".to_owned()];
    let real = tools::root()?.join(REAL);
    if real.is_file() {
        let samples = times(&product, &real, options.runs)?;
        let peers = vec![Peer::new("zuul 2.6 (reference)", vec![0.7])];
        seen.push(Figure::of(
            "import of the 2014 layout",
            Unit::Milliseconds,
            samples,
            Some(REACH_REAL),
            peers,
        ));
    } else if std::env::var_os("CI").is_some() {
        bail!("{real} is not there; it is needed where CI is set");
    } else {
        notes.push(format!("{real} is not there: the 2014 layout was left out"));
    }
    let text = synthetic::layout(PROJECTS);
    notes.push(format!("ten thousand projects are {} KB of layout", text.len() / 1000));
    let large = product.fresh("layout.yaml");
    fs_err::write(&large, text)?;
    let samples = times(&product, &large, options.runs)?;
    let peers = vec![Peer::new("zuul 2.6, 1,638 projects (reference)", vec![6.5])];
    seen.push(Figure::of(
        "import of ten thousand projects",
        Unit::Milliseconds,
        samples,
        Some(REACH_LARGE),
        peers,
    ));
    if options.json {
        println!("{}", figures::json(&seen, &notes)?);
    } else {
        print!("{}", figures::table(&seen, &notes));
    }
    if options.check && !seen.iter().all(Figure::reached) {
        bail!("not every figure is reached");
    }
    Ok(())
}

/// Seconds from the start of the program to its end, after one run that warms the caches.
fn times(product: &Product, layout: &Utf8Path, runs: usize) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for run in 0..=runs {
        let mut command = product.command(&product.data(), &["import", "zuul", layout.as_str()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let began = clock::now();
        if !command.status().context("the program did not start")?.success() {
            bail!("{command:?} failed");
        }
        if run > 0 {
            samples.push(began.elapsed().as_secs_f64());
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let options = Options::parse(&["--json", "--runs", "3", "--assay", "x"]).expect("options");
        assert!(options.json && !options.check && options.runs == 3 && options.assay.is_some());
        assert!(Options::parse(&["--runs", "0"]).is_err() && Options::parse(&["--what"]).is_err());
    }
}
