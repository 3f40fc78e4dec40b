//! Pages with much on them, and pages that change while somebody looks at them, in a real Chromium.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job::{End, JobState};
use assay_engine::outcome::Outcome;
use assay_engine::reason::EndReason;
use assay_engine::rows::{JobRow, Retries, Row};
use assay_engine::settings::{ClassSet, Settings};
use assay_proto::clock::{Clock as _, SystemClock};
use assay_store::Batch;
use assay_tests::events::{RULES, SECRET, configure, until};
use assay_tests::looks::{fits, light_and_dark, mark, no_complaints, not_reloaded};
use assay_tests::webdriver::{Browser, keys};
use assay_tests::{Place, Signal, Up, signal};
use camino::Utf8PathBuf;
use fs_err as fs;
use reqwest::Method;
use serde_json::{Value, json};

/// Posts JSON, and insists that it is taken.
async fn call(up: &Up<'_>, path: &str, body: Value) -> Value {
    let answer = up.request(Method::POST, path).json(&body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Writes into an input as somebody who types.
async fn write(browser: &Browser, name: &str, text: &str) {
    let script = format!(
        "(() => {{ const i = document.querySelector('[name={name}]'); i.value = {}; \
         i.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()",
        json!(text)
    );
    browser.eval(&script).await;
}

/// Chooses from a list that filters what is shown.
async fn choose(browser: &Browser, id: &str, value: &str) {
    let script = format!(
        "(() => {{ const s = document.getElementById('{id}'); s.value = {}; s.dispatchEvent(new Event('change')); }})()",
        json!(value)
    );
    browser.eval(&script).await;
    browser.until(&format!("location.search.includes('{id}={value}')")).await;
}

const SOURCES: &str = "[source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.t\"\n\
                       topic-header = \"x-topic\"\n\
                       [reporter.hook]\ndriver = \"webhook\"\nurl = \"http://127.0.0.1:9/nobody\"\n\
                       secret-file = \"secret\"\nevents = [\"job.*\"]\n[results]\npolicies = \"policies.yaml\"\n";

const POLICIES: &str = "\
--- !Policy
id: push
product_versions: [fedora-*]
decision_context: push
subject_type: koji_build
rules:
  - !PassingTestCaseRule {test_case_name: dist.rpmlint}
  - !PassingTestCaseRule {test_case_name: dist.a-test-case-with-a-name-that-somebody-has-generated-from-everything}
";

#[tokio::test]
async fn events_rules_and_releases_are_read_in_every_light() {
    let place = Place::new();
    fs::write(place.join("secret"), SECRET).unwrap();
    fs::write(place.join("policies.yaml"), POLICIES).unwrap();
    let config = configure(&place, SOURCES, RULES);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    let nvr = format!("{}-5.3-1.fc44", "a-package-with-a-long-name".repeat(4));
    let hostile = "</pre><script>window.hacked = 1</script>";
    let body = json!({"state": "done", "nvr": nvr, "id": 1, "note": hostile, "word": "x".repeat(400)});
    up.hooked("build", "first", body.to_string()).await;
    up.hooked("build", "again", body.to_string()).await;
    up.hooked("other", "bad", r#"{"bad": "yes"}"#.to_owned()).await;
    up.hooked("other", "broken", hostile.to_owned()).await;
    until("all is matched", async || up.events().await.iter().all(|event| event["state"] != "received"))
        .await;
    until("the job is posted", async || up.get("inbox/1").await["effects"][0]["state"] == "done").await;
    let question = json!({
        "product_version": "fedora-44", "decision_context": "push", "subject_type": "koji_build", "subject_identifier": nvr,
    });
    call(&up, "/api/v1.0/decision", question).await;
    let result = json!({
        "testcase": "dist.rpmlint", "outcome": "FAILED", "note": format!("{hostile}{}", "x".repeat(400)),
        "data": {"item": nvr, "type": "koji_build", "arch": "x86_64"},
    });
    call(&up, "/api/v2.0/results", result).await;
    let suite = "a-suite-with-a-long-name".repeat(4);
    let settings = [("DISTRI", "d"), ("VERSION", "1"), ("BUILD", "7"), ("WORKER_CLASS", "nobody")];
    up.post(&[&settings[..], &[("FLAVOR", "dvd"), ("ARCH", "x86_64"), ("TEST", suite.as_str())]].concat())
        .await;
    until("there is something to tell", async || up.get("outbox").await["targets"][0]["waiting"] == 2).await;
    let item = format!("/item?type=koji_build&item={nvr}");
    // A post with a job, one that cannot be made, and one that was not asked for.
    let text = format!(
        "products: {{p: {{distri: d, version: '1', flavor: f, arch: a}}}}\nmachines: {{m: {{backend: dummy}}}}\n\
         job_templates:\n  {suite}: {{product: p, machine: m}}\n\
         \x20 lost: {{product: p, machine: m, settings: {{START_AFTER_TEST: nowhere}}}}\n\
         \x20 other: {{product: p, machine: m}}\n"
    );
    let product = json!({
        "DISTRI": "d", "VERSION": "1", "FLAVOR": "f", "ARCH": "a", "BUILD": nvr, "NOTE": hostile,
        "WORKER_CLASS": "nobody", "TEST": format!("{suite},lost"),
    });
    let scenarios = json!({"name": "s.yaml", "text": text});
    call(&up, "/api/assay/v1/products", json!({"settings": product, "scenarios": scenarios})).await;

    let browser = Browser::start(&place, true).await;
    for (path, name, shown) in [
        ("/events", "events", "built"),
        ("/events/1", "event", "done"),
        ("/events/3", "event-that-fails", "cannot be carried out"),
        ("/events/4", "event-parked", "not JSON"),
        ("/rules", "rules", "org.t.build"),
        ("/releases", "releases", "fedora-44"),
        ("/release?version=fedora-44", "release", "dist.rpmlint"),
        ("/results", "results", "dist.rpmlint"),
        ("/search?q=a-suite", "search", suite.as_str()),
        (item.as_str(), "item", "dist.rpmlint"),
        ("/outbox", "outbox", "job.create"),
        ("/products", "posts", "d-1-f-a"),
        ("/products/1", "post", "nowhere"),
        ("/reports/builds/7", "report", suite.as_str()),
    ] {
        browser.open(&format!("{}{path}", up.url)).await;
        let text = browser.text("main").await;
        assert!(text.contains(shown), "{path}: {shown} is not in {text}");
        fits(&browser, name).await;
        light_and_dark(&browser, name).await;
        assert_eq!(browser.eval("window.hacked ?? null").await, json!(null), "{path}");
    }
    // From what happened to what it led to, and what is left of it when one asks for more.
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/events", up.url)).await;
    choose(&browser, "state", "parked").await;
    browser.until("document.querySelectorAll('#events tbody tr').length === 1").await;
    browser.open(&format!("{}/events/2", up.url)).await;
    assert!(browser.text("#effects").await.contains("first because of event 1"));
    browser.click("#effects a[href='/jobs/1']").await;
    browser.until("location.pathname === '/jobs/1'").await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

/// A hundred suites for ten flavors and ten architectures, of which each tenth suite failed.
async fn ten_thousand_jobs(place: &Place) {
    fs::create_dir_all(place.data()).unwrap();
    let store = assay_store::open(&format!("sqlite:{}", place.data().join("assay.db"))).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let now: Timestamp = SystemClock.now();
    let mut batch = Batch::default();
    for number in 0..10_000 {
        let (suite, flavor, arch) = (number / 100, number / 10 % 10, number % 10);
        let outcome = if suite % 10 == 7 { Outcome::Failed } else { Outcome::Passed };
        let (suite, flavor, arch) =
            (format!("suite{suite:03}"), format!("flavor{flavor}"), format!("arch{arch}"));
        let settings = Settings::from_request([
            ("DISTRI", "d"),
            ("VERSION", "1"),
            ("BUILD", "7"),
            ("FLAVOR", flavor.as_str()),
            ("ARCH", arch.as_str()),
            ("TEST", suite.as_str()),
            ("MACHINE", "m"),
        ]);
        batch.push(Row::Job(JobRow {
            id: JobId(number + 1),
            name: settings.job_name(),
            priority: 50,
            classes: ClassSet::default(),
            settings: settings.into(),
            group: None,
            run: None,
            parents: Vec::new(),
            clone_of: None,
            cloned_as: None,
            retries: Retries::default(),
            hold: None,
            wait: None,
            state: JobState::Done(End::with(outcome, EndReason::Reported { text: None }, now)),
            created_at: now,
            started_at: None,
        }));
    }
    store.commit(epoch, &batch).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn ten_thousand_jobs_are_seen_chosen_from_and_change() {
    const CELLS: &str = "document.querySelectorAll('#matrix a.cell').length";
    let place = Place::new();
    ten_thousand_jobs(&place).await;
    let up = Up::start(&place, &[]).await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    let matrix = format!("{}/tests/overview?distri=d&version=1&build=7", up.url);
    browser.open(&matrix).await;
    assert_eq!(browser.eval(CELLS).await, 10_000);
    assert!(browser.text("#chips").await.contains("all 10000"));
    fits(&browser, "matrix-of-ten-thousand").await;
    light_and_dark(&browser, "matrix-of-ten-thousand").await;
    browser.resize(1400, 900).await;

    // By a list, by typing, by a count.
    choose(&browser, "arch", "arch3").await;
    browser.until(&format!("{CELLS} === 1000")).await;
    browser.press(&["/"]).await;
    browser.press(&["s", "u", "i", "t", "e", "0", "4", "2", keys::ENTER]).await;
    browser.until("location.search.includes('q=suite042')").await;
    browser.until(&format!("{CELLS} === 10")).await;
    browser.open(&matrix).await;
    browser.click("#chips a.k-failed").await;
    browser.until("location.search.includes('result=failed')").await;
    browser.until(&format!("{CELLS} === 1000")).await;

    // One that is started anew changes its cell, and hardly anything else is touched.
    browser.open(&matrix).await;
    mark(&browser).await;
    browser
        .eval(
            "(() => { window.touched = new Set(); new MutationObserver(all => all.forEach(one => \
             touched.add(one.target.closest?.('td') ?? one.target))).observe(document.querySelector('#matrix'), \
             { subtree: true, attributes: true, childList: true }); })()",
        )
        .await;
    let go = place.join("go");
    let job = up
        .post(&[
            ("DISTRI", "d"),
            ("VERSION", "1"),
            ("BUILD", "7"),
            ("FLAVOR", "flavor0"),
            ("ARCH", "arch0"),
            ("TEST", "suite000"),
            ("MACHINE", "m"),
            ("BACKEND", "dummy"),
            ("DUMMY_WAIT_FILE", go.as_str()),
        ])
        .await;
    let cell =
        |word: &str| format!("document.querySelector('#matrix a.cell.k-{word}[href=\"/jobs/{job}\"]')");
    browser.until(&cell("running")).await;
    fs::write(&go, "failed").unwrap();
    browser.until(&cell("failed")).await;
    assert_eq!(browser.eval(CELLS).await, 10_000);
    let touched = browser.eval("window.touched.size").await;
    assert!(touched.as_u64().unwrap() <= 5, "{touched} cells were touched");
    not_reloaded(&browser).await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

/// A job of the group's build that runs until its file is there; its number, and the file.
async fn held_job(place: &Place, up: &Up<'_>, test: &str) -> (i64, Utf8PathBuf) {
    let go = place.join(test);
    let body = json!({
        "DISTRI": "demo", "VERSION": "43", "FLAVOR": "dvd", "ARCH": "x86_64", "BUILD": "1", "MACHINE": "64bit",
        "BACKEND": "dummy", "_GROUP_ID": "1", "TEST:1": test, "DUMMY_WAIT_FILE": go.as_str(),
    });
    let made = call(up, "/api/v1/jobs", body).await;
    (made["ids"]["1"].as_i64().unwrap(), go)
}

#[tokio::test]
async fn workers_results_and_builds_change_while_one_looks() {
    let place = Place::new();
    let up = Up::start_as(&place, "server", &[]).await;
    call(&up, "/api/v1/job_groups", json!({"name": "Nightly"})).await;
    let (first, go) = held_job(&place, &up, "first").await;
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    let workers = format!("{}/workers", up.url);
    let text_of = |selector: &str, text: &str| {
        format!("document.querySelector({}).innerText.includes({})", json!(selector), json!(text))
    };

    // A worker joins and takes what waits; then it is free.
    browser.open(&workers).await;
    assert!(browser.text("#workers").await.contains("No worker has ever connected"));
    assert!(browser.text("#waiting").await.contains("first"));
    mark(&browser).await;
    let worker = place.start(&["worker", "--name", "rack:1", "--pool", "pool"]);
    let at_work =
        |job: i64| format!("document.querySelector('[id=\"worker-rack:1\"] a[href=\"/jobs/{job}\"]')");
    browser.until(&at_work(first)).await;
    browser.until(&text_of("#workers-head", "1 of")).await;
    browser.until(&text_of("#waiting", "No job waits")).await;
    fs::write(&go, "").unwrap();
    browser.until(&format!("!{}", at_work(first))).await;
    browser.until(&text_of("#workers-head", "0 of")).await;
    not_reloaded(&browser).await;

    // A cell of the matrix says what becomes of its job; a job that is new has a row of its own.
    let (second, go) = held_job(&place, &up, "second").await;
    browser.open(&format!("{}/tests/overview?distri=demo&version=43&build=1&groupid=1", up.url)).await;
    let cell = |word: &str, job: i64| {
        format!("document.querySelector('#matrix a.cell.k-{word}[href=\"/jobs/{job}\"]')")
    };
    mark(&browser).await;
    browser.until(&cell("running", second)).await;
    fs::write(&go, "failed").unwrap();
    browser.until(&cell("failed", second)).await;
    browser.until(&text_of("#chips", "failed 1")).await;
    let (third, go) = held_job(&place, &up, "third").await;
    browser.until(&cell("running", third)).await;
    assert_eq!(browser.eval("document.querySelectorAll('#matrix a.cell').length").await, 3);
    not_reloaded(&browser).await;

    // So do the counts of its build.
    browser.open(&up.url).await;
    mark(&browser).await;
    let count = |title: &str| format!("document.querySelector('#group-1 .counts a[title=\"{title}\"]')");
    for title in ["1 passed", "1 failed", "1 running"] {
        browser.until(&count(title)).await;
    }
    fs::write(&go, "").unwrap();
    browser.until(&count("2 passed")).await;
    assert_eq!(browser.eval(&count("1 running")).await, json!(null));
    not_reloaded(&browser).await;

    // It leaves.
    browser.open(&workers).await;
    mark(&browser).await;
    signal(worker.pid(), Signal::TERM);
    worker.end().await.expect(0);
    browser.until("document.querySelector('[id=\"worker-rack:1\"] .k-offline')").await;
    not_reloaded(&browser).await;
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}

#[tokio::test]
async fn properties_of_a_group_are_checked_as_one_types() {
    let place = Place::new();
    let up = Up::start_as(&place, "server", &["--trust-loopback"]).await;
    for name in ["Nightly", "Weekly"] {
        call(&up, "/api/v1/job_groups", json!({ "name": name })).await;
    }
    let browser = Browser::start(&place, true).await;
    browser.resize(1400, 900).await;
    browser.open(&format!("{}/group_overview/1/properties", up.url)).await;
    let refused = "!document.querySelector('#verdict').hidden && document.querySelector('#save').disabled";
    let fine = "document.querySelector('#verdict').hidden && !document.querySelector('#save').disabled";
    let marked = "[...document.querySelectorAll('[aria-invalid]')].map(input => input.name)";
    assert_eq!(browser.eval(fine).await, true);
    write(&browser, "keep_logs_in_days", "500").await;
    browser.until(refused).await;
    let said = browser.text("#verdict").await;
    assert!(said.contains("keep_logs_in_days would be 500, keep_results_in_days is 365"), "{said}");
    assert_eq!(browser.eval(marked).await, json!(["keep_logs_in_days"]));
    fits(&browser, "group-properties").await;
    light_and_dark(&browser, "group-properties").await;
    browser.resize(1400, 900).await;
    write(&browser, "keep_logs_in_days", "20").await;
    browser.until(fine).await;
    assert_eq!(browser.eval(marked).await, json!([]));
    // A name that another group has, none at all, and one that is free.
    write(&browser, "name", "Weekly").await;
    browser.until(refused).await;
    assert!(browser.text("#verdict").await.contains("\"Weekly\" already"));
    assert_eq!(browser.eval(marked).await, json!(["name"]));
    write(&browser, "name", "").await;
    browser.until("document.querySelector('#verdict').innerText.includes('name missing')").await;
    write(&browser, "name", "Hourly").await;
    browser.until(fine).await;
    let before = up.request(Method::GET, "/api/v1/job_groups/1").send().await.unwrap();
    assert_eq!(before.json::<Value>().await.unwrap()[0]["name"], "Nightly", "nothing is saved by itself");
    browser.click("#save").await;
    browser.until("location.search === '?saved=1'").await;
    let after = up.request(Method::GET, "/api/v1/job_groups/1").send().await.unwrap();
    let after: Value = after.json().await.unwrap();
    assert_eq!((&after[0]["name"], &after[0]["keep_logs_in_days"]), (&json!("Hourly"), &json!(20)));
    no_complaints(&browser).await;
    browser.quit().await;
    up.stop().await;
}
