//! The gate as a whole: a Gerrit behind its real protocols, git repositories, a scripted worker, and everything that is
//! killed or breaks between a patchset and its receipt.

use crate::common::events::{SECTIONS, write_rules};
use crate::common::{Server, asking};
use assay_engine::outcome::Outcome;
use assay_fakes::ScriptedWorker;
use assay_fakes::gerrit::{Account, FakeGerrit, Options, SubmitTrouble, SubmitType, Trouble, Upload};
use assay_fakes::worker::{Assigned, Connection};
use assay_proto::clock::SystemClock;
use assay_proto::worker::Stream;
use assay_records::receipt::{Expected, ObjectId, Receipt, Signer, TrustFile, Way, verify};
use assay_records::step::{Artifact, Record};
use assay_server::ServerConfig;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PROJECT: &str = "demo";

/// A Gerrit, and a server that gates a project of it.
struct World {
    gerrit: FakeGerrit,
    server: Option<Server>,
    place: Utf8PathBuf,
    _dir: tempfile::TempDir,
}

fn configure(place: &Utf8Path) -> impl FnOnce(&mut ServerConfig) + use<> {
    let file = place.join("assay.toml");
    move |config| {
        config.config = Some(file);
        // The fake Gerrit has the machine's time.
        config.clock = Arc::new(SystemClock);
        config.pauses = Some((Duration::from_millis(10), Duration::from_millis(100)));
    }
}

fn git(repository: &Utf8Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(repository).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl World {
    async fn start(landing: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Utf8Path::from_path(dir.path()).unwrap().to_owned();
        let mut options = Options::new(place.join("repositories"))
            .with(Account::new("alice"))
            .with(Account::new("carol").in_groups(&["core"]))
            .with(Account::new("zuul").in_groups(&["ci"]).with_password("z-secret"));
        options.any_key = true;
        let gerrit = FakeGerrit::start(options).await.unwrap();
        gerrit.project(PROJECT, SubmitType::MergeIfNecessary).await.unwrap();
        let key = place.join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", key.as_str()]).status();
        assert!(made.unwrap().success(), "ssh-keygen (package openssh-client) makes a key");
        let ssh = gerrit.ssh();
        let http = gerrit.url().replace("http://", "http://zuul:z-secret@");
        let toml = format!(
            "[connection.gerrit]\ndriver = \"gerrit\"\nhost = \"{}\"\nport = {}\nuser = \"zuul\"\nkey = \"key\"\n\
             git = \"{http}/a/{{project}}\"\n[gate]\nconfig = \"gate\"\n",
            ssh.ip(),
            ssh.port()
        );
        fs_err::write(place.join("assay.toml"), toml).unwrap();
        fs_err::create_dir(place.join("gate")).unwrap();
        let world = Self { gerrit, server: None, place, _dir: dir };
        world.write_config(landing);
        let server = Server::start_with(configure(&world.place)).await;
        world.gerrit.until_streams(1).await.unwrap();
        Self { server: Some(server), ..world }
    }

    fn write_config(&self, landing: &str) {
        let yaml = format!(
            "landing: {landing}\npipelines:\n  - check\n  - template: gate\n    trigger:\n      \
             - {{event: comment-added, approval: {{Workflow: 1}}}}\n    require: {{open: true, current-patchset: true, \
             approval: [{{Workflow: 1}}, {{Code-Review: 2}}]}}\n    start: []\n    success: [{{review: {{Verified: 2}}, \
             submit: true}}]\n    failure: [{{review: {{Verified: -2}}}}]\nprojects:\n  {PROJECT}:\n    merge-mode: \
             merge-if-necessary\n    check: [unit]\n    gate: [unit]\njobs:\n  unit:\n    run: make check\n"
        );
        fs_err::write(self.place.join("gate/gate.yaml"), yaml).unwrap();
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    async fn worker(&self) -> Connection {
        let (url, token) = (&self.server().handle.url, &self.server().handle.worker_token);
        let worker = ScriptedWorker {
            classes: vec!["shell".into()],
            slots: 4,
            ..ScriptedWorker::new(url, token, "w:1")
        };
        worker.connect(&[]).await.unwrap()
    }

    /// Ends the server wherever it is, and starts the next one on its directory.
    async fn kill_and_restart(&mut self) {
        let server = self.server.take().unwrap();
        self.server = Some(server.kill_and_restart_with(configure(&self.place)).await);
    }

    async fn upload(&self, subject: &str, file: &str) -> u64 {
        let upload = Upload::new(PROJECT, "master", subject, file, &format!("{subject}\n"));
        self.gerrit.upload("alice", &upload).await.unwrap().number
    }

    async fn approve(&self, number: u64) {
        self.gerrit.vote("carol", number, &[("Code-Review", 2), ("Workflow", 1)]).await.unwrap();
    }

    /// A change that is approved before its check is done: in the gate, and its job assigned.
    async fn gated(&self, worker: &mut Connection, subject: &str) -> (u64, Assigned) {
        let number = self.upload(subject, &subject.replace(' ', "_")).await;
        pass(worker).await;
        self.until_vote(number, "1").await;
        self.approve(number).await;
        (number, worker.expect_assign().await.unwrap())
    }

    async fn until_vote(&self, number: u64, value: &str) {
        let voted = |event: &Value| {
            let approval = |one: &Value| {
                let (label, vote) = (one["description"].as_str().or(one["type"].as_str()), &one["value"]);
                label == Some("Verified") && *vote == value
            };
            is_about(event, "comment-added", number)
                && event["approvals"].as_array().is_some_and(|approvals| approvals.iter().any(approval))
        };
        if let Err(error) = self.gerrit.until_event(voted).await {
            let all: Vec<_> = self.gerrit.events().iter().map(ToString::to_string).collect();
            panic!("no vote {value} on {number}: {error}\n{}", all.join("\n"));
        }
    }

    async fn until_merged(&self, number: u64) {
        self.gerrit.until_event(|event| is_about(event, "change-merged", number)).await.expect("it lands");
    }

    /// The receipt of the branch's tip, as anybody finds and verifies it.
    async fn receipt(&self) -> Receipt {
        let tip = self.gerrit.tip(PROJECT, "master").await.unwrap();
        let store = self.store().await;
        let (project, branch, commit) = (PROJECT.into(), "master".into(), tip.as_str().into());
        let published = async || {
            let receipt = store.gate().receipt(&project, &branch, &commit).await.unwrap();
            receipt?.published_at
        };
        asking(published).await.expect("the receipt is published");
        let repository = self.gerrit.repository(PROJECT);
        let path = format!("refs/assay/receipts:{}/{}.json", &tip[..2], &tip[2..]);
        let bytes = git(&repository, &["show", &path]).into_bytes();
        let key = fs_err::read_to_string(self.server().dir.join("keys/receipts")).unwrap();
        let line = Signer::parse(&key).unwrap().public_key().to_trust_line("server");
        let tree = git(&repository, &["rev-parse", &format!("{tip}^{{tree}}")]);
        let object = |text: &str| ObjectId::try_from(text.to_owned()).unwrap();
        let expected =
            Expected { project: PROJECT, branch: "master", commit: &object(&tip), tree: &object(&tree) };
        verify(&bytes, &TrustFile::parse(&line).unwrap(), &expected).unwrap()
    }

    async fn store(&self) -> Arc<dyn assay_store::Store> {
        assay_store::open(&format!("sqlite:{}", self.server().dir.join("assay.db"))).await.unwrap()
    }
}

fn is_about(event: &Value, kind: &str, number: u64) -> bool {
    let of = &event["change"]["number"];
    event["type"] == kind && (*of == number || *of == number.to_string().as_str())
}

async fn pass(worker: &mut Connection) -> Assigned {
    let assigned = worker.expect_assign().await.unwrap();
    worker.finish(assigned.held, Outcome::Passed, None).await.unwrap();
    assigned
}

#[tokio::test]
async fn from_a_patchset_to_a_merge_with_a_receipt() {
    for (landing, way) in [("submit", Way::Submit), ("push", Way::Push)] {
        let world = World::start(landing).await;
        let mut worker = world.worker().await;
        let number = world.upload("Add a file", "file").await;
        let check = pass(&mut worker).await;
        assert_eq!(check.settings["ZUUL_PIPELINE"], "check");
        assert_eq!(check.settings["ZUUL_CHANGE"], number.to_string());
        world.until_vote(number, "1").await;
        world.approve(number).await;
        let gate = pass(&mut worker).await;
        assert_eq!(gate.settings["ZUUL_PIPELINE"], "gate");
        world.until_merged(number).await;
        world.until_vote(number, "2").await;
        let receipt = world.receipt().await;
        assert_eq!((receipt.way, receipt.changes[0].number), (way, number));
        assert_eq!(receipt.jobs[0].name, "unit");
        assert_eq!(receipt.jobs[0].log_url.as_deref(), Some(logs(&world, &gate).as_str()));
        assert!(receipt.approvals.iter().any(|vote| vote.label == "Code-Review" && vote.value == 2));
    }
}

fn logs(world: &World, build: &Assigned) -> String {
    format!("{}/logs/{}/", world.server().handle.url, build.settings["LOG_PATH"])
}

#[tokio::test]
async fn a_job_finds_its_tree_and_its_logs_are_where_it_says() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    world.upload("Add a file", "file").await;
    let build = worker.expect_assign().await.unwrap();
    let (zuul_ref, commit) = (&build.settings["ZUUL_REF"], &build.settings["ZUUL_COMMIT"]);
    let clone = world.place.join("clone");
    git(&world.place, &["init", "-q", clone.as_str()]);
    let url = format!("{}/{PROJECT}", build.settings["ZUUL_URL"]);
    for version in ["0", "2"] {
        let config = format!("protocol.version={version}");
        let refs = git(&clone, &["-c", &config, "ls-remote", &url]);
        assert!(refs.contains(zuul_ref.as_str()) && !refs.contains("refs/changes"), "{refs}");
        // More wants than fit a small request make git pack it.
        git(
            &clone,
            &[
                "-c",
                &config,
                "fetch",
                "-q",
                &url,
                &format!("+{zuul_ref}:refs/heads/v{version}"),
                "+refs/heads/*:refs/up/*",
            ],
        );
        assert_eq!(git(&clone, &["rev-parse", &format!("v{version}")]), *commit);
    }
    let refused =
        Command::new("git").arg("-C").arg(&clone).args(["push", "-q", &url, "v0:refs/heads/x"]).output();
    assert!(!refused.unwrap().status.success(), "workers only read");
    for path in [
        "/git/other/info/refs?service=git-upload-pack",
        "/git/../demo/info/refs?service=git-upload-pack",
        "/git/demo/HEAD",
    ] {
        assert_eq!(world.server().page(path).await.0, 404, "{path}");
    }

    let logs = format!("/logs/{}", build.settings["LOG_PATH"]);
    assert_eq!(world.server().page(&logs).await.0, 308);
    let console = "2026-11-21 04:30:00.123 | \u{1b}[31mred & <b>\u{1b}[0m\n2026-11-21 04:30:01.000 | half";
    let running = assay_proto::worker::WorkPhase::Running;
    worker.phase(build.held, running).await.unwrap();
    worker.append(build.held, Stream::Console, 0, console.as_bytes()).await.unwrap();
    worker.expect_acked(build.held.attempt, Stream::Console, console.len() as u64).await.unwrap();
    let (status, text) = world.server().page(&format!("{logs}/console.txt")).await;
    assert_eq!((status.as_u16(), text.as_str()), (200, console));
    let (_, html) = world.server().page(&format!("{logs}/console.html")).await;
    assert!(
        html.contains("<span class=\"f1\">red &amp; &lt;b&gt;</span>") && !html.contains("half"),
        "{html}"
    );
    let follow = html
        .split("data-rows=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&")
        .replace("&#38;", "&");
    let sha = world.server().put_blob(b"<html>report").await;
    let artifact = Record::Artifact(Artifact {
        path: "reports/a b.html".to_owned(),
        size: 12,
        sha256: sha,
        content_type: "text/html".to_owned(),
        at_us: 1,
    });
    let steps = crate::common::run::lines(&[artifact]);
    worker.append(build.held, Stream::Steps, 0, &steps).await.unwrap();
    worker.finish(build.held, Outcome::Passed, None).await.unwrap();
    worker.expect_finished_ack(build.held.attempt).await.unwrap();
    let (_, rows) = world.server().page(&format!("{logs}/{follow}")).await;
    assert!(rows.contains("id=\"L2\"") && rows.contains("half") && !rows.contains("red"), "{rows}");
    let (_, list) = world.server().page(&format!("{logs}/")).await;
    assert!(list.contains("reports/a%20b.html"), "{list}");
    let (status, report) = world.server().page(&format!("{logs}/reports/a%20b.html")).await;
    assert_eq!((status.as_u16(), report.as_str()), (200, "<html>report"));
    assert_eq!(world.server().page(&format!("{logs}/reports/none")).await.0, 404);
    let (_, page) = world.server().page(&format!("/jobs/{}", build.held.attempt.job)).await;
    for part in
        ["/console.html\">Console</a>", "/\">All files</a>", "/reports/a%20b.html\">reports/a b.html</a>"]
    {
        let link = format!("<a href=\"{logs}{part}");
        assert!(page.contains(&link), "the job's page lacks {link}:\n{page}");
    }
    assert_eq!(world.server().page("/logs/00/0/0/gate/unit/0000000/").await.0, 404);
}

#[tokio::test]
async fn a_branch_moved_while_it_is_tested_means_another_test() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    let (number, first) = world.gated(&mut worker, "Mine").await;
    let tip = world.gerrit.tip(PROJECT, "master").await.unwrap();
    let theirs = world.gerrit.commit(PROJECT, &tip, &[("theirs", Some("x\n"))], "Theirs\n").await.unwrap();
    world.gerrit.force_push(PROJECT, "master", &theirs).await.unwrap();
    worker.finish(first.held, Outcome::Passed, None).await.unwrap();
    let second = pass(&mut worker).await;
    assert_ne!(second.settings["ZUUL_COMMIT"], first.settings["ZUUL_COMMIT"], "on the new tip");
    world.until_merged(number).await;
    let receipt = world.receipt().await;
    assert_eq!(receipt.predecessor.commit.as_str(), theirs);
}

#[tokio::test]
async fn a_push_at_the_last_moment_is_an_alarm_and_gets_no_receipt() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    let (number, build) = world.gated(&mut worker, "Mine").await;
    let tip = world.gerrit.tip(PROJECT, "master").await.unwrap();
    let theirs = world.gerrit.commit(PROJECT, &tip, &[("theirs", Some("x\n"))], "Theirs\n").await.unwrap();
    world.gerrit.next_submit(PROJECT, SubmitTrouble::ForeignPush(theirs));
    worker.finish(build.held, Outcome::Passed, None).await.unwrap();
    world.until_merged(number).await;
    let store = world.store().await;
    let held = async || {
        let rows = store.gate().load_gate().await.unwrap();
        rows.queues.into_iter().find_map(|queue| queue.hold)
    };
    let (reason, _) = asking(held).await.expect("the queue is held");
    assert!(reason.to_string().contains("whose tree is not the tested one"), "{reason}");
    assert_eq!(store.gate().unpublished().await.unwrap(), []);
    let tip = world.gerrit.tip(PROJECT, "master").await.unwrap();
    let receipt = store.gate().receipt(&PROJECT.into(), &"master".into(), &tip.as_str().into()).await;
    assert_eq!(receipt.unwrap(), None);
    until_uncovered(&world).await;
    let (_, metrics) = world.server().page("/metrics").await;
    assert!(metrics.contains("assay_gate_held_queues 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_commit_that_nobody_tested_is_found_and_a_bad_configuration_changes_nothing() {
    let world = World::start("submit").await;
    let store = world.store().await;
    let first_round =
        async || (!store.gate().cursors(&"auditor".into()).await.unwrap().is_empty()).then_some(());
    asking(first_round).await.expect("the branch has a start");
    let mut worker = world.worker().await;
    let (number, build) = world.gated(&mut worker, "Tested").await;
    worker.finish(build.held, Outcome::Passed, None).await.unwrap();
    world.until_merged(number).await;
    world.receipt().await;
    assert_eq!(uncovered(&world).await, 0, "what the gate lands is covered");
    let tip = world.gerrit.tip(PROJECT, "master").await.unwrap();
    let theirs = world.gerrit.commit(PROJECT, &tip, &[("theirs", Some("x\n"))], "Theirs\n").await.unwrap();
    world.gerrit.force_push(PROJECT, "master", &theirs).await.unwrap();

    let reload = "/api/assay/v1/gate/reload";
    let (status, body) = world.server().ask(reqwest::Method::POST, reload, None).await;
    assert_eq!(status, 200, "{body}");
    until_uncovered(&world).await;
    assert_eq!(uncovered(&world).await, 1);
    // A branch that is set back is walked to where it left the way, and no further.
    let other = world.gerrit.commit(PROJECT, &tip, &[("other", Some("x\n"))], "Other\n").await.unwrap();
    let acknowledge = async |status: u16| {
        let body = serde_json::json!({ "project": PROJECT, "branch": "master" });
        let path = "/api/assay/v1/gate/acknowledge";
        let (found, body) = world.server().ask(reqwest::Method::POST, path, Some(body)).await;
        assert_eq!(found, status, "{body}");
    };
    acknowledge(200).await;
    assert_eq!(uncovered(&world).await, 0);
    acknowledge(404).await;
    world.gerrit.force_push(PROJECT, "master", &other).await.unwrap();
    let (status, body) = world.server().ask(reqwest::Method::POST, reload, None).await;
    assert_eq!(status, 200, "{body}");
    until_uncovered(&world).await;
    assert_eq!(uncovered(&world).await, 2, "that its start is gone, and the new commit");
    // It is ended at once while a walk waits for the remote, and what that walk finds is of no use any more.
    let met = world.gerrit.troubles();
    world.gerrit.trouble("ssh:upload-pack", Trouble::Slow, None);
    let (status, body) = world.server().ask(reqwest::Method::POST, reload, None).await;
    assert_eq!(status, 200, "{body}");
    world.gerrit.until_troubles(met + 1).await.unwrap();
    acknowledge(200).await;
    assert_eq!(uncovered(&world).await, 0);
    world.gerrit.release_answers();
    let last = world.gerrit.commit(PROJECT, &other, &[("last", Some("x\n"))], "Last\n").await.unwrap();
    world.gerrit.force_push(PROJECT, "master", &last).await.unwrap();
    let (status, body) = world.server().ask(reqwest::Method::POST, reload, None).await;
    assert_eq!(status, 200, "{body}");
    until_uncovered(&world).await;
    assert_eq!(uncovered(&world).await, 1, "only what came after it was ended");
    acknowledge(200).await;

    fs_err::write(world.place.join("gate/gate.yaml"), "pipelines: [check, gat]\nprojekts: {}\n").unwrap();
    let (status, body) = world.server().ask(reqwest::Method::POST, reload, None).await;
    assert!(status.is_client_error(), "{status} {body}");
    let said = body.to_string();
    assert!(said.contains("gat") && said.contains("projekts"), "both at once: {said}");
    let other = world.upload("Goes on", "other").await;
    pass(&mut worker).await;
    world.until_vote(other, "1").await;
}

/// Waits until the auditor has found a commit that no receipt covers.
async fn until_uncovered(world: &World) {
    let found = async || (uncovered(world).await > 0).then_some(());
    asking(found).await.expect("the auditor finds it");
}

/// Commits that no receipt covers, as the metrics say.
async fn uncovered(world: &World) -> u32 {
    let (_, metrics) = world.server().page("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("assay_gate_uncovered_commits ")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_happens_while_gerrit_is_away_is_found_out() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    world.gerrit.refuse_logins(true);
    world.gerrit.close_event_streams();
    world.gerrit.until_streams(0).await.unwrap();
    let number = world.upload("Meanwhile", "file").await;
    world.gerrit.refuse_logins(false);
    let check = pass(&mut worker).await;
    assert_eq!(check.settings["ZUUL_CHANGE"], number.to_string());
    world.until_vote(number, "1").await;
}

/// The open changes of a project are asked for when one of it has landed: what cannot be merged any more is told so.
#[tokio::test]
async fn a_landing_tells_those_that_it_is_in_the_way_of() {
    let world = World::start("submit").await;
    let file = world.place.join("gate/gate.yaml");
    let yaml = fs_err::read_to_string(&file).unwrap();
    let listens = "  - name: merge-check\n    manager: independent\n    trigger: [{event: project-change-merged}]\n    \
                   merge-failure: [{review: {Verified: -1}}]\n    success: []\nprojects:\n";
    let yaml =
        yaml.replace("projects:\n", listens).replace("gate: [unit]", "gate: [unit]\n    merge-check: [noop]");
    fs_err::write(&file, yaml).unwrap();
    let (status, body) = world.server().ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert!(status.is_success(), "{body}");

    let mut worker = world.worker().await;
    let base = world.gerrit.tip(PROJECT, "master").await.unwrap();
    let mut numbers = Vec::new();
    for (subject, path) in [("One", "shared"), ("Two", "shared"), ("Three", "other")] {
        let upload = Upload::new(PROJECT, "master", subject, path, &format!("{subject}\n"));
        let upload = Upload { on: Some(base.clone()), ..upload };
        let number = world.gerrit.upload("alice", &upload).await.unwrap().number;
        pass(&mut worker).await;
        world.until_vote(number, "1").await;
        numbers.push(number);
    }
    world.approve(numbers[0]).await;
    pass(&mut worker).await;
    world.until_merged(numbers[0]).await;
    world.until_vote(numbers[1], "-1").await;
    let third = world.gerrit.change(numbers[2]).await.unwrap();
    assert!(third.current().votes.iter().all(|vote| vote.label != "Verified" || vote.value == 1));
}

#[tokio::test]
async fn what_is_different_is_connected_anew_and_the_rest_goes_on() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    let mut options = Options::new(world.place.join("second")).with(Account::new("zuul"));
    options.any_key = true;
    let second = FakeGerrit::start(options).await.unwrap();
    let file = world.place.join("assay.toml");
    let first = fs_err::read_to_string(&file).unwrap();
    let reload = async |text: &str| {
        fs_err::write(&file, text).unwrap();
        world.server().ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await
    };
    let staging = async || world.server().page("/api/assay/v1/gate").await.1.contains("\"staging\":true");

    let ssh = second.ssh();
    let more = format!(
        "[connection.second]\ndriver = \"gerrit\"\nhost = \"{}\"\nport = {}\nuser = \"zuul\"\nkey = \"key\"\n",
        ssh.ip(),
        ssh.port()
    );
    // The stream of the first must not be made anew, and cannot be.
    world.gerrit.refuse_logins(true);
    let (status, body) = reload(&format!("{first}mode = \"staging\"\n{more}")).await;
    assert_eq!(status, 200, "{body}");
    second.until_streams(1).await.unwrap();
    world.gerrit.until_streams(1).await.unwrap();
    assert!(staging().await, "the mode is the new one");
    let (status, body) = reload(&format!("{first}\n{}", more.replace("user", "usr"))).await;
    assert!(status.is_client_error(), "{status} {body}");
    let no_password = format!("{more}url = \"http://127.0.0.1:1\"\npassword-file = \"nowhere\"\n");
    let (status, body) = reload(&format!("{first}\n{no_password}")).await;
    assert!(status.is_client_error() && body.to_string().contains("nowhere"), "{status} {body}");
    assert!(staging().await, "a bad file changes nothing");
    second.until_streams(1).await.unwrap();
    world.gerrit.refuse_logins(false);

    let (status, body) = reload(&first.replace("host = \"127.0.0.1\"", "host = \"localhost\"")).await;
    assert_eq!(status, 200, "{body}");
    second.until_streams(0).await.unwrap();
    assert!(!staging().await);
    // Whether it comes before the new connection or after it: it is not lost.
    let number = world.upload("Moved", "file").await;
    pass(&mut worker).await;
    world.until_vote(number, "1").await;
}

#[tokio::test]
async fn events_that_come_twice_are_dealt_with_once() {
    let world = World::start("submit").await;
    let mut worker = world.worker().await;
    world.gerrit.befall_events(assay_fakes::gerrit::Mishap::Duplicate, 100);
    let number = world.upload("Twice", "file").await;
    pass(&mut worker).await;
    world.until_vote(number, "1").await;
    world.approve(number).await;
    pass(&mut worker).await;
    world.until_merged(number).await;
    world.receipt().await;
    let (_, history) = world.server().page("/api/assay/v1/gate/history").await;
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let created: Vec<_> = lines.iter().filter(|line| line["event"]["kind"] == "patchset-created").collect();
    assert_eq!(created.len(), 1, "{history}");
    assert_eq!(created[0]["event"]["facts"][0]["id"]["number"], number, "with its facts");
    let builds: Vec<_> = lines.iter().filter_map(|line| line["build"]["job"].as_str()).collect();
    assert_eq!(builds, ["unit", "unit"]);
    let items = world.store().await.gate().items_of_change(&"gerrit".into(), number, 9).await.unwrap();
    assert_eq!(items.len(), 2, "one in check and one in gate");
}

/// What is on the way when the server is killed.
type Cut = (&'static str, fn(&FakeGerrit));

#[tokio::test]
async fn a_server_killed_between_decision_and_confirmation_lands_once() {
    let cuts: [Cut; 4] = [
        ("before it looks", |gerrit| gerrit.trouble("ssh:query", Trouble::Never, Some(1))),
        ("before the vote", |gerrit| gerrit.trouble("ssh:review", Trouble::Never, Some(1))),
        ("the vote's answer is lost", |gerrit| gerrit.trouble("ssh:review", Trouble::AnswerLost, Some(1))),
        ("after the submit", |gerrit| gerrit.next_submit(PROJECT, SubmitTrouble::AnswerLost)),
    ];
    for (name, cut) in cuts {
        let mut world = World::start("submit").await;
        let mut worker = world.worker().await;
        let (number, build) = world.gated(&mut worker, "Cut off").await;
        cut(&world.gerrit);
        worker.finish(build.held, Outcome::Passed, None).await.unwrap();
        if name == "after the submit" {
            world.until_merged(number).await;
        } else {
            world.gerrit.until_troubles(1).await.unwrap();
        }
        world.kill_and_restart().await;
        world.gerrit.release_answers();
        world.until_merged(number).await;
        let receipt = world.receipt().await;
        assert_eq!(receipt.changes[0].number, number, "{name}");
        let merged =
            world.gerrit.events().iter().filter(|event| is_about(event, "change-merged", number)).count();
        assert_eq!(merged, 1, "{name}");
        let change = world.gerrit.change(number).await.unwrap();
        let voted = change.comments.iter().filter(|comment| comment.text.contains("Build succeeded")).count();
        assert_eq!(voted, 2, "{name}: one report of the check and one of the gate: {:?}", change.comments);
    }
}

/// Gerrit moves the branch first; its index calls the change merged a moment later.
#[tokio::test]
async fn what_is_in_its_branch_and_not_called_merged_yet_is_waited_for() {
    let mut world = World::start("submit").await;
    let mut worker = world.worker().await;
    let (number, build) = world.gated(&mut worker, "Late").await;
    world.gerrit.next_submit(PROJECT, SubmitTrouble::Late);
    worker.finish(build.held, Outcome::Passed, None).await.unwrap();
    let waits = |answer: &Value| answer["troubles"].to_string().contains("does not call it merged yet");
    until(&world, "/api/assay/v1/gate", waits).await;
    world.kill_and_restart().await;
    until(&world, "/api/assay/v1/gate", waits).await;
    world.gerrit.finish_merges().await.unwrap();
    let receipt = world.receipt().await;
    assert_eq!(receipt.changes[0].number, number);
    let items = world.store().await.gate().items_of_change(&"gerrit".into(), number, 9).await.unwrap();
    assert_eq!(items.len(), 2, "one in check and one in gate: nothing was tested again");
}

/// Waits until an answer is as wanted.
async fn until(world: &World, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut latest = Value::Null;
    let found = asking(async || {
        latest = world.server().get(path).await.1;
        wanted(&latest).then_some(())
    });
    let in_time = found.await.is_some();
    assert!(in_time, "{path}: {latest}");
    latest
}

#[tokio::test]
async fn why_says_what_a_job_waits_for_and_a_job_that_nobody_defined_gets_no_vote() {
    let world = World::start("submit").await;
    let file = world.place.join("gate/gate.yaml");
    let yaml = fs_err::read_to_string(&file).unwrap();
    let reload = async |job: &str| {
        fs_err::write(&file, yaml.replace("run: make check", job)).unwrap();
        let (status, body) =
            world.server().ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await;
        assert_eq!(status, 200, "{body}");
        body.to_string()
    };
    reload("run: make check\n    labels: [lab]").await;
    let number = world.upload("Waits", "waits").await;
    let path = format!("/api/assay/v1/changes/{number}/why");
    let text = |answer: &Value| answer["items"][0]["why"][0]["text"].as_str().unwrap_or_default().to_owned();
    until(&world, &path, |answer| text(answer).contains(": no worker is online")).await;
    let _worker = world.worker().await;
    let answer = until(&world, &path, |answer| text(answer).contains("offers class lab")).await;
    assert!(text(&answer).starts_with("job unit waits for a worker"), "{answer}");
    assert!(
        answer["items"][0]["why"][0]["reason"]["scheduler"].as_str().unwrap().contains("lab"),
        "{answer}"
    );

    let said = reload("imported: true").await;
    assert!(said.contains("nothing says what to do for 1 job (unit)"), "{said}");
    let number = world.upload("Undefined", "undefined").await;
    let told = |event: &Value| {
        let said = event["comment"].as_str().unwrap_or_default();
        is_about(event, "comment-added", number) && said.contains("unit") && said.contains("NOT_REGISTERED")
    };
    let event = world.gerrit.until_event(told).await.unwrap();
    let said = event["comment"].as_str().unwrap();
    assert!(said.contains("job unit is in the layout, but nothing says what it does"), "{said}");
    let votes = event["approvals"].as_array().cloned().unwrap_or_default();
    assert!(votes.iter().all(|vote| vote["value"] == "0" || vote["value"] == 0), "{event}");
}

#[tokio::test]
async fn a_project_that_cannot_be_audited_is_a_trouble_until_it_can() {
    let world = World::start("submit").await;
    let file = world.place.join("gate/gate.yaml");
    let yaml = fs_err::read_to_string(&file).unwrap();
    let with = yaml.replace("jobs:\n", "  gone:\n    gate: [unit]\n  gone-too:\n    gate: [unit]\njobs:\n");
    for (yaml, wanted) in [(&with, true), (&yaml, false)] {
        fs_err::write(&file, yaml).unwrap();
        let (status, body) =
            world.server().ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await;
        assert_eq!(status, 200, "{body}");
        let says = "the branches of gone and of 1 more projects cannot be audited: ";
        let said = |answer: &Value| answer["troubles"].to_string().contains(says);
        until(&world, "/api/assay/v1/gate", |answer| said(answer) == wanted).await;
        let (_, metrics) = world.server().page("/metrics").await;
        let line = format!("assay_gate_unaudited_projects {}\n", if wanted { 2 } else { 0 });
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn a_project_that_is_merged_in_another_way_than_it_is_tested_is_a_trouble() {
    let world = World::start("submit").await;
    let file = world.place.join("assay.toml");
    let toml = fs_err::read_to_string(&file).unwrap();
    fs_err::write(world.place.join("password"), "z-secret\n").unwrap();
    let url = format!(
        "url = \"{}\"\npassword-file = \"password\"\n[gate]",
        world.gerrit.url().trim_end_matches('/')
    );
    fs_err::write(&file, toml.replace("[gate]", &url)).unwrap();
    let reload = async |kind: SubmitType| {
        world.gerrit.set_submit_type(PROJECT, kind).await.unwrap();
        let (status, body) =
            world.server().ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await;
        assert_eq!(status, 200, "{body}");
    };
    let troubles = |answer: &Value| answer["troubles"].to_string();
    reload(SubmitType::FastForwardOnly).await;
    let remedy = "merged by its source as fast-forward-only: what passed may be refused; set merge-mode: fast-forward-only";
    until(&world, "/api/assay/v1/gate", |answer| troubles(answer).contains(remedy)).await;
    reload(SubmitType::MergeIfNecessary).await;
    until(&world, "/api/assay/v1/gate", |answer| !troubles(answer).contains("merge-mode")).await;
    // The labels of this Gerrit go to two.
    let file = world.place.join("gate/gate.yaml");
    let yaml = fs_err::read_to_string(&file).unwrap();
    fs_err::write(&file, yaml.replace("{Verified: 2}, submit", "{Verified: 1}, submit")).unwrap();
    reload(SubmitType::MergeIfNecessary).await;
    let remedy =
        "demo: gate votes Verified +1, and Verified goes from -2 to +2 there: what passed may be refused";
    until(&world, "/api/assay/v1/gate", |answer| troubles(answer).contains(remedy)).await;
    fs_err::write(&file, yaml).unwrap();
    reload(SubmitType::MergeIfNecessary).await;
    until(&world, "/api/assay/v1/gate", |answer| !troubles(answer).contains("Verified")).await;
}

const RULES: &str = r"
rules:
  - name: composed
    when: {topic: org.t.compose}
    item: {type: compose, id: '{body.id}'}
    run: {pipeline: {name: nightly, project: '{body.project}', branch: '{body.branch}'}}
  - name: mistaken
    when: {topic: org.t.mistake}
    run: {pipeline: {name: nowhere, project: demo, branch: master}}
";

/// What happens outside enqueues a branch as it is then: once for each item, by whichever event it is heard of, and in
/// the end also where the branch was not there yet.
#[tokio::test]
async fn an_event_enqueues_a_branch_by_a_rule() {
    let mut world = World::start("submit").await;
    let (file, toml) = (world.place.join("gate/gate.yaml"), world.place.join("assay.toml"));
    let yaml = fs_err::read_to_string(&file).unwrap();
    // Nothing else enqueues anything there.
    let nightly = "  - check\n  - {name: nightly, manager: independent, trigger: {time: '0 0 1 1 *'}}\n";
    let yaml = yaml.replace("  - check\n", nightly);
    fs_err::write(&file, yaml.replace("gate: [unit]\n", "gate: [unit]\n    nightly: [unit]\n")).unwrap();
    write_rules(&world.place, RULES);
    let gated = fs_err::read_to_string(&toml).unwrap();
    fs_err::write(&toml, format!("{gated}{SECTIONS}")).unwrap();
    world.kill_and_restart().await;
    let server = world.server();
    // One reading at a time: after this one the reading of the start is over, too.
    let (status, body) = server.ask(reqwest::Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(status, 200, "{body}");
    let composed = async |key: &str, id: &str, branch: &str| {
        let body = serde_json::json!({"id": id, "project": PROJECT, "branch": branch});
        server.hooked("compose", key, &body.to_string()).await;
    };
    let mut worker = world.worker().await;
    let tip = world.gerrit.tip(PROJECT, "master").await.unwrap();
    composed("one", "Fedora-44-1", "master").await;
    let build = pass(&mut worker).await;
    let settings = ["ZUUL_PIPELINE", "ZUUL_PROJECT", "ZUUL_REFNAME", "ZUUL_NEWREV"];
    assert_eq!(
        settings.map(|name| build.settings[name].as_str()),
        ["nightly", PROJECT, "master", tip.as_str()]
    );
    let effect = server.until_effect("one", "done").await;
    assert_eq!(effect["what"], "pipeline nightly: demo master");
    // The same compose once more is no other item.
    composed("one again", "Fedora-44-1", "master").await;
    assert_eq!(server.until_effect("one again", "done").await, effect);

    // A branch that is not there is waited for, and is enqueued as it is when it has come.
    composed("two", "Fedora-44-2", "later").await;
    let waits = |event: &Value| event["effects"][0]["why"] == "demo has no branch later";
    let event = server.until_event("two", "waiting for its branch", waits).await;
    assert_eq!(event["effects"][0]["state"], "waiting");
    world.gerrit.force_push(PROJECT, "later", &tip).await.unwrap();
    let build = pass(&mut worker).await;
    assert_eq!(
        settings.map(|name| build.settings[name].as_str()),
        ["nightly", PROJECT, "later", tip.as_str()]
    );
    server.until_effect("two", "done").await;

    server.hooked("mistake", "three", "{}").await;
    let effect = server.until_effect("three", "refused").await;
    assert!(effect["why"].as_str().unwrap().contains("nowhere"), "{effect}");
    let (_, all) = server.get("/api/assay/v1/jobs?limit=500").await;
    assert_eq!(all["jobs"].as_array().unwrap().len(), 2, "each once: {all}");
}
