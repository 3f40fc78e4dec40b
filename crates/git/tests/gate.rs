//! Merging, publishing, landing and receipts, against a real remote repository.

mod common;

use assay_git::{
    BranchName, ConflictPaths, GerritType, GitError, History, HistoryError, Identity, MergeFailure, Mode,
    Move, ProjectName, PushRefusal, RECEIPTS, RefName, Refspec, Remote, Repos, State, Unused, receipt_path,
};
use camino::{Utf8Path, Utf8PathBuf};
use common::{Files, LONG, World, committer, files, git, try_git};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

fn gerrit(submit: GerritType) -> Mode {
    Mode::Gerrit { submit, content_merge: true }
}

fn lines(changed: &[(usize, &str)]) -> String {
    let line = |at| changed.iter().find(|(line, _)| *line == at).map_or("same", |(_, text)| text);
    let all: Vec<String> = (0..12).map(|at| format!("{at} {}", line(at))).collect();
    all.join("\n") + "\n"
}

fn identity(digit: &str) -> Identity {
    digit.repeat(32).parse().expect("an identity")
}

fn branch(name: &str) -> BranchName {
    name.parse().expect("a name")
}

fn script(path: &Utf8Path, text: &str) {
    fs_err::write(path, format!("#!/bin/sh\n{text}\n")).expect("it is written");
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is made executable");
}

#[test]
fn each_mode_makes_the_commit_that_it_should() {
    use GerritType as T;
    let world = World::new();
    let root = world.commit("refs/heads/root", &[], &files(&[("f", &lines(&[]))]));
    let tip = world.commit("refs/heads/master", &[root], &files(&[("f", &lines(&[(1, "ours")]))]));
    let change = world.commit("refs/changes/1", &[root], &files(&[("f", &lines(&[(10, "theirs")]))]));
    let ahead =
        world.commit("refs/changes/2", &[tip], &files(&[("f", &lines(&[(1, "ours"), (10, "theirs")]))]));
    world.fetch();
    let both = world.repos.tree_of(&world.project, ahead).expect("a tree");
    let merge =
        |mode, revision| world.repos.merge(&world.state(tip), &world.change(revision, mode), &committer());
    for (mode, parents, footer, forward) in [
        (Mode::Merge, vec![tip, change], false, true),
        (Mode::Resolve, vec![tip, change], false, true),
        (Mode::CherryPick, vec![tip], false, false),
        (gerrit(T::MergeIfNecessary), vec![tip, change], false, true),
        (gerrit(T::MergeAlways), vec![tip, change], false, false),
        (gerrit(T::RebaseIfNecessary), vec![tip], false, true),
        (gerrit(T::RebaseAlways), vec![tip], true, false),
        (gerrit(T::CherryPick), vec![tip], true, false),
    ] {
        let merged = merge(mode, change).expect("it merges");
        assert_eq!(merged.tree, both, "{mode:?}");
        assert_eq!(
            merged.state.tip(&world.project, &world.master).map(|tip| tip.commit),
            Some(merged.commit)
        );
        let text = world.show(merged.commit);
        let seen: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("parent ")).collect();
        assert_eq!(seen, parents.iter().map(ToString::to_string).collect::<Vec<_>>(), "{mode:?}");
        assert!(text.contains("committer Gate <gate@example.com> 1500000000 +0000\n"), "{text}");
        if parents.len() == 1 {
            assert!(text.contains("author Author <author@x> 1300000000 +0200\n"), "{text}");
            assert!(text.contains("\n\nsubject\n\nChange-Id: I1"), "{text}");
        } else {
            assert!(text.ends_with("\n\nMerge change 1,2"), "{text}");
        }
        assert_eq!(text.ends_with("Change-Id: I1\nReviewed-on: there"), footer, "{mode:?}: {text}");
        // The same again is the same commit, from the cache, and from nothing.
        assert_eq!(merge(mode, change).expect("it merges").commit, merged.commit);
        let again = Repos::open(&world.dir.join("repos")).expect("it opens");
        again.add(&world.project, Remote::new("/nowhere")).expect("it is added");
        let second =
            again.merge(&world.state(tip), &world.change(change, mode), &committer()).expect("it merges");
        assert_eq!(second, merged, "{mode:?}");
        let forwarded = merge(mode, ahead).expect("it merges").commit;
        assert_eq!(forwarded == ahead, forward, "{mode:?}");
    }
    let refused = merge(gerrit(T::FastForwardOnly), change).expect_err("no fast-forward");
    assert!(
        matches!(refused, MergeFailure::NotFastForward { tip: at, .. } if at == tip)
            && refused.is_of_the_change()
    );
    assert_eq!(merge(gerrit(T::FastForwardOnly), ahead).expect("a fast-forward").commit, ahead);
    for mode in [Mode::Merge, gerrit(T::CherryPick), gerrit(T::FastForwardOnly)] {
        let kept = merge(mode, root).expect("it is there already");
        assert_eq!((kept.commit, kept.state), (tip, world.state(tip)), "{mode:?}");
    }
    assert!(matches!(merge(Mode::CherryPick, tip), Err(MergeFailure::Empty { .. })));
    let nowhere = world.repos.merge(&State::default(), &world.change(change, Mode::Merge), &committer());
    assert!(matches!(nowhere, Err(MergeFailure::NoBranch { .. })));
}

#[test]
fn what_gerrit_does_not_do_as_git() {
    let world = World::new();
    let text = lines(&[]);
    let root = world.commit("refs/heads/root", &[], &files(&[("old", &text)]));
    let renamed = world.commit("refs/heads/master", &[root], &files(&[("new", &text)]));
    let edited = world.commit("refs/changes/1", &[root], &files(&[("old", &lines(&[(3, "x")]))]));
    let touched = world.commit("refs/changes/2", &[root], &files(&[("old", &lines(&[(9, "y")]))]));
    let stranger = world.commit("refs/changes/3", &[], &files(&[("old", "z")]));
    world.fetch();
    let merge = |tip, revision, mode| {
        world.repos.merge(&world.state(tip), &world.change(revision, mode), &committer())
    };
    let gerrit_merge = gerrit(GerritType::MergeIfNecessary);
    assert!(merge(renamed, edited, Mode::Merge).is_ok());
    let failure = merge(renamed, edited, gerrit_merge).expect_err("JGit knows no renames");
    let MergeFailure::Conflict { paths, .. } = &failure else { panic!("{failure}") };
    assert_eq!(*paths, ConflictPaths { first: vec!["old".into()], total: 1 });
    assert_eq!(
        failure.to_string(),
        "some/project 1,2 cannot be merged onto master with what is ahead of it: conflict in old; rebase the change"
    );
    let no_content = Mode::Gerrit { submit: GerritType::MergeIfNecessary, content_merge: false };
    assert!(merge(edited, touched, gerrit_merge).is_ok());
    assert!(matches!(merge(edited, touched, no_content), Err(MergeFailure::Conflict { .. })));
    // A mode that one side changed goes together with contents that both changed, which `resolve` refuses.
    let mut executable: Files = files(&[("old", &lines(&[(3, "x")]))]);
    executable.get_mut("old").expect("a file").0 = "100755";
    let executable = world.commit("refs/changes/4", &[root], &executable);
    world.fetch();
    assert!(merge(touched, executable, gerrit_merge).is_ok());
    assert!(matches!(merge(touched, executable, Mode::Resolve), Err(MergeFailure::Conflict { .. })));
    for mode in [Mode::Merge, Mode::Resolve, gerrit_merge] {
        assert!(matches!(merge(edited, stranger, mode), Err(MergeFailure::Unrelated { .. })), "{mode:?}");
    }
    let picked = merge(edited, stranger, gerrit(GerritType::CherryPick));
    assert!(matches!(picked, Err(MergeFailure::Root { .. })));
}

/// Two merge bases that disagree: JGit merges them first, as git does, and `resolve` cannot.
#[test]
fn criss_cross_as_gerrit_does_it() {
    let world = World::new();
    let text = |a: &str, b: &str| files(&[("f", &lines(&[(1, a), (10, b)]))]);
    let root = world.commit("refs/heads/root", &[], &text("0", "0"));
    let one = world.commit("refs/heads/one", &[root], &text("1", "0"));
    let two = world.commit("refs/heads/two", &[root], &text("0", "2"));
    let left = world.commit("refs/heads/left", &[one, two], &text("1", "2"));
    let right = world.commit("refs/heads/right", &[two, one], &text("1", "2"));
    let ours = world.commit("refs/heads/master", &[left], &text("1 ours", "2"));
    let theirs = world.commit("refs/changes/1", &[right], &text("1", "2 theirs"));
    let expected = world.commit("refs/heads/expected", &[], &text("1 ours", "2 theirs"));
    world.fetch();
    let expected = world.repos.tree_of(&world.project, expected).expect("a tree");
    for mode in [Mode::Merge, gerrit(GerritType::MergeIfNecessary)] {
        let merged = world.repos.merge(&world.state(ours), &world.change(theirs, mode), &committer());
        assert_eq!(merged.expect("it merges").tree, expected, "{mode:?}");
    }
}

#[test]
fn conflicts_everywhere_are_counted_and_not_all_named() {
    let world = World::new();
    let all = |text: &str| -> Files {
        (0..3000)
            .map(|n| (format!("dir/{}{n}", "long".repeat(20)), ("100644", text.as_bytes().to_vec())))
            .collect()
    };
    let root = world.commit("refs/heads/root", &[], &all("0\n"));
    let ours = world.commit("refs/heads/master", &[root], &all("1\n"));
    let mut gone = all("2\n");
    gone.retain(|path, _| path.ends_with('7'));
    let theirs = world.commit("refs/changes/1", &[root], &gone);
    world.fetch();
    for mode in [Mode::Merge, gerrit(GerritType::MergeAlways)] {
        // Contents are merged by a process for each file in the second; most of these are deletions.
        let failure = world.repos.merge(&world.state(ours), &world.change(theirs, mode), &committer());
        let Err(MergeFailure::Conflict { paths, .. }) = failure else { panic!("{failure:?}") };
        assert_eq!((paths.first.len(), paths.total), (ConflictPaths::MOST, 3000), "{mode:?}");
    }
}

#[test]
fn references_of_a_state_and_their_end() {
    let world = World::new();
    let other: ProjectName = "other".parse().expect("a name");
    world.repos.add(&other, Remote::new(world.upstream.as_str())).expect("it is added");
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let stable = branch("stable/x");
    world.commit("refs/heads/stable/x", &[root], &files(&[("f", "1\n"), ("s", "1\n")]));
    let change = world.commit("refs/changes/1", &[root], &files(&[("f", "1\n"), ("g", "1\n")]));
    world.fetch();
    world
        .repos
        .fetch(&other, &[Refspec::branches(), Refspec::parse("refs/changes/*").expect("a refspec")], LONG)
        .expect("ok");
    let mut state = State::default();
    for project in [&world.project, &other] {
        for (branch, tip) in world.repos.branch_tips(project).expect("tips") {
            state = state.with_base(project.clone(), branch, tip);
        }
    }
    // A cycle: one after the other, all under one identity.
    let mut merged = None;
    for (project, branch) in
        [(&world.project, &world.master), (&world.project, &stable), (&other, &world.master)]
    {
        let mut to = world.change(change, gerrit(GerritType::MergeAlways));
        (to.project, to.branch) = (project.clone(), branch.clone());
        let new = world.repos.merge(&state, &to, &committer()).expect("it merges");
        state = new.state.clone();
        merged = Some(new);
    }
    let (a, b) = (identity("a"), identity("b"));
    world.repos.publish(&state, &a).expect("references");
    world.repos.publish(&state, &a).expect("the same again");
    world.repos.publish(&state, &b).expect("references");
    let list = |project| {
        git(&world.repos.path(project).expect("it"), &["for-each-ref", "--format=%(refname)", "refs/zuul"])
    };
    let names = |id: &str| format!("refs/zuul/master/Z{0}\nrefs/zuul/stable/x/Z{0}", id.repeat(32));
    assert_eq!(list(&other).lines().count(), 2);
    assert_eq!(world.repos.collect(&BTreeSet::from([b])).expect("collected"), 3);
    assert_eq!(list(&world.project), names("b"));
    let commit = merged.expect("three merges").commit;
    let has = |project| {
        try_git(&world.repos.path(project).expect("it"), &["cat-file", "-e", &commit.to_string()])
            .status
            .success()
    };
    // What is referred to stays, what is not goes; and packed references are collected as well.
    world.repos.tidy(&other, Unused::RemoveAfterDays(0)).expect("tidied");
    assert!(has(&other));
    assert!(world.repos.merge(&state, &world.change(change, Mode::Merge), &committer()).is_ok());
    assert_eq!(world.repos.collect(&BTreeSet::new()).expect("collected"), 3);
    assert_eq!((list(&world.project), list(&other)), (String::new(), String::new()));
    world.repos.tidy(&other, Unused::Keep).expect("tidied");
    assert!(has(&other));
    world.repos.tidy(&other, Unused::RemoveAfterDays(0)).expect("tidied");
    assert!(!has(&other));
    let gone = {
        let mut to = world.change(change, Mode::CherryPick);
        to.project = other.clone();
        world.repos.merge(&state, &to, &committer()).expect_err("the state is gone")
    };
    assert!(matches!(gone, MergeFailure::Repository(GitError::MissingObject { .. })), "{gone}");
    assert!(!gone.is_of_the_change());
}

#[test]
fn a_revision_that_is_here_is_not_fetched() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let change = world.commit("refs/changes/01/1/1", &[root], &files(&[("f", "2\n")]));
    let name: RefName = "refs/changes/01/1/1".parse().expect("a name");
    assert!(world.repos.ensure(&world.project, &name, change, LONG).expect("it is fetched"));
    world.repos.add(&world.project, Remote::new("/nowhere/at/all")).expect("moved");
    assert!(!world.repos.ensure(&world.project, &name, change, LONG).expect("it is here"));
    let missing = "1".repeat(40).parse().expect("an id");
    let error = world.repos.ensure(&world.project, &name, missing, LONG).expect_err("nothing there");
    let GitError::CannotFetch { why, remedy, .. } = &error else { panic!("{error}") };
    assert!(why.contains("/nowhere/at/all") && remedy.contains("URL"), "{error}");
    world.repos.add(&world.project, Remote::new(world.upstream.as_str())).expect("moved back");
    let error = world.repos.ensure(&world.project, &name, missing, LONG).expect_err("another revision");
    assert!(matches!(error, GitError::MissingObject { .. }), "{error}");
}

#[test]
fn remotes_that_do_not_answer() {
    let world = World::new();
    // Nobody listens on a port that was just closed.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let remote = Remote::new(format!("http://user:hush@127.0.0.1:{port}/x"));
    world.repos.add(&world.project, remote).expect("added");
    let error = world.repos.fetch(&world.project, &[Refspec::branches()], LONG).expect_err("nobody there");
    let text = error.to_string();
    assert!(matches!(error, GitError::CannotFetch { .. }) && !text.contains("hush"), "{text}");
    assert!(text.contains("see whether the server is up"), "{text}");
    // One that takes the connection and never says a word.
    let never = world.dir.join("never");
    git_fifo(&never);
    script(&world.dir.join("ssh"), &format!("exec cat {never}"));
    let ssh = world.dir.join("ssh").into_string();
    let env = vec![("GIT_SSH_COMMAND".to_owned(), ssh), ("GIT_SSH_VARIANT".to_owned(), "simple".to_owned())];
    world.repos.add(&world.project, Remote { url: "ssh://host/x".into(), env }).expect("added");
    let short = Duration::from_millis(300);
    let error = world.repos.fetch(&world.project, &[Refspec::branches()], short).expect_err("it hangs");
    assert!(matches!(error, GitError::Timeout { after, .. } if after == short), "{error}");
    let error = world.repos.look(&world.project, &world.master, short).expect_err("it hangs");
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    // No protocol that runs programs, and no option in the place of a URL.
    for url in ["ext::sh -c true", "--upload-pack=true", "-x"] {
        world.repos.add(&world.project, Remote::new(url)).expect("added");
        let error = world.repos.fetch(&world.project, &[Refspec::branches()], LONG).expect_err("refused");
        assert!(matches!(error, GitError::CannotFetch { .. }), "{url}: {error}");
    }
}

fn real_git() -> Utf8PathBuf {
    let path = std::env::var("PATH").expect("a PATH");
    path.split(':').map(|dir| Utf8Path::new(dir).join("git")).find(|git| git.is_file()).expect("git")
}

fn git_fifo(path: &Utf8Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path.as_str(), rustix::fs::Mode::RWXU).expect("a FIFO");
}

#[test]
fn locks_of_a_killed_server_do_not_outlive_it() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    world.fetch();
    let path = world.repos.path(&world.project).expect("it");
    for lock in ["packed-refs.lock", "HEAD.lock", "refs/heads/master.lock", "refs/assay/receipts.lock"] {
        fs_err::create_dir_all(path.join(lock).parent().expect("a folder")).expect("made");
        fs_err::write(path.join(lock), "").expect("a lock");
    }
    world.commit("refs/heads/master", &[root], &files(&[("f", "2\n")]));
    let fetch = |repos: &Repos| repos.fetch(&world.project, &[Refspec::branches()], LONG);
    fetch(&world.repos).expect_err("the reference is locked");
    // As after a restart.
    let again = Repos::open(&world.dir.join("repos")).expect("it opens");
    again.add(&world.project, Remote::new(world.upstream.as_str())).expect("added");
    fetch(&again).expect("nothing is locked");
    again.tidy(&world.project, Unused::Keep).expect("nor are the packed ones");
}

#[test]
fn damage_is_named_and_what_power_loss_leaves_is_mended() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", &lines(&[]))]));
    let ours = world.commit("refs/heads/ours", &[root], &files(&[("f", &lines(&[(1, "x")]))]));
    let theirs = world.commit("refs/changes/1", &[root], &files(&[("f", &lines(&[(9, "y")]))]));
    world.fetch();
    let path = world.repos.path(&world.project).expect("it");
    let change = world.change(theirs, Mode::Resolve);
    let merged = world.repos.merge(&world.state(ours), &change, &committer()).expect("it merges");
    let object = |id: &str| path.join("objects").join(&id[..2]).join(&id[2..]);
    let commit = object(&merged.commit.to_string());
    fs_err::set_permissions(&commit, std::fs::Permissions::from_mode(0o644)).expect("writable");
    fs_err::write(&commit, "").expect("torn");
    // As after a restart.
    let again = Repos::open(&world.dir.join("repos")).expect("it opens");
    again.add(&world.project, Remote::new(world.upstream.as_str())).expect("added");
    let second = again.merge(&world.state(ours), &change, &committer()).expect("it merges");
    assert_eq!(second, merged);
    assert!(world.show(merged.commit).contains("Merge change"));
    // The revision's commit turns to garbage.
    let file = object(&theirs.to_string());
    if !file.exists() {
        // It came in a pack: put the pack aside and unpack it.
        let packs = path.join("objects/pack");
        for entry in fs_err::read_dir(&packs).expect("packs").flatten() {
            let from = camino::Utf8PathBuf::try_from(entry.path()).expect("UTF-8");
            if from.extension() == Some("pack") {
                let aside = world.dir.join("aside.pack");
                fs_err::rename(&from, &aside).expect("aside");
                fs_err::remove_file(from.with_extension("idx")).expect("no index");
                common::git_reading(&path, &["unpack-objects", "-q"], &fs_err::read(&aside).expect("a pack"));
            }
        }
    }
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("writable");
    fs_err::write(&file, b"x\x01garbage").expect("damaged");
    let again = Repos::open(&world.dir.join("repos")).expect("it opens");
    again.add(&world.project, Remote::new(world.upstream.as_str())).expect("added");
    let error = again.merge(&world.state(ours), &change, &committer()).expect_err("damaged");
    assert!(matches!(error, MergeFailure::Repository(GitError::Damaged { .. })), "{error}");
    assert!(error.to_string().contains(&theirs.to_string()) && !error.is_of_the_change(), "{error}");
}

/// merge-ort has assertions that some changes break; that must not look like a fault of the machine, which would be tried
/// again for ever. A git that is killed from outside is one.
#[test]
fn a_change_that_breaks_git_is_to_blame() {
    let world = World::new();
    let root = world.commit("refs/heads/root", &[], &files(&[("f", "1\n")]));
    let ours = world.commit("refs/heads/master", &[root], &files(&[("f", "1\n"), ("g", "1\n")]));
    let theirs = world.commit("refs/changes/1", &[root], &files(&[("f", "2\n")]));
    world.fetch();
    let real = real_git();
    for (signal, to_blame) in [("ABRT", true), ("KILL", false)] {
        let fake = world.dir.join("git");
        let aborts = format!(
            "case \"$*\" in *merge-tree*) echo 'git: Assertion failed' >&2; kill -{signal} $$;; esac"
        );
        script(&fake, &format!("{aborts}\nexec {real} \"$@\""));
        let text = fs_err::read_to_string(&fake).expect("the script");
        if !to_blame {
            fs_err::write(&fake, text.replace("echo 'git: Assertion failed' >&2;", "")).expect("written");
        }
        let repos = Repos::open_with(&world.dir.join("repos"), fake.as_str()).expect("it opens");
        repos.add(&world.project, Remote::new("/nowhere")).expect("added");
        let failure = repos.merge(&world.state(ours), &world.change(theirs, Mode::Merge), &committer());
        let failure = failure.expect_err("git broke off");
        assert_eq!(failure.is_of_the_change(), to_blame, "{failure}");
        assert_eq!(matches!(failure, MergeFailure::BreaksGit { .. }), to_blame, "{failure}");
    }
}

#[test]
fn landing() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    world.commit("refs/heads/stable", &[root], &files(&[("f", "1\n")]));
    let one = world.commit("refs/changes/1", &[root], &files(&[("f", "2\n")]));
    let foreign = world.commit("refs/changes/2", &[root], &files(&[("f", "3\n")]));
    world.fetch();
    let (repos, project, master) = (&world.repos, &world.project, &world.master);
    let step = |name: &str, old, new| Move { branch: branch(name), old, new };
    assert_eq!(repos.look(project, master, LONG).expect("looked").map(|tip| tip.commit), Some(root));
    // Moved by hand between the look and the push; the other branch must stay, too.
    git(&world.upstream, &["update-ref", "refs/heads/master", &foreign.to_string()]);
    let moves = [step("new", None, one), step("master", Some(root), one)];
    let refusal = repos.push(project, &moves, LONG).expect_err("stale");
    let PushRefusal::StaleTip { found, expected, .. } = &refusal else { panic!("{refusal}") };
    assert_eq!((*found, *expected), (Some(foreign), Some(root)));
    assert!(!refusal.in_doubt());
    assert_eq!(repos.look(project, &branch("new"), LONG).expect("looked"), None);
    assert_eq!(repos.look(project, master, LONG).expect("looked").map(|tip| tip.commit), Some(foreign));
    let refusal = repos.push(project, &[step("master", Some(foreign), one)], LONG).expect_err("not on top");
    assert!(matches!(refusal, PushRefusal::NotFastForward { .. }), "{refusal}");
    git(&world.upstream, &["update-ref", "refs/heads/master", &root.to_string()]);
    let refusal = repos.push(project, &[step("stable", None, one)], LONG).expect_err("it exists");
    assert!(matches!(refusal, PushRefusal::StaleTip { expected: None, .. }), "{refusal}");
    repos.push(project, &moves, LONG).expect("pushed");
    for name in ["master", "new"] {
        assert_eq!(
            repos.look(project, &branch(name), LONG).expect("looked").map(|tip| tip.commit),
            Some(one)
        );
    }
    assert!(
        repos.contains(project, one, root).expect("known")
            && !repos.contains(project, root, one).expect("known")
    );
    let unknown = "2".repeat(40).parse().expect("an id");
    assert!(!repos.contains(project, one, unknown).expect("known"));
    // Somebody pushes what we have never seen: it is fetched, with its tree.
    let later = world.commit("refs/heads/master", &[one], &files(&[("f", "9\n")]));
    let tip = repos.look(project, master, LONG).expect("looked").expect("a branch");
    assert_eq!((tip.commit, repos.tree_of(project, later).expect("a tree")), (later, tip.tree));
}

/// What is seen without a push: branches that moved, and a project that is not there; nothing moves.
#[test]
fn pushes_are_tried_beforehand() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let one = world.commit("refs/changes/1", &[root], &files(&[("f", "2\n")]));
    let foreign = world.commit("refs/changes/2", &[root], &files(&[("f", "3\n")]));
    world.fetch();
    let (repos, project) = (&world.repos, &world.project);
    let moves = [Move { branch: world.master.clone(), old: Some(root), new: one }];
    let at = || repos.look(project, &world.master, LONG).expect("looked").map(|tip| tip.commit);
    repos.try_push(project, &moves, LONG).expect("it would go through");
    assert_eq!(at(), Some(root), "nothing moved");
    git(&world.upstream, &["update-ref", "refs/heads/master", &foreign.to_string()]);
    let refusal = repos.try_push(project, &moves, LONG).expect_err("it moved");
    assert!(matches!(refusal, PushRefusal::StaleTip { .. }), "{refusal}");
    git(&world.upstream, &["update-ref", "refs/heads/master", &root.to_string()]);
    repos.add(project, Remote::new("/nowhere")).expect("moved");
    let refusal = repos.try_push(project, &moves, LONG).expect_err("nobody there");
    assert!(matches!(refusal, PushRefusal::Unreachable { .. }), "{refusal}");
}

#[test]
fn pushes_that_are_refused_or_break_off() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let one = world.commit("refs/changes/1", &[root], &files(&[("f", "2\n")]));
    world.fetch();
    let (repos, project) = (&world.repos, &world.project);
    let moves = [Move { branch: world.master.clone(), old: Some(root), new: one }];
    let hook = world.upstream.join("hooks/pre-receive");
    fs_err::create_dir_all(world.upstream.join("hooks")).expect("hooks");
    script(&hook, "cat >/dev/null; echo 'only on Fridays' >&2; exit 1");
    let refusal = repos.push(project, &moves, LONG).expect_err("refused");
    assert!(
        matches!(&refusal, PushRefusal::Rejected { text, .. } if text.contains("only on Fridays")),
        "{refusal}"
    );
    // Something is in the way for a while: no verdict on what is pushed.
    fs_err::remove_file(&hook).expect("no hook");
    let lock = world.upstream.join("refs/heads/master.lock");
    fs_err::write(&lock, "").expect("locked");
    let refusal = repos.push(project, &moves, LONG).expect_err("it is locked");
    let text = refusal.to_string();
    assert!(refusal.in_doubt() && text.contains("[remote rejected] (") && text.contains("lock"), "{text}");
    // And nobody can see what became of it.
    let fake = world.dir.join("git");
    script(&fake, &format!("case \"$*\" in *ls-remote*) exit 1;; esac\nexec {} \"$@\"", real_git()));
    let blind = Repos::open_with(&world.dir.join("repos"), fake.as_str()).expect("it opens");
    blind.add(project, Remote::new(world.upstream.as_str())).expect("added");
    let refusal = blind.push(project, &moves, LONG).expect_err("it is locked");
    assert!(refusal.in_doubt(), "{refusal:?}");
    fs_err::remove_file(&lock).expect("unlocked");
    // The push is under way, and the other side goes silent: nobody can know.
    let never = world.dir.join("never");
    git_fifo(&never);
    script(&hook, &format!("cat >/dev/null; cat {never}"));
    let refusal = repos.push(project, &moves, Duration::from_secs(2)).expect_err("it hangs");
    assert!(matches!(refusal, PushRefusal::InDoubt { .. }) && refusal.in_doubt(), "{refusal}");
    // It dies after it has moved the branch, before it has said so.
    fs_err::remove_file(&hook).expect("no hook");
    script(&world.upstream.join("hooks/post-update"), "kill -9 $PPID");
    let refusal = repos.push(project, &moves, LONG).expect_err("it dies");
    assert!(refusal.in_doubt(), "{refusal:?}");
    let tip = repos.look(project, &world.master, LONG).expect("looked").expect("a branch");
    assert_eq!(tip.commit, one);
    repos.add(project, Remote::new("/nowhere")).expect("moved");
    let refusal = repos.push(project, &moves, LONG).expect_err("nobody there");
    assert!(matches!(refusal, PushRefusal::Unreachable { .. }), "{refusal}");
}

#[test]
fn receipts_of_two_servers_do_not_lose_each_other() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let one = world.commit("refs/heads/master", &[root], &files(&[("f", "2\n")]));
    world.fetch();
    let second = Repos::open(&world.dir.join("second")).expect("it opens");
    second.add(&world.project, Remote::new(world.upstream.as_str())).expect("added");
    let project = &world.project;
    assert_eq!(world.repos.read_receipt(project, one).expect("read"), None);
    world.repos.publish_receipts(project, &[(one, b"{1}".to_vec())], &committer(), LONG).expect("published");
    let tip = world.upstream_id(RECEIPTS);
    world
        .repos
        .publish_receipts(project, &[(one, b"{1}".to_vec())], &committer(), LONG)
        .expect("nothing to do");
    assert_eq!(world.upstream_id(RECEIPTS), tip);
    // Both at once; each loses races and tries again.
    std::thread::scope(|scope| {
        for (repos, digit) in [(&world.repos, "1"), (&second, "2")] {
            scope.spawn(move || {
                for number in 0..3 {
                    let commit = format!("{digit}{number}{}", "0".repeat(38)).parse().expect("an id");
                    let receipt = [(commit, format!("{digit}{number}").into_bytes())];
                    repos.publish_receipts(project, &receipt, &committer(), LONG).expect("published");
                }
            });
        }
    });
    let clone = world.dir.join("clone");
    git(&world.dir, &["clone", "-q", world.upstream.as_str(), clone.as_str()]);
    let history = History::open(&clone).expect("it opens");
    assert!(matches!(history.receipt_bytes(one), Err(HistoryError::NoReceipts { .. })));
    git(&clone, &["fetch", "-q", "origin", &format!("{RECEIPTS}:{RECEIPTS}")]);
    assert_eq!(history.receipt_bytes(one).expect("read"), Some(b"{1}".to_vec()));
    assert_eq!(history.receipt_bytes(root).expect("read"), None);
    for text in ["10", "11", "12", "20", "21", "22"] {
        let commit = format!("{text}{}", "0".repeat(38)).parse().expect("an id");
        assert_eq!(history.receipt_bytes(commit).expect("read"), Some(text.as_bytes().to_vec()), "{text}");
    }
    let path = receipt_path(one);
    assert_eq!(git(&clone, &["show", &format!("{RECEIPTS}:{path}")]), "{1}");
    assert_eq!(world.repos.read_receipt(project, one).expect("read"), Some(b"{1}".to_vec()));
    assert!(try_git(&world.upstream, &["fsck", "--strict"]).status.success());
}

#[test]
fn a_plain_clone_is_read() {
    let world = World::new();
    let root = world.commit("refs/heads/root", &[], &files(&[("f", "1\n")]));
    let left = world.commit("refs/heads/left", &[root], &files(&[("f", "2\n")]));
    let right = world.commit("refs/heads/right", &[root], &files(&[("g", "2\n")]));
    let tip = world.commit("refs/heads/master", &[left, right], &files(&[("g", "3\n")]));
    let clone = world.dir.join("clone");
    git(&world.dir, &["clone", "-q", world.upstream.as_str(), clone.as_str()]);
    let history = History::open(&clone).expect("it opens");
    assert_eq!(history.branch(&world.master).expect("it"), tip);
    assert_eq!(history.branch(&branch("left")).expect("of origin"), left);
    assert!(matches!(history.branch(&branch("none")), Err(HistoryError::NoBranch { .. })));
    assert_eq!(history.first_parent(tip).expect("read"), Some(left));
    assert_eq!(history.first_parent(root).expect("read"), None);
    assert!(
        history.is_ancestor(right, tip).expect("read") && !history.is_ancestor(tip, right).expect("read")
    );
    assert_eq!(history.merge_base(left, right).expect("read"), Some(root));
    assert_eq!(history.merge_base(tip, right).expect("read"), Some(right));
    assert_eq!(history.merge_base(tip, "3".repeat(40).parse().expect("an id")).expect("read"), None);
    let mut between = history.commits_between(Some(left), tip).expect("read");
    between.sort();
    let mut expected = vec![tip, right];
    expected.sort();
    assert_eq!(between, expected);
    assert_eq!(history.commits_between(None, tip).expect("read").len(), 4);
    let tree = git(&clone, &["rev-parse", "master^{tree}"]);
    assert_eq!(history.tree_of(tip).expect("read").to_string(), tree);
    assert!(matches!(
        history.tree_of("3".repeat(40).parse().expect("an id")),
        Err(HistoryError::Unreadable { .. })
    ));
    assert!(matches!(History::open(&world.dir.join("nothing")), Err(HistoryError::NotARepository { .. })));
}
