//! The pages of groups, of builds and of the matrix, as a browser without JavaScript gets them.

use crate::common::watched::Watched;
use crate::common::{Server, has};
use crate::people::Key;
use assay_engine::ids::{GroupId, JobId, Timestamp};
use assay_engine::job::{End, JobState};
use assay_engine::outcome::Outcome;
use assay_engine::reason::EndReason;
use assay_engine::rows::{JobRow, Retries, Row};
use assay_engine::settings::{ClassSet, Settings};
use assay_store::{Batch, Store};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// A job that has ended.
fn ended(id: i64, group: i64, settings: &[(&str, &str)], outcome: Outcome) -> Row {
    let settings = Settings::from_request(settings.iter().copied());
    let end = End::with(outcome, EndReason::Reported { text: Some("because".into()) }, Timestamp(1));
    Row::Job(JobRow {
        id: JobId(id),
        name: settings.job_name(),
        priority: 50,
        classes: ClassSet::default(),
        settings: settings.into(),
        group: Some(GroupId(group)),
        run: None,
        parents: Vec::new(),
        clone_of: None,
        cloned_as: None,
        retries: Retries::default(),
        hold: None,
        wait: None,
        state: JobState::Done(end),
        created_at: Timestamp(crate::common::BEGINNING),
        started_at: None,
    })
}

/// So many suites for ten architectures and ten flavors, of which the seventh suites fail; two groups.
async fn with_jobs(suites: i64) -> (Server, Arc<Watched>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = assay_store::open(&format!("sqlite:{}", dir.path().join("jobs.db").display())).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let mut batch = Batch::default();
    let mut id = 0;
    for suite in 0..suites {
        let outcome = if suite % 10 == 7 { Outcome::Failed } else { Outcome::Passed };
        for (arch, flavor) in (0..100).map(|column| (column % 10, column / 10)) {
            id += 1;
            let (suite, arch) = (format!("suite{suite:03}"), format!("arch{arch}"));
            let flavor = format!("flavor{flavor}");
            let settings = [
                ("DISTRI", "d"),
                ("VERSION", "1"),
                ("BUILD", "7"),
                ("FLAVOR", flavor.as_str()),
                ("ARCH", arch.as_str()),
                ("TEST", suite.as_str()),
                ("MACHINE", "m"),
            ];
            batch.push(ended(id, 1, &settings, outcome));
        }
    }
    let evil = [("DISTRI", "d"), ("VERSION", "<i>"), ("BUILD", "\"><script>"), ("TEST", "</td><script>x")];
    batch.push(ended(id + 1, 2, &evil, Outcome::Failed));
    store.commit(epoch, &batch).await.unwrap();
    let counted = Arc::new(Watched::new(store));
    let given: Arc<dyn Store> = counted.clone();
    let server = Server::start_with(|config| config.store = Some(given)).await;
    let (_, parent) =
        server.ask(Method::POST, "/api/v1/parent_groups", Some(json!({"name": "All & sundry"}))).await;
    for (name, parent) in [("First", parent["id"].clone()), ("<script>Second", json!(null))] {
        let body = json!({"name": name, "parent_id": parent});
        let (status, body) = server.ask(Method::POST, "/api/v1/job_groups", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    (server, counted, dir)
}

/// A page that must be there, and how many questions it took: the fewest of three looks, because the server asks things
/// of its own too.
async fn page(server: &Server, store: &Watched, path: &str) -> (String, usize) {
    let mut looks = Vec::new();
    for _ in 0..3 {
        let before = store.questions();
        let (status, page) = server.page(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        assert!(!page.contains("<script>"), "{path} has a script in it that is nobody's");
        looks.push((store.questions() - before, page));
    }
    let (questions, page) = looks.into_iter().min_by_key(|(questions, _)| *questions).unwrap();
    (page, questions)
}

#[tokio::test]
async fn ten_thousand_jobs_are_one_question() {
    let (server, store, _dir) = with_jobs(100).await;
    let (matrix, questions) =
        page(&server, &store, "/tests/overview?distri=d&version=1&build=7&groupid=1").await;
    assert_eq!(questions, 2, "the jobs, and what is said about them");
    assert_eq!(matrix.matches("class=\"cell ").count(), 10_000);
    has(&matrix, &["d 1 · build 7", "all <b>10000</b>", "passed 9000", "failed 1000", "failed: because"]);
    assert!(matrix.len() < 2_500_000, "{} bytes", matrix.len());
    let (dashboard, questions) = page(&server, &store, "/").await;
    assert_eq!(questions, 3, "tags, builds and counts, however many groups and jobs there are");
    has(
        &dashboard,
        &[
            "First",
            "All &#38; sundry",
            "9000",
            "/tests/overview?distri=d&#38;version=1&#38;build=7&#38;groupid=1",
        ],
    );
}

#[tokio::test]
async fn what_the_address_says_is_shown() {
    let (server, store, _dir) = with_jobs(10).await;
    let cells = async |query: &str| {
        let (matrix, _) = page(&server, &store, &format!("/tests/overview?{query}")).await;
        matrix.matches("class=\"cell ").count()
    };
    for (query, want) in [
        ("build=7", 1_000),
        ("groupid=1", 1_000),
        ("build=7&result=failed", 100),
        ("build=7&result=failed&arch=arch3", 10),
        ("build=7&arch=arch3&flavor=flavor1", 10),
        ("build=7&test=suite001,suite002", 200),
        ("build=7&q=E007", 100),
        ("build=7&state=scheduled", 0),
        ("build=7&todo=1", 100),
        ("build=7&machine=other", 0),
        ("build=8", 0),
        ("build=7&result__not=passed", 100),
        ("build=7&result=not_ok", 100),
        ("build=7&result=ok,failed", 1_000),
        ("build=7&result=ok&result__not=passed,softfailed", 0),
        ("build=7&state=final", 1_000),
        ("build=7&state=pending", 0),
        ("build=7&state__not=done", 0),
        ("build=7&flavor__not=flavor1,flavor2&arch__not[]=arch0", 720),
        ("build__not=7", 1),
        ("group_glob=F*,nothing", 1_000),
        ("group_glob=nothing", 0),
        ("not_group_glob=F*", 1),
        ("not_group_glob=*", 0),
        ("build=7&modules_result__not=passed", 0),
    ] {
        assert_eq!(cells(query).await, want, "{query}");
        // The API has the same jobs.
        let (_, named) = server.get(&format!("/api/v1/jobs/overview?{query}")).await;
        assert_eq!(named.as_array().unwrap().len(), want, "{query}");
    }
    let (_, named) = server.get("/api/v1/jobs/overview?build=7&result=failed&limit=2&offset=1").await;
    assert_eq!(named[1]["id"].as_i64(), Some(799), "the oldest first: {named}");
    for (query, name) in
        [("modules__not=x", "modules__not"), ("result__not=ok,x", "result__not"), ("state=over", "state")]
    {
        for address in ["/tests/overview.json", "/api/v1/jobs/overview", "/api/v1/jobs"] {
            let (status, answer) = server.get(&format!("{address}?{query}")).await;
            let said = answer["error"].as_str().unwrap_or_default();
            assert!(
                status == StatusCode::BAD_REQUEST && said.contains(&format!("{name} invalid")),
                "{query}: {answer}"
            );
        }
    }
    // A failure with a bug is reviewed.
    let text = "rhbz#12 label:flaky <script>alert(1)</script>";
    let (status, _) =
        server.ask(Method::POST, "/api/v1/jobs/701/comments", Some(json!({"text": text}))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(cells("build=7&todo=1").await, 99);
    assert_eq!(cells("build=7&comment=flaky").await, 1);
    let (matrix, _) = page(&server, &store, "/tests/overview?build=7").await;
    has(&matrix, &["https://bugzilla.redhat.com/show_bug.cgi?id=12", "<span class=\"label\">flaky</span>"]);
    let (dashboard, _) = page(&server, &store, "/").await;
    has(&dashboard, &["1 of 100 commented"]);
    let (_, told) = server.get("/tests/overview.json?build=7&comment=flaky").await;
    assert_eq!(
        (told["jobs"][0]["id"].as_i64(), told["jobs"][0]["labels"][0].as_str()),
        (Some(701), Some("flaky"))
    );
    let (status, _) = server.page("/tests/overview?result=splendid").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // Without a build it is the newest one, whatever it is called.
    let (matrix, _) = page(&server, &store, "/tests/overview").await;
    has(&matrix, &["&#60;/td&#62;&#60;script&#62;x", "build=%22%3E%3Cscript%3E"]);
}

#[tokio::test]
async fn groups_tell_their_builds_and_what_is_said() {
    let (server, store, _dir) = with_jobs(1).await;
    let say = async |path: &str, text: &str| {
        let (status, body) = server.ask(Method::POST, path, Some(json!({ "text": text }))).await;
        assert!(status.is_redirection() || status.is_success(), "{path}: {status} {body}");
    };
    say("/group_overview/1/comments", "tag:1-7:important:x&y <script>candidate").await;
    say("/parent_group_overview/1/comments", "see https://example.org/<script>").await;
    let (group, _) = page(&server, &store, "/group_overview/1").await;
    has(&group, &["important: x&#38;y", "all passed", "/parent_group_overview/1", "&lt;script&gt;candidate"]);
    assert!(!group.contains("<textarea"), "who is not known may not comment");
    // What an operator pins stands first; a viewer cannot.
    assert!(!group.contains("description pinned"));
    let viewer = Key::make(&server, "v", "viewer", None).await;
    let path = "/api/v1/groups/1/comments";
    let text = [("text", "pinned-description by a viewer")];
    assert_eq!(viewer.ask(&server, Method::POST, path, &text).await.0, 200);
    say(path, "pinned-description <b>by the admin</b>").await;
    let (group, _) = page(&server, &store, "/group_overview/1").await;
    assert_eq!(group.matches("description pinned").count(), 1, "{group}");
    let first = group.find("by the admin").unwrap();
    assert!(first < group.find("id=\"builds\"").unwrap() && !group.contains("<b>by"));
    let (parent, _) = page(&server, &store, "/parent_group_overview/1").await;
    has(&parent, &["1 · 7", "/group_overview/1", "https://example.org/"]);
    let (_, told) = server.get("/group_overview/1.json").await;
    let build = &told["build_results"][0];
    assert_eq!((build["passed"].as_u64(), build["tags"][0].as_str()), (Some(100), Some("important: x&y")));
    let (_, told) = server.get("/dashboard_build_results.json?group=first").await;
    assert_eq!(told["results"].as_array().map(Vec::len), Some(1));
    for path in ["/group_overview/9", "/group_overview/x", "/parent_group_overview/9"] {
        assert_eq!(server.page(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let anonymous = crate::common::client();
    let answer =
        anonymous.post(server.url("/group_overview/1/comments")).body("text=x").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    // What was the list's address still leads to the list.
    let answer = anonymous.get(server.url("/?state=finished")).send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/tests?state=finished");
}

#[tokio::test]
async fn builds_and_the_matrix_are_told_to_programs() {
    let (server, store, _dir) = with_jobs(10).await;
    let tag = json!({"build": "1-7", "kind": "important", "what": "GM"});
    let (status, tags) = server.ask(Method::POST, "/api/assay/v1/groups/1/tags", Some(tag.clone())).await;
    assert_eq!((status, &tags), (StatusCode::CREATED, &json!({ "tags": [tag] })));
    for path in ["/api/assay/v1/groups/1/builds", "/api/assay/v1/parent-groups/1/builds?only_tagged=1"] {
        let (status, told) = server.get(path).await;
        assert_eq!((status, told["builds"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{told}");
        let build = &told["builds"][0];
        assert_eq!((&build["build"], &build["version"]), (&json!("7"), &json!("1")), "{path}");
        assert_eq!(
            (&build["counts"]["passed"], &build["counts"]["failed"], &build["total"]),
            (&json!(900), &json!(100), &json!(1_000)),
            "{path}: {told}"
        );
        assert_eq!((&build["tags"], &build["important"]), (&json!(["important: GM"]), &json!(true)));
        assert_eq!((&build["reviewed"], &told["more"]), (&json!(false), &json!(false)));
        let (page, _) = page(&server, &store, build["url"].as_str().unwrap()).await;
        has(&page, &["all <b>1000</b>"]);
    }
    let (_, told) = server.get("/api/assay/v1/groups/1/builds?skip=1").await;
    assert_eq!(told, json!({"builds": [], "more": false}));
    let (_, told) = server.get("/api/assay/v1/groups/2/builds?only_tagged=1").await;
    assert_eq!(told["builds"], json!([]), "that tag is of another group");

    // The same jobs as on the page, for the same parameters.
    for (query, want) in [
        ("build=7", 1_000),
        ("build=7&result=failed&arch=arch3", 10),
        ("build=7&q=E007&flavor__not=flavor1", 90),
        ("groupid=2", 1),
        ("build=8", 0),
    ] {
        let (status, told) = server.get(&format!("/api/assay/v1/overview?{query}")).await;
        assert_eq!((status, told["jobs"].as_array().map(Vec::len)), (StatusCode::OK, Some(want)), "{query}");
        assert_eq!(server.get(&format!("/tests/overview.json?{query}")).await.1, told, "{query}");
    }
    let (_, told) = server.get("/api/assay/v1/overview?build=7&result=failed").await;
    let (counts, job) = (&told["counts"], &told["jobs"][0]);
    assert_eq!((&counts["passed"], &counts["failed"]), (&json!(900), &json!(100)), "whatever is chosen");
    assert_eq!(
        (&job["result"], &job["test"], &job["group_id"]),
        (&json!("failed"), &json!("suite007"), &json!(1))
    );
    for (path, want) in [
        ("overview?result=splendid", StatusCode::BAD_REQUEST),
        ("overview?t=yesterday", StatusCode::BAD_REQUEST),
        ("groups/9/builds", StatusCode::NOT_FOUND),
        ("groups/x/builds", StatusCode::NOT_FOUND),
        ("parent-groups/9/builds", StatusCode::NOT_FOUND),
        ("groups/9/tags", StatusCode::NOT_FOUND),
    ] {
        let (status, told) = server.get(&format!("/api/assay/v1/{path}")).await;
        assert_eq!(status, want, "{path}: {told}");
        assert!(!told["help"].as_str().unwrap().is_empty(), "{path}: {told}");
    }
}

#[tokio::test]
async fn no_build_of_a_parent_group_is_lost_between_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = assay_store::open(&format!("sqlite:{}", dir.path().join("jobs.db").display())).await.unwrap();
    let epoch = store.acquire_leadership().await.unwrap();
    let mut batch = Batch::default();
    for id in 1..=22 {
        // The first eleven are of one group.
        let build = id.to_string();
        let settings = [("DISTRI", "d"), ("VERSION", "1"), ("BUILD", build.as_str()), ("TEST", "t")];
        batch.push(ended(id, 1 + (id - 1) / 11, &settings, Outcome::Passed));
    }
    store.commit(epoch, &batch).await.unwrap();
    let given: Arc<dyn Store> = Arc::new(Watched::new(store));
    let server = Server::start_with(|config| config.store = Some(given)).await;
    let (_, parent) = server.ask(Method::POST, "/api/v1/parent_groups", Some(json!({"name": "All"}))).await;
    for name in ["low", "high"] {
        let body = json!({"name": name, "parent_id": parent["id"]});
        assert_eq!(server.ask(Method::POST, "/api/v1/job_groups", Some(body)).await.0, StatusCode::OK);
    }
    let all: Vec<String> = (1..=22).rev().map(|build: i64| build.to_string()).collect();
    for (skip, want, more) in [
        (0, &all[..10], true),
        (10, &all[10..20], true),
        (20, &all[20..], false),
        (usize::MAX, &all[22..], false),
    ] {
        let (status, told) = server.get(&format!("/api/assay/v1/parent-groups/1/builds?skip={skip}")).await;
        let builds = told["builds"].as_array().into_iter().flatten();
        let builds: Vec<_> = builds.map(|build| build["build"].as_str().unwrap()).collect();
        assert_eq!((status, &told["more"]), (StatusCode::OK, &json!(more)), "{skip}: {told}");
        assert_eq!(builds, want, "{skip}");
        let (_, told) = server.get(&format!("/parent_group_overview/1.json?skip={skip}")).await;
        assert_eq!(told["build_results"].as_array().map(Vec::len), Some(want.len()), "{skip}");
        assert_eq!(server.page(&format!("/group_overview/1?skip={skip}")).await.0, StatusCode::OK, "{skip}");
        let (_, page) = server.page(&format!("/parent_group_overview/1?skip={skip}&only_tagged=0")).await;
        assert_eq!(
            (page.contains("rel=\"prev\""), page.contains("rel=\"next\"")),
            (skip > 0, more),
            "{skip}"
        );
    }
    let (_, parent) = server.page("/parent_group_overview/1?skip=10").await;
    for skip in [0, 20] {
        let href = format!("href=\"/parent_group_overview/1?limit_builds=10&#38;skip={skip}\"");
        assert!(parent.contains(&href), "{href}: {parent}");
    }
    // What the parent group says about the dashboard counts for its groups.
    for (hidden, want) in [(false, 2), (true, 0)] {
        let body = json!({"properties": {"ignore_on_dashboard": hidden}});
        let (status, said) = server.ask(Method::PATCH, "/api/assay/v1/parent-groups/1", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        let (_, told) = server.get("/dashboard_build_results.json").await;
        assert_eq!(told["results"].as_array().map(Vec::len), Some(want), "{told}");
    }
}

/// Sends a form of a page as admin.
async fn send(server: &Server, path: &str, form: &str) -> (StatusCode, String, String) {
    let request = crate::common::client()
        .post(server.url(path))
        .bearer_auth(&server.handle.admin_token)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    let answer = request.send().await.unwrap();
    let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
    (answer.status(), location.unwrap_or_default(), answer.text().await.unwrap())
}

#[tokio::test]
async fn admins_make_groups_on_a_page() {
    let server = Server::start().await;
    let (_, seen) = server.page("/admin/groups").await;
    assert!(!seen.contains("id=\"new-group\""), "others only look: {seen}");
    let (status, to, _) = send(&server, "/admin/groups", "name=All&is_parent=1").await;
    assert_eq!((status, to.as_str()), (StatusCode::SEE_OTHER, "/parent_group_overview/1"));
    let (status, to, _) = send(&server, "/admin/groups", "name=Nightly+%3Cb%3E&parent_id=1").await;
    assert_eq!((status, to.as_str()), (StatusCode::SEE_OTHER, "/group_overview/1"));
    let (_, seen) = server.page("/admin/groups").await;
    has(&seen, &["Nightly &#60;b&#62;", "/parent_group_overview/1", "0 templates"]);
    for (form, want, said) in [
        ("name=Nightly+%3Cb%3E&parent_id=1", 409, "already"),
        ("name=", 400, "name"),
        ("name=x&parent_id=9", 400, "parent_id"),
    ] {
        let (status, _, page) = send(&server, "/admin/groups", form).await;
        assert_eq!(status.as_u16(), want, "{form}: {page}");
        has(&page, &[said, "id=\"new-group\""]);
    }
    let anonymous = crate::common::client();
    let answer = anonymous.post(server.url("/admin/groups")).body("name=x").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn properties_of_a_group_are_seen_changed_and_refused() {
    let server = Server::start().await;
    let (_, made) = server
        .ask(Method::POST, "/api/v1/job_groups", Some(json!({"name": "nightly", "keep_logs_in_days": 5})))
        .await;
    let path = format!("/group_overview/{}/properties", made["id"]);
    has(&server.page(&path.replace("/properties", "")).await.1, &[&format!("href=\"{path}\"")]);
    let (_, page) = server.page(&path).await;
    has(&page, &["name=\"keep_logs_in_days\" value=\"5\"", "placeholder=\"365\"", "readonly"]);
    let order = "<select name=\"build_version_sort\" disabled><option value=\"\">as usual: versions</option>";
    has(&page, &[order, "<option value=\"2\">their oldest jobs</option>"]);
    // What a group does not say itself is its parent's, whichever of the two is changed.
    let put = async |path: &str, body: serde_json::Value| server.ask(Method::PUT, path, Some(body)).await;
    let (_, parent) = server
        .ask(
            Method::POST,
            "/api/v1/parent_groups",
            Some(json!({"name": "all", "default_keep_results_in_days": 40})),
        )
        .await;
    let (own, above) =
        (format!("/api/v1/job_groups/{}", made["id"]), format!("/api/v1/parent_groups/{}", parent["id"]));
    let (status, _) = put(&own, json!({"parent_id": parent["id"], "keep_logs_in_days": 40})).await;
    assert_eq!(status, StatusCode::OK);
    for (path, body, said) in [
        (&own, json!({"keep_logs_in_days": 41}), "keep_logs_in_days would be 41, keep_results_in_days is 40"),
        (&own, json!({"keep_logs_in_days": 0}), "keep_logs_in_days would be for ever"),
        (&above, json!({"default_keep_logs_in_days": 20, "default_keep_results_in_days": 30}), "\"nightly\""),
    ] {
        let (status, answer) = put(path, body.clone()).await;
        assert!(
            status == StatusCode::BAD_REQUEST && answer.to_string().contains(said),
            "{path} {body}: {answer}"
        );
    }
    assert_eq!(put(&own, json!({"parent_id": "", "keep_logs_in_days": 5})).await.0, StatusCode::OK);
    for (form, status, said) in [
        ("name=nightly&keep_logs_in_days=50&keep_results_in_days=9", 400, "results no longer than jobs"),
        ("name=nightly&keep_logs_in_days=many", 400, "keep_logs_in_days invalid"),
        ("name=&keep_logs_in_days=5", 400, "name"),
        (
            "name=weekly&keep_logs_in_days=9&keep_results_in_days=50&keep_jobs_in_days=&description=a%0D%0Ab",
            303,
            "",
        ),
    ] {
        let (found, location, page) = send(&server, &path, form).await;
        assert_eq!(found.as_u16(), status, "{form}: {page}");
        if status == 303 {
            assert_eq!(location, format!("{path}?saved=1"));
        } else {
            has(&page, &["role=\"alert\"", said, "name=\"keep_logs_in_days\" value=\""]);
        }
    }
    let (_, group) = server.get(&format!("/api/v1/job_groups/{}", made["id"])).await;
    let group = &group[0];
    assert_eq!((&group["name"], &group["description"]), (&json!("weekly"), &json!("a\nb")));
    assert_eq!((&group["keep_logs_in_days"], &group["keep_results_in_days"]), (&json!(9), &json!(50)));
    assert_eq!(group["keep_jobs_in_days"], 730);
    let answer = crate::common::client().post(server.url(&path)).body("name=x").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn properties_of_a_group_are_checked_before_they_are_saved() {
    let server = Server::start().await;
    for name in ["nightly", "weekly"] {
        let (status, body) =
            server.ask(Method::POST, "/api/v1/job_groups", Some(json!({"name": name}))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let path = "/group_overview/1/properties/check";
    for (form, refused, fields) in [
        ("name=nightly&keep_logs_in_days=5&keep_jobs_in_days=", "", vec![]),
        ("name=hourly", "", vec![]),
        (
            "name=nightly&keep_logs_in_days=50&keep_results_in_days=9",
            "keep_logs_in_days would be 50, keep_results_in_days is 9",
            vec!["keep_logs_in_days"],
        ),
        (
            "name=nightly&keep_logs_in_days=many&default_priority=x",
            "keep_logs_in_days invalid",
            vec!["keep_logs_in_days", "default_priority"],
        ),
        ("name=+", "name invalid", vec!["name"]),
        ("name=", "name missing", vec!["name"]),
        ("name=weekly", "There is a job group \"weekly\" already.", vec!["name"]),
    ] {
        let (status, _, body) = send(&server, path, form).await;
        assert_eq!(status, StatusCode::OK, "{form}: {body}");
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        let said = told["refused"].as_str().unwrap_or_default();
        assert!(said.contains(refused) && said.is_empty() == refused.is_empty(), "{form}: {told}");
        assert_eq!(told["fields"], json!(fields), "{form}: {told}");
        // Saving says the same.
        if !refused.is_empty() {
            let (status, _, page) = send(&server, "/group_overview/1/properties", form).await;
            assert!(status.is_client_error(), "{form}: {page}");
        }
    }
    let (_, group) = server.get("/api/v1/job_groups/1").await;
    assert_eq!((&group[0]["name"], &group[0]["keep_logs_in_days"]), (&json!("nightly"), &json!(30)));
    let (status, _, _) = send(&server, &path.replace('1', "9"), "name=x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let answer = crate::common::client().post(server.url(path)).body("name=x").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let (_, page) = server.page("/group_overview/1/properties").await;
    assert!(!page.contains("data-check"), "those who may not change it have nothing to check: {page}");
}

#[tokio::test]
async fn the_next_and_the_previous_job_of_a_scenario_are_the_nearest() {
    let server = Server::start().await;
    let job = |machine: Option<&str>| {
        let mut settings = json!({"TEST": "a", "BACKEND": "dummy"});
        if let Some(machine) = machine {
            settings["MACHINE"] = json!(machine);
        }
        json!({ "settings": settings })
    };
    // 1 has no machine, then 30 that have one, then 520 that have none.
    let jobs: Vec<_> = std::iter::once(job(None))
        .chain((0..30).map(|_| job(Some("m"))))
        .chain((0..520).map(|_| job(None)))
        .collect();
    let (status, posted) = server.ask(Method::POST, "/api/assay/v1/jobs", Some(json!(jobs))).await;
    assert_eq!(status, StatusCode::CREATED, "{posted}");
    let link = |rel: &str, id: u32| format!("<a rel=\"{rel}\" href=\"/jobs/{id}#previous\">");
    let newest = "<a href=\"/jobs/551#previous\">newest</a>".to_owned();
    for (id, expected) in [
        (1, vec![link("next", 32), newest.clone()]),
        (32, vec![link("prev", 1), link("next", 33), newest.clone()]),
        (2, vec![link("next", 3), newest.replace("551", "31")]),
        (540, vec![link("prev", 539), link("next", 541), newest]),
        (541, vec![link("prev", 540), link("next", 542)]),
        (551, vec![link("prev", 550)]),
    ] {
        let (_, page) = server.page(&format!("/jobs/{id}")).await;
        let panel = page.split("id=\"previous\"").nth(1).unwrap().split("</header>").next().unwrap();
        for link in &expected {
            assert!(panel.contains(link), "{id}: {link} is not in {panel}");
        }
        // And the one to its failures.
        assert_eq!(panel.matches("#previous").count(), expected.len() + 1, "{id}: {panel}");
    }
}

#[tokio::test]
async fn a_restart_is_agreed_to_before_it_is_done() {
    let server = Server::start().await;
    let form =
        "TEST:1=parent&TEST:2=child&_START_AFTER:2=1&BACKEND=dummy&WORKER_CLASS=none&NOTE=%3Cscript%3E";
    let (status, _, body) = send(&server, "/api/v1/jobs", form).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    let (parent, child) = (told["ids"]["1"].as_i64().unwrap(), told["ids"]["2"].as_i64().unwrap());
    let (_, page) = server.page(&format!("/jobs/{child}")).await;
    has(
        &page,
        &[
            "Dependencies",
            "child starts after parent",
            "no other job of this scenario",
            "<td>&#60;script&#62;</td>",
        ],
    );
    server.ask(Method::POST, &format!("/api/assay/v1/jobs/{parent}/cancel"), None).await;

    let path = format!("/jobs/{parent}/restart");
    let (_, page) = server.page(&path).await;
    has(
        &page,
        &[
            "2 jobs started anew",
            "it was asked for",
            "it starts after 1 (parent)",
            &format!("assay job restart {parent}<"),
        ],
    );
    assert!(!page.contains("class=\"primary\""), "who is not an operator sees the plan only");
    let (_, page) = server.page(&format!("{path}?skip_children=1&set=A%3D%22%3Cb")).await;
    has(&page, &["1 job started anew", "assay job restart 1 --skip-children --set &#39;A=&#34;&#60;b&#39;<"]);
    let (_, page) = server.page(&format!("{path}?set=nonsense")).await;
    has(&page, &["is no setting"]);
    let agreed = format!("seen={parent},{child}&priority=7");
    let anonymous =
        crate::common::client().post(server.url(&path)).body(agreed.clone()).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);

    // What was agreed to is not what would be done.
    let (status, _, page) = send(&server, &path, &format!("seen={parent}")).await;
    assert_eq!(status, StatusCode::OK);
    has(&page, &["Meanwhile something has changed", "class=\"primary\""]);
    let (status, location, _) = send(&server, &path, &agreed).await;
    assert_eq!((status, location.as_str()), (StatusCode::SEE_OTHER, "/jobs/3"));
    assert_eq!(server.job(3).await.priority, 7);
    let (_, page) = server.page(&format!("/jobs/{parent}")).await;
    has(&page, &["Cloned as", "<a href=\"/jobs/3\">#3</a>"]);
    // Pressed twice, it is done once, and leads to the same job.
    let (_, page) = server.page(&path).await;
    has(&page, &["Nothing is started anew", "it was started anew before, as"]);
    let (status, location, _) = send(&server, &path, "seen=").await;
    assert_eq!((status, location.as_str()), (StatusCode::SEE_OTHER, "/jobs/3"));
    let (_, list) = server.get("/api/v1/jobs").await;
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(4));
}

const TEMPLATES: &str = "products:\n  d:\n    distri: d\n    version: '1'\n    flavor: f\ndefaults:\n  x86_64:\n    machine: m\n    priority: 40\nscenarios:\n  x86_64:\n    d:\n    - boot:\n        settings:\n          NOTE: '<script>'\n          _SECRET_X: opensesame\n";

#[tokio::test]
async fn templates_are_checked_and_saved() {
    let server = Server::start().await;
    let row = |more: serde_json::Value| {
        let mut body = json!({"name": "m", "backend": "dummy", "settings": {"_SECRET_Y": "opensesame", "Q": "<script>"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let product = json!({"distri": "d", "version": "1", "flavor": "f", "arch": "x86_64"});
    for (path, body) in [
        ("machines", row(json!({}))),
        ("test_suites", row(json!({"name": "boot", "description": "<script>"}))),
        ("products", row(product)),
        ("job_groups", json!({"name": "nightly"})),
    ] {
        let (status, body) = server.ask(Method::POST, &format!("/api/v1/{path}"), Some(body)).await;
        assert!(status.is_success(), "{path}: {body}");
    }
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let path = "/admin/job_templates/1";
    let check = async |text: &str| {
        let (status, _, body) =
            send(&server, &format!("{path}/check"), &format!("template={}", escaped(text))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let good = check(TEMPLATES).await;
    assert_eq!((good["templates"].as_i64(), good["findings"].as_array().map(Vec::len)), (Some(1), Some(0)));
    let bad = check(&TEMPLATES.replace("machine: m", "machine: n").replace("- boot", "- boost")).await;
    let lines: Vec<_> =
        bad["findings"].as_array().unwrap().iter().map(|one| one["line"].as_i64().unwrap()).collect();
    assert_eq!((bad["templates"].is_null(), lines), (true, vec![8, 13]), "{bad}");

    // Browsers send lines of forms with CR LF.
    let escaped = |text: &str| escaped(&text.replace('\n', "\r\n"));
    let save = |reference: &str, text: &str| {
        format!("schema=JobTemplates-01.yaml&reference={}&template={}", escaped(reference), escaped(text))
    };
    let (_, page) = server.page(path).await;
    let before = page.split("name=\"reference\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let before = before.replace("&#10;", "\n").replace("&#39;", "'");
    let (status, location, page) = send(&server, path, &save(&before, TEMPLATES)).await;
    assert_eq!(
        (status, location.as_str()),
        (StatusCode::SEE_OTHER, "/admin/job_templates/1?saved=1"),
        "{page}"
    );
    let (status, _, page) = send(&server, path, &save(&before, "products: {}\nscenarios: {}\n")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    has(&page, &["Template was modified"]);
    let (_, page) = server.page(path).await;
    has(&page, &["<strong>boot</strong>", "d 1 f x86_64", "NOTE=&#60;script&#62;", "readonly"]);
    let (_, yaml) = server.get("/api/v1/job_templates_scheduling/1").await;
    assert_eq!(yaml.as_str(), Some(TEMPLATES), "lines end as they did");
    for path in [path, "/admin/machines", "/admin/test_suites", "/admin/products", "/admin/job_templates"] {
        let (status, page) = server.page(path).await;
        let settings = page.split("id=\"rows\"").last().unwrap();
        assert!(!page.contains("<script>") && !settings.contains("opensesame"), "{path}");
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (_, page) = server.page("/admin/machines?q=nothing").await;
    has(&page, &["None fits"]);
    let answer = crate::common::client().post(server.url(path)).body(save("", "")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
