//! Assay's own API for what openQA's has as well: groups, comments, bugs, posts, results, the history of a scenario.

use crate::common::Server;
use crate::openqa::{PRODUCT, catalog};
use crate::people::Key;
use reqwest::Method;
use serde_json::{Value, json};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// A request by somebody, and what comes of it: the status, and a piece of the answer.
type Case<'k> = (&'k Key, Method, &'k str, Option<Value>, u16, &'k str);

async fn all(server: &Server, cases: Vec<Case<'_>>) {
    for (key, method, path, body, want, text) in cases {
        let (status, answer) = key.own(server, method.clone(), path, body.clone()).await;
        let sent = body.unwrap_or_default();
        assert!(
            status == want && answer.to_string().contains(text),
            "{} {method} {path} {sent}: {status} {answer}",
            key.user
        );
        assert!(want < 400 || !answer["help"].as_str().unwrap().is_empty(), "{path} {sent}: {answer}");
    }
}

/// A viewer, an operator and an admin.
async fn people(server: &Server) -> [Key; 3] {
    [
        Key::make(server, "v", "viewer", None).await,
        Key::make(server, "o", "operator", None).await,
        Key::make(server, "a", "admin", None).await,
    ]
}

#[tokio::test]
async fn groups_say_what_they_inherit() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    let above = json!({"name": " All ", "properties": {"keep_jobs_in_days": 400, "keep_logs_in_days": 7}});
    let (status, parent) = admin.own(&server, POST, "parent-groups", Some(above)).await;
    assert_eq!((status, &parent["name"], &parent["groups"]), (201, &json!("All"), &json!([])), "{parent}");
    let own = json!({"name": "g", "parent": 1, "description": "d",
        "properties": {"keep_logs_in_days": 3, "carry_over_bugrefs": false, "size_limit_gb": 5}});
    let (status, group) = admin.own(&server, POST, "groups", Some(own)).await;
    assert_eq!(status, 201, "{group}");
    let (said, counts) = (&group["properties"], &group["effective"]);
    for (name, own, effective) in [
        ("keep_logs_in_days", json!(3), json!(3)),
        ("keep_jobs_in_days", Value::Null, json!(400)),
        ("keep_results_in_days", Value::Null, json!(365)),
        ("carry_over_bugrefs", json!(false), json!(false)),
        ("ignore_on_dashboard", Value::Null, json!(false)),
        ("size_limit_gb", json!(5), json!(5)),
    ] {
        assert_eq!((&said[name], &counts[name]), (&own, &effective), "{name}");
    }
    assert_eq!(server.get("/api/assay/v1/parent-groups/1").await.1["groups"], json!([1]));
    // openQA's API has the same group.
    let (_, theirs) = server.get("/api/v1/job_groups/1").await;
    assert_eq!((&theirs[0]["keep_jobs_in_days"], &theirs[0]["carry_over_bugrefs"]), (&json!(400), &json!(0)));

    // What is not named stays, and null takes away.
    let change = json!({"description": null, "properties": {"keep_logs_in_days": null}});
    let (status, group) = admin.own(&server, PATCH, "groups/1", Some(change)).await;
    assert_eq!((status, &group["description"], &group["parent"]), (200, &Value::Null, &json!(1)), "{group}");
    assert_eq!(
        (&group["effective"]["keep_logs_in_days"], &group["properties"]["size_limit_gb"]),
        (&json!(7), &json!(5))
    );
    let named = |name: &str| Some(json!({ "name": name }));
    let says = |name: &str, value: Value| Some(json!({"properties": {name: value}}));
    all(
        &server,
        vec![
            (&viewer, GET, "groups", None, 200, "\"g\""),
            (&viewer, POST, "groups", named("h"), 403, "needs the role operator"),
            (&operator, POST, "groups", named("h"), 403, "needs the role admin"),
            (&operator, PATCH, "groups/1", named("h"), 403, "needs the role admin"),
            (&operator, DELETE, "groups/1", None, 403, "needs the role admin"),
            (&operator, POST, "parent-groups", named("h"), 403, "needs the role admin"),
            (&operator, PATCH, "parent-groups/1", named("h"), 403, "needs the role admin"),
            (&operator, DELETE, "parent-groups/1", None, 403, "needs the role admin"),
            (&admin, POST, "groups", Some(json!({})), 400, "needs a name"),
            (&admin, POST, "groups", named("two\nlines"), 400, "needs a name"),
            (&admin, POST, "groups", Some(json!({"nam": "h"})), 400, "unknown field `nam`"),
            (&admin, POST, "groups", Some(json!({"name": "g", "parent": 1})), 409, "already"),
            (&admin, POST, "groups", Some(json!({"name": "h", "parent": 9})), 400, "no parent group 9"),
            (&admin, PATCH, "groups/1", says("keep_log_in_days", json!(1)), 400, "unknown field"),
            (&admin, PATCH, "groups/1", says("keep_logs_in_days", json!("x")), 400, "cannot be read"),
            (&admin, PATCH, "groups/1", says("keep_logs_in_days", json!(-1)), 400, "from 0 to"),
            (&admin, PATCH, "groups/1", says("keep_jobs_in_days", json!(1_i64 << 32)), 400, "4294967295"),
            (&admin, PATCH, "groups/1", says("default_priority", json!(1_i64 << 31)), 400, "2147483647"),
            (&admin, PATCH, "groups/1", says("keep_logs_in_days", json!(500)), 400, "no longer than results"),
            (&admin, PATCH, "groups/1", Some(json!({"name": null})), 400, "expected a string"),
            (&admin, PATCH, "groups/1", Some(json!({"properties": null})), 200, "\"properties\""),
            (&admin, PATCH, "groups/9", named("x"), 404, "no job group 9"),
            (&admin, GET, "groups/9", None, 404, "GET /api/assay/v1/groups"),
            (&admin, GET, "groups/x", None, 404, "digits"),
            (&admin, DELETE, "groups/9", None, 404, "no job group 9"),
            (&admin, POST, "parent-groups", named("All"), 409, "already"),
            (&admin, POST, "parent-groups", Some(json!({"name": "x", "parent": 1})), 400, "`parent`"),
            (&admin, PATCH, "parent-groups/1", says("keep_jobs_in_days", json!(6)), 400, "keep_jobs_in_days"),
            (&admin, PATCH, "parent-groups/9", named("x"), 404, "no parent group 9"),
            (&admin, GET, "parent-groups/9", None, 404, "GET /api/assay/v1/parent-groups"),
            (&admin, DELETE, "parent-groups/1", None, 409, "Move its groups"),
        ],
    )
    .await;
    let job = server.post(json!({"TEST": "x", "WORKER_CLASS": "none"})).await;
    let path = format!("/api/v1/jobs/{job}");
    assert_eq!(server.ask(PUT, &path, Some(json!({"group_id": 1}))).await.0.as_u16(), 200);
    all(&server, vec![(&admin, DELETE, "groups/1", None, 409, "Delete its jobs")]).await;
    assert_eq!(server.ask(PUT, &path, Some(json!({"group_id": null}))).await.0.as_u16(), 200);
    all(
        &server,
        vec![
            (&admin, DELETE, "groups/1", None, 200, "{\"id\":1}"),
            (&admin, GET, "groups/1", None, 404, "no job group 1"),
            (&admin, DELETE, "parent-groups/1", None, 200, "{\"id\":1}"),
            (&admin, DELETE, "parent-groups/1", None, 404, "no parent group 1"),
        ],
    )
    .await;
}

#[tokio::test]
async fn comments_are_changed_by_their_authors_and_removed_by_admins() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    let job = server.post(json!({"TEST": "x", "WORKER_CLASS": "none"})).await;
    assert_eq!(job, 1);
    for kind in ["parent-groups", "groups"] {
        assert_eq!(admin.own(&server, POST, kind, Some(json!({"name": "g"}))).await.0, 201);
    }
    let text = |text: &str| Some(json!({ "text": text }));
    for (number, path) in ["jobs/1", "groups/1", "parent-groups/1"].into_iter().enumerate() {
        let id = number + 1;
        let (list, one) = (format!("{path}/comments"), format!("{path}/comments/{id}"));
        let absent = format!("{path}/comments/99");
        let elsewhere = list.replace("/1/", "/9/");
        all(
            &server,
            vec![
                (&viewer, POST, &list, text("see boo#1"), 201, "\"bugs\":[\"boo#1\"]"),
                (&viewer, GET, &one, None, 200, "see boo#1"),
                (&viewer, PUT, &one, text("see boo#2"), 200, "\"bugs\":[\"boo#2\"]"),
                (&operator, PUT, &one, text("mine"), 403, "only its author"),
                (&viewer, PUT, &one, text(" "), 400, "64 KiB"),
                (&viewer, PUT, &one, Some(json!({"txt": "x"})), 400, "unknown field `txt`"),
                (&viewer, PUT, &absent, text("x"), 404, "no comment 99"),
                (&viewer, DELETE, &one, None, 403, "needs the role admin"),
                (&operator, DELETE, &one, None, 403, "needs the role admin"),
                (&admin, DELETE, &absent, None, 404, "no comment 99"),
                (&admin, POST, &elsewhere, text("x"), 404, "There is no"),
                (&admin, DELETE, &one, None, 200, &format!("{{\"id\":{id}}}")),
                (&admin, GET, &list, None, 200, "{\"comments\":[]}"),
            ],
        )
        .await;
    }
    // What is about a group is not found under a job of the same number.
    all(
        &server,
        vec![
            (&viewer, POST, "groups/1/comments", text("x"), 201, "\"id\":4"),
            (&viewer, GET, "jobs/1/comments/4", None, 404, "no comment 4"),
            (&viewer, POST, "jobs/1/comments", text("x"), 201, "\"id\":5"),
            (&viewer, PUT, "jobs/1/comments/5", text("label:force_result:passed"), 403, "Operator"),
        ],
    )
    .await;
    let anonymous = crate::common::client().post(server.url("/api/assay/v1/groups/1/comments"));
    assert_eq!(anonymous.json(&json!({"text": "x"})).send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn builds_are_tagged_and_the_tag_is_taken_away() {
    let server = Server::start().await;
    let [viewer, _, admin] = people(&server).await;
    assert_eq!(admin.own(&server, POST, "groups", Some(json!({"name": "g"}))).await.0, 201);
    let tag = |build: &str, kind: &str| Some(json!({"build": build, "kind": kind}));
    let tags = "groups/1/tags";
    all(
        &server,
        vec![
            (&viewer, POST, tags, tag("43-7", "important"), 201, "43-7"),
            (&viewer, POST, tags, tag("8/a", "published"), 201, "8/a"),
            (&viewer, GET, "groups/1/comments", None, 200, "tag:43-7:important"),
            (&viewer, POST, tags, tag("a b", "important"), 400, "is no tag"),
            (&viewer, POST, tags, tag("7", "-important"), 400, "is no tag"),
            (&viewer, POST, tags, Some(json!({"build": "7"})), 400, "missing field `kind`"),
            (&viewer, POST, tags, Some(json!({"build": "7", "kind": "x", "way": 1})), 400, "unknown field"),
            (&viewer, POST, "groups/9/tags", tag("7", "important"), 404, "no job group 9"),
            (&viewer, DELETE, "groups/1/tags/43-7/published", None, 404, "has no tag"),
            (&viewer, DELETE, "groups/1/tags/8%2Fa/published", None, 200, "43-7"),
            (&viewer, DELETE, "groups/1/tags/43-7/important", None, 200, "{\"tags\":[]}"),
        ],
    )
    .await;
    let anonymous = crate::common::client().post(server.url("/api/assay/v1/groups/1/tags"));
    let answer = anonymous.json(&json!({"build": "7", "kind": "important"})).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401);
}

#[tokio::test]
async fn bugs_are_noted_changed_and_forgotten() {
    let server = Server::start().await;
    let [viewer, operator, _] = people(&server).await;
    let new = json!({"bugid": "https://github.com/os/tests/issues/7", "title": "It breaks", "open": true});
    let (status, bug) = operator.own(&server, POST, "bugs", Some(new)).await;
    assert_eq!(
        (status, &bug["id"], &bug["facts"]["bugid"]),
        (201, &json!(1), &json!("gh#os/tests#7")),
        "{bug}"
    );
    assert_eq!((&bug["facts"]["existing"], &bug["facts"]["refreshed"]), (&json!(true), &json!(false)));
    assert_eq!(bug["url"], "https://github.com/os/tests/issues/7");
    let change = json!({"title": null, "status": "CLOSED", "open": false, "refreshed": true});
    let (status, bug) = operator.own(&server, PATCH, "bugs/1", Some(change)).await;
    let facts = &bug["facts"];
    assert_eq!(
        (status, &facts["title"], &facts["status"], &facts["open"]),
        (200, &Value::Null, &json!("CLOSED"), &json!(false)),
        "{bug}"
    );
    let long = "x".repeat(5_000);
    all(
        &server,
        vec![
            (&viewer, GET, "bugs", None, 200, "gh#os/tests#7"),
            (&viewer, GET, "bugs?refreshable=1", None, 200, "{\"bugs\":[],\"more\":false}"),
            (&viewer, GET, "bugs?limit=0", None, 400, "refreshable"),
            (&viewer, GET, "bugs?delta=x", None, 400, "delta invalid"),
            (&viewer, GET, "bugs/9", None, 404, "no bug 9"),
            (&viewer, POST, "bugs", Some(json!({"bugid": "boo#1"})), 403, "needs the role operator"),
            (&viewer, PATCH, "bugs/1", Some(json!({"open": true})), 403, "needs the role operator"),
            (&viewer, DELETE, "bugs/1", None, 403, "needs the role operator"),
            (&operator, POST, "bugs", Some(json!({"bugid": "nothing"})), 400, "not the name of one bug"),
            (&operator, POST, "bugs", Some(json!({"title": "x"})), 400, "not the name of one bug"),
            (&operator, POST, "bugs", Some(json!({"bugid": "gh#os/tests#7"})), 409, "noted already"),
            (&operator, PATCH, "bugs/1", Some(json!({"opne": true})), 400, "unknown field `opne`"),
            (&operator, PATCH, "bugs/1", Some(json!({"open": "perhaps"})), 400, "expected a boolean"),
            (&operator, PATCH, "bugs/1", Some(json!({"title": long})), 400, "cannot be kept"),
            (&operator, PATCH, "bugs/1", Some(json!({"bugid": "boo#2"})), 400, "stays that"),
            (&operator, PATCH, "bugs/9", Some(json!({})), 404, "no bug 9"),
            (&operator, DELETE, "bugs/9", None, 404, "no bug 9"),
            (&operator, POST, "bugs", Some(json!({"bugid": "boo#2"})), 201, "boo#2"),
            (&operator, GET, "bugs?limit=1", None, 200, "\"more\":true"),
            (&operator, DELETE, "bugs/1", None, 200, "{\"id\":1}"),
            (&operator, GET, "bugs/1", None, 404, "no bug 1"),
        ],
    )
    .await;
}

#[tokio::test]
async fn posts_are_noted_and_cancelled() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    catalog(&server, &admin).await;
    let settings: Value = PRODUCT.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let (status, posted) =
        operator.own(&server, POST, "products", Some(json!({ "settings": settings }))).await;
    assert_eq!((status, &posted["id"]), (201, &json!(1)), "{posted}");
    let note = |text: &str| Some(json!({ "note": text }));
    let long = "x".repeat(20_000);
    all(
        &server,
        vec![
            (&viewer, PUT, "products/1/note", note("x"), 403, "needs the role operator"),
            (&viewer, POST, "products/1/cancel", None, 403, "needs the role operator"),
            (&operator, PUT, "products/1/note", Some(json!({"not": "x"})), 400, "unknown field `not`"),
            (&operator, PUT, "products/1/note", note(&long), 400, "cannot be kept"),
            (&operator, PUT, "products/9/note", note("x"), 404, "no post of a product"),
            (&operator, POST, "products/9/cancel", None, 404, "no post of a product"),
            (
                &operator,
                PUT,
                "products/1/note",
                note("a <b>broken</b> mirror"),
                200,
                "a <b>broken</b> mirror",
            ),
            (&operator, POST, "products/1/cancel", None, 200, "{\"cancelled\":2}"),
            (&operator, POST, "products/1/cancel", None, 200, "{\"cancelled\":0}"),
            (&viewer, GET, "products/1", None, 200, "\"cancelled_by\":\"o\""),
            (&viewer, GET, "products", None, 200, "a <b>broken</b> mirror"),
            (&operator, PUT, "products/1/note", note(""), 200, "\"id\":1"),
        ],
    )
    .await;
    let (_, run) = server.get("/api/assay/v1/products/1").await;
    assert!(run.get("note").is_none(), "{run}");
    assert_eq!(server.job(1).await.state, "cancelled");
}

#[tokio::test]
async fn posts_say_what_becomes_of_older_builds_and_why_they_are_refused() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    catalog(&server, &admin).await;
    let post = |more: &[(&str, &str)]| {
        let all = PRODUCT.iter().chain(more);
        let settings: Value = all.map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        Some(json!({ "settings": settings }))
    };
    let (_, posted) = operator.own(&server, POST, "products", post(&[])).await;
    assert_eq!(posted["obsoleted"], json!([]), "{posted}");
    let next = post(&[("BUILD", "43.2"), ("_OBSOLETE", "1")]);
    let (status, plan) = operator.own(&server, POST, "products/plan", next.clone()).await;
    assert_eq!(status, 200, "{plan}");
    let old = plan["old_jobs"].as_array().unwrap();
    assert_eq!(old.len(), posted["jobs"].as_array().unwrap().len(), "{plan}");
    assert_eq!(
        (&old[0]["job"], &old[0]["build"], &old[0]["fate"]),
        (&json!(1), &json!("43.1"), &json!("obsoleted"))
    );
    let (_, plan) = operator.own(&server, POST, "products/plan", post(&[("BUILD", "43.2")])).await;
    assert_eq!(plan["old_jobs"], json!([]), "{plan}");
    let (_, posted) = operator.own(&server, POST, "products", next).await;
    assert_eq!(posted["obsoleted"], json!([1, 2]), "{posted}");
    // That nothing was made is kept as well, with the reason.
    let (status, _) = operator.own(&server, POST, "products", post(&[("FLAVOR", "nosuch")])).await;
    assert_eq!(status, 404);
    let (_, run) = viewer.own(&server, GET, "products/3", None).await;
    assert!(run["refused"].as_str().unwrap().starts_with("there is no product fedora-43-nosuch"), "{run}");
}

/// A job that no worker takes, with what else is said of it.
fn waiting(test: &str, more: &Value) -> Value {
    let mut job = json!({"settings": {"TEST": test, "WORKER_CLASS": "none"}});
    for (field, value) in more.as_object().unwrap() {
        job[field] = value.clone();
    }
    job
}

#[tokio::test]
async fn jobs_are_posted_into_groups_and_wait_for_each_other() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    let group = json!({"name": "g", "properties": {"default_priority": 9}});
    assert_eq!(admin.own(&server, POST, "groups", Some(group)).await.0, 201);
    // The child may come before its parent.
    let cluster = json!([
        waiting("client", &json!({"group": "g", "parallel": ["#2"]})),
        waiting("server", &json!({"group": 1, "after": ["#3"], "priority": 4})),
        waiting("first", &json!({"group": "1"})),
    ]);
    let (status, posted) = operator.own(&server, POST, "jobs", Some(cluster)).await;
    assert_eq!((status, posted["jobs"].as_array().map(Vec::len)), (201, Some(3)), "{posted}");
    let more =
        [waiting("last", &json!({"after": [3, "1"]})), waiting("next", &json!({"directly_after": [3]}))];
    assert_eq!(operator.own(&server, POST, "jobs", Some(json!(more))).await.0, 201);
    for (id, group, priority, parents) in [
        (1, json!(1), 9, json!({"Chained": [], "Directly chained": [], "Parallel": [2]})),
        (2, json!(1), 4, json!({"Chained": [3], "Directly chained": [], "Parallel": []})),
        (3, json!(1), 9, json!({"Chained": [], "Directly chained": [], "Parallel": []})),
        (4, Value::Null, 50, json!({"Chained": [1, 3], "Directly chained": [], "Parallel": []})),
        (5, Value::Null, 50, json!({"Chained": [], "Directly chained": [3], "Parallel": []})),
    ] {
        let (_, told) = server.get(&format!("/api/v1/jobs/{id}")).await;
        let job = &told["job"];
        assert_eq!(
            (&job["group_id"], &job["priority"], &job["parents"]),
            (&group, &json!(priority), &parents)
        );
    }
    let setting = |key: &str| Some(json!([{"settings": {}}, {"settings": {"TEST": "x", key: "1"}}]));
    let says = |more: Value| Some(waiting("x", &more));
    all(
        &server,
        vec![
            (&viewer, POST, "jobs", says(json!({"group": "g"})), 403, "needs the role operator"),
            (&operator, POST, "jobs", setting("_GROUP"), 400, "Job 2 of the request: _GROUP is not"),
            (&operator, POST, "jobs", setting("_GROUP_ID"), 400, "the field \\\"group\\\""),
            (&operator, POST, "jobs", setting("_START_AFTER"), 400, "the field \\\"after\\\""),
            (&operator, POST, "jobs", setting("_start_after_jobs"), 400, "the field \\\"after\\\""),
            (&operator, POST, "jobs", setting("_START_DIRECTLY_AFTER_JOBS"), 400, "\\\"directly_after\\\""),
            (&operator, POST, "jobs", setting("_PARALLEL_JOBS"), 400, "the field \\\"parallel\\\""),
            (&operator, POST, "jobs", says(json!({"group": "h"})), 400, "no job group \\\"h\\\""),
            (&operator, POST, "jobs", says(json!({"group": 9})), 400, "no job group \\\"9\\\""),
            (&operator, POST, "jobs", says(json!({"group": ""})), 400, "no job group"),
            (&operator, POST, "jobs", says(json!({"group": true})), 400, "expected a number or a name"),
            (&operator, POST, "jobs", says(json!({"after": ["#2"]})), 400, "\\\"#2\\\", which is no job"),
            (&operator, POST, "jobs", says(json!({"after": ["first"]})), 400, "which is no job"),
            (&operator, POST, "jobs", says(json!({"after": [99]})), 400, "99"),
            (&operator, POST, "jobs", says(json!({"parallel": ["#1"]})), 400, "circle"),
            (&operator, POST, "jobs", says(json!({"use_catalog": true})), 201, "\"id\":6"),
        ],
    )
    .await;
}

#[tokio::test]
async fn jobs_are_regrouped_and_cancelled_together() {
    let server = Server::start().await;
    let [viewer, operator, admin] = people(&server).await;
    assert_eq!(admin.own(&server, POST, "groups", Some(json!({"name": "g"}))).await.0, 201);
    for (test, build) in [("a", "1"), ("a", "2"), ("b", "2"), ("b", "3"), ("c", "3")] {
        server.post(json!({"TEST": test, "BUILD": build, "WORKER_CLASS": "none"})).await;
    }
    let group = async |id: i64| {
        let (_, told) = server.get(&format!("/api/v1/jobs/{id}")).await;
        (told["job"]["group_id"].clone(), told["job"]["priority"].clone())
    };
    let to = |group: Value| Some(json!({ "group": group }));
    let one = "jobs/1";
    all(&server, vec![(&operator, PATCH, one, to(json!("g")), 200, "\"id\":1")]).await;
    assert_eq!(group(1).await, (json!(1), json!(50)));
    all(&server, vec![(&operator, PATCH, one, Some(json!({"priority": 7})), 200, "\"priority\":7")]).await;
    assert_eq!(group(1).await, (json!(1), json!(7)));
    all(&server, vec![(&operator, PATCH, one, to(Value::Null), 200, "\"id\":1")]).await;
    assert_eq!(group(1).await, (Value::Null, json!(7)));
    let which = |what: Value| Some(what);
    all(
        &server,
        vec![
            (&viewer, PATCH, one, to(json!(1)), 403, "needs the role operator"),
            (&operator, PATCH, one, to(json!(9)), 400, "no job group \\\"9\\\""),
            (&operator, PATCH, one, to(json!([])), 400, "expected a number or a name"),
            (&operator, PATCH, one, Some(json!({"prio": 1})), 400, "unknown field `prio`"),
            (&operator, PATCH, one, Some(json!({"priority": null})), 400, "cannot be read"),
            (&operator, PATCH, "jobs/9", to(json!(1)), 404, "no job 9"),
            (&operator, PATCH, "jobs/4", to(json!("g")), 200, "\"id\":4"),
            (&viewer, POST, "jobs/cancel", which(json!({"build": "1"})), 403, "needs the role operator"),
            (&operator, POST, "jobs/cancel", which(json!({})), 400, "which jobs are meant"),
            (&operator, POST, "jobs/cancel", which(json!({"settings": {"TEST": ""}})), 400, "which jobs"),
            (&operator, POST, "jobs/cancel", which(json!({"builds": "1"})), 400, "unknown field `builds`"),
            (&operator, POST, "jobs/cancel", which(json!({"group": "h"})), 400, "no job group"),
            (
                &operator,
                POST,
                "jobs/cancel",
                which(json!({"group": 1, "build": "2"})),
                200,
                "{\"cancelled\":0}",
            ),
            (&operator, POST, "jobs/cancel", which(json!({"group": "g"})), 200, "{\"cancelled\":1}"),
            (&operator, PATCH, "jobs/4", to(json!(0)), 200, "\"id\":4"),
            (&operator, PATCH, "jobs/4", Some(json!({"priority": 1})), 409, ""),
            (
                &operator,
                POST,
                "jobs/cancel",
                which(json!({"settings": {"TEST": "a"}, "build": "2"})),
                200,
                "{\"cancelled\":1}",
            ),
            (
                &operator,
                POST,
                "jobs/cancel",
                which(json!({"settings": {"BUILD": "2"}})),
                200,
                "{\"cancelled\":1}",
            ),
            (&operator, POST, "jobs/cancel", which(json!({"group": 0})), 200, "{\"cancelled\":2}"),
        ],
    )
    .await;
}

#[tokio::test]
async fn people_make_and_revoke_keys_of_their_own() {
    let server = Server::start().await;
    let [viewer, operator, _] = people(&server).await;
    let (status, made) = viewer.own(&server, POST, "keys/mine", Some(json!({"expires_days": 3}))).await;
    assert_eq!((status, &made["user"], &made["role"]), (201, &json!("v"), &json!("viewer")), "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let second = Key { user: "v".to_owned(), public: text("key"), secret: text("secret") };
    let (status, mine) = second.own(&server, GET, "keys/mine", None).await;
    assert_eq!((status, mine["keys"].as_array().map(Vec::len)), (200, Some(2)), "{mine}");
    assert!(!mine.to_string().contains(&second.secret), "{mine}");
    let (own, foreign) = (format!("keys/mine/{}", second.public), format!("keys/mine/{}", operator.public));
    let days = |days: u32| Some(json!({ "expires_days": days }));
    all(
        &server,
        vec![
            (&viewer, POST, "keys/mine", days(0), 400, "would not live"),
            (&viewer, POST, "keys/mine", days(36_501), 400, "would not live"),
            (&viewer, POST, "keys/mine", Some(json!({"user": "o"})), 400, "unknown field `user`"),
            (&viewer, DELETE, &foreign, None, 404, "You have no key"),
            (&viewer, DELETE, &own, None, 200, "revoked"),
            (&viewer, DELETE, &own, None, 404, "You have no key"),
            (&viewer, POST, "keys/mine", None, 201, "\"user\":\"v\""),
            (&second, GET, "keys/mine", None, 403, ""),
        ],
    )
    .await;
    let token = crate::common::client().post(server.url("/api/assay/v1/keys/mine"));
    let answer = token.bearer_auth(&server.handle.admin_token).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403, "keys are made for people");
    let anonymous = crate::common::client().get(server.url("/api/assay/v1/keys/mine"));
    assert_eq!(anonymous.send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn jobs_are_posted_with_what_the_catalog_says() {
    let server = Server::start().await;
    let [_, operator, admin] = people(&server).await;
    catalog(&server, &admin).await;
    let mut settings: Value = PRODUCT.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    (settings["TEST"], settings["MACHINE"]) = (json!("install"), json!("64bit"));
    for (id, with) in [(1, true), (2, false)] {
        let job = json!({"settings": settings, "group": "fedora", "use_catalog": with});
        assert_eq!(operator.own(&server, POST, "jobs", Some(job)).await.0, 201);
        let (_, told) = server.get(&format!("/api/v1/jobs/{id}")).await;
        assert_eq!(told["job"]["group"], "fedora", "{told}");
        let (_, own) = server.get(&format!("/api/assay/v1/jobs/{id}")).await;
        assert_eq!(own["settings"]["WORKER_CLASS"]["value"] == "dummy", with, "{own}");
    }
    let nameless = Some(json!({"settings": {"MACHINE": "64bit"}, "use_catalog": true}));
    all(&server, vec![(&operator, POST, "jobs", nameless, 400, "needs the setting TEST")]).await;
}

#[tokio::test]
async fn jobs_are_given_results_and_deleted() {
    let server = Server::start().await;
    let [viewer, operator, _] = people(&server).await;
    let waits = server.post(json!({"TEST": "x", "WORKER_CLASS": "none"})).await;
    assert_eq!(waits, 1);
    let result = |word: &str| Some(json!({"result": word, "reason": "seen by eye"}));
    all(
        &server,
        vec![
            (&viewer, POST, "jobs/1/result", result("passed"), 403, "needs the role operator"),
            (&viewer, DELETE, "jobs/1", None, 403, "needs the role operator"),
            (&operator, POST, "jobs/1/result", result("odd"), 400, "Use one of passed"),
            (&operator, POST, "jobs/1/result", Some(json!({"resutl": "passed"})), 400, "unknown field"),
            (&operator, POST, "jobs/9/result", result("passed"), 404, "no job 9"),
            (&operator, DELETE, "jobs/1", None, 409, ""),
            (&operator, POST, "jobs/1/result", result("failed"), 200, "seen by eye"),
            (&operator, POST, "jobs/1/result", result("softfailed"), 200, "\"result\":\"softfailed\""),
            (&operator, DELETE, "jobs/1", None, 200, "{\"id\":1}"),
            (&operator, DELETE, "jobs/1", None, 404, "no job 1"),
            (&viewer, GET, "jobs/1", None, 404, "no job 1"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_history_of_a_scenario_is_told() {
    let server = Server::start().await;
    let [viewer, operator, _] = people(&server).await;
    for (number, result) in ["passed", "failed", "passed", "failed", "passed"].into_iter().enumerate() {
        let settings = json!({"TEST": "x", "WORKER_CLASS": "none", "BUILD": number.to_string()});
        let id = server.post(settings).await;
        let path = format!("jobs/{id}/result");
        assert_eq!(operator.own(&server, POST, &path, Some(json!({ "result": result }))).await.0, 200);
    }
    server.post(json!({"TEST": "other", "WORKER_CLASS": "none"})).await;
    let ids = |told: &Value| -> Vec<i64> {
        told["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    for (query, want, more_newer, more_older) in [
        ("", &[5, 4, 3, 2, 1][..], false, false),
        ("?previous_limit=1&next_limit=1", &[4, 3, 2], true, true),
        ("?previous_limit=0&next_limit=9", &[5, 4, 3], false, true),
        ("?history_result=failed", &[4, 3, 2], false, false),
    ] {
        let (status, told) = viewer.own(&server, GET, &format!("jobs/3/history{query}"), None).await;
        assert_eq!((status, ids(&told)), (200, want.to_vec()), "{query}: {told}");
        assert_eq!(
            (&told["more_newer"], &told["more_older"]),
            (&json!(more_newer), &json!(more_older)),
            "{query}"
        );
    }
    let (_, told) = viewer.own(&server, GET, "jobs/3/history?next_limit=1", None).await;
    assert_eq!(
        (&told["next"], &told["previous"], &told["newest"]),
        (&json!(4), &json!(2), &json!(5)),
        "{told}"
    );
    let (build, result) = (&told["jobs"][1]["build"], &told["jobs"][1]["result"]);
    assert_eq!((build, result), (&json!("2"), &json!("passed")), "{told}");
    all(
        &server,
        vec![
            (&viewer, GET, "jobs/3/history?history_result=odd", None, 400, "is no result"),
            (&viewer, GET, "jobs/9/history", None, 404, "no job 9"),
        ],
    )
    .await;
}
