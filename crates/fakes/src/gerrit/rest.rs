//! The REST interface.

use super::commands::{review_input, version};
use super::core::Core;
use super::http::{Asked, unescape};
use super::model::query::Query;
use super::model::{LabelRule, Refusal, Status, SubmitType, World};
use super::repos::{Merged, RefMove, ZERO};
use super::rest_json::Options;
use super::submit::Submitted;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

/// What a request comes to.
enum Reply {
    Json(Value),
    Created(Value),
    NoContent,
    Text(&'static str),
    /// The connection is to be dropped.
    Cut,
}

type Result<T> = std::result::Result<T, Refusal>;

/// Answers; nothing if the connection is to be dropped.
pub(crate) async fn answer(core: &Core, asked: &Asked) -> Option<Response> {
    Some(match route(core, asked).await {
        Ok(Reply::Json(value)) => json_response(StatusCode::OK, &value),
        Ok(Reply::Created(value)) => json_response(StatusCode::CREATED, &value),
        Ok(Reply::NoContent) => StatusCode::NO_CONTENT.into_response(),
        Ok(Reply::Text(text)) => text.into_response(),
        Ok(Reply::Cut) => return None,
        Err(refusal) => (status(&refusal), format!("{refusal}\n")).into_response(),
    })
}

pub(crate) fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
        Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
        Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json; charset=UTF-8")];
    (status, kind, format!(")]}}'\n{value}\n")).into_response()
}

fn no_such() -> Refusal {
    Refusal::NotFound("Not found: this address".into())
}

async fn route(core: &Core, asked: &Asked) -> Result<Reply> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let get = asked.method == Method::GET;
    match path.as_slice() {
        ["tools", "hooks", "commit-msg"] if get => Ok(Reply::Text(super::COMMIT_MSG_HOOK)),
        ["config", "server", "version"] if get => {
            Ok(Reply::Json(version(core.world.lock().await.numbers).into()))
        }
        ["config", "server", "info"] if get => {
            Ok(Reply::Json(json!({ "change": { "submit_whole_topic": false }, "gerrit": {} })))
        }
        ["accounts", name] | ["accounts", name, "detail"] if get => account(core, asked, name).await,
        ["changes"] if get => query(core, asked).await,
        ["changes", id, rest @ ..] => change(core, asked, id, rest).await,
        ["projects", rest @ ..] => projects(core, asked, rest).await,
        _ => Err(no_such()),
    }
}

async fn account(core: &Core, asked: &Asked, name: &str) -> Result<Reply> {
    let world = core.world.lock().await;
    let username = match name {
        "self" => asked.user()?.to_owned(),
        _ => world
            .find_account(&unescape(name, false))
            .map_err(|_| Refusal::NotFound(format!("account {name}")))?,
    };
    Ok(Reply::Json(world.rest_account(&username, true)))
}

async fn query(core: &Core, asked: &Asked) -> Result<Reply> {
    let world = core.world.lock().await;
    let options = Options::read(asked.values("o"));
    let (skip, limit) = (asked.number(&["S", "start"]).unwrap_or(0), asked.number(&["n", "limit"]));
    let mut texts: Vec<&str> = asked.values("q").chain(asked.values("query")).collect();
    if texts.is_empty() {
        texts.push("is:open");
    }
    let mut answers = Vec::new();
    for text in &texts {
        let query = Query::parse(text).map_err(|error| Refusal::BadRequest(error.to_string()))?;
        let page = query.run(&world, asked.user.as_deref(), skip, limit, core.now());
        let found = page.numbers.iter().filter_map(|number| world.changes.get(number));
        let mut rows: Vec<Value> = found.map(|change| world.rest_change(change, options)).collect();
        if let (true, Some(Value::Object(last))) = (page.more, rows.last_mut()) {
            last.insert("_more_changes".into(), true.into());
        }
        answers.push(Value::from(rows));
    }
    Ok(Reply::Json(if answers.len() == 1 { answers.remove(0) } else { answers.into() }))
}

/// The number of a change that is named as `N`, `PROJECT~N`, `PROJECT~BRANCH~I…` or `I…`.
fn find(world: &World, id: &str) -> Result<u64> {
    let missing = || Refusal::NotFound(format!("Not found: {id}"));
    let parts: Vec<String> = id.split('~').map(|part| unescape(part, false)).collect();
    let found: Vec<u64> = match parts.as_slice() {
        [one] => {
            let number = one.parse().ok();
            let same = |number| number == Some(0);
            let by_id = world.changes.values().filter(|change| change.change_id == *one && !same(number));
            number
                .filter(|number| world.changes.contains_key(number))
                .into_iter()
                .chain(by_id.map(|c| c.number))
                .collect()
        }
        [project, number] => {
            let number = number.parse().map_err(|_| missing())?;
            world
                .changes
                .get(&number)
                .filter(|change| change.project == *project)
                .map(|c| c.number)
                .into_iter()
                .collect()
        }
        [project, branch, change_id] => {
            let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
            world.by_change_id(project, branch, change_id).map(|change| change.number).into_iter().collect()
        }
        _ => Vec::new(),
    };
    match found.as_slice() {
        [number] => Ok(*number),
        [] => Err(missing()),
        _ => Err(Refusal::NotFound(format!("Multiple changes found for {id}"))),
    }
}

/// The number of a patchset that is named by commit, number or `current`.
fn find_revision(world: &World, number: u64, name: &str) -> Result<u32> {
    let change = world.change(number)?;
    let named = change.patchsets.iter().find(|patchset| {
        name == "current" && patchset.number == change.current().number
            || name == patchset.number.to_string()
            || name.len() >= 7 && patchset.commit.id.starts_with(name)
    });
    named.map(|patchset| patchset.number).ok_or_else(|| Refusal::NotFound(format!("Not found: {name}")))
}

async fn change(core: &Core, asked: &Asked, id: &str, rest: &[&str]) -> Result<Reply> {
    let number = find(&*core.world.lock().await, id)?;
    match (asked.method.as_str(), rest) {
        ("GET", []) => show(core, number, Options::read(asked.values("o"))).await,
        ("GET", ["detail"]) => show(core, number, Options::detailed()).await,
        ("GET", ["messages"]) => {
            let world = core.world.lock().await;
            Ok(Reply::Json(world.rest_messages(world.change(number)?)))
        }
        ("GET", ["topic"]) => Ok(Reply::Json(core.world.lock().await.change(number)?.topic.clone().into())),
        ("GET", ["hashtags"]) => Ok(Reply::Json(json!(core.world.lock().await.change(number)?.hashtags))),
        ("GET", ["submitted_together"]) => Ok(Reply::Json(json!([]))),
        ("POST", ["submit"]) => submit(core, asked, number, "current").await,
        ("POST", ["abandon" | "restore"]) => {
            let input = asked.json()?;
            let message = input["message"].as_str().unwrap_or_default();
            if rest == ["abandon"] {
                core.abandon(asked.user()?, number, message).await?;
            } else {
                core.restore(asked.user()?, number, message).await?;
            }
            show(core, number, Options::default()).await
        }
        (_, ["revisions", revision, rest @ ..]) => {
            revision_of(core, asked, number, &unescape(revision, false), rest).await
        }
        (_, rest) => edit(core, asked, number, rest).await,
    }
}

/// What changes a change without a vote.
async fn edit(core: &Core, asked: &Asked, number: u64, rest: &[&str]) -> Result<Reply> {
    let user = asked.user()?;
    let input = asked.json()?;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let now = core.now();
    let mut world = core.world.lock().await;
    let events = match (asked.method.as_str(), rest) {
        ("PUT", ["topic"]) => {
            Vec::from_iter(world.set_topic(user, number, input["topic"].as_str().unwrap_or_default(), now)?)
        }
        ("DELETE", ["topic"]) => Vec::from_iter(world.set_topic(user, number, "", now)?),
        ("POST", ["hashtags"]) => {
            let (add, remove) = (texts(&input["add"]), texts(&input["remove"]));
            Vec::from_iter(world.set_hashtags(user, number, &add, &remove, now)?)
        }
        ("POST", ["wip"]) => Vec::from_iter(world.set_wip(user, number, true, now)?),
        ("POST", ["ready"]) => Vec::from_iter(world.set_wip(user, number, false, now)?),
        ("POST" | "PUT", ["private"]) => Vec::from_iter(world.set_private(user, number, true, now)?),
        ("DELETE", ["private"]) | ("POST", ["private.delete"]) => {
            Vec::from_iter(world.set_private(user, number, false, now)?)
        }
        ("POST", ["reviewers"]) => {
            let who = input["reviewer"].as_str().unwrap_or_default();
            Vec::from_iter(world.add_reviewer(user, number, who, now)?)
        }
        ("DELETE", ["reviewers", who]) | ("POST", ["reviewers", who, "delete"]) => {
            vec![world.remove_reviewer(user, number, &unescape(who, false), now)?]
        }
        ("DELETE", ["reviewers", who, "votes", label])
        | ("POST", ["reviewers", who, "votes", label, "delete"]) => {
            vec![world.delete_vote(user, number, &unescape(who, false), &unescape(label, false), now)?]
        }
        _ => return Err(no_such()),
    };
    core.publish(events);
    Ok(match (asked.method.as_str(), rest) {
        ("DELETE", _) | (_, [.., "delete" | "private.delete"]) => Reply::NoContent,
        (_, ["topic"]) => Reply::Json(world.change(number)?.topic.clone().into()),
        (_, ["hashtags"]) => Reply::Json(json!(world.change(number)?.hashtags)),
        _ => Reply::Json(json!({})),
    })
}

async fn show(core: &Core, number: u64, options: Options) -> Result<Reply> {
    let world = core.world.lock().await;
    Ok(Reply::Json(world.rest_change(world.change(number)?, options)))
}

async fn submit(core: &Core, asked: &Asked, number: u64, revision: &str) -> Result<Reply> {
    let patchset = find_revision(&*core.world.lock().await, number, revision)?;
    match core.submit(asked.user()?, number, patchset).await? {
        Submitted::AnswerLost => Ok(Reply::Cut),
        Submitted::Told => {
            let world = core.world.lock().await;
            let mut value = world.rest_change(world.change(number)?, Options::default());
            // Also a server that did nothing says so.
            value["status"] = "MERGED".into();
            Ok(Reply::Json(value))
        }
    }
}

async fn revision_of(core: &Core, asked: &Asked, number: u64, name: &str, rest: &[&str]) -> Result<Reply> {
    let patchset = find_revision(&*core.world.lock().await, number, name)?;
    match (asked.method.as_str(), rest) {
        ("POST", ["review"]) => {
            let review = review_input(&asked.json()?);
            core.review(asked.user()?, number, patchset, &review).await?;
            let labels: Map<String, Value> =
                review.labels.iter().map(|(label, value)| (label.clone(), (*value).into())).collect();
            Ok(Reply::Json(if labels.is_empty() { json!({}) } else { json!({ "labels": labels }) }))
        }
        ("POST", ["submit"]) => submit(core, asked, number, name).await,
        ("GET", ["mergeable"]) => mergeable(core, number, patchset).await,
        ("GET", [what]) => {
            let world = core.world.lock().await;
            let change = world.change(number)?;
            let revision = change.patchset(patchset).ok_or_else(no_such)?;
            match *what {
                "related" => Ok(Reply::Json(json!({ "changes": world.rest_related(change, revision) }))),
                "files" => Ok(Reply::Json(World::rest_files(&revision.commit))),
                "commit" => Ok(Reply::Json(World::rest_commit(&revision.commit))),
                _ => Err(no_such()),
            }
        }
        _ => Err(no_such()),
    }
}

async fn mergeable(core: &Core, number: u64, patchset: u32) -> Result<Reply> {
    let world = core.world.lock().await;
    let change = world.change(number)?;
    let revision = change.patchset(patchset).ok_or_else(no_such)?;
    if !change.is_open() {
        return Err(Refusal::Conflict("change is closed".into()));
    }
    let kind =
        world.projects.get(&change.project).map_or(SubmitType::MergeIfNecessary, |one| one.submit_type);
    let tip = core.repos.tip(&change.project, &change.branch).await?.ok_or_else(no_such)?;
    let merged = match (kind, revision.commit.parents.first()) {
        (SubmitType::FastForwardOnly, _) => {
            core.repos.is_ancestor(&change.project, &tip, &revision.commit.id).await?
        }
        (SubmitType::MergeIfNecessary | SubmitType::MergeAlways, _) | (_, None) => {
            matches!(core.repos.merge(&change.project, &tip, &revision.commit.id).await?, Merged::Tree(_))
        }
        (_, Some(parent)) => {
            matches!(
                core.repos.pick(&change.project, parent, &revision.commit.id, &tip).await?,
                Merged::Tree(_)
            )
        }
    };
    Ok(Reply::Json(json!({ "submit_type": kind.word(), "strategy": "recursive", "mergeable": merged })))
}

/// A label as a project tells it: its values, written ` 0` and `+1`.
fn label_type(label: &LabelRule) -> (String, Value) {
    let written = |value: i8| if value == 0 { " 0".to_owned() } else { format!("{value:+}") };
    let values: Map<String, Value> =
        (label.min..=label.max).map(|value| (written(value), json!(""))).collect();
    (label.name.clone(), json!({ "values": values, "default_value": 0 }))
}

async fn projects(core: &Core, asked: &Asked, rest: &[&str]) -> Result<Reply> {
    let shown = |name: &str| json!({ "id": super::model::escape(name), "name": name, "state": "ACTIVE" });
    if rest.is_empty() {
        let world = core.world.lock().await;
        let prefix = asked.values("p").next().unwrap_or_default();
        let limit = asked.number(&["n", "limit"]).unwrap_or(usize::MAX);
        let names = world.projects.keys().filter(|name| name.starts_with(prefix));
        let skip = asked.number(&["S", "start"]).unwrap_or(0);
        let found: Map<String, Value> =
            names.skip(skip).take(limit).map(|name| (name.clone(), shown(name))).collect();
        return Ok(Reply::Json(found.into()));
    }
    let name = unescape(rest[0], false);
    if (asked.method.as_str(), &rest[1..]) == ("PUT", &[]) {
        let input = asked.json()?;
        let kind = match input["submit_type"].as_str() {
            None | Some("INHERIT") => SubmitType::MergeIfNecessary,
            Some(word) => SubmitType::parse(word)
                .ok_or_else(|| Refusal::BadRequest(format!("{word} is not a submit type")))?,
        };
        let head = input["branches"][0].as_str().unwrap_or("master");
        core.create_project(Some(asked.user()?), &name, kind, head).await?;
        return Ok(Reply::Created(shown(&name)));
    }
    let head = {
        let world = core.world.lock().await;
        world.projects.get(&name).ok_or_else(|| Refusal::NotFound(format!("Not found: {name}")))?.head.clone()
    };
    match (asked.method.as_str(), &rest[1..]) {
        ("GET", []) => {
            let mut shown = shown(&name);
            shown["labels"] = core.world.lock().await.labels.iter().map(label_type).collect();
            Ok(Reply::Json(shown))
        }
        ("GET", ["config"]) => {
            let kind = core.world.lock().await.projects.get(&name).map(|one| one.submit_type.word());
            Ok(Reply::Json(json!({
                "submit_type": kind,
                "default_submit_type": { "value": kind, "configured_value": kind },
                "use_content_merge": { "value": true, "configured_value": "TRUE" },
            })))
        }
        ("GET", ["HEAD"]) => Ok(Reply::Json(head.into())),
        ("GET", ["branches"]) => {
            let heads = core.repos.refs(&name).await?;
            let heads = heads.into_iter().filter(|(name, _)| name.starts_with("refs/heads/"));
            let list = heads.map(|(name, id)| json!({ "ref": name, "revision": id }));
            let first = json!({ "ref": "HEAD", "revision": head.trim_start_matches("refs/heads/") });
            Ok(Reply::Json([first].into_iter().chain(list).collect()))
        }
        ("GET", ["branches", branch]) => {
            let branch = unescape(branch, false);
            let branch = branch.strip_prefix("refs/heads/").unwrap_or(&branch);
            let tip = core.repos.tip(&name, branch).await?;
            let tip = tip.ok_or_else(|| Refusal::NotFound(format!("Not found: {branch}")))?;
            Ok(Reply::Json(json!({ "ref": format!("refs/heads/{branch}"), "revision": tip })))
        }
        ("PUT", ["branches", branch]) => make_branch(core, asked, &name, &unescape(branch, false)).await,
        _ => Err(no_such()),
    }
}

async fn make_branch(core: &Core, asked: &Asked, project: &str, branch: &str) -> Result<Reply> {
    let input = asked.json()?;
    let mut world = core.world.lock().await;
    if !world.in_group(asked.user()?, &world.rights.push) {
        return Err(Refusal::Forbidden("not permitted to create a branch".into()));
    }
    let from = input["revision"].as_str().unwrap_or("HEAD");
    let commit = core.repos.resolve(project, &format!("{from}^{{commit}}")).await?;
    let commit = commit.ok_or_else(|| Refusal::BadRequest(format!("invalid revision {from}")))?;
    let name = format!("refs/heads/{}", branch.strip_prefix("refs/heads/").unwrap_or(branch));
    let moved = RefMove { name: name.clone(), old: ZERO.into(), new: commit.clone() };
    core.move_refs(&mut world, asked.user()?, project, &[moved])
        .await
        .map_err(|_| Refusal::Conflict(format!("branch {name} exists already")))?;
    Ok(Reply::Created(json!({ "ref": name, "revision": commit })))
}

/// Whether a change has landed.
pub(crate) fn is_merged(status: &Status) -> bool {
    matches!(status, Status::Merged { .. })
}
