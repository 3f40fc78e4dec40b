//! Workspaces from real repositories.

use super::bench::{Bench, Ended, Never, Served, printed, run, task};
use assay_proto::task::{Checkout, CloneRule, Task, Tree, Workspace};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::process::Command;
use tempfile::TempDir;

/// An origin and a merger's repositories.
struct Site {
    tmp: TempDir,
}

const ID: &str = "Z0123456789abcdef0123456789abcdef";

impl Site {
    /// `own` and `a/lib` have a change on stable/x, `a/quiet` none; `young` has no stable/x.
    fn new() -> Self {
        let site = Self { tmp: tempfile::tempdir().unwrap() };
        for (project, branches) in [
            ("own", &["master", "stable/x", "stable/y"][..]),
            ("a/lib", &["master", "stable/x", "stable/y"]),
            ("a/quiet", &["master", "stable/x"]),
            ("young", &["master"]),
            ("main-only", &["main"]),
        ] {
            let origin = site.path().join("origin").join(project);
            fs::create_dir_all(&origin).unwrap();
            Site::git(&origin, &["init", "-q", "-b", branches[0]]);
            for branch in branches {
                Site::git(&origin, &["checkout", "-q", "-B", branch]);
                Site::commit(&origin, &format!("{project} {branch}"));
            }
            Site::git(&origin, &["tag", "1.0", branches[0]]);
            Site::git(&origin, &["checkout", "-q", branches[0]]);
        }
        for (project, branch) in
            [("own", "stable/x"), ("a/lib", "stable/x"), ("a/lib", "stable/y"), ("young", "master")]
        {
            let zuul = site.path().join("zuul").join(project);
            if !zuul.exists() {
                fs::create_dir_all(zuul.parent().unwrap()).unwrap();
                let origin = site.path().join("origin").join(project);
                Site::git(site.path(), &["clone", "-q", origin.as_str(), zuul.as_str()]);
            }
            Site::git(&zuul, &["checkout", "-q", "--detach", &format!("origin/{branch}")]);
            Site::commit(&zuul, &format!("{project} {branch} speculative"));
            Site::git(&zuul, &["update-ref", &format!("refs/zuul/{branch}/{ID}"), "HEAD"]);
        }
        site
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.tmp.path()).unwrap()
    }

    fn git(dir: &Utf8Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=e@example.org"])
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(dir: &Utf8Path, content: &str) {
        fs::write(dir.join("content"), content).unwrap();
        Self::git(dir, &["add", "content"]);
        Self::git(dir, &["commit", "-q", "-m", content]);
    }

    fn change(&self, projects: Vec<Checkout>) -> Workspace {
        Workspace {
            zuul_url: Some(format!("file://{}/zuul", self.path())),
            origin: format!("file://{}/origin", self.path()),
            projects,
            zuul_ref: Some(format!("refs/zuul/stable/x/{ID}")),
            branch: Some("stable/x".into()),
            project: Some("own".into()),
            budget_s: 600,
            ..Workspace::default()
        }
    }
}

fn project(name: &str) -> Checkout {
    Checkout { name: name.into(), ..Checkout::default() }
}

/// Prints what every tree holds, and fails if one is not whole or not clean.
const SHOW: &str = "for file in $(find . -name content | sort); do tree=$(dirname $file); echo \"$file: $(cat $file)\"; \
                    git -C $tree fsck --connectivity-only --no-dangling --no-progress 2>&1; \
                    [ -z \"$(git -C $tree status --porcelain --untracked-files=no)\" ]; done";

fn job(workspace: Workspace) -> Task {
    Task { workspace: Some(workspace), ..task(SHOW) }
}

fn trees(ended: &Ended) -> Vec<&str> {
    assert_eq!(ended.outcome(), "passed", "{}", ended.console);
    ended.console.lines().filter(|line| line.starts_with("./")).collect()
}

#[tokio::test]
async fn several_projects_with_branch_fall_back_old_and_new() {
    let site = Site::new();
    let mut wanted = site.change(vec![
        Checkout { dest: Some(".".into()), ..project("own") },
        project("a/lib"),
        project("a/quiet"),
        project("young"),
        project("main-only"),
        Checkout { dest: Some("pinned".into()), branch: Some("stable/y".into()), ..project("a/lib") },
        Checkout {
            dest: Some("old/own".into()),
            branch: Some("stable/y".into()),
            tree: Tree::Old,
            ..project("own")
        },
    ]);
    wanted.clonemap = vec![CloneRule { name: "a/(.*)".into(), dest: r"new/\1".into() }];
    wanted.commit = Some(Site::git(&site.path().join("zuul/own"), &["rev-parse", "HEAD"]));
    let bench = Bench::new();
    let ended = bench.run_at(&job(wanted.clone()), &Never).await;
    let wanted_trees = [
        "./content: own stable/x speculative",
        "./main-only/content: main-only main",
        "./new/lib/content: a/lib stable/x speculative",
        "./new/quiet/content: a/quiet stable/x",
        "./old/own/content: own stable/y",
        "./pinned/content: a/lib stable/y speculative",
        "./young/content: young master speculative",
    ];
    assert_eq!(trees(&ended), wanted_trees, "{}", ended.console);
    assert!(ended.console.contains(&format!("(refs/zuul/stable/x/{ID})")), "{}", ended.console);

    // The origin moves on, and the cache with it.
    let quiet = site.path().join("origin/a/quiet");
    Site::git(&quiet, &["checkout", "-q", "stable/x"]);
    Site::commit(&quiet, "a/quiet moved");
    let next = Bench::beside(&bench);
    let ended = next.run_at(&job(site.change(vec![project("a/quiet")])), &Never).await;
    assert_eq!(trees(&ended), ["./a/quiet/content: a/quiet moved"]);
    // What the job sees of its origins, and what it may do with its repository.
    let mut look = job(wanted);
    look.run.steps[0].script = "git remote get-url origin; git branch -r | grep -c stable; \
                                git log -1 --format=%s origin/stable/x; git tag; \
                                ! touch $(cat .git/objects/info/alternates)/x; git gc --quiet"
        .into();
    let ended = Bench::beside(&bench).run_at(&look, &Never).await;
    assert_eq!(ended.outcome(), "passed", "{}", ended.console);
    assert!(ended.console.contains(&format!("file://{}/origin/own\n", site.path())), "{}", ended.console);
    assert!(ended.console.contains("own stable/x\n1.0\n"), "{}", ended.console);
}

#[tokio::test]
async fn merged_commits_tags_and_jobs_without_a_change() {
    let site = Site::new();
    let own = site.path().join("origin/own");
    let merged = Site::git(&own, &["rev-parse", "stable/x~1"]);
    Site::commit(&own, "own tagged");
    Site::git(&own, &["tag", "-a", "2.0", "-m", "two"]);
    Site::git(&own, &["reset", "-q", "--hard", "HEAD~1"]);
    let base = Workspace { zuul_url: None, zuul_ref: None, ..site.change(vec![project("own")]) };
    let post =
        Workspace { newrev: Some(merged), zuul_ref: Some("refs/heads/stable/x".into()), ..base.clone() };
    let tag = Workspace { zuul_ref: Some("refs/tags/2.0".into()), branch: None, ..base.clone() };
    let timer = Workspace { branch: None, project: None, ..base.clone() };
    let gone = Workspace { newrev: Some("0123456789012345678901234567890123456789".into()), ..base };
    for (wanted, content) in [(post, "own master"), (tag, "own tagged"), (timer, "own master")] {
        assert_eq!(trees(&run(&job(wanted)).await), [format!("./own/content: {content}")]);
    }
    let ended = run(&job(gone)).await;
    assert!(ended.reason().starts_with("own cannot be checked out: commit 0123"), "{}", ended.reason());
}

#[tokio::test]
async fn what_cannot_be_had_is_named() {
    let site = Site::new();
    let change = || site.change(vec![project("own")]);
    let to_one = vec![CloneRule { name: ".*".into(), dest: "one".into() }];
    let table = [
        (
            Workspace { origin: format!("{}/nowhere", site.path()), ..change() },
            "infrastructure",
            "own cannot be fetched from",
        ),
        (
            Workspace { projects: vec![project("missing")], ..change() },
            "infrastructure",
            "missing cannot be fetched from file://",
        ),
        (
            Workspace { zuul_ref: Some("refs/zuul/stable/x/Zff".into()), ..change() },
            "infrastructure",
            "refs/zuul/stable/x/Zff is not at file://",
        ),
        (
            Workspace { commit: Some("f".repeat(40)), ..change() },
            "infrastructure",
            "and the job is about ffff",
        ),
        (
            Workspace { zuul_url: Some("http://127.0.0.1:1/x".into()), ..change() },
            "infrastructure",
            "own cannot be checked out: its refs at http://127.0.0.1:1/x/own",
        ),
        (
            Workspace { clonemap: to_one, projects: vec![project("own"), project("young")], ..change() },
            "test",
            "own and young both go to \"one\"",
        ),
    ];
    for (wanted, class, why) in table {
        let ended = run(&job(wanted)).await;
        assert_eq!((ended.outcome(), ended.report.class.word()), ("incomplete", class), "{}", ended.reason());
        assert!(ended.reason().contains(why), "{}", ended.reason());
        assert!(!ended.console.contains("[assay] run:"), "nothing runs");
    }
    // A tree does not reach out of the workspace through another one's link.
    let young = site.path().join("origin/young");
    fs_err::os::unix::fs::symlink("/tmp", young.join("link")).unwrap();
    Site::git(&young, &["add", "link"]);
    Site::commit(&young, "linked");
    let lib = Checkout { dest: Some("young/link/x".into()), ..project("a/lib") };
    let young = Checkout { tree: Tree::Old, ..project("young") };
    let ended = run(&job(site.change(vec![young, lib]))).await;
    assert!(ended.reason().contains("would stand in a link"), "{} {}", ended.reason(), ended.console);
}

#[tokio::test]
async fn a_remote_that_never_answers_ends_with_the_budget() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let wanted = Workspace { origin, budget_s: 0, ..site.change(vec![project("own")]) };
    let ended = run(&job(wanted)).await;
    assert_eq!((ended.outcome(), ended.reason()), ("incomplete", "the workspace was not ready within 0 s"));
}

fn mirror(bench: &Bench, project: &str) -> Utf8PathBuf {
    let mut entries = bench.data.join("cache/git").read_dir_utf8().unwrap().flatten();
    let is_it = |name: &str| name.strip_suffix(".git").is_some_and(|name| name.starts_with(project));
    entries.find(|entry| is_it(entry.file_name())).unwrap().path().to_owned()
}

#[tokio::test]
async fn a_broken_mirror_is_made_anew_and_running_jobs_keep_theirs() {
    let site = Site::new();
    let first = Bench::new();
    let wanted = || site.change(vec![project("a/quiet")]);
    let mut waiting = job(wanted());
    waiting.run.steps[0].script = format!("mkfifo go; echo ready; read line < go; {SHOW}");
    let others = async {
        printed(&first, "ready").await;
        for what in ["no HEAD", "no objects", "no refs"] {
            let mirror = mirror(&first, "a%2Fquiet");
            match what {
                "no HEAD" => fs::remove_file(mirror.join("HEAD")).unwrap(),
                "no objects" => {
                    for entry in fs::read_dir(mirror.join("objects")).unwrap().flatten() {
                        fs::remove_dir_all(entry.path()).unwrap();
                    }
                }
                _ => fs::remove_dir_all(mirror.join("refs")).unwrap(),
            }
            let ended = Bench::beside(&first).run_at(&job(wanted()), &Never).await;
            assert_eq!(trees(&ended), ["./a/quiet/content: a/quiet stable/x"], "{what}");
        }
        let go = first.attempt.path().join("job/workspace/go");
        tokio::task::spawn_blocking(move || fs::write(go, "go\n").unwrap()).await.unwrap();
    };
    let (ended, ()) = tokio::join!(first.run_at(&waiting, &Never), others);
    // Its mirror had lost its HEAD only; everything after that was done to others.
    assert_eq!(trees(&ended), ["./a/quiet/content: a/quiet stable/x"], "{}", ended.console);
    let ended = Bench::beside(&first).run_at(&job(wanted()), &Never).await;
    assert_eq!(trees(&ended).len(), 1);
    let left = first.data.join("cache/git").read_dir_utf8().unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().contains(".aside-")).collect();
    assert!(left.is_empty(), "what nobody stands on is removed: {left:?}");
}

#[tokio::test]
async fn jobs_share_the_cache_at_the_same_time_and_over_http() {
    let site = Site::new();
    for repository in ["origin/own/.git", "origin/a/lib/.git", "zuul/own/.git", "zuul/a/lib/.git"] {
        Site::git(&site.path().join(repository), &["update-server-info"]);
    }
    let served = Served::start(site.path());
    // A project's address is its repository's; plain files are served below .git.
    let mut wanted = site.change(vec![project("own/.git"), project("a/lib/.git")]);
    wanted.origin = format!("{}/origin", served.url);
    wanted.zuul_url = Some(format!("{}/zuul", served.url));
    wanted.clonemap = vec![CloneRule { name: "(.*)/.git".into(), dest: r"\1".into() }];
    let first = Bench::new();
    let task = job(wanted);
    let benches: Vec<Bench> = (0..3).map(|_| Bench::beside(&first)).collect();
    let all = futures_util::future::join_all(benches.iter().map(|bench| bench.run_at(&task, &Never))).await;
    for ended in &all {
        let wanted =
            ["./a/lib/content: a/lib stable/x speculative", "./own/content: own stable/x speculative"];
        assert_eq!(trees(ended), wanted, "{}", ended.console);
    }
}
