//! The direction of the workspace: which crate may depend on which.

use crate::tools;
use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A crate, what it may depend on of ours, and why not on more.
struct Rule {
    name: &'static str,
    may: &'static [&'static str],
    why: &'static str,
}

const ENGINE: &str = "assay-engine";
const FORMATS: &str = "assay-formats";
const SIMULATE: &str = "assay-simulate";
const PROTO: &str = "assay-proto";
const RECORDS: &str = "assay-records";
const STORE: &str = "assay-store";
const CONNECT: &str = "assay-connect";
const SCREEN: &str = "assay-screen";
const VM: &str = "assay-vm";
const SCRIPT: &str = "assay-script";
const WORKER: &str = "assay-worker";
const SERVER: &str = "assay-server";
const FAKES: &str = "assay-fakes";
const GIT: &str = "assay-git";

const RULES: &[Rule] = &[
    Rule { name: ENGINE, may: &[], why: "engine is pure and knows nothing of ours" },
    Rule { name: SCREEN, may: &[], why: "screen is pure and knows nothing of ours" },
    Rule { name: RECORDS, may: &[], why: "records is pure and knows nothing of ours" },
    Rule { name: FORMATS, may: &[ENGINE], why: "formats turns text into the engine's configuration" },
    Rule {
        name: SIMULATE,
        may: &[ENGINE, FORMATS],
        why: "simulate plays the whole world around the engine, without any of it",
    },
    Rule { name: PROTO, may: &[ENGINE, RECORDS], why: "proto carries the words of engine and records" },
    Rule { name: STORE, may: &[ENGINE, PROTO, RECORDS], why: "store keeps what others decide" },
    Rule { name: CONNECT, may: &[ENGINE, PROTO, RECORDS], why: "connect talks to outside systems only" },
    Rule { name: GIT, may: &[], why: "git knows repositories and nothing of what is gated" },
    Rule { name: VM, may: &[SCREEN], why: "vm drives machines and knows no tests" },
    Rule { name: SCRIPT, may: &[PROTO], why: "script asks its host for everything by the driver protocol" },
    Rule {
        name: WORKER,
        // Headers and results of tasks are read, and what they look at is fetched.
        may: &[VM, SCRIPT, RECORDS, PROTO, ENGINE, SCREEN, GIT, FORMATS, CONNECT],
        why: "the worker never links the store: it reaches the server by the worker protocol",
    },
    Rule {
        name: SERVER,
        may: &[STORE, CONNECT, FORMATS, RECORDS, ENGINE, PROTO, GIT, SCREEN],
        why: "the server runs no machine and no test",
    },
    Rule { name: FAKES, may: &[PROTO, ENGINE], why: "fakes speak the protocols and nothing else" },
    Rule {
        name: "assay",
        may: &[
            ENGINE, FORMATS, PROTO, RECORDS, STORE, CONNECT, SCREEN, VM, SCRIPT, WORKER, SERVER, FAKES,
            SIMULATE, GIT,
        ],
        why: "the binary holds everything together",
    },
    Rule {
        name: "xtask",
        may: &[ENGINE, FORMATS, GIT],
        why: "chores must build when the product does not; decisions and merges are measured in process",
    },
];

/// The one crate that may use everything: it tests the whole.
const END_TO_END: &str = "assay-tests";

/// Crates that decide or compute only; what they never link, tests apart.
const PURE: &[&str] = &[ENGINE, FORMATS, SIMULATE, SCREEN, RECORDS];
const IMPURE: &[&str] = &["tokio", "sqlx", "reqwest", "hyper", "axum", "fs-err", "async-std", "smol"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing.
    kind: Option<String>,
}

/// `cargo xtask check-deps`.
pub(crate) fn run() -> Result<()> {
    let mut cargo = tools::cargo()?;
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Metadata = serde_json::from_str(&tools::output(&mut cargo)?).context("cargo metadata")?;
    let wrong = check(&metadata.packages);
    if wrong.is_empty() {
        println!("check-deps: {} crates, no forbidden edge", metadata.packages.len());
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// One sentence for each forbidden edge.
fn check(packages: &[Package]) -> Vec<String> {
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| package.name != END_TO_END) {
        let name = package.name.as_str();
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            wrong.push(format!(
                "{name}: has no rule yet; add one to xtask/src/check_deps.rs, as the design says"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(sentence) = forbidden(rule, dependency, &ours) {
                wrong.push(sentence);
            }
        }
    }
    wrong
}

fn forbidden(rule: &Rule, dependency: &Dependency, ours: &[&str]) -> Option<String> {
    let to = dependency.name.as_str();
    let only_tests = dependency.kind.as_deref() == Some("dev");
    if ours.contains(&to) {
        // Unit tests of any crate that talks to others may use the fakes.
        let fake = only_tests && to == FAKES && !PURE.contains(&rule.name);
        // What formats write for workers is read back as workers read it.
        let wire = only_tests && rule.name == FORMATS && to == PROTO;
        if rule.may.contains(&to) || fake || wire {
            return None;
        }
        let may = if rule.may.is_empty() { "none of ours".to_owned() } else { rule.may.join(", ") };
        return Some(format!("{} -> {to} is forbidden: {} (allowed: {may})", rule.name, rule.why));
    }
    let impure = IMPURE
        .iter()
        .any(|name| to == *name || to.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')));
    (PURE.contains(&rule.name) && impure && !only_tests).then(|| {
        format!(
            "{} -> {to} is forbidden: {} is pure, without I/O and without a runtime",
            rule.name, rule.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(ToOwned::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    /// What is said about one crate among all of ours.
    fn said(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let mut all: Vec<_> = RULES.iter().filter(|r| r.name != name).map(|r| package(r.name, &[])).collect();
        all.push(package(name, dependencies));
        check(&all)
    }

    #[test]
    fn allowed_edges_pass() {
        assert_eq!(said("assay-proto", &[(ENGINE, None), (RECORDS, None), ("serde", None)]), [""; 0]);
        assert_eq!(said("assay", &[(STORE, None), (WORKER, None), ("tokio", None)]), [""; 0]);
        assert_eq!(said(END_TO_END, &[(STORE, Some("dev")), (VM, None)]), [""; 0]);
    }

    #[test]
    fn a_forbidden_edge_names_crate_edge_and_rule() {
        let said = said(WORKER, &[(VM, None), (STORE, None)]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("assay-worker -> assay-store is forbidden: the worker never links"),
            "{}",
            said[0]
        );
        assert!(said[0].contains("allowed: assay-vm"), "{}", said[0]);
    }

    #[test]
    fn build_and_dev_edges_count_too() {
        assert_eq!(said(SCREEN, &[(RECORDS, Some("build"))]).len(), 1);
        assert_eq!(said(SCREEN, &[(RECORDS, Some("dev"))]).len(), 1);
        assert_eq!(said(SERVER, &[(FAKES, Some("dev"))]), [""; 0]);
        assert_eq!(said(FORMATS, &[(PROTO, Some("dev"))]), [""; 0]);
        assert_eq!(said(FORMATS, &[(PROTO, None)]).len(), 1);
        assert_eq!(said(SERVER, &[(FAKES, None)]).len(), 1);
        assert_eq!(said(ENGINE, &[(FAKES, Some("dev"))]).len(), 1);
    }

    #[test]
    fn pure_crates_have_no_runtime() {
        for name in ["tokio", "tokio-util", "sqlx", "reqwest", "fs-err"] {
            assert_eq!(said(ENGINE, &[(name, None)]).len(), 1, "{name}");
            assert_eq!(said(STORE, &[(name, None)]), [""; 0], "{name}");
        }
        assert_eq!(said(ENGINE, &[("tokio", Some("dev")), ("tokioid", None)]), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_rule_is_refused() {
        assert!(said("assay-new", &[])[0].starts_with("assay-new: has no rule"));
    }

    /// The table itself must not lead from the worker to the store by a detour.
    #[test]
    fn the_table_keeps_the_worker_from_the_store() {
        let mut reach = vec![WORKER];
        let mut at = 0;
        while at < reach.len() {
            let rule = RULES.iter().find(|rule| rule.name == reach[at]).unwrap();
            let new: Vec<_> = rule.may.iter().filter(|to| !reach.contains(to)).copied().collect();
            reach.extend(new);
            at += 1;
        }
        assert!(!reach.contains(&STORE) && reach.contains(&ENGINE), "{reach:?}");
    }
}
