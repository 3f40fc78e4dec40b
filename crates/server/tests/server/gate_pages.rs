//! The gate's pages, Zuul's status document and the commands of operators, on a gate that the engine itself has filled.

use crate::common::gated::{self, Scene};
use crate::common::{Server, asking, client, has};
use assay_engine::ids::Timestamp;
use assay_proto::clock::{Clock as _, ManualClock};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where the server's clock stands: 2023-11-14T22:13:20Z.
const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

struct Gate {
    server: Server,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Gate {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn gate(count: u64) -> Gate {
    let dir = tempfile::tempdir().unwrap();
    let place = camino::Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    let data = place.join("data");
    let file = gated::prepare(&place, &data, &Scene { count, worker: true, now: NOW }).await;
    let clock = Arc::new(ManualClock::new(NOW));
    assert_eq!(clock.now(), NOW);
    let server = Server::on(&data, clock, |config| config.config = Some(file)).await.unwrap();
    // One reading at a time: after this one the reading of the start is over, too.
    let (status, reloaded) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(status, StatusCode::OK, "{reloaded}");
    Gate { server, _dir: dir }
}

#[tokio::test]
async fn the_status_document_has_the_shape_of_zuul_2() {
    let gate = gate(30).await;
    let response = client().get(gate.url("/status.json")).send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("cache-control"), "public, max-age=1");
    assert_eq!(header("last-modified"), "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!(header("expires"), "Tue, 14 Nov 2023 22:13:21 GMT");
    assert!(header("content-type").starts_with("application/json"));
    let status: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("<p>")
            && message.ends_with("queue docs is held: carol holds it: release day</p>")
    );
    assert_eq!(status["last_reconfigured"], NOW.0 / 1000);
    assert_eq!(status["trigger_event_queue"], json!({"length": 0}));
    let gate_pipeline = &status["pipelines"][1];
    let queues = gate_pipeline["change_queues"].as_array().unwrap();
    let platform = queues.iter().find(|queue| queue["name"] == "platform").unwrap();
    let heads = platform["heads"].as_array().unwrap();
    assert!(heads.iter().all(|head| head[0]["item_ahead"] == Value::Null));
    let items: Vec<&Value> = heads.iter().flat_map(|head| head.as_array().unwrap()).collect();
    assert_eq!(items.len(), 30);
    let first = items[0];
    assert_eq!(
        (&first["id"], &first["live"], &first["active"]),
        (&json!("2001,2"), &json!(true), &json!(true))
    );
    assert_eq!(first["items_behind"], json!(["2002,2"]));
    assert_eq!(first["url"], "https://review.example/2001");
    let owner = json!({"name": "Alice Example", "email": "alice@example.org", "username": "alice"});
    assert_eq!(first["owner"], owner);
    assert!(first["zuul_ref"].as_str().unwrap().starts_with('Z'));
    assert!(first["enqueue_time"].as_i64().unwrap() > 1_699_990_000_000, "milliseconds");
    let job_named = |item: &Value, name: &str| {
        item["jobs"].as_array().unwrap().iter().find(|job| job["name"] == name).unwrap().clone()
    };
    let unit = job_named(first, "unit");
    assert_eq!((&unit["result"], &unit["remaining_time"]), (&json!("SUCCESS"), &json!(0)));
    assert_eq!(unit["elapsed_time"], 5000, "milliseconds");
    assert!((1.0..60.0).contains(&unit["estimated_time"].as_f64().unwrap()), "seconds: {unit}");
    assert!(unit["end_time"].as_f64().unwrap() < 1.8e9, "seconds: {unit}");
    assert!(unit["url"].as_str().unwrap().contains("/logs/01/2001/2/gate/unit/"), "{unit}");
    let lint = job_named(first, "lint");
    assert_eq!((&lint["voting"], &lint["result"]), (&json!(false), &Value::Null));
    assert_eq!(job_named(first, "upgrade")["uuid"], Value::Null);
    assert_eq!(first["remaining_time"], Value::Null, "not all of its jobs have begun");
    // The third failed a job, so the fourth stands on the second; the fifth does not merge.
    assert_eq!(items[2]["failing_reasons"], json!(["at least one job failed"]));
    assert_eq!(items[3]["item_ahead"], "2002,2");
    assert_eq!(items[1]["items_behind"], json!(["2003,2", "2004,2"]));
    assert!(items[29]["jobs"].as_array().unwrap().is_empty() && items[29]["active"] == json!(false));
    let (_, one) = gate.get("/status/change/2003,2").await;
    assert_eq!(one[0]["id"], "2003,2");
    assert_eq!(gate.get("/status/change/7,1").await, (StatusCode::OK, json!([])));
    assert_eq!(gate.get("/status").await.1, status);
}

/// Each field of Zuul 2's document, with its value. `ASSAY_WRITE=1` writes down what it is now; read the difference.
#[tokio::test]
async fn the_status_document_has_every_field_of_zuul_2() {
    let gate = gate(3).await;
    let (_, mut status) = gate.get("/status.json").await;
    let version = status["zuul_version"].take();
    assert!(version.as_str().is_some_and(|version| version.starts_with("Assay ")), "{version}");
    // What troubles the gate, and how many results wait, is of the moment.
    let message = status["message"].take();
    for part in ["events of gerrit wait", "queue docs is held: carol holds it: release day"] {
        assert!(message.as_str().unwrap().contains(part), "{message}");
    }
    let waiting = status["result_event_queue"]["length"].take();
    assert!(waiting.is_u64(), "{waiting}");
    let told = serde_json::to_string_pretty(&status).unwrap().replace(&gate.url(""), "http://assay.example");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/status.json");
    if std::env::var_os("ASSAY_WRITE").is_some() {
        fs_err::write(file, format!("{told}\n")).unwrap();
    }
    let golden = fs_err::read_to_string(file).unwrap();
    assert_eq!(told.trim(), golden.trim(), "ASSAY_WRITE=1 writes it down");
}

#[tokio::test]
async fn the_board_shows_who_stands_on_whom() {
    let gate = gate(130).await;
    let (status, page) = gate.page("/gate").await;
    assert_eq!(status, StatusCode::OK);
    has(
        &page,
        &[
            "carol holds it: release day",
            "assay pipeline release gate docs",
            "are tested at once, the others wait",
            "id=\"item-",
            "href=\"/change/gerrit/2001\"",
            "Read &#60;both&#62; files &#38; close them",
            "unit failed",
            "beyond the window",
            "class=\"lanes w2\"",
            "data-since=",
            "more items",
        ],
    );
    assert!(page.len() < 400_000, "{} bytes", page.len());
    let (_, one) = gate.page("/gate?q=2003").await;
    assert!(one.contains("/2003\"") && !one.contains("/2004\""));
    let (status, page) = gate.page("/gate?pipeline=gaet").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    has(&page, &["The nearest is gate"]);
    has(&gate.page("/").await.1, &["href=\"/gate\"", "130"]);
}

/// The next message of an event stream that has data.
async fn next(events: &mut reqwest::Response) -> String {
    let mut text = String::new();
    loop {
        text.push_str(
            std::str::from_utf8(&events.chunk().await.unwrap().expect("the stream goes on")).unwrap(),
        );
        if let Some((message, _)) = text.split_once("\n\n")
            && message.contains("data:")
        {
            return message.to_owned();
        }
        if let Some((_, rest)) = text.split_once("\n\n") {
            text = rest.to_owned();
        }
    }
}

#[tokio::test]
async fn only_what_is_touched_is_sent_again() {
    let gate = gate(130).await;
    let (_, page) = gate.page("/gate").await;
    let version = page.split("data-version=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut stale = client().get(gate.url("/gate/live?version=0.0")).send().await.unwrap();
    assert!(next(&mut stale).await.contains("event: stale"));
    let mut events = client().get(gate.url(&format!("/gate/live?version={version}"))).send().await.unwrap();
    for (what, body) in [
        ("dequeue", json!({"pipeline": "gate", "change": "2120,99"})),
        ("promote", json!({"pipeline": "gate", "changes": ["2120,99"]})),
    ] {
        let (status, body) = gate.ask(Method::POST, &format!("/api/assay/v1/gate/{what}"), Some(body)).await;
        assert_eq!(status, StatusCode::CONFLICT, "another patchset is meant: {body}");
    }
    let (status, done) = gate
        .ask(Method::POST, "/api/assay/v1/gate/dequeue", Some(json!({"pipeline": "gate", "change": "2120"})))
        .await;
    assert_eq!((status, done["done"].as_str()), (StatusCode::OK, Some("2120 is no longer in pipeline gate")));
    let (_, audit) = gate.get("/api/assay/v1/audit?event=gate_dequeue").await;
    assert_eq!(audit["events"].as_array().map(Vec::len), Some(1), "{audit}");
    let message = next(&mut events).await;
    let data = message.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let update: Value = serde_json::from_str(data).unwrap();
    let parts = update["parts"].as_object().unwrap();
    assert!(parts.len() <= 8, "{:?}", parts.keys().collect::<Vec<_>>());
    assert!(parts.contains_key("qh-gate-platform"), "the number of items is another one");
    let list = &update["lists"][0];
    assert_eq!((&list["id"], list["keys"].as_array().unwrap().len()), (&json!("qr-gate-platform"), 30));
}

#[tokio::test]
async fn a_change_tells_its_story() {
    let gate = gate(6).await;
    let response = client().get(gate.url("/change/2001")).send().await.unwrap();
    assert_eq!(response.headers()["location"], "/change/gerrit/2001");
    let (status, page) = gate.page("/change/gerrit/2001").await;
    assert_eq!(status, StatusCode::OK);
    has(
        &page,
        &[
            "In gate",
            "job lint runs",
            "gerrit said comment-added by Bob",
            "Looks &#60;good&#62;",
            "check does not listen to this",
            "let into gate (queue platform): carol enqueued it",
            "unit ended: SUCCESS",
            "/logs/01/2001/2/gate/unit/",
            "/jobs/unit/history",
        ],
    );
    let (_, failed) = gate.page("/change/gerrit/2004").await;
    has(&failed, &["tested anew (buildset 2): 2003,2 ahead of it fails", "Buildset 1, thrown away"]);
    let (_, conflict) = gate.page("/change/gerrit/2005").await;
    has(&conflict, &["conflict in src/main.c"]);
    let (_, landed) = gate.page("/change/gerrit/1001").await;
    has(&landed, &["landed as "]);
    let (status, why) = gate.get("/api/assay/v1/changes/2003/why").await;
    assert_eq!(status, StatusCode::OK);
    let item = &why["items"][0];
    assert_eq!(item["failing"][0]["text"], "unit failed");
    assert_eq!(item["failing"][0]["reason"]["fails"], "job_failed");
    // Of one in no pipeline: what the last event lacked for those that are for such events.
    let (_, why) = gate.get("/api/assay/v1/changes/gerrit/9/why").await;
    assert_eq!(why["items"], json!([]));
    let last: Vec<_> = why["last"].as_array().unwrap().iter().map(|one| &one["text"]).collect();
    let missed = "not in check: no trigger of the pipeline matches: the event carries no vote Approved +1";
    assert_eq!(last, [missed]);
    let (_, page) = gate.page("/change/gerrit/9").await;
    has(&page, &[missed, "post does not listen to this"]);
    for path in [
        "/api/assay/v1/changes/77",
        "/api/assay/v1/changes/gerrit/77/why",
        "/api/assay/v1/changes/x",
        "/change/gerrit/77",
        "/change/x",
    ] {
        assert_eq!(gate.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (_, page) = gate.page("/jobs/unit/history").await;
    has(
        &page,
        &["Nine of ten took", "unit of 2003 says no", "/change/gerrit/2001", "<rect class=\"k-passed\""],
    );
    assert_eq!(gate.page("/jobs/nothing/history").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn operators_are_heard_or_told_why_not() {
    let gate = gate(6).await;
    let post = async |path: &str, body: Value| {
        gate.ask(Method::POST, &format!("/api/assay/v1/gate/{path}"), Some(body)).await
    };
    for (path, body, status, says) in [
        (
            "promote",
            json!({"pipeline": "gate", "changes": ["2006"]}),
            200,
            "2006 is at the head of its queue in gate",
        ),
        ("promote", json!({"pipeline": "gate", "changes": []}), 400, "There is no change to promote."),
        (
            "hold",
            json!({"pipeline": "gate", "queue": "platform", "reason": "why not"}),
            200,
            "queue platform tests, and lands nothing",
        ),
        ("hold", json!({"pipeline": "gate", "queue": "platform"}), 400, "A queue is held for a reason"),
        (
            "hold",
            json!({"pipeline": "gate", "queue": "platfrom", "reason": "x"}),
            404,
            "has no queue platfrom",
        ),
        ("release", json!({"pipeline": "gate"}), 400, "has several queues"),
        ("release", json!({"pipeline": "gate", "queue": "platform"}), 200, "lands again"),
        ("release", json!({"pipeline": "gate", "queue": "platform"}), 409, "is not held"),
        ("dequeue", json!({"pipeline": "gate", "change": "77"}), 404, "is not in pipeline gate"),
        ("dequeue", json!({"pipeline": "gaet", "change": "77"}), 404, "no pipeline \"gaet\""),
        ("dequeue", json!({"pipeline": "gate", "change": "x"}), 400, "is not a change"),
        ("dequeue", json!({"pipelin": "gate"}), 400, "cannot be read"),
        (
            "enqueue-ref",
            json!({"pipeline": "gate", "project": "docs", "ref": "master", "newrev": "short"}),
            400,
            "is not a commit",
        ),
        ("enqueue", json!({"pipeline": "gate", "change": "9,1"}), 503, "cannot be asked about change 9"),
        (
            "autoholds",
            json!({"project": "docs", "job": "unt", "count": 1, "reason": "x"}),
            404,
            "no job \"unt\"",
        ),
        (
            "autoholds",
            json!({"project": "docs", "job": "unit", "count": 0, "reason": "x"}),
            400,
            "no failures",
        ),
    ] {
        let (found, answer) = post(path, body.clone()).await;
        let text = answer["done"].as_str().or(answer["error"].as_str()).unwrap_or_default();
        assert_eq!(found.as_u16(), status, "{path} {body}: {answer}");
        assert!(text.contains(says), "{path} {body}: {answer}");
        assert!(status == 200 || !answer["help"].as_str().unwrap().is_empty(), "{answer}");
    }
    let wanted = json!({"project": "docs", "job": "unit", "change": "2001", "count": 2, "reason": "a race"});
    let (status, made) = post("autoholds?by=carol", wanted).await;
    assert_eq!(
        (status, made["id"].as_i64(), made["by"].as_str()),
        (StatusCode::CREATED, Some(1), Some("carol"))
    );
    let (_, list) = gate.get("/api/assay/v1/gate/autoholds").await;
    assert_eq!(list["autoholds"][0]["change"], 2001);
    let delete = async |id: &str| {
        gate.ask(Method::DELETE, &format!("/api/assay/v1/gate/autoholds/{id}"), None).await.0
    };
    assert_eq!(
        (delete("1").await, delete("1").await, delete("x").await),
        (StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    let refused = client().post(gate.url("/api/assay/v1/gate/reload")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "without a token nothing is changed");
    let (status, reloaded) = post("reload", json!(null)).await;
    assert_eq!(status, StatusCode::OK, "{reloaded}");
    // What was done is noted with who sent it, whoever is said to have wanted it; what was refused is not.
    let noted = async || {
        let (_, audit) = gate.get("/api/assay/v1/audit?limit=50").await;
        let mut events = audit["events"].as_array().unwrap().clone();
        events.retain(|event| event["event"].as_str().unwrap().starts_with("gate_"));
        (events.len() >= 7).then_some(events)
    };
    let audit = asking(noted).await.expect("it is noted");
    let noted: Vec<_> = audit.iter().rev().collect();
    let words: Vec<_> = noted.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let want = [
        "gate_reload",
        "gate_promote",
        "gate_hold",
        "gate_release",
        "gate_autohold",
        "gate_autohold_delete",
        "gate_reload",
    ];
    assert_eq!(words, want, "{audit:?}");
    assert!(noted.iter().all(|event| event["user"] == "admin"), "{audit:?}");
    assert_eq!(noted[2]["data"], json!({"pipeline": "gate", "queue": "platform", "reason": "why not"}));
    fs_err::write(gate.dir.join("../gate/gate.yaml"), "pipelines: [chekc]\n").unwrap();
    let (status, refused) = post("reload", json!(null)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("gate.yaml:1"), "{refused}");
    has(&gate.page("/gate").await.1, &["the one before stays in force"]);
    let (status, key) = gate.get("/api/assay/v1/receipts/key").await;
    assert_eq!(status, StatusCode::OK);
    assert!(assay_records::receipt::TrustFile::parse(key["trust"].as_str().unwrap()).is_ok(), "{key}");
    assert_eq!(gate.get("/api/assay/v1/receipts/1/abc").await.0, StatusCode::NOT_FOUND);
}
