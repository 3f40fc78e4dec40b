//! The switches for the command line: `POST /fake/WHAT` with a JSON object. Tests call the methods of [`Handle`].

use super::faults::{SubmitTrouble, Trouble};
use super::handle::Handle;
use super::http::Asked;
use super::hub::Mishap;
use super::model::{Account, SubmitType};
use super::{FOREIGN, Upload};
use anyhow::{Context as _, bail};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

/// Does what is asked for; an answer that is no success says why.
pub(crate) async fn answer(handle: &Handle, asked: &Asked) -> Response {
    match act(handle, asked).await {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

fn text<'a>(input: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    input[name].as_str().with_context(|| format!("\"{name}\" is missing"))
}

fn number(input: &Value, name: &str) -> anyhow::Result<u64> {
    input[name].as_u64().with_context(|| format!("\"{name}\" is missing"))
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

async fn act(handle: &Handle, asked: &Asked) -> anyhow::Result<Value> {
    let path: Vec<&str> = asked.path.iter().skip(1).map(String::as_str).collect();
    if asked.method == Method::GET {
        return match path.as_slice() {
            ["events"] => Ok(handle.events().into()),
            ["troubles"] => Ok(handle.troubles().into()),
            ["streams"] => {
                // Answers when so many are open.
                let least = asked.number(&["at_least"]).unwrap_or(0);
                let mut counts = handle.core.hub.watch();
                Ok(counts.wait_for(|(_, streams)| *streams >= least).await?.1.into())
            }
            _ => bail!("GET /fake/{} is not there", path.join("/")),
        };
    }
    let input = asked.json()?;
    match path.as_slice() {
        ["events"] => {
            let mishap = match text(&input, "mishap")? {
                "drop" => Mishap::Drop,
                "duplicate" => Mishap::Duplicate,
                "delay" => Mishap::Delay,
                "reorder" => Mishap::Reorder,
                other => bail!("\"mishap\" is drop, duplicate, delay or reorder, not {other}"),
            };
            handle.befall_events(mishap, usize::try_from(number(&input, "count")?)?);
        }
        ["events", "release"] => handle.release_events(),
        ["events", "dropped-output"] => handle.send_dropped_output().await,
        ["streams", "close"] => handle.close_event_streams(),
        ["answers"] => {
            let trouble = match text(&input, "trouble")? {
                "slow" => Trouble::Slow,
                "never" => Trouble::Never,
                "fails" => Trouble::Fails,
                "answer-lost" => Trouble::AnswerLost,
                other => bail!("\"trouble\" is slow, never, fails or answer-lost, not {other}"),
            };
            let count = input["count"].as_u64().map(usize::try_from).transpose()?;
            let skip = usize::try_from(input["skip"].as_u64().unwrap_or(0))?;
            handle.trouble_later(text(&input, "point")?, trouble, skip, count);
        }
        ["answers", "release"] => handle.release_answers(),
        ["logins"] => handle.refuse_logins(input["refuse"].as_bool().context("\"refuse\" is missing")?),
        ["submit"] => {
            let trouble = match text(&input, "trouble")? {
                "foreign-push" => SubmitTrouble::ForeignPush(text(&input, "commit")?.to_owned()),
                "other-tree" => SubmitTrouble::OtherTree,
                "nothing" => SubmitTrouble::Nothing,
                "refused" => SubmitTrouble::Refused(text(&input, "text")?.to_owned()),
                "answer-lost" => SubmitTrouble::AnswerLost,
                "late" => SubmitTrouble::Late,
                other => bail!(
                    "\"trouble\" is foreign-push, other-tree, nothing, refused, answer-lost or late, not {other}"
                ),
            };
            handle.next_submit(text(&input, "project")?, trouble);
        }
        ["merges", "finish"] => handle.finish_merges().await?,
        ["force-push"] => {
            let (project, branch) = (text(&input, "project")?, text(&input, "branch")?);
            handle.force_push(project, branch, text(&input, "commit")?).await?;
        }
        rest => return make(handle, rest, &input).await,
    }
    Ok(json!({}))
}

/// What fills the server without a git client.
async fn make(handle: &Handle, path: &[&str], input: &Value) -> anyhow::Result<Value> {
    let files = || -> Vec<(String, Option<String>)> {
        let files = input["files"].as_object().into_iter().flatten();
        files.map(|(path, content)| (path.clone(), content.as_str().map(str::to_owned))).collect()
    };
    match path {
        ["project"] => {
            let word = input["submit_type"].as_str().unwrap_or("MERGE_IF_NECESSARY");
            let kind = SubmitType::parse(word).with_context(|| format!("{word} is not a submit type"))?;
            handle.project(text(input, "name")?, kind).await?;
        }
        ["account"] => {
            let mut account = Account::new(text(input, "username")?);
            account.groups.extend(list(&input["groups"]));
            account.keys.extend(list(&input["keys"]));
            account.password = input["password"].as_str().map(str::to_owned);
            handle.account(account).await;
        }
        ["commit"] => {
            let (project, files) = (text(input, "project")?, files());
            let files: Vec<(&str, Option<&str>)> =
                files.iter().map(|(path, content)| (path.as_str(), content.as_deref())).collect();
            let message = input["message"].as_str().unwrap_or("A commit\n");
            let commit = handle.commit(project, text(input, "parent")?, &files, message).await?;
            return Ok(json!({ "commit": commit }));
        }
        ["upload"] => {
            let upload = Upload {
                project: text(input, "project")?.to_owned(),
                branch: input["branch"].as_str().unwrap_or("master").to_owned(),
                subject: text(input, "subject")?.to_owned(),
                footers: list(&input["footers"]),
                files: files(),
                on: input["on"].as_str().map(str::to_owned),
                version_of: input["version_of"].as_u64(),
            };
            let made = handle.upload(input["user"].as_str().unwrap_or(FOREIGN), &upload).await?;
            return Ok(json!({
                "number": made.number,
                "patchset": made.patchset,
                "revision": made.revision,
                "change_id": made.change_id,
            }));
        }
        ["review"] => {
            let labels = input["labels"].as_object().into_iter().flatten();
            let labels: Vec<(&str, i8)> = labels
                .map(|(label, value)| {
                    Ok((label.as_str(), i8::try_from(value.as_i64().context("no number")?)?))
                })
                .collect::<anyhow::Result<_>>()?;
            let message = input["message"].as_str().unwrap_or_default();
            handle.review(text(input, "user")?, number(input, "number")?, &labels, message).await?;
        }
        _ => bail!("POST /fake/{} is not there", path.join("/")),
    }
    Ok(json!({}))
}
