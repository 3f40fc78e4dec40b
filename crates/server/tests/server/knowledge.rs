//! Comments that go over, what changed since a scenario last passed, needles from screens, and the pages of all that.

use crate::common::{Server, asking, client, run, sha256};
use crate::people::Key;
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_fakes::Connection;
use assay_proto::worker::Stream;
use assay_records::step::{ModuleResult, Record};
use camino::Utf8Path;
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::Command;

const POST: Method = Method::POST;
const GET: Method = Method::GET;

pub(crate) fn git(dir: &Utf8Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=Tess", "-c", "user.email=tess@localhost"];
    let out = Command::new("git").args(who).args(arguments).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A job of the scenario `boot` that ends like this; `None`: its module passes.
async fn ran(
    server: &Server,
    worker: &mut Connection,
    settings: &[(&str, &str)],
    failing: Option<&str>,
    facts: &[(&str, &str)],
    shot: &str,
) -> i64 {
    let mut all = json!({"TEST": "boot", "DISTRI": "d", "BACKEND": "dummy"});
    for (key, value) in settings {
        all[key] = json!(value);
    }
    let id = server.post(all).await;
    let held = worker.expect_assign().await.unwrap().held;
    let (status, pinned) = server.as_worker(POST, &format!("/jobs/{id}/assets"), None).await;
    assert_eq!(status, StatusCode::OK, "{pinned}");
    worker.phase(held, WorkPhase::Running).await.unwrap();
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut records = vec![run::plan(&["boot", "shell"]), Record::Environment { facts }];
    for module in ["boot", "shell"] {
        let failed = failing == Some(module);
        records.push(run::started(module, 1));
        records.push(if failed {
            run::missed(module, 1, "grub", shot, Vec::new())
        } else {
            run::found(module, 1, "grub", shot, run::hit("grub", 1.0, true, None, None))
        });
        let result = if failed { ModuleResult::Failed } else { ModuleResult::Passed };
        records.push(run::ended(module, result, 10, 9));
    }
    worker.append(held, Stream::Steps, 0, &run::lines(&records)).await.unwrap();
    let outcome = if failing.is_some() { Outcome::Failed } else { Outcome::Passed };
    worker.finish(held, outcome, None).await.unwrap();
    worker.expect_finished_ack(held.attempt).await.unwrap();
    server.finished(id).await;
    // Its streams are closed: whatever the end of the job leads to has happened.
    server.until(id, "closed", |job| job.attempts.iter().all(|attempt| !attempt.streams.is_empty())).await;
    id
}

async fn comments(server: &Server, job: i64) -> Vec<(String, String)> {
    let (_, list) = server.get(&format!("/api/v1/jobs/{job}/comments")).await;
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(|one| (text(one, "userName"), text(one, "text"))).collect()
}

/// Waits until something was said about the job.
async fn said(server: &Server, job: i64) -> Vec<(String, String)> {
    let mut events =
        client().get(server.url(&format!("/api/assay/v1/events?job={job}"))).send().await.unwrap();
    loop {
        let found = comments(server, job).await;
        if !found.is_empty() {
            return found;
        }
        events.chunk().await.unwrap().expect("the server ended");
    }
}

#[tokio::test]
async fn what_was_said_about_a_failure_goes_over_to_the_next_one_of_its_kind() {
    let server = Server::start().await;
    let ann = Key::make(&server, "ann", "operator", None).await;
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let first = ran(&server, &mut worker, &[("BUILD", "1")], Some("boot"), &[], &shot).await;
    for text in ["hm", "is poo#5\n"] {
        let path = format!("/api/v1/jobs/{first}/comments");
        assert_eq!(ann.ask(&server, POST, &path, &[("text", text)]).await.0, 200);
    }
    let good = ran(&server, &mut worker, &[("BUILD", "2")], None, &[], &shot).await;
    let other = ran(&server, &mut worker, &[("BUILD", "3")], Some("shell"), &[], &shot).await;
    let elsewhere = ran(&server, &mut worker, &[("ARCH", "arm")], Some("boot"), &[], &shot).await;
    let same = ran(&server, &mut worker, &[("BUILD", "4")], Some("boot"), &[], &shot).await;
    let over = ("ann".to_owned(), format!("is poo#5\n\n(Automatic carryover from t#{first})"));
    assert_eq!(said(&server, same).await, std::slice::from_ref(&over));
    // A later one names the job where it was said first; a restart of the server changes nothing.
    let again = ran(&server, &mut worker, &[("BUILD", "5")], Some("boot"), &[], &shot).await;
    assert_eq!(said(&server, again).await, std::slice::from_ref(&over));
    // Builds that were taken back say nothing of the test, however many there are.
    for build in 0..12 {
        let build = format!("x{build}");
        let job = json!({"TEST": "boot", "DISTRI": "d", "BUILD": build, "WORKER_CLASS": "nobody"});
        let id = server.post(job).await;
        let (status, _) = server.ask(POST, &format!("/api/assay/v1/jobs/{id}/cancel"), None).await;
        assert_eq!(status, StatusCode::OK);
    }
    let last = ran(&server, &mut worker, &[("BUILD", "6")], Some("boot"), &[], &shot).await;
    assert_eq!(said(&server, last).await, std::slice::from_ref(&over));
    let (_, found) = server.get(&format!("/api/assay/v1/jobs/{last}/investigation")).await;
    assert_eq!(
        (&found["last_good"]["id"], &found["first_bad"]["id"]),
        (&json!(good), &json!(other)),
        "{found}"
    );
    for job in [good, other, elsewhere] {
        assert_eq!(comments(&server, job).await, [], "job {job} failed otherwise, or did not");
    }
    drop(worker);
    let server = server.stop_and_restart().await;
    assert_eq!(comments(&server, same).await.len(), 1);
    let (_, audit) = server.get("/api/assay/v1/audit?event=comment_create&q=taken_over").await;
    assert_eq!(audit["events"][0]["data"]["job_id"], json!(last), "{audit}");
}

#[tokio::test]
async fn submissions_of_a_scenario_have_histories_of_their_own() {
    let server = Server::start().await;
    let ann = Key::make(&server, "ann", "operator", None).await;
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let keys = "_HISTORY_ISOLATION_KEYS";
    let mut end = async |settings: &[(&str, &str)], failing| {
        ran(&server, &mut worker, settings, failing, &[], &shot).await
    };
    let bad = Some("boot");
    let good = end(&[("SUBMISSION_ID", "1")], None).await;
    let first = end(&[("SUBMISSION_ID", "1")], bad).await;
    let path = format!("/api/v1/jobs/{first}/comments");
    assert_eq!(ann.ask(&server, POST, &path, &[("text", "is poo#5")]).await.0, 200);
    let other = end(&[("SUBMISSION_ID", "2")], bad).await;
    let same = end(&[("SUBMISSION_ID", "1")], bad).await;
    assert_eq!(said(&server, same).await.len(), 1);
    assert_eq!(comments(&server, other).await, [], "another submission");
    // What is named counts in the place of it; an empty list parts nothing; without it those are alike that have none.
    let whole = end(&[("SUBMISSION_ID", "3"), (keys, "")], bad).await;
    let named = end(&[("PR", "a \"b"), (keys, "PR, SIDE")], None).await;
    let again = end(&[("PR", "a \"b"), (keys, "PR, SIDE"), ("SUBMISSION_ID", "1")], bad).await;
    let side = end(&[("PR", "a \"b"), (keys, "PR, SIDE"), ("SIDE", "left")], bad).await;
    let plain = end(&[], bad).await;
    for (job, history) in [
        (same, vec![again, same, first, good]),
        (other, vec![other]),
        (whole, vec![plain, side, again, named, whole, same, other, first, good]),
        (named, vec![again, named]),
        (side, vec![side]),
        (plain, vec![plain, side, again, named, whole, same, other, first, good]),
    ] {
        let (_, told) = server.get(&format!("/api/assay/v1/jobs/{job}/history")).await;
        let ids: Vec<_> = told["jobs"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        assert_eq!(json!(ids), json!(history), "{job}");
    }
    for (job, last_good) in [(same, json!(good)), (other, Value::Null), (again, json!(named))] {
        let (_, found) = server.get(&format!("/api/assay/v1/jobs/{job}/investigation")).await;
        assert_eq!(found["last_good"]["id"], last_good, "{job}: {found}");
    }
    let (_, page) = server.page(&format!("/jobs/{side}")).await;
    assert!(page.contains("with the same PR, SIDE"), "{page}");
}

#[tokio::test]
async fn an_investigation_tells_what_changed() {
    let server = Server::start().await;
    let dir = server.dir.parent().unwrap().join("suite");
    fs::create_dir_all(dir.join("needles")).unwrap();
    git(&dir, &["init", "--quiet"]);
    let commit = |file: &str, subject: &str| {
        fs::write(dir.join(file), subject).unwrap();
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "--quiet", "--message", subject]);
        git(&dir, &["rev-parse", "HEAD"])
    };
    let old = commit("a.star", "begin");
    commit("needles/grub.json", "needle: grub");
    let new = commit("a.star", "wait longer");
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let case = ("CASEDIR", dir.as_str());
    let (good_facts, bad_facts) =
        ([("tests commit", old.as_str()), ("qemu", "7")], [("tests commit", new.as_str()), ("qemu", "8")]);
    let iso = ("ISO", "boot.iso");
    server.publish(iso.1, b"old").await;
    let settings = [case, iso, ("BUILD", "1"), ("_SECRET_KEY", "x")];
    let good = ran(&server, &mut worker, &settings, None, &good_facts, &shot).await;
    server.publish(iso.1, b"new").await;
    let settings = [case, iso, ("BUILD", "2"), ("_SECRET_KEY", "y"), ("QEMURAM", "512")];
    let first = ran(&server, &mut worker, &settings, Some("boot"), &bad_facts, &shot).await;
    let bad = ran(&server, &mut worker, &settings, Some("boot"), &bad_facts, &shot).await;

    let (status, found) = server.get(&format!("/api/assay/v1/jobs/{bad}/investigation")).await;
    assert_eq!(status, StatusCode::OK, "{found}");
    assert_eq!((&found["last_good"]["id"], &found["first_bad"]["id"]), (&json!(good), &json!(first)));
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&found["settings"]),
        ["BUILD", "QEMURAM"],
        "values of secrets are all the same: {found}"
    );
    assert_eq!(names(&found["environment"]), ["qemu"]);
    let file = &found["assets"][0];
    assert_eq!((found["assets"].as_array().unwrap().len(), &file["name"]), (1, &json!("ISO")), "{found}");
    for (side, bytes) in [("before", &b"old"[..]), ("after", b"new")] {
        assert_eq!(file[side], format!("iso/boot.iso (sha256 {})", sha256(bytes)), "{side}");
    }
    assert_eq!(found["tests_log"]["commits"][0]["subject"], "wait longer");
    assert_eq!(found["needles_log"]["commits"][0]["files"], json!(["needles/grub.json"]));
    let suspects = found["suspects"].as_array().unwrap();
    assert_eq!(suspects[0], "the tests or their needles changed");
    assert_eq!(suspects.last().unwrap(), "the build differs, too: it may be the product", "{found}");
    // The first bad job beside the last good one, without what came after it.
    assert_eq!(found["compared"]["id"], json!(bad));
    let settings = [case, iso, ("BUILD", "3"), ("QEMURAM", "999")];
    let later = ran(&server, &mut worker, &settings, Some("boot"), &bad_facts, &shot).await;
    let own = format!("/api/assay/v1/jobs/{later}/investigation");
    for (query, compared, memory) in
        [("", later, "999"), ("?against=this", later, "999"), ("?against=first_bad", first, "512")]
    {
        let (status, told) = server.get(&format!("{own}{query}")).await;
        assert_eq!((status, &told["compared"]["id"]), (StatusCode::OK, &json!(compared)), "{query}: {told}");
        assert_eq!((&told["job"]["id"], &told["last_good"]["id"]), (&json!(later), &json!(good)), "{query}");
        let settings = told["settings"].as_array().unwrap();
        let ram = settings.iter().find(|one| one["name"] == "QEMURAM").unwrap();
        assert_eq!(ram["after"], memory, "{query}: {told}");
    }
    assert_eq!(server.get(&format!("{own}?against=odd")).await.0, StatusCode::BAD_REQUEST);
    let passed = format!("/api/assay/v1/jobs/{good}/investigation?against=first_bad");
    assert_eq!(server.get(&passed).await.0, StatusCode::NOT_FOUND, "nothing is bad before it");
    let (_, openqa) = server.get(&format!("/tests/{bad}/investigation_ajax")).await;
    assert_eq!(openqa["last_good"]["text"], good.to_string());
    assert!(
        openqa["diff_to_last_good"].as_str().unwrap().contains("-BUILD: 1\n+BUILD: 2\n+QEMURAM: 512"),
        "{openqa}"
    );
    let (status, page) = server.page(&format!("/tests/{bad}/investigation")).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    for part in ["wait longer", "needle: grub", "<del>1</del>", "<ins>512</ins>"] {
        assert!(page.contains(part), "the page lacks {part:?}");
    }
    let (_, page) = server.page(&format!("/jobs/{good}/investigation")).await;
    assert!(page.contains("Nothing to compare with"));

    // One that waits is not bad, and it is not known what it will run with.
    let again = json!({"TEST": "boot", "DISTRI": "d", "BACKEND": "dummy", "WORKER_CLASS": "s390x", "CASEDIR": dir.as_str(),
        "ISO": iso.1, "BUILD": "1", "_SECRET_KEY": "x"});
    let waits = server.post(again).await;
    let (_, found) = server.get(&format!("/api/assay/v1/jobs/{waits}/investigation")).await;
    assert_eq!((&found["last_good"]["id"], &found["first_bad"]["id"]), (&json!(good), &json!(first)));
    for empty in ["tests", "environment"] {
        assert_eq!(found[empty], json!([]), "{empty}: {found}");
    }
    assert!(!found["suspects"].to_string().contains("machine"), "{found}");
    let (_, page) = server.page(&format!("/jobs/{waits}/investigation")).await;
    assert!(page.contains("This job has not ended"), "{page}");
}

#[tokio::test]
async fn a_needle_is_tried_and_committed_in_the_name_of_who_made_it() {
    let server = Server::start().await;
    let dir = server.dir.parent().unwrap().join("suite");
    fs::create_dir_all(dir.join("needles")).unwrap();
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let (one, two) = (server.put_blob(&run::screen(1, 6)).await, server.put_blob(&run::screen(9, 2)).await);
    let settings = [("CASEDIR", dir.as_str())];
    let before = ran(&server, &mut worker, &settings, None, &[], &two).await;
    let job = ran(&server, &mut worker, &settings, Some("boot"), &[], &one).await;
    let ann = Key::make(&server, "ann", "operator", None).await;
    let token = format!("{}:{}:{}", ann.user, ann.public, ann.secret);
    let send = async |path: &str, body: &Value| {
        let url = server.url(&format!("/api/assay/v1/jobs/{job}/{path}"));
        let answer = client().post(url).bearer_auth(&token).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // The bar on top is coloured by the seed, the box below by another rule.
    let area = json!({"xpos": 0, "ypos": 0, "width": 300, "height": 90, "type": "match"});
    let mut draft = json!({"screenshot": one, "name": "grub-new", "tags": ["grub"], "area": [area]});
    let (status, tried) = send("needles/preview", &draft).await;
    assert_eq!(status, 200, "{tried}");
    let screens: Vec<_> = tried["screens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["job"].clone(), one["matched"].clone()))
        .collect();
    assert_eq!(screens, [(json!(job), json!(true)), (json!(before), json!(false))]);

    let (status, refused) = send("needles", &draft).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("is not in a git checkout"), "{refused}");
    git(&dir, &["init", "--quiet"]);
    let (status, saved) = send("needles", &draft).await;
    assert_eq!(status, 201, "{saved}");
    assert_eq!(git(&dir, &["log", "-1", "--format=%an %s"]), format!("ann grub-new: from job {job}"));
    assert_eq!(
        git(&dir, &["show", "--name-only", "--format="]),
        "needles/grub-new.json\nneedles/grub-new.png"
    );
    assert_eq!(fs::read(dir.join("needles/grub-new.png")).unwrap(), run::screen(1, 6));
    assert_eq!(send("needles", &draft).await.0, 409, "it is there already");
    draft["overwrite"] = json!(true);
    assert_eq!(send("needles", &draft).await.1["commit"], json!(null), "just this needle is there");
    for (key, value, status) in [
        ("name", json!("../evil"), 400),
        ("tags", json!([]), 400),
        ("area", json!([]), 400),
        ("screenshot", json!(two), 400),
        ("unknown", json!(1), 400),
    ] {
        let mut wrong = draft.clone();
        wrong[key] = value;
        assert_eq!(send("needles", &wrong).await.0, status, "{key}");
    }
    let url = server.url(&format!("/api/assay/v1/jobs/{job}/needles"));
    assert_eq!(client().post(url).json(&draft).send().await.unwrap().status(), 401, "viewers change nothing");
    let (_, page) = server.page(&format!("/tests/{job}/modules/boot/steps/1/edit")).await;
    assert!(
        page.contains(&format!("data-screenshot=\"{one}\"")) && page.contains("value=\"grub-2026"),
        "{page}"
    );
    let (_, audit) = server.get("/api/assay/v1/audit?event=needle_modify&user=ann").await;
    assert_eq!(audit["events"].as_array().unwrap().len(), 1, "what was there is no change: {audit}");
}

#[tokio::test]
async fn a_needle_of_fetched_tests_is_a_patch() {
    let server = Server::start().await;
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let area = json!({"xpos": 0, "ypos": 0, "width": 300, "height": 90, "type": "match"});
    let draft = json!({"screenshot": shot, "name": "grub-new", "tags": ["grub"], "area": [area]});
    let elsewhere = server.dir.parent().unwrap().join("clone");
    fs::create_dir(&elsewhere).unwrap();
    git(&elsewhere, &["init", "--quiet"]);
    fs::write(elsewhere.join("a.star"), "").unwrap();
    git(&elsewhere, &["add", "."]);
    git(&elsewhere, &["commit", "--quiet", "--message", "tests"]);
    let tests = ("CASEDIR", "https://tests.example.org/tests.git#main");
    for (settings, folder) in [
        (vec![tests], "needles/"),
        (vec![tests, ("NEEDLES_DIR", "drawn/here")], "drawn/here/"),
        (vec![tests, ("NEEDLES_DIR", "https://tests.example.org/needles.git")], ""),
    ] {
        let job = ran(&server, &mut worker, &settings, Some("boot"), &[], &shot).await;
        let path = format!("/api/assay/v1/jobs/{job}/needles");
        let (status, saved) = server.ask(POST, &path, Some(draft.clone())).await;
        assert_eq!((status, &saved["commit"]), (StatusCode::CREATED, &Value::Null), "{saved}");
        assert_eq!(saved["file"], json!(format!("{folder}grub-new.json")));
        let patch = elsewhere.join("needle.patch");
        fs::write(&patch, saved["patch"].as_str().unwrap()).unwrap();
        git(&elsewhere, &["am", "--quiet", patch.as_str()]);
        fs::remove_file(&patch).unwrap();
        assert_eq!(fs::read(elsewhere.join(format!("{folder}grub-new.png"))).unwrap(), run::screen(1, 6));
        assert_eq!(
            git(&elsewhere, &["log", "-1", "--format=%an %s"]),
            format!("admin grub-new: from job {job}")
        );
    }
    let (_, audit) = server.get("/api/assay/v1/audit?event=needle_modify").await;
    assert_eq!(audit["events"], json!([]), "nothing was changed here");
}

#[tokio::test]
async fn needles_are_listed_with_the_jobs_that_saw_them_last() {
    let server = Server::start().await;
    let dir = server.dir.parent().unwrap().join("suite");
    fs::create_dir_all(dir.join("needles/old")).unwrap();
    let needle = json!({
        "area": [{"xpos": 1, "ypos": 2, "width": 3, "height": 4, "type": "match"}], "properties": [],
        "tags": ["lonely", "x<b>"],
    });
    fs::write(dir.join("needles/old/lonely-1.json"), needle.to_string()).unwrap();
    fs::write(dir.join("needles/package.json"), "{}").unwrap();
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "--message", "drawn"]] {
        git(&dir, arguments);
    }
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let here = [("CASEDIR", dir.as_str())];
    let elsewhere = [("CASEDIR", "https://tests.example.org/tests.git#main")];
    let first = ran(&server, &mut worker, &here, None, &[], &shot).await;
    ran(&server, &mut worker, &elsewhere, None, &[], &shot).await;
    let shown = async |path: &str| {
        let asked = client().get(server.url(path)).bearer_auth(&server.handle.admin_token);
        let answer = asked.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let (status, page) = shown("/admin/needles").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let seen = |job: i64| format!("<a href=\"/jobs/{job}/steps/shell/1\">job {job}</a>");
    for part in [
        &format!("<h2>{dir}/needles</h2><span class=\"quiet\">2 needles</span>"),
        "drawn, Tess, <time",
        "<strong>lonely-1</strong><div class=\"quiet\">old/lonely-1.json</div>",
        "<code class=\"setting\">x&#60;b&#62;</code>",
        "<strong>grub</strong><div class=\"why\">not there any more</div>",
        &seen(first),
        &format!("<a href=\"/jobs/{first}/steps/shell/1/edit\">"),
        "<h2>https://tests.example.org/tests.git</h2><span class=\"quiet\">1 needle, as far as jobs have looked",
    ] {
        assert!(page.contains(part), "the page lacks {part:?}:\n{page}");
    }
    assert!(!page.contains("package"), "what is no needle is left out: {page}");

    let second = ran(&server, &mut worker, &here, None, &[], &shot).await;
    let (_, page) = shown("/admin/needles?sort=match").await;
    assert!(page.contains(&seen(second)) && !page.contains(&seen(first)), "{page}");
    let place = |name: &str| page.find(&format!("<strong>{name}</strong>")).unwrap();
    assert!(place("lonely-1") < place("grub"), "what was never matched is first: {page}");
    let (_, page) = shown("/admin/needles?q=LONELY").await;
    assert!(page.contains("lonely-1") && !page.contains("<strong>grub</strong>"), "{page}");
    assert_eq!(shown("/admin/needles?sort=odd").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.page("/admin/needles").await.0, StatusCode::UNAUTHORIZED, "not for everybody");
    let link = "<a href=\"/admin/needles?q=lonely-1\">lonely-1</a>";
    assert!(shown("/search?q=lonely").await.1.contains(link), "operators find them");
    assert!(!server.page("/search?q=lonely").await.1.contains(link), "nobody else does");
}

#[tokio::test]
async fn workers_files_and_what_was_done_have_pages() {
    let server = Server::start().await;
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    let running = server.post(json!({"TEST": "runs", "BACKEND": "dummy"})).await;
    worker.expect_assign().await.unwrap();
    let waits = server.post(json!({"TEST": "waits", "WORKER_CLASS": "s390x"})).await;
    let (_, page) = server.page("/workers").await;
    for part in [
        &format!("<a href=\"/jobs/{running}\">#{running} runs</a>"),
        &format!("<a href=\"/jobs/{waits}\">#{waits} waits</a>"),
        "no online worker offers class s390x",
        "no worker that is online",
    ] {
        assert!(page.contains(part), "the page lacks {part:?}:\n{page}");
    }
    let (status, page) = server.page("/files?show=going").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("No file fits"), "{page}");

    let ann = Key::make(&server, "ann <b>", "operator", None).await;
    let path = format!("/api/v1/jobs/{waits}/comments");
    for number in 0..3 {
        assert_eq!(ann.ask(&server, POST, &path, &[("text", &format!("no {number}"))]).await.0, 200);
    }
    assert_eq!(server.page("/audit").await.0, StatusCode::UNAUTHORIZED, "not for everybody");
    assert_eq!(ann.ask(&server, GET, "/api/assay/v1/audit", &[]).await.0, 200);
    // What was done is noted beside the request.
    let noted = async || {
        server.get("/api/assay/v1/audit?event=comment_create&limit=2").await.1["next_before"].as_i64()
    };
    let before = asking(noted).await.unwrap();
    let address = server.url(&format!("/audit?event=comment_create&before={before}"));
    let page = client().get(address).bearer_auth(&server.handle.admin_token).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert_eq!(page.matches("id=\"event-").count(), 1, "{page}");
    assert!(page.contains("ann &#60;b&#62;") && page.contains("Newest"), "{page}");
}
