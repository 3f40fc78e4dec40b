//! What is read: updates with filters and pages, releases, builds.

use super::{Shared, wrong};
use crate::web::lock;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// In answers without `rows_per_page`, and the most.
const ROWS: (usize, usize) = (20, 100);
const STATUS: [&str; 6] = ["pending", "testing", "stable", "unpushed", "obsolete", "side_tag_active"];

/// When updates are made, unless they are changed.
const MADE: &str = "2020-01-02 10:00:00";

/// A release with the names that follow from its own.
pub(super) fn new_release(name: &str, state: &str) -> Value {
    let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (prefix, tag) = if name.starts_with("EPEL") {
        ("FEDORA-EPEL", format!("epel{version}"))
    } else {
        ("FEDORA", format!("f{version}"))
    };
    json!({
        "name": name, "long_name": format!("Fedora {version}"), "version": version, "id_prefix": prefix, "branch": tag,
        "dist_tag": tag, "stable_tag": format!("{tag}-updates"), "testing_tag": format!("{tag}-updates-testing"),
        "candidate_tag": format!("{tag}-updates-candidate"), "pending_signing_tag": format!("{tag}-signing-pending"),
        "pending_testing_tag": format!("{tag}-updates-testing-pending"),
        "pending_stable_tag": format!("{tag}-updates-pending"), "override_tag": format!("{tag}-override"),
        "mail_template": "fedora_errata_template", "state": state, "composed_by_bodhi": true,
        "create_automatic_updates": state == "pending", "package_manager": "dnf",
        "testing_repository": "updates-testing", "eol": null, "released_on": null, "setting_status": null, "composes": [],
    })
}

/// An update as it is when it was submitted for testing.
pub(super) fn new_update(alias: &str, release: Value, nvrs: &[&str]) -> Value {
    let build = |nvr: &&str| json!({"nvr": nvr, "epoch": 0, "release_id": 1, "signed": true, "type": "rpm"});
    json!({
        "alias": alias, "updateid": alias, "title": nvrs.join(" "), "display_name": "", "status": "pending",
        "request": "testing", "type": "bugfix", "severity": "unspecified", "suggest": "unspecified", "notes": "new upstream release",
        "builds": nvrs.iter().map(build).collect::<Vec<_>>(), "release": release, "user": {"name": "alice", "groups": []},
        "karma": 0, "stable_karma": 3, "unstable_karma": -3, "autokarma": true, "autotime": true, "stable_days": 7,
        "critpath": false, "critpath_groups": "", "test_gating_status": "waiting", "from_tag": null, "locked": false,
        "pushed": false, "date_submitted": MADE, "date_modified": null, "date_testing": null, "date_approved": null,
        "date_stable": null, "date_pushed": null, "bugs": [], "comments": [], "test_cases": [],
        "url": format!("https://bodhi.example.org/updates/{alias}"), "meets_testing_requirements": false,
        "content_type": "rpm", "require_bugs": false, "require_testcases": true, "version_hash": "0", "compose": null,
    })
}

type Pairs = Query<Vec<(String, String)>>;

/// All values of a name: repeated, or with commas between them.
fn values<'p>(pairs: &'p [(String, String)], name: &'p str) -> Vec<&'p str> {
    let fits = pairs.iter().filter(move |(key, _)| key == name);
    fits.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
}

/// Which page is wanted of how many rows.
fn page(pairs: &[(String, String)]) -> Result<(usize, usize), Box<Response>> {
    let number = |name: &str, usual: usize| match values(pairs, name).first() {
        None => Ok(usual),
        Some(text) => text.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
            let why = format!("{text} is less than minimum value 1");
            Box::new(wrong(StatusCode::BAD_REQUEST, name, &why))
        }),
    };
    let (page, rows) = (number("page", 1)?, number("rows_per_page", ROWS.0)?);
    if rows > ROWS.1 {
        let why = format!("{rows} is greater than maximum value {}", ROWS.1);
        return Err(Box::new(wrong(StatusCode::BAD_REQUEST, "rows_per_page", &why)));
    }
    Ok((page, rows))
}

/// A page of rows under a name.
fn paged(name: &str, all: Vec<Value>, (page, rows): (usize, usize)) -> Response {
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip((page - 1) * rows).take(rows).collect();
    let pages = total.div_ceil(rows).max(1);
    Json(json!({name: shown, "page": page, "pages": pages, "rows_per_page": rows, "total": total, "chrome": true}))
        .into_response()
}

/// Why nothing is read.
fn unknown(known: &[Value], pairs: &[(String, String)]) -> Option<Response> {
    if let Some(bad) = values(pairs, "status").into_iter().find(|status| !STATUS.contains(status)) {
        let why = format!("\"{bad}\" is not one of {}", STATUS.join(", "));
        return Some(wrong(StatusCode::BAD_REQUEST, "status", &why));
    }
    let bad = values(pairs, "releases")
        .into_iter()
        .find(|name| known.iter().all(|release| release["name"] != *name));
    bad.map(|name| wrong(StatusCode::BAD_REQUEST, "releases", &format!("Invalid releases specified: {name}")))
}

/// `GET /updates/`
pub(super) async fn updates(State(shared): State<Shared>, Query(pairs): Pairs) -> Response {
    let inner = lock(&shared);
    let page = match page(&pairs) {
        Ok(page) => page,
        Err(answer) => return *answer,
    };
    if let Some(answer) = unknown(&inner.releases, &pairs) {
        return answer;
    }
    let one_of = |name: &str, value: &Value| {
        let wanted = values(&pairs, name);
        wanted.is_empty() || wanted.iter().any(|one| value.as_str() == Some(one))
    };
    let any_build = |name: &str, update: &Value, of: fn(&str) -> &str| {
        let wanted = values(&pairs, name);
        let mut builds = update["builds"].as_array().into_iter().flatten();
        wanted.is_empty()
            || builds.any(|build| build["nvr"].as_str().is_some_and(|nvr| wanted.contains(&of(nvr))))
    };
    // Times as they are written sort as they are.
    let time = |name: &str, update: &Value| {
        let at = |key: &str| update[format!("date_{key}")].as_str().unwrap_or_default().to_owned();
        let limit =
            |end: &str| values(&pairs, &format!("{name}_{end}")).first().map(|text| (*text).to_owned());
        // What was never modified has been so when it was submitted.
        let at = if name == "modified" && at(name).is_empty() { at("submitted") } else { at(name) };
        limit("since").is_none_or(|since| !at.is_empty() && at >= since)
            && limit("before").is_none_or(|before| !at.is_empty() && at < before)
    };
    let fits = |update: &&Value| {
        ["alias", "updateid", "status", "request", "type", "severity"]
            .iter()
            .all(|name| one_of(name, &update[*name]))
            && one_of("releases", &update["release"]["name"])
            && one_of("release", &update["release"]["name"])
            && one_of("user", &update["user"]["name"])
            && one_of("gating", &update["test_gating_status"])
            && any_build("builds", update, |nvr| nvr)
            && any_build("packages", update, |nvr| nvr.rsplitn(3, '-').nth(2).unwrap_or(nvr))
            && ["approved", "modified", "pushed", "submitted"].iter().all(|name| time(name, update))
    };
    // The newest first.
    let mut found: Vec<Value> = inner.updates.iter().filter(fits).cloned().collect();
    found.reverse();
    paged("updates", found, page)
}

pub(super) fn no_update() -> Response {
    wrong(StatusCode::NOT_FOUND, "id", "Invalid update id")
}

/// `GET /updates/ID`
pub(super) async fn update(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let found = lock(&shared).updates.iter().find(|update| update["alias"] == id.as_str()).cloned();
    found.map_or_else(no_update, |update| {
        Json(json!({"update": update, "can_edit": false, "ci_allowed": true})).into_response()
    })
}

/// `GET /updates/ID/get-test-results`
pub(super) async fn test_results(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    if lock(&shared).updates.iter().all(|update| update["alias"] != id.as_str()) {
        return no_update();
    }
    let decision = json!({"summary": "no tests are required", "policies_satisfied": true, "waivers": [], "results": [],
        "satisfied_requirements": [], "unsatisfied_requirements": []});
    Json(json!({"decisions": [decision]})).into_response()
}

/// `GET /releases/`
pub(super) async fn releases(State(shared): State<Shared>, Query(pairs): Pairs) -> Response {
    let page = match page(&pairs) {
        Ok(page) => page,
        Err(answer) => return *answer,
    };
    let wanted = |name: &str, value: &Value| {
        let values = values(&pairs, name);
        values.is_empty() || values.iter().any(|one| value.as_str() == Some(one))
    };
    let hidden = |release: &Value| {
        values(&pairs, "exclude_archived").iter().any(|text| text.eq_ignore_ascii_case("true"))
            && release["state"] == "archived"
    };
    let inner = lock(&shared);
    let fits = |release: &&Value| {
        wanted("name", &release["name"]) && wanted("state", &release["state"]) && !hidden(release)
    };
    paged("releases", inner.releases.iter().filter(fits).cloned().collect(), page)
}

/// `GET /releases/NAME`
pub(super) async fn release(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let found = lock(&shared).releases.iter().find(|release| release["name"] == name.as_str()).cloned();
    found.map_or_else(
        || wrong(StatusCode::NOT_FOUND, "name", "No such release"),
        |release| Json(release).into_response(),
    )
}

/// `GET /builds/NVR`
pub(super) async fn build(State(shared): State<Shared>, Path(nvr): Path<String>) -> Response {
    let inner = lock(&shared);
    let mut builds =
        inner.updates.iter().flat_map(|update| update["builds"].as_array().into_iter().flatten());
    let found = builds.find(|build| build["nvr"] == nvr.as_str());
    found.map_or_else(
        || wrong(StatusCode::NOT_FOUND, "nvr", "No such build"),
        |build| Json(build.clone()).into_response(),
    )
}

/// Where a provider of tokens has its places.
pub(super) fn provider(url: &str) -> Json<Value> {
    Json(json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "userinfo_endpoint": format!("{url}/userinfo"), "response_modes_supported": ["query", "oob"],
    }))
}
