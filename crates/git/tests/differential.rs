//! Our merges against the real git's, over generated histories.

mod common;

use assay_git::{CommitId, GerritType, MergeFailure, Mode, TreeId};
use common::{Files, World, committer};
use proptest::prelude::*;
use std::cell::Cell;

/// One step of an edit; numbers are taken modulo what there is.
type Edit = (u8, usize, usize, usize);

const NAMES: &[&str] = &["a", "b", "d/a", "d/b", "d/c", "e/f/g", "h", "a/x", "d"];
const LINES: usize = 14;

fn text(file: usize) -> Vec<String> {
    (0..LINES).map(|line| format!("file {file} has this as its line {line}")).collect()
}

fn start() -> Files {
    (0..6).map(|n| (NAMES[n].to_owned(), ("100644", (text(n).join("\n") + "\n").into_bytes()))).collect()
}

/// Puts a file in place of whatever is in its way.
fn put(files: &mut Files, path: &str, file: (&'static str, Vec<u8>)) {
    let below = format!("{path}/");
    files.retain(|other, _| !other.starts_with(&below) && !path.starts_with(&format!("{other}/")));
    files.insert(path.to_owned(), file);
}

fn edit(files: &mut Files, (kind, which, line, variant): Edit) {
    let Some(path) = files.keys().nth(which % files.len().max(1)).cloned() else { return };
    let (mode, content) = files[&path].clone();
    let other = NAMES[variant % NAMES.len()];
    let change_line = |content: &[u8]| {
        let mut lines: Vec<String> =
            String::from_utf8_lossy(content).lines().map(ToOwned::to_owned).collect();
        let at = line % lines.len().max(1);
        if let Some(line) = lines.get_mut(at) {
            *line = format!("changed {}", variant % 2);
        }
        (lines.join("\n") + "\n").into_bytes()
    };
    match kind % 14 {
        0..=3 if mode.starts_with("100") => {
            files.insert(path, (mode, change_line(&content)));
        }
        4 => {
            files.remove(&path);
        }
        5 | 6 => {
            files.remove(&path);
            let content =
                if line % 2 == 0 && mode.starts_with("100") { change_line(&content) } else { content };
            put(files, other, (mode, content));
        }
        7 if mode.starts_with("100") => {
            let mode = if mode == "100644" { "100755" } else { "100644" };
            files.insert(path, (mode, content));
        }
        8 => put(files, &path, ("120000", format!("target-{}", variant % 2).into_bytes())),
        9 => put(files, &path, ("160000", (variant % 3 + 1).to_string().repeat(40).into_bytes())),
        10 => put(files, other, ("100644", (text(variant % 2).join("\n") + "\n").into_bytes())),
        11 => put(files, &format!("{path}/x"), (mode, content)),
        12 => {
            let inside: Vec<String> = files.keys().filter(|path| path.starts_with("d/")).cloned().collect();
            for path in inside {
                let file = files.remove(&path).expect("it is there");
                put(files, &path.replacen("d/", "n/", 1), file);
            }
        }
        _ => put(files, &path, ("100644", vec![0, line as u8, variant as u8 % 2])),
    }
}

fn edited(files: &Files, edits: &[Edit]) -> Files {
    let mut files = files.clone();
    for one in edits {
        edit(&mut files, *one);
    }
    files
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((0..14u8, 0..9usize, 0..LINES, 0..9usize), 0..4)
}

/// Ours and theirs of a history, and the parent that a pick of theirs compares with.
fn history(world: &World, sides: &[Vec<Edit>; 4], criss_cross: bool) -> (CommitId, CommitId) {
    let root = world.commit("refs/heads/root", &[], &start());
    let (left, right) = (edited(&start(), &sides[0]), edited(&start(), &sides[1]));
    let one = world.commit("refs/heads/one", &[root], &left);
    let two = world.commit("refs/heads/two", &[root], &right);
    if !criss_cross {
        let right = edited(&right, &sides[3]);
        return (one, world.commit("refs/heads/theirs", &[two], &right));
    }
    let ours = world.commit("refs/heads/m1", &[one, two], &edited(&left, &sides[2]));
    let theirs = world.commit("refs/heads/m2", &[two, one], &edited(&right, &sides[3]));
    let ours =
        world.commit("refs/heads/ours", &[ours], &edited(&left, &[&sides[2][..], &sides[3][..]].concat()));
    let last = edited(&right, &[&sides[3][..], &sides[0][..]].concat());
    (ours, world.commit("refs/heads/theirs", &[theirs], &last))
}

/// The tree, or `None` where the change is to blame.
fn ours_makes(world: &World, ours: CommitId, theirs: CommitId, mode: Mode) -> Option<TreeId> {
    match world.repos.merge(&world.state(ours), &world.change(theirs, mode), &committer()) {
        Ok(merged) => Some(merged.tree),
        Err(MergeFailure::Repository(error)) => panic!("{error}"),
        Err(_) => None,
    }
}

/// `cases` histories; both clean merges and conflicts must have been among them.
fn compare(cases: u32, criss_cross: bool, mode: Mode, real: impl Fn(&str) -> Vec<String>) {
    let (clean, conflicts) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let world = World::new();
    proptest!(config, |(sides in [edits(), edits(), edits(), edits()])| {
        let (ours, theirs) = history(&world, &sides, criss_cross);
        world.fetch();
        let arguments = real(&theirs.to_string());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let expected = world.really(&world.dir.join("work"), ours, &arguments);
        let count = if expected.is_some() { &clean } else { &conflicts };
        count.set(count.get() + 1);
        let seen = ours_makes(&world, ours, theirs, mode);
        prop_assert_eq!(seen, expected, "{} onto {}", theirs, ours);
    });
    assert!(clean.get() > 0 && conflicts.get() > 0, "{} clean, {} conflicts", clean.get(), conflicts.get());
}

fn words(list: &[&str], last: &str) -> Vec<String> {
    list.iter().copied().chain([last]).map(ToOwned::to_owned).collect()
}

#[test]
fn merge() {
    compare(24, false, Mode::Merge, |theirs| words(&["merge", "-q", "-m", "m"], theirs));
}

#[test]
fn merge_criss_cross() {
    compare(24, true, Mode::Merge, |theirs| words(&["merge", "-q", "-m", "m"], theirs));
}

#[test]
fn resolve() {
    compare(40, false, Mode::Resolve, |theirs| words(&["merge", "-q", "-m", "m", "-s", "resolve"], theirs));
}

#[test]
fn resolve_criss_cross() {
    compare(40, true, Mode::Resolve, |theirs| words(&["merge", "-q", "-m", "m", "-s", "resolve"], theirs));
}

#[test]
fn cherry_pick() {
    compare(24, false, Mode::CherryPick, |theirs| words(&["cherry-pick"], theirs));
}

/// JGit has no rename detection, as `resolve` has none; where that merges with one base, so does Gerrit, to the same tree.
#[test]
fn gerrit_merges_what_resolve_merges() {
    let gerrit = Mode::Gerrit { submit: GerritType::MergeAlways, content_merge: true };
    let clean = Cell::new(0);
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let world = World::new();
    proptest!(config, |(sides in [edits(), edits(), edits(), edits()])| {
        let (ours, theirs) = history(&world, &sides, false);
        world.fetch();
        let arguments = ["merge", "-q", "-m", "m", "-s", "resolve", &theirs.to_string()];
        if let Some(expected) = world.really(&world.dir.join("work"), ours, &arguments) {
            clean.set(clean.get() + 1);
            prop_assert_eq!(ours_makes(&world, ours, theirs, gerrit), Some(expected));
        }
    });
    assert!(clean.get() > 0);
}
