//! Whatever operators and admins change by the APIs is noted once.

use crate::common::{Server, asking, client};
use crate::openqa::{PRODUCT, catalog};
use crate::people::Key;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every address of both APIs.
const ENDPOINTS: &str = include_str!("../../src/api/openapi/endpoints.txt");

/// Changing requests that leave no note, and why.
const SILENT: [(&str, &str); 8] = [
    ("POST /api/assay/v1/jobs/{id}/needles/preview", "nothing is changed"),
    ("POST /api/assay/v1/products/plan", "nothing is changed"),
    ("POST /api/assay/v1/assets/uploads", "bytes are no asset yet"),
    ("PATCH /api/assay/v1/assets/uploads/{id}", "bytes are no asset yet"),
    ("DELETE /api/assay/v1/assets/uploads/{id}", "bytes were no asset yet"),
    ("POST /api/v1/assets", "what it tells is there already"),
    ("POST /api/v1/workers", "refused"),
    ("POST /api/v1/webhooks/product", "is tested with its signatures"),
];

/// Where requests are tried that need a gate, messages, reporters or a checkout; each of these tests looks at its note.
const ELSEWHERE: [(&str, &str); 5] = [
    ("/api/assay/v1/gate/", "gate_pages, operators_are_heard_or_told_why_not: one place notes all commands"),
    ("/api/assay/v1/inbox/", "tests/events.rs, where an event is replayed"),
    ("/api/assay/v1/schedule/", "tests/events.rs, where a compose is scheduled"),
    ("/api/assay/v1/outbox/", "reporting, where what was refused is told again"),
    ("/api/assay/v1/jobs/{id}/needles", "knowledge, where a needle is committed"),
];

/// The address as it is documented, the same filled in, and what is sent: JSON or a form. `{last}` is the number, key or
/// name of the last answer that had one. In this order.
const TABLE: &[(&str, &str, &str)] = &[
    ("POST /api/assay/v1/jobs", "", r#"{"settings": {"TEST": "a", "WORKER_CLASS": "none"}}"#),
    ("POST /api/v1/jobs", "", "TEST=b&WORKER_CLASS=none"),
    ("POST /api/assay/v1/jobs/{id}/priority", "/api/assay/v1/jobs/1/priority", r#"{"priority": 7}"#),
    ("POST /api/v1/jobs/{id}/prio", "/api/v1/jobs/1/prio?prio=8", ""),
    ("PUT /api/v1/jobs/{id}", "/api/v1/jobs/1", r#"{"priority": 9}"#),
    ("POST /api/assay/v1/jobs/{id}/comments", "/api/assay/v1/jobs/1/comments", r#"{"text": "x"}"#),
    ("DELETE /api/v1/jobs/{id}/comments/{comment}", "/api/v1/jobs/1/comments/{last}", ""),
    ("POST /api/v1/comments", "", "job_id=1&text=y"),
    ("DELETE /api/v1/comments", "/api/v1/comments?id=4", ""),
    ("POST /api/assay/v1/jobs/{id}/comments", "/api/assay/v1/jobs/1/comments", r#"{"text": "z"}"#),
    (
        "PUT /api/assay/v1/jobs/{id}/comments/{comment}",
        "/api/assay/v1/jobs/1/comments/{last}",
        r#"{"text": "zz"}"#,
    ),
    ("DELETE /api/assay/v1/jobs/{id}/comments/{comment}", "/api/assay/v1/jobs/1/comments/{last}", ""),
    ("POST /api/assay/v1/jobs/{id}/cancel", "/api/assay/v1/jobs/1/cancel", ""),
    ("POST /api/v1/jobs/{id}/cancel", "/api/v1/jobs/2/cancel", ""),
    ("POST /api/assay/v1/jobs/{id}/restart", "/api/assay/v1/jobs/1/restart", ""),
    ("POST /api/v1/jobs/{id}/restart", "/api/v1/jobs/2/restart", ""),
    ("POST /api/v1/jobs/{id}/set_done", "/api/v1/jobs/3/set_done?result=failed", ""),
    ("POST /api/assay/v1/jobs/restart", "", r#"{"jobs": [3]}"#),
    ("POST /api/v1/jobs/cancel", "", "TEST=b"),
    ("POST /api/v1/jobs/restart", "", "jobs=4"),
    ("POST /api/v1/jobs/{id}/cancel", "/api/v1/jobs/6/cancel", ""),
    ("POST /api/v1/jobs/{id}/duplicate", "/api/v1/jobs/6/duplicate", ""),
    ("DELETE /api/v1/jobs/{id}", "/api/v1/jobs/1", ""),
    ("POST /api/assay/v1/jobs/cleanup", "", r#"{"dry_run": false}"#),
    ("POST /api/assay/v1/workers/{name}/drain", "/api/assay/v1/workers/w1/drain", r#"{"drained": true}"#),
    ("DELETE /api/assay/v1/workers/{name}", "/api/assay/v1/workers/w1", ""),
    ("DELETE /api/v1/workers/{id}", "/api/v1/workers/{w2}", ""),
    (
        "POST /api/assay/v1/products",
        "",
        r#"{"settings": {"DISTRI": "fedora", "VERSION": "43", "FLAVOR": "universal", "ARCH": "x86_64", "ISO": "x.iso"}}"#,
    ),
    ("POST /api/v1/isos", "", "DISTRI=fedora&VERSION=43&FLAVOR=universal&ARCH=x86_64&BUILD=1"),
    ("POST /api/v1/isos/{id}/cancel", "/api/v1/isos/{last}/cancel", ""),
    (
        "PUT /api/v1/experimental/isos/note",
        "",
        "distri=fedora&version=43&flavor=universal&arch=x86_64&build=1&note=x",
    ),
    ("DELETE /api/v1/isos/{id}", "/api/v1/isos/x.iso", ""),
    (
        "POST /api/assay/v1/templates",
        "",
        r#"{"files": [{"name": "t.json", "text": "{\"Machines\": [{\"name\": \"new\", \"backend\": \"q\", \"settings\": []}]}"}]}"#,
    ),
    ("POST /api/v1/bugs", "", "bugid=boo%239&title=x"),
    ("PUT /api/v1/bugs/{id}", "/api/v1/bugs/{last}", "title=y"),
    ("POST /api/v1/bugs/{id}", "/api/v1/bugs/{last}", "title=z"),
    ("DELETE /api/v1/bugs/{id}", "/api/v1/bugs/{last}", ""),
    (
        "POST /api/assay/v1/assets/{kind}/{name}/fix",
        "/api/assay/v1/assets/iso/a.iso/fix",
        r#"{"fixed": true}"#,
    ),
    (
        "POST /api/assay/v1/assets/{kind}/{name}/fix",
        "/api/assay/v1/assets/iso/a.iso/fix",
        r#"{"fixed": false}"#,
    ),
    ("DELETE /api/assay/v1/assets/{kind}/{name}", "/api/assay/v1/assets/iso/a.iso", ""),
    ("DELETE /api/v1/assets/{kind}/{name}", "/api/v1/assets/iso/b.iso", ""),
    ("DELETE /api/v1/assets/{id}", "/api/v1/assets/{c.iso}", ""),
    ("POST /api/assay/v1/assets/cleanup", "", r#"{"dry_run": false}"#),
    ("POST /api/v1/assets/cleanup", "", ""),
    ("POST /api/assay/v1/setup-tokens", "", r#"{"user": "ann", "role": "operator"}"#),
    ("DELETE /api/assay/v1/users/{name}/sessions", "/api/assay/v1/users/ann/sessions", ""),
    ("POST /api/assay/v1/users/{name}", "/api/assay/v1/users/ann", r#"{"role": "viewer"}"#),
    ("DELETE /api/assay/v1/users/{name}", "/api/assay/v1/users/ann", ""),
    ("POST /api/assay/v1/keys", "", r#"{"user": "bob", "role": "operator"}"#),
    ("DELETE /api/assay/v1/keys/{key}", "/api/assay/v1/keys/{last}", ""),
    ("DELETE /api/v1/user/{name}", "/api/v1/user/bob", ""),
    ("POST /api/assay/v1/rules/reload", "", ""),
    ("POST /api/v1/job_groups", "", "name=g"),
    ("PUT /api/v1/job_groups/{id}", "/api/v1/job_groups/{last}", "description=x"),
    ("POST /api/v1/job_groups/{id}", "/api/v1/job_groups/{last}", "description=y"),
    ("POST /api/v1/job_templates_scheduling", "", "{yaml}&name=g"),
    ("POST /api/v1/job_templates_scheduling/{group}", "/api/v1/job_templates_scheduling/g", "{yaml}"),
    ("PUT /api/v1/job_templates_scheduling/{group}", "/api/v1/job_templates_scheduling/g", "{yaml}"),
    ("POST /api/v1/experimental/job_templates_scheduling", "", "{yaml}&name=g"),
    (
        "POST /api/v1/experimental/job_templates_scheduling/{group}",
        "/api/v1/experimental/job_templates_scheduling/g",
        "{yaml}",
    ),
    (
        "PUT /api/v1/experimental/job_templates_scheduling/{group}",
        "/api/v1/experimental/job_templates_scheduling/g",
        "{yaml}",
    ),
    ("DELETE /api/v1/groups/{id}/comments/{comment}", "/api/v1/groups/1/comments/{group}", ""),
    ("POST /api/v1/parent_groups", "", "name=p"),
    ("PUT /api/v1/parent_groups/{id}", "/api/v1/parent_groups/{last}", "description=x"),
    ("POST /api/v1/parent_groups/{id}", "/api/v1/parent_groups/{last}", "description=y"),
    ("DELETE /api/v1/parent_groups/{id}", "/api/v1/parent_groups/{last}", ""),
    ("DELETE /api/v1/parent_groups/{id}/comments/{comment}", "/api/v1/parent_groups/1/comments/{parent}", ""),
    ("POST /api/v1/job_groups", "", "name=h"),
    ("DELETE /api/v1/job_groups/{id}", "/api/v1/job_groups/{last}", ""),
    ("POST /api/v1/machines", "", "name=m&backend=q"),
    ("PUT /api/v1/machines/{id}", "/api/v1/machines/{last}", "name=m&backend=r"),
    ("POST /api/v1/machines/{id}", "/api/v1/machines/{last}", "name=m&backend=s"),
    ("DELETE /api/v1/machines/{id}", "/api/v1/machines/{last}", ""),
    ("POST /api/v1/test_suites", "", "name=s"),
    ("PUT /api/v1/test_suites/{id}", "/api/v1/test_suites/{last}", "name=s&description=x"),
    ("POST /api/v1/test_suites/{id}", "/api/v1/test_suites/{last}", "name=s&description=y"),
    ("DELETE /api/v1/test_suites/{id}", "/api/v1/test_suites/{last}", ""),
    ("POST /api/v1/products", "", "distri=d&version=v&arch=a&flavor=f"),
    ("PUT /api/v1/products/{id}", "/api/v1/products/{last}", "distri=d&version=v&arch=a&flavor=g"),
    ("POST /api/v1/products/{id}", "/api/v1/products/{last}", "distri=d&version=v&arch=a&flavor=h"),
    ("DELETE /api/v1/products/{id}", "/api/v1/products/{last}", ""),
    (
        "POST /api/v1/job_templates",
        "",
        "group_name=other&machine_name=new&test_suite_name=install&distri=fedora&version=*&arch=x86_64&flavor=universal",
    ),
    ("DELETE /api/v1/job_templates/{id}", "/api/v1/job_templates/{last}", ""),
    ("POST /api/v1/jobs", "", "TEST=r&WORKER_CLASS=none"),
    ("POST /api/assay/v1/jobs/{id}/result", "/api/assay/v1/jobs/{last}/result", r#"{"result": "failed"}"#),
    ("DELETE /api/assay/v1/jobs/{id}", "/api/assay/v1/jobs/{last}", ""),
    ("POST /api/assay/v1/groups", "", r#"{"name": "own"}"#),
    ("PATCH /api/assay/v1/groups/{id}", "/api/assay/v1/groups/{last}", r#"{"description": "x"}"#),
    ("DELETE /api/assay/v1/groups/{id}", "/api/assay/v1/groups/{last}", ""),
    ("POST /api/assay/v1/groups/{id}/comments", "/api/assay/v1/groups/1/comments", r#"{"text": "x"}"#),
    ("DELETE /api/assay/v1/groups/{id}/comments/{comment}", "/api/assay/v1/groups/1/comments/{last}", ""),
    (
        "POST /api/assay/v1/groups/{id}/tags",
        "/api/assay/v1/groups/1/tags",
        r#"{"build": "1", "kind": "important"}"#,
    ),
    ("DELETE /api/assay/v1/groups/{id}/tags/{build}/{kind}", "/api/assay/v1/groups/1/tags/1/important", ""),
    ("POST /api/assay/v1/parent-groups", "", r#"{"name": "own"}"#),
    ("PATCH /api/assay/v1/parent-groups/{id}", "/api/assay/v1/parent-groups/{last}", r#"{"sort_order": 1}"#),
    ("DELETE /api/assay/v1/parent-groups/{id}", "/api/assay/v1/parent-groups/{last}", ""),
    (
        "POST /api/assay/v1/parent-groups/{id}/comments",
        "/api/assay/v1/parent-groups/1/comments",
        r#"{"text": "x"}"#,
    ),
    (
        "DELETE /api/assay/v1/parent-groups/{id}/comments/{comment}",
        "/api/assay/v1/parent-groups/1/comments/{last}",
        "",
    ),
    ("POST /api/assay/v1/bugs", "", r#"{"bugid": "boo#10", "title": "x"}"#),
    ("PATCH /api/assay/v1/bugs/{id}", "/api/assay/v1/bugs/{last}", r#"{"open": false}"#),
    ("DELETE /api/assay/v1/bugs/{id}", "/api/assay/v1/bugs/{last}", ""),
    (
        "POST /api/assay/v1/products",
        "",
        r#"{"settings": {"DISTRI": "fedora", "VERSION": "43", "FLAVOR": "universal", "ARCH": "x86_64"}}"#,
    ),
    ("POST /api/assay/v1/products/{id}/cancel", "/api/assay/v1/products/{last}/cancel", ""),
    ("PUT /api/assay/v1/products/{id}/note", "/api/assay/v1/products/{last}/note", r#"{"note": "x"}"#),
    ("POST /api/v1/jobs", "", "TEST=c&WORKER_CLASS=none"),
    ("PATCH /api/assay/v1/jobs/{id}", "/api/assay/v1/jobs/{last}", r#"{"group": "g", "priority": 3}"#),
    ("POST /api/assay/v1/jobs/cancel", "", r#"{"settings": {"TEST": "c"}}"#),
];

/// As admin; the status and the answer.
async fn send(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = client().request(method, server.url(path)).bearer_auth(&server.handle.admin_token);
    let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
    let answer = request.header("content-type", kind).body(body.to_owned()).send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A worker that has been here.
async fn gone(server: &Server, name: &str) {
    let worker = server.worker(name).connect(&[]).await.unwrap();
    worker.vanish();
    let gone = async || {
        let (_, list) = server.get("/api/assay/v1/workers").await;
        let all = list["workers"].as_array().unwrap();
        all.iter().any(|one| one["name"] == name && one["online"] == json!(false)).then_some(())
    };
    asking(gone).await.unwrap();
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[tokio::test]
async fn every_change_of_operators_and_admins_is_noted() {
    let changing = ENDPOINTS.lines().filter(|line| {
        let words: Vec<_> = line.split(' ').collect();
        matches!(words[..], ["POST" | "PUT" | "DELETE" | "PATCH", _, "operator" | "admin"])
    });
    let changing = changing.map(|line| line.rsplit_once(' ').unwrap().0);
    let tried: BTreeSet<_> = TABLE.iter().map(|(route, ..)| *route).collect();
    let path = |route: &str| route.split_once(' ').unwrap().1.to_owned();
    let untried: Vec<_> = changing
        .filter(|route| !tried.contains(route) && SILENT.iter().all(|(silent, _)| silent != route))
        .filter(|route| ELSEWHERE.iter().all(|(begin, _)| !path(route).starts_with(begin)))
        .filter(|route| *route != "POST /api/assay/v1/assets/uploads/{id}/complete")
        .collect();
    assert!(untried.is_empty(), "nobody looks at what is noted of {untried:?}");

    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let newest = async || server.get("/api/assay/v1/audit?limit=1").await.1["events"][0].clone();
    for name in ["a.iso", "b.iso", "c.iso"] {
        let before = newest().await["id"].as_i64().unwrap();
        server.publish(name, name.as_bytes()).await;
        let event = newest().await;
        assert_eq!(
            (&event["id"], &event["event"]),
            (&json!(before + 1), &json!("asset_register")),
            "{event}"
        );
    }
    for name in ["w1", "w2"] {
        gone(&server, name).await;
    }
    send(&server, "POST", "/api/v1/parent_groups", "name=all").await;
    let (_, group) = send(&server, "POST", "/api/v1/groups/1/comments", "text=x").await;
    let (_, parent) = send(&server, "POST", "/api/v1/parent_groups/1/comments", "text=x").await;
    let workers = server.get("/api/v1/workers").await.1;
    let w2 = workers["workers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["host"] == "w2:1" || one["host"] == "w2");
    let assets = server.get("/api/v1/assets").await.1;
    let c = assets["assets"].as_array().unwrap().iter().find(|one| one["name"] == "c.iso").unwrap();
    let given = [
        ("{w2}", text(&w2.unwrap_or_else(|| panic!("{workers}"))["id"])),
        ("{c.iso}", text(&c["id"])),
        ("{group}", text(&group["id"])),
        ("{parent}", text(&parent["id"])),
        (
            "{yaml}",
            "schema=JobTemplates-01.yaml&template=products:%0A  f:%0A    distri: fedora%0A    flavor: universal%0A    \
             version: '*'%0Ascenarios:%0A  x86_64:%0A    f:%0A    - own:%0A        machine: 64bit%0A        testsuite: null%0A"
                .replace(' ', "%20"),
        ),
    ];
    assert_eq!(PRODUCT.len(), 5, "the product of the table is the catalog's");
    let mut last = String::new();
    for (route, path, body) in TABLE {
        let (method, plain) = route.split_once(' ').unwrap();
        let path = if path.is_empty() { plain } else { path };
        let filled = |text: &str| {
            let known = given.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
            known.replace("{last}", &last)
        };
        let (path, body) = (filled(path), filled(body));
        let before = newest().await["id"].as_i64().unwrap();
        let (status, answer) = send(&server, method, &path, &body).await;
        assert!((200..300).contains(&status), "{method} {path} {body}: {status} {answer}");
        let event = newest().await;
        assert_eq!(event["id"].as_i64(), Some(before + 1), "{method} {path} {body}: {answer}; {event}");
        assert_eq!(event["user"], "admin", "{method} {path}: {event}");
        let named = ["scheduled_product_id", "id", "key"].iter().find_map(|name| answer.get(name));
        if let Some(id) = named {
            last = text(id.get("key").unwrap_or(id));
        }
    }
}

#[tokio::test]
async fn what_was_done_is_found_by_its_words() {
    let server = Server::start().await;
    let ann = Key::make(&server, "ann", "admin", None).await;
    let found = async |event: &str, words: &str| {
        let (_, list) = server.get(&format!("/api/assay/v1/audit?event={event}&q={words}")).await;
        list["events"][0]["data"].clone()
    };
    catalog(&server, &ann).await;
    let job = server.post_dummy().await;
    assert_eq!(send(&server, "POST", &format!("/api/v1/jobs/{job}/cancel"), "").await.0, 200);

    let path = format!("/api/v1/jobs/{job}/comments");
    let (_, said) =
        ann.ask(&server, Method::POST, &path, &[("text", "label:force_result:softfailed:boo#1")]).await;
    let seen = json!({
        "id": job, "name": "hello", "old_result": "user_cancelled", "reason": "boo#1", "result": "softfailed",
    });
    assert_eq!(found("job_update_result", "softfailed").await, seen);
    let comment = found("comment_create", "force_result").await;
    assert_eq!((&comment["id"], &comment["job_id"]), (&said["id"], &json!(job)), "{comment}");
    send(&server, "POST", &format!("/api/v1/jobs/{job}/set_done"), "result=failed").await;
    let done = found("job_done", "failed").await;
    assert_eq!((&done["result"], &done["old_result"]), (&json!("failed"), &json!("softfailed")), "{done}");

    let long = format!("words {}", "x".repeat(5000));
    let (_, said) = ann.ask(&server, Method::POST, "/api/v1/groups/1/comments", &[("text", &long)]).await;
    let path = format!("/api/v1/groups/1/comments/{}", said["id"]);
    let (status, _) = ann.ask(&server, Method::PUT, &path, &[("text", "other")]).await;
    assert_eq!(status, 200);
    let changed = found("comment_update", "words").await;
    assert_eq!((&changed["group_id"], &changed["text"]), (&json!(1), &json!("other")), "{changed}");
    assert!(changed["old_text"].as_str().unwrap().len() < 1000, "{changed}");
    assert_eq!(send(&server, "DELETE", &path, "").await.0, 200);
    let gone = found("comment_delete", "other").await;
    let want = (&json!(1), &json!("other"), &json!("ann"));
    assert_eq!((&gone["group_id"], &gone["text"], &gone["author"]), want, "{gone}");

    let tables = json!({
        "Machines": [{"name": "64bit", "backend": "qemu", "settings": [{"key": "_SECRET_A", "value": "sesame"}]}],
        "TestSuites": [{"name": "install", "settings": []}, {"name": "fresh", "settings": []}],
    });
    let load = async |file: &str| {
        let body = json!({"files": [{"name": file, "text": tables.to_string()}]});
        assert_eq!(send(&server, "POST", "/api/assay/v1/templates", &body.to_string()).await.0, 200);
    };
    load("base.json").await;
    let loaded = found("table_update", "base.json").await;
    let want = json!({
        "files": ["base.json"],
        "changes": {"changed machine": ["64bit"], "new test_suite": ["fresh"]},
        "not_named": 0,
    });
    assert_eq!(loaded, want, "names of what changed, not of what is the same, and no secrets");
    load("again.json").await;
    assert_eq!(found("table_update", "again").await, Value::Null, "nothing was changed");
    let (_, suites) = server.get("/api/v1/test_suites?name=fresh").await;
    let path = format!("/api/v1/test_suites/{}", suites["TestSuites"][0]["id"]);
    send(&server, "DELETE", &path, "").await;
    assert_eq!(found("table_delete", "fresh").await["table"], "TestSuites");
}

#[tokio::test]
async fn what_has_a_number_is_noted_with_its_name() {
    let server = Server::start().await;
    let ann = Key::make(&server, "ann", "admin", None).await;
    let newest = async |event: &str| {
        let (_, list) = server.get(&format!("/api/assay/v1/audit?event={event}&limit=1")).await;
        list["events"][0]["data"].clone()
    };
    catalog(&server, &ann).await;
    let product = "fedora-*-universal-x86_64";
    let update = json!({
        "id": 2, "group": "fedora", "product": product, "machine": "64bit", "test_suite": "update",
    });
    assert_eq!(newest("jobtemplate_create").await, update);
    assert_eq!(send(&server, "DELETE", "/api/v1/job_templates/2", "").await.0, 200);
    assert_eq!(newest("jobtemplate_delete").await, update, "when there is no such number any more");

    assert_eq!(send(&server, "POST", "/api/v1/job_groups", "name=g").await.0, 200);
    let save = async |scenario: &str| {
        let yaml = format!(
            "products:\n  f:\n    distri: fedora\n    flavor: universal\n    version: '*'\n\
             scenarios:\n  x86_64:\n    f:\n    - {scenario}:\n        machine: 64bit\n        testsuite: null\n"
        );
        let form = [("schema", "JobTemplates-01.yaml"), ("template", yaml.as_str())];
        let (status, saved) =
            ann.ask(&server, Method::POST, "/api/v1/job_templates_scheduling/g", &form).await;
        assert_eq!(status, 200, "{saved}");
        let noted = newest("jobtemplate_create").await;
        assert_eq!((&noted["group"], &noted["ids"]), (&json!("g"), &saved["ids"]), "{noted}");
        noted["changes"].clone()
    };
    let new = json!([format!("own@64bit for {product}")]);
    assert_eq!(save("own").await, json!({ "new job_template": new }));
    assert_eq!(save("own").await, json!({}), "it is as it was");
    let next = json!([format!("next@64bit for {product}")]);
    assert_eq!(save("next").await, json!({"new job_template": next, "removed job_template": new}));

    let (status, posted) = ann.ask(&server, Method::POST, "/api/v1/isos", &PRODUCT).await;
    assert_eq!(status, 200, "{posted}");
    let post = json!({
        "scheduled_product_id": posted["scheduled_product_id"], "product": "fedora-43-universal-x86_64",
        "build": "43.1",
    });
    assert_eq!(newest("iso_create").await, post);
    let path = format!("/api/v1/isos/{}/cancel", posted["scheduled_product_id"]);
    assert_eq!(send(&server, "POST", &path, "").await.0, 200);
    assert_eq!(newest("iso_cancel").await, post);

    let job = server.job(posted["ids"][0].as_i64().unwrap()).await;
    assert_eq!(send(&server, "DELETE", &format!("/api/v1/jobs/{}", job.id), "").await.0, 200);
    assert_eq!(newest("job_delete").await, json!({"id": job.id.0, "name": job.name}));
    server.post(json!({"TEST": "a", "WORKER_CLASS": "none", "_SECRET_A": "sesame"})).await;
    let chosen = "TEST=a&_SECRET_A=sesame";
    assert_eq!(send(&server, "POST", "/api/v1/jobs/cancel", chosen).await.1["result"], 1);
    let settings = json!({"TEST": "a", "_SECRET_A": "***"});
    let noted = json!({"settings": settings, "build": [], "groups": [], "result": 1});
    assert_eq!(newest("job_cancel_by_settings").await, noted, "which jobs, and no secrets");
    let (_, bug) = ann.ask(&server, Method::POST, "/api/v1/bugs", &[("bugid", "boo#9")]).await;
    assert_eq!(send(&server, "DELETE", &format!("/api/v1/bugs/{}", bug["id"]), "").await.0, 200);
    assert_eq!(newest("bug_delete").await, json!({"id": bug["id"], "bugid": "boo#9"}));
}
