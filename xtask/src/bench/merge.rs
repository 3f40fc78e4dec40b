//! `cargo xtask bench merge`: one speculative merge in a large repository, against a merge in a work tree.

use super::figures::{self, Figure, Peer, Unit};
use super::{clock, scratch::Scratch};
use anyhow::{Context, Result, bail};
use assay_git::{
    CommitId, GerritType, Message, Mode, ProjectName, Refspec, Remote, Repos, Signature, State, ToMerge,
};
use camino::Utf8Path;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const FILES: usize = 50_000;
const COMMITS: usize = 10_000;
const LINES: usize = 30;
/// Changes begin this many commits before the tip at most.
const BEHIND: usize = 50;
const LIMIT: Duration = Duration::from_mins(10);
const REACH: f64 = 0.015;

struct Options {
    json: bool,
    check: bool,
    changes: usize,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { json: false, check: false, changes: 100 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--changes" => {
                    let number = words.next().context("--changes needs a value")?;
                    options.changes = number.parse().context("--changes takes a number")?;
                }
                _ => bail!("unknown option {word}; see `cargo xtask help`"),
            }
        }
        if options.changes == 0 {
            bail!("--changes takes a number from 1");
        }
        Ok(options)
    }
}

/// The same numbers on every machine (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

fn path(file: usize) -> String {
    format!("part{}/module{}/file{file}.txt", file % 20, (file / 20) % 50)
}

/// A file's text; `changed`: a line and what it says.
fn text(file: usize, changed: &[(usize, usize)]) -> String {
    let line = |line| {
        let version = changed.iter().find(|(at, _)| *at == line).map_or(0, |(_, version)| *version);
        format!("line {line} of file {file} says {version}")
    };
    (0..LINES).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// What `git fast-import` makes the repository of.
fn generate(mut to: impl Write, changes: usize) -> std::io::Result<()> {
    let mut dice = Dice(1);
    let mut mark = 0;
    let mut begin = |to: &mut dyn Write, reference: &str, from: Option<usize>| -> std::io::Result<usize> {
        mark += 1;
        write!(to, "commit {reference}\nmark :{mark}\n")?;
        write!(to, "committer Bench <bench@example.com> {} +0000\ndata 6\ncommit\n", 1_300_000_000 + mark)?;
        if let Some(from) = from {
            writeln!(to, "from :{from}")?;
        }
        Ok(mark)
    };
    let put = |to: &mut dyn Write, file: usize, text: &str| {
        write!(to, "M 100644 inline {}\ndata {}\n{text}\n", path(file), text.len())
    };
    let mut tip = begin(&mut to, "refs/heads/master", None)?;
    for file in 0..FILES {
        put(&mut to, file, &text(file, &[]))?;
    }
    // The first half of a file belongs to the branch, the second to the changes.
    for commit in 1..COMMITS {
        tip = begin(&mut to, "refs/heads/master", Some(tip))?;
        let file = dice.below(FILES);
        put(&mut to, file, &text(file, &[(commit % (LINES / 2), commit)]))?;
    }
    for change in 1..=changes {
        let from = tip - dice.below(BEHIND);
        begin(&mut to, &format!("refs/changes/{change}"), Some(from))?;
        for _ in 0..3 {
            let file = dice.below(FILES);
            put(&mut to, file, &text(file, &[(LINES - 1, change)]))?;
        }
    }
    to.flush()
}

fn git(dir: &Utf8Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        command.env(name, "bench");
    }
    command.stdin(Stdio::null());
    command
}

fn done(command: &mut Command) -> Result<bool> {
    let output = command.output().context("git did not start")?;
    Ok(output.status.success())
}

fn must(command: &mut Command) -> Result<String> {
    let output = command.output().context("git did not start")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

struct Large {
    scratch: Scratch,
    repos: Repos,
    project: ProjectName,
    tip: CommitId,
    changes: Vec<CommitId>,
}

impl Large {
    fn make(count: usize) -> Result<Self> {
        let scratch = Scratch::new()?;
        let upstream = scratch.path("upstream.git");
        fs_err::create_dir_all(&upstream)?;
        must(git(&upstream).args(["init", "-q", "--bare", "-b", "master", "."]))?;
        eprintln!("a repository of {FILES} files and {COMMITS} commits");
        let mut import = git(&upstream)
            .args(["fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .context("git did not start")?;
        generate(BufWriter::new(import.stdin.take().context("a pipe")?), count)?;
        if !import.wait()?.success() {
            bail!("git fast-import failed");
        }
        let repos = Repos::open(&scratch.path("repos"))?;
        let project: ProjectName = "large".parse()?;
        repos.add(&project, Remote::new(upstream.as_str()))?;
        eprintln!("fetched");
        repos.fetch(&project, &[Refspec::branches(), Refspec::parse("refs/changes/*")?], LIMIT)?;
        let id =
            |name: &str| -> Result<CommitId> { Ok(must(git(&upstream).args(["rev-parse", name]))?.parse()?) };
        let tip = id("refs/heads/master")?;
        let changes = (1..=count).map(|n| id(&format!("refs/changes/{n}"))).collect::<Result<_>>()?;
        Ok(Self { scratch, repos, project, tip, changes })
    }

    /// A queue: every change on the state of the one before. Seconds for each merge with its reference.
    fn queue(&self, mode: Mode) -> Result<Vec<f64>> {
        let branch: assay_git::BranchName = "master".parse()?;
        let base = self.repos.tip_of(&self.project, self.tip)?;
        let mut state = State::new([((self.project.clone(), branch.clone()), base)]);
        let committer =
            Signature { name: "Gate".into(), email: "gate@example.com".into(), seconds: 1_400_000_000 };
        let mut samples = Vec::new();
        for (number, revision) in self.changes.iter().enumerate() {
            let change = ToMerge {
                project: self.project.clone(),
                branch: branch.clone(),
                number: number as u64,
                patchset: 1,
                revision: *revision,
                mode,
                message: Message { merge: format!("Merge change {number}"), footers: Vec::new() },
            };
            let began = clock::now();
            state = self.repos.merge(&state, &change, &committer)?.state;
            self.repos.publish(&state, &format!("{number:032x}").parse()?)?;
            samples.push(began.elapsed().as_secs_f64());
        }
        Ok(samples)
    }

    /// The same queue in a work tree, as a merger that checks out does it.
    fn peer(&self) -> Result<Vec<f64>> {
        let work = self.scratch.path("work");
        let upstream = self.scratch.path("upstream.git");
        eprintln!("a work tree for the peer");
        must(git(&self.scratch.path("")).args(["clone", "-q", upstream.as_str(), work.as_str()]))?;
        must(git(&work).args(["fetch", "-q", "origin", "+refs/changes/*:refs/changes/*"]))?;
        let mut base = self.tip.to_string();
        let mut samples = Vec::new();
        for revision in &self.changes {
            let began = clock::now();
            must(git(&work).args(["reset", "-q", "--hard"]))?;
            must(git(&work).args(["checkout", "-q", "--detach", &base]))?;
            if !done(git(&work).args(["merge", "-q", "-m", "m", &revision.to_string()]))? {
                bail!("the peer could not merge {revision}");
            }
            samples.push(began.elapsed().as_secs_f64());
            base = must(git(&work).args(["rev-parse", "HEAD"]))?;
        }
        Ok(samples)
    }
}

/// `cargo xtask bench merge`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = Options::parse(words)?;
    let large = Large::make(options.changes)?;
    let peer = large.peer()?;
    let gerrit = |submit| Mode::Gerrit { submit, content_merge: true };
    let mut seen = Vec::new();
    for (what, mode) in [
        ("speculative merge, 50,000 files, mean: merge", Mode::Merge),
        ("the same: resolve", Mode::Resolve),
        ("the same: cherry-pick", Mode::CherryPick),
        ("the same: Gerrit's merge always", gerrit(GerritType::MergeAlways)),
        ("the same: Gerrit's rebase always", gerrit(GerritType::RebaseAlways)),
    ] {
        let peers = vec![Peer::mean("git merge in a work tree", peer.clone())];
        seen.push(Figure::mean(what, Unit::Milliseconds, large.queue(mode)?, REACH, peers));
    }
    if options.json {
        println!("{}", figures::json(&seen, &[])?);
    } else {
        print!("{}", figures::table(&seen, &[]));
    }
    let missed: Vec<_> = seen.iter().filter(|figure| !figure.reached()).map(|figure| figure.what).collect();
    if options.check && !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert!(
            Options::parse(&["--json", "--changes", "3"])
                .is_ok_and(|options| options.json && options.changes == 3)
        );
        assert!(Options::parse(&["--changes", "0"]).is_err() && Options::parse(&["--what"]).is_err());
    }

    #[test]
    fn the_dice_fall_the_same_everywhere() {
        let mut dice = Dice(1);
        let thrown: Vec<usize> = (0..3).map(|_| dice.below(100)).collect();
        let mut again = Dice(1);
        assert_eq!(thrown, (0..3).map(|_| again.below(100)).collect::<Vec<_>>());
        // The generator's first number from this seed, as published.
        assert_eq!(thrown[0], (0x910a_2dec_8902_5cc1_u64 % 100) as usize);
    }
}
