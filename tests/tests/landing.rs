//! Landing: what must go in together goes in together, whatever happens in between. The real binary, a Gerrit, git.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::gate::{Gerrit, is_published, published, story};
use assay_tests::{Place, Signal, Up, asking, http};
use camino::Utf8PathBuf;
use fs_err as fs;
use serde_json::{Value, json};

/// Two repositories that land together; jobs pass at once.
const CONFIG: &str = r"
landing: WAY
queues:
  - {name: integrated, projects: [tools, docs], allow-cycles: true}
pipelines:
  - template: gate
    trigger:
      - {event: comment-added, approval: {Workflow: 1}}
    require: {open: true, current-patchset: true, approval: [{Workflow: 1}, {Code-Review: 2}]}
    success: [{review: {Verified: 2}, submit: true}]
    failure: [{review: {Verified: -2}}]
projects:
  tools: {merge-mode: merge-if-necessary, gate: [unit]}
  docs: {merge-mode: merge-if-necessary, gate: [unit]}
jobs:
  unit:
    imported: true
    env: {BACKEND: dummy}
";

/// A Gerrit with both projects, a server before it, and two changes that need each other.
struct Ground<'a> {
    place: &'a Place,
    gerrit: Gerrit,
    options: Vec<String>,
    tools: u64,
    docs: u64,
}

impl<'a> Ground<'a> {
    async fn new(place: &'a Place, way: &str, by_rest: bool) -> Self {
        Self::with(place, &CONFIG.replace("WAY", way), by_rest).await
    }

    async fn with(place: &'a Place, config: &str, by_rest: bool) -> Self {
        let dir = place.join("config");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("gate.yaml"), config).unwrap();
        let gerrit = Gerrit::start(place, dir.as_str()).await;
        gerrit.fake("project", json!({"name": "docs"})).await;
        let toml = place.join("assay.toml");
        if by_rest {
            fs::write(place.join("password"), "assay\n").unwrap();
            let rest = format!("key = \"id\"\nurl = {:?}\npassword-file = \"password\"\n", gerrit.url);
            let text = fs::read_to_string(&toml).unwrap().replace("key = \"id\"\n", &rest);
            fs::write(&toml, text).unwrap();
        }
        let options = ["--config", toml.as_str(), "--slots", "2"].map(str::to_owned).to_vec();
        Self { place, gerrit, options, tools: 0, docs: 0 }
    }

    async fn up(&self) -> Up<'a> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Up::start(self.place, &options).await
    }

    async fn upload(&self, project: &str, version_of: Option<u64>, footers: &[String]) -> (u64, String) {
        self.upload_file("new", project, version_of, footers).await
    }

    async fn upload_file(
        &self,
        file: &str,
        project: &str,
        version_of: Option<u64>,
        footers: &[String],
    ) -> (u64, String) {
        let made = json!({
            "project": project, "user": "alice", "subject": format!("A change of {project}"), "footers": footers,
            "files": {file: "1\n"}, "version_of": version_of,
        });
        let made = self.gerrit.fake("upload", made).await;
        (made["number"].as_u64().unwrap(), made["change_id"].as_str().unwrap().to_owned())
    }

    /// Uploads what needs only approvals: one change, or two that need each other, with a file that nobody has.
    async fn ready(&self, together: bool, number: usize) -> Vec<u64> {
        let file = format!("file-{number}");
        if !together {
            return vec![self.upload_file(&file, "docs", None, &[]).await.0];
        }
        let (tools, tools_id) = self.upload_file(&file, "tools", None, &[]).await;
        let footer = [format!("Depends-On: {tools_id}")];
        let (docs, docs_id) = self.upload_file(&file, "docs", None, &footer).await;
        self.upload_file(&file, "tools", Some(tools), &[format!("Depends-On: {docs_id}")]).await;
        vec![tools, docs]
    }

    /// Uploads and approves both.
    async fn cycle(&mut self) {
        let changes = self.ready(true, 0).await;
        (self.tools, self.docs) = (changes[0], changes[1]);
        self.gerrit.approve(self.tools).await;
        self.gerrit.approve(self.docs).await;
    }

    async fn status(&self, change: u64) -> String {
        self.gerrit.change(change).await["status"].as_str().unwrap().to_owned()
    }

    /// So many messages of a change speak of success.
    async fn successes(&self, change: u64) -> usize {
        let change = self.gerrit.change(change).await;
        let messages = change["messages"].as_array().unwrap();
        let says = |message: &&Value| message["message"].as_str().unwrap().contains("Build succeeded");
        messages.iter().filter(says).count()
    }

    /// Lands what is uploaded, and kills the server at the trouble; false if there was none.
    async fn cut(&self, mut up: Up<'a>, uploaded: &[u64], trouble: Value) -> (Up<'a>, bool) {
        let met = self.gerrit.troubles().await;
        self.gerrit.fake("answers", trouble).await;
        for change in uploaded {
            self.gerrit.approve(*change).await;
        }
        let was_cut = asking("the trouble or the end", async || {
            if self.gerrit.troubles().await > met {
                return Some(true);
            }
            for change in uploaded {
                if !is_published(&story(&up, *change).await) {
                    return None;
                }
            }
            Some(false)
        });
        let was_cut = was_cut.await;
        if was_cut {
            assert_eq!(up.end_by(Signal::KILL).await, None);
        }
        self.gerrit.fake("answers/release", json!({})).await;
        if !was_cut {
            return (up, false);
        }
        let up = self.up().await;
        for change in uploaded {
            self.gerrit.until_merged(&up, *change).await;
            published(&up, *change).await;
        }
        (up, true)
    }

    /// Clones a project and verifies its branch with nothing but the key.
    async fn verify(&self, project: &str) -> (Option<i32>, Value) {
        let key = self.place.run(&["key", "show"]).await;
        key.expect(0);
        let trust = self.place.join("trust");
        fs::write(&trust, &key.stdout).unwrap();
        let clone = self.clone_of(project).await;
        let receipts = "refs/assay/receipts:refs/assay/receipts";
        let fetched = self.git(&["-C", clone.as_str(), "fetch", "-q", "origin", receipts]).await;
        let root = self.git(&["-C", clone.as_str(), "rev-list", "--max-parents=0", "HEAD"]).await.1;
        assert_eq!(fetched.0, Some(0), "{project} has receipts");
        let args =
            ["verify", clone.as_str(), "master", "--trust", trust.as_str(), "--since", &root, "--json"];
        let ended = self.place.run(&args).await;
        (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_default())
    }

    async fn clone_of(&self, project: &str) -> Utf8PathBuf {
        let clone = self.place.join(&format!("clone-of-{project}"));
        let _ = fs::remove_dir_all(&clone);
        let url = format!("{}/{project}", self.gerrit.url);
        assert_eq!(self.git(&["clone", "-q", &url, clone.as_str()]).await.0, Some(0));
        clone
    }

    async fn git(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = self.place.command("git");
        command.args(args);
        let ended = self.place.run_command(command).await;
        (ended.code, ended.stdout.trim().to_owned())
    }
}

#[tokio::test]
async fn two_repositories_land_together_in_both_ways() {
    for (way, by_rest) in [("submit", false), ("push", false), ("submit", true)] {
        let place = Place::new();
        let mut ground = Ground::new(&place, way, by_rest).await;
        let up = ground.up().await;
        ground.cycle().await;
        for (change, project) in [(ground.tools, "tools"), (ground.docs, "docs")] {
            ground.gerrit.until_merged(&up, change).await;
            published(&up, change).await;
            let (code, verdict) = ground.verify(project).await;
            assert_eq!((code, &verdict["verified"]), (Some(0), &Value::Bool(true)), "{way}: {verdict}");
            assert_eq!(verdict["covered"][0]["way"], way, "{verdict}");
            let told = asking("the review", async || {
                let told = ground.successes(change).await;
                (told > 0).then_some(told)
            });
            assert_eq!(told.await, 1, "{way} {project}");
        }
        drop(ground);
        up.stop().await;
    }
}

/// Projects of all six submit types: two changes on each other, and one beside them where their Gerrit merges such.
#[tokio::test]
async fn every_submit_type_lands_what_was_tested() {
    const KINDS: [&str; 6] = [
        "fast-forward-only",
        "merge-if-necessary",
        "merge-always",
        "rebase-if-necessary",
        "rebase-always",
        "cherry-pick",
    ];
    let (before, after) = CONFIG.split_once("projects:\n").unwrap();
    let pipelines = before.split_once("queues:").unwrap().0.to_owned()
        + "pipelines"
        + before.split_once("pipelines").unwrap().1;
    let jobs = after.split_once("jobs:\n").unwrap().1;
    let projects: Vec<String> =
        KINDS.iter().map(|kind| format!("  {kind}: {{merge-mode: {kind}, gate: [unit]}}\n")).collect();
    let projects = projects.concat();
    for way in ["submit", "push"] {
        let place = Place::new();
        let config = format!("{pipelines}projects:\n{projects}jobs:\n{jobs}").replace("WAY", way);
        let ground = Ground::with(&place, &config, way == "submit").await;
        for kind in KINDS {
            let word = kind.to_uppercase().replace('-', "_");
            ground.gerrit.fake("project", json!({"name": kind, "submit_type": word})).await;
        }
        let up = ground.up().await;
        let mut changes = Vec::new();
        for kind in KINDS {
            let upload = async |file: &str, on: Value| {
                let made = json!({
                    "project": kind, "user": "alice", "subject": format!("Add {file}"), "files": {file: "1\n"}, "on": on,
                });
                ground.gerrit.fake("upload", made).await
            };
            let first = upload("first", Value::Null).await;
            changes.push(first["number"].as_u64().unwrap());
            changes.push(upload("second", first["revision"].clone()).await["number"].as_u64().unwrap());
            if kind != "fast-forward-only" {
                changes.push(upload("beside", Value::Null).await["number"].as_u64().unwrap());
            }
        }
        for change in &changes {
            ground.gerrit.approve(*change).await;
        }
        for change in changes {
            ground.gerrit.until_merged(&up, change).await;
            published(&up, change).await;
            // What a push has made anew is another patchset there, and takes no vote on the one that was tested; it is
            // said all the same.
            asking("what is said of a landing", async || (ground.successes(change).await == 1).then_some(()))
                .await;
        }
        for kind in KINDS {
            let (code, verdict) = ground.verify(kind).await;
            assert_eq!(
                (code, &verdict["verified"]),
                (Some(0), &Value::Bool(true)),
                "{way} {kind}: {verdict}"
            );
        }
        drop(ground);
        up.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_midway_is_named_and_can_be_reverted() {
    let place = Place::new();
    let mut ground = Ground::new(&place, "submit", false).await;
    let up = ground.up().await;
    let refused = json!({"project": "docs", "trouble": "refused", "text": "the release team says no"});
    ground.gerrit.fake("submit", refused).await;
    ground.cycle().await;

    let held = asking("a held queue", async || {
        let status = place.run(&["pipeline", "status", "gate", "--json"]).await;
        let queue = status.expect(0).json()["pipelines"][0]["queues"][0].clone();
        queue["hold"].is_object().then_some(queue)
    })
    .await;
    let text = held["hold"]["text"].as_str().unwrap();
    let (tools, docs) = (ground.tools, ground.docs);
    for part in [format!("{docs},1 was refused after {tools},2 had landed"), "the release team".to_owned()] {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!((ground.status(tools).await, ground.status(docs).await), ("MERGED".into(), "NEW".into()));
    assert_eq!(ground.successes(docs).await, 1, "the vote that stood was not given again");
    place.run(&["change", "show", &docs.to_string()]).await.expect(0).says("had landed");
    // In no pipeline any more, it still says why.
    let ended = place.run(&["change", "why", &docs.to_string()]).await;
    ended.expect(0).says("is in no pipeline").says("had landed");
    // What landed is as it was tested, and has its receipt; what did not has none.
    published(&up, tools).await;
    let (code, verdict) = ground.verify("tools").await;
    assert_eq!((code, &verdict["verified"]), (Some(0), &Value::Bool(true)), "{verdict}");

    let git = format!("{}/a/{{project}}", ground.gerrit.url.replace("http://", "http://alice:alice@"));
    for run in 1..=2 {
        let script = place.run(&["pipeline", "reverts", "gate", "--git", &git]).await;
        let file = place.join("revert.sh");
        fs::write(&file, &script.expect(0).stdout).unwrap();
        let mut command = place.command("sh");
        command.arg(file.as_str());
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "Alice")
                .env(format!("GIT_{who}_EMAIL"), "alice@example.org");
        }
        let ended = place.run_command(command).await;
        // Gerrit refuses a patchset that is the same as the one it has, and that is right.
        assert!(ended.code == Some(0) || run == 2, "{}", ended.stderr);
    }
    let revert = docs + 1;
    let found = ground.gerrit.change(revert).await;
    assert_eq!(
        (&found["subject"], &found["project"]),
        (&"Revert \"A change of tools\"".into(), &"tools".into())
    );
    let asked = http().get(format!("{}/a/changes/{}/detail", ground.gerrit.url, revert + 1));
    let asked = asked.basic_auth("alice", Some("alice")).send().await.unwrap();
    assert_eq!(asked.status(), 404, "the second run made no other change");

    // Nothing lands while it is held; then the revert goes through the gate like any other change.
    ground.gerrit.approve(revert).await;
    place.run(&["pipeline", "release", "gate", "integrated"]).await.expect(0);
    ground.gerrit.until_merged(&up, revert).await;
    published(&up, revert).await;
    let (code, verdict) = ground.verify("tools").await;
    assert_eq!((code, verdict["covered"].as_array().unwrap().len()), (Some(0), 2), "{verdict}");
    let clone = ground.clone_of("tools").await;
    assert!(!clone.join("file-0").exists(), "the change is reverted");
    place.run(&["pipeline", "reverts", "gate", "integrated"]).await.expect(4);
    drop(ground);
    up.stop().await;
}

#[tokio::test]
async fn a_server_killed_midway_completes_the_landing() {
    let place = Place::new();
    let mut ground = Ground::new(&place, "submit", true).await;
    let mut up = ground.up().await;
    // The second submit is never answered, and never done.
    let second = json!({"point": "http:POST /changes/2/revisions", "trouble": "never"});
    ground.gerrit.fake("answers", second).await;
    ground.cycle().await;
    ground.gerrit.until_merged(&up, ground.tools).await;
    assert_eq!(up.end_by(Signal::KILL).await, None);
    assert_eq!(ground.status(ground.docs).await, "NEW");
    ground.gerrit.fake("answers/release", json!({})).await;

    let up = ground.up().await;
    ground.gerrit.until_merged(&up, ground.docs).await;
    for (change, project) in [(ground.tools, "tools"), (ground.docs, "docs")] {
        published(&up, change).await;
        let (code, verdict) = ground.verify(project).await;
        assert_eq!((code, &verdict["verified"]), (Some(0), &Value::Bool(true)), "{verdict}");
        assert_eq!(ground.successes(change).await, 1, "{project}");
    }
    drop(ground);
    up.stop().await;
}

#[tokio::test]
async fn a_timer_starts_its_pipeline_on_every_branch() {
    let place = Place::new();
    let dir = place.join("config");
    fs::create_dir(&dir).unwrap();
    let periodic = CONFIG.replace("WAY", "submit").replace(
        "  - template: gate",
        "  - {name: periodic, manager: independent, trigger: {time: '* * * * * *'}}\n  - template: gate",
    );
    let periodic = periodic.replace("gate: [unit]}\n  docs", "gate: [unit], periodic: [unit]}\n  docs");
    fs::write(dir.join("gate.yaml"), periodic).unwrap();
    let gerrit = Gerrit::start(&place, dir.as_str()).await;
    gerrit.fake("project", json!({"name": "docs"})).await;
    let toml = place.join("assay.toml");
    let up = Up::start(&place, &["--config", toml.as_str()]).await;
    let builds = asking("a build of the timer's pipeline", async || {
        let url = format!("{}/jobs/unit/history", up.url);
        let answer = http().get(url).send().await.unwrap();
        let text = answer.text().await.unwrap();
        text.contains("periodic").then_some(text)
    });
    let builds = builds.await;
    assert!(builds.contains("tools") && !builds.contains("docs"), "{builds}");
    drop(gerrit);
    up.stop().await;
}

/// How what lands is cut off.
#[derive(Clone, Copy)]
struct Cuts {
    way: &'static str,
    by_rest: bool,
    /// Two repositories at once.
    together: bool,
    /// Only each so many of its conversations are cut off, unless `ASSAY_TEST_EVERY_CUT` is set (docs/flake-patterns.md).
    each: usize,
    /// What changes something there: each of these is cut off.
    deeds: &'static str,
}

/// From the approval to the published receipt the server is killed at each of its conversations with Gerrit, twice: at a
/// question that is never answered, and at something done whose answer is lost.
async fn killed_at_every_conversation(cuts: Cuts) {
    let Cuts { way, by_rest, together, deeds, .. } = cuts;
    let place = Place::new();
    let ground = Ground::new(&place, way, by_rest).await;
    let mut up = ground.up().await;
    let mut changes = Vec::new();
    let each = if std::env::var_os("ASSAY_TEST_EVERY_CUT").is_some() { 1 } else { cuts.each };
    let all = if by_rest { "http:" } else { "ssh:" };
    for (point, each) in [(all, each), (deeds, 1)] {
        let turns = (0_usize..).step_by(each).flat_map(|skip| [(skip, "never"), (skip, "answer-lost")]);
        for (skip, trouble) in turns {
            assert!(skip < 90, "a landing has no end");
            let trouble = json!({"point": point, "trouble": trouble, "skip": skip, "count": 1});
            let uploaded = ground.ready(together, changes.len()).await;
            changes.extend(&uploaded);
            let (next, was_cut) = ground.cut(up, &uploaded, trouble).await;
            up = next;
            if !was_cut {
                assert!(
                    skip > 5 || point == deeds && skip > 1,
                    "only {skip} {point}: the troubles come too late"
                );
                break;
            }
        }
    }
    for change in changes {
        let told =
            asking("the review", async || Some(ground.successes(change).await).filter(|told| *told > 0));
        assert_eq!(told.await, 1, "{way}: change {change} is told once");
    }
    for project in if together { &["docs", "tools"][..] } else { &["docs"] } {
        let (code, verdict) = ground.verify(project).await;
        assert_eq!((code, &verdict["verified"]), (Some(0), &Value::Bool(true)), "{way}: {verdict}");
    }
    drop(ground);
    up.stop().await;
}

#[tokio::test]
async fn a_server_killed_at_any_conversation_lands_once_by_submit() {
    killed_at_every_conversation(Cuts {
        way: "submit",
        by_rest: false,
        together: false,
        each: 2,
        deeds: "ssh:review",
    })
    .await;
}

#[tokio::test]
async fn a_server_killed_at_any_conversation_lands_once_by_push() {
    killed_at_every_conversation(Cuts {
        way: "push",
        by_rest: false,
        together: false,
        each: 2,
        deeds: "ssh:receive-pack",
    })
    .await;
}

#[tokio::test]
async fn a_server_killed_at_any_conversation_lands_both_by_submit() {
    killed_at_every_conversation(Cuts {
        way: "submit",
        by_rest: false,
        together: true,
        each: 5,
        deeds: "ssh:review",
    })
    .await;
}

#[tokio::test]
async fn a_server_killed_at_any_conversation_lands_both_by_rest() {
    killed_at_every_conversation(Cuts {
        way: "submit",
        by_rest: true,
        together: true,
        each: 5,
        deeds: "http:POST",
    })
    .await;
}

#[tokio::test]
async fn a_server_killed_at_any_conversation_lands_both_by_push() {
    killed_at_every_conversation(Cuts {
        way: "push",
        by_rest: false,
        together: true,
        each: 5,
        deeds: "ssh:receive-pack",
    })
    .await;
}

/// Gerrit is away: no events, no logins, no repository. What happened meanwhile is found when it is back.
#[tokio::test]
async fn nothing_is_lost_while_gerrit_is_away() {
    let place = Place::new();
    let ground = Ground::new(&place, "submit", false).await;
    let up = ground.up().await;
    ground.gerrit.until_streams(1).await;
    ground.gerrit.fake("logins", json!({"refuse": true})).await;
    ground.gerrit.fake("streams/close", json!({})).await;
    let (first, _) = ground.upload("tools", None, &[]).await;
    let (second, _) = ground.upload("docs", None, &[]).await;
    ground.gerrit.approve(first).await;
    ground.gerrit.approve(second).await;
    asking("the trouble shown", async || {
        let status = place.run(&["pipeline", "status", "--json"]).await;
        let troubles = status.expect(0).json()["troubles"].to_string();
        troubles.contains("gerrit").then_some(())
    })
    .await;
    ground.gerrit.fake("logins", json!({"refuse": false})).await;
    for change in [first, second] {
        ground.gerrit.until_merged(&up, change).await;
        published(&up, change).await;
        assert_eq!(ground.successes(change).await, 1);
    }
    drop(ground);
    up.stop().await;
}

/// A repository that cannot be fetched keeps its own changes waiting, says so, and keeps nobody else.
#[tokio::test]
async fn a_repository_that_cannot_be_fetched_is_waited_for() {
    let place = Place::new();
    let ground = Ground::new(&place, "submit", false).await;
    let up = ground.up().await;
    ground.gerrit.fake("answers", json!({"point": "ssh:upload-pack", "trouble": "fails"})).await;
    let (change, _) = ground.upload("tools", None, &[]).await;
    ground.gerrit.approve(change).await;
    asking("the reason", async || {
        let why = place.run(&["change", "why", &change.to_string()]).await;
        why.stdout.contains("could not be made").then_some(())
    })
    .await;
    assert_eq!(ground.successes(change).await, 0);
    ground.gerrit.fake("answers/release", json!({})).await;
    ground.gerrit.until_merged(&up, change).await;
    published(&up, change).await;
    drop(ground);
    up.stop().await;
}
