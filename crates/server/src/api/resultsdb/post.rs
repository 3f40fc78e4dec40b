//! What is posted.

use super::shape::{self, Place};
use super::{Poster, Wrong, field};
use crate::app::App;
use crate::results::conventions::LONGEST_NAME;
use crate::results::{Posted, Same, hashed};
use assay_engine::ids::Timestamp;
use assay_store::{GroupOf, NameFilter, NewResult, Testcase};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one value, of a note, of an address: what is longer belongs where `ref_url` points to.
const LONGEST_TEXT: usize = 64 * 1024;
/// Keys of a result's data, groups of a result, values of a key.
const MOST: usize = 1000;
/// Bytes of a key.
const LONGEST_KEY: usize = 256;
/// How far ahead of this server's a sender's clock may be. A result of a later time would be the newest for as long.
const AHEAD_MINUTES: i64 = 5;
/// Bytes of the name by which a post counts once.
const LONGEST_ONCE: usize = 200;

/// The body as an object, or why it is none.
pub(crate) fn object(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Map<String, Value>, Wrong> {
    match value(headers, body)? {
        Value::Object(map) => Ok(map),
        other => Err(Wrong::part("body", &other, "Input should be an object")),
    }
}

pub(crate) fn value(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, Wrong> {
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Wrong::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is too large; keep logs elsewhere, and say where with ref_url.",
        ),
        status => Wrong::new(status, error.body_text()),
    })?;
    let kind = field(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !kind.to_ascii_lowercase().contains("json") {
        return Err(Wrong::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The request is not JSON: send it with Content-Type: application/json.",
        ));
    }
    serde_json::from_slice(&body).map_err(|error| Wrong::bad(format!("Bad request: {error}")))
}

/// A text as Python writes what is none: values of data were always stored so.
fn python(value: &Value, inside: bool) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if inside => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut out = String::from(quote);
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    c if c == quote => out.extend(['\\', c]),
                    c => out.push(c),
                }
            }
            out.push(quote);
            out
        }
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(|one| python(one, true)).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{}: {}", python(&Value::from(key.as_str()), true), python(value, true))
            };
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Milliseconds since 1970, or a time as people write it; a time without a zone is UTC.
pub(crate) fn time(value: &Value) -> Option<Timestamp> {
    let of_millis = |millis: f64| {
        let micros = millis * 1000.0;
        // Within the years that can be written.
        (-6.2e16..=2.5e17).contains(&micros).then_some(Timestamp(micros as i64))
    };
    match value {
        Value::Number(number) => of_millis(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                return of_millis(text.parse().ok()?);
            }
            let zoned = match text.strip_suffix("+00") {
                Some(time) => format!("{time}Z"),
                None => text.to_owned(),
            };
            if let Ok(at) = zoned.parse::<jiff::Timestamp>() {
                return Some(Timestamp(at.as_microsecond()));
            }
            let civil = zoned.trim_end_matches('Z').parse::<jiff::civil::DateTime>().ok()?;
            let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            Some(Timestamp(at.as_microsecond()))
        }
        _ => None,
    }
}

/// Reads fields of an object; what is wrong is gathered.
struct Reader<'a> {
    map: &'a Map<String, Value>,
    wrong: Vec<Wrong>,
}

impl Reader<'_> {
    fn text(&mut self, key: &str, longest: usize) -> Option<String> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        match text_of(key, value, longest) {
            Ok(text) => Some(text),
            Err(wrong) => {
                self.wrong.push(wrong);
                None
            }
        }
    }
}

fn text_of(part: &str, value: &Value, longest: usize) -> Result<String, Wrong> {
    match value {
        Value::String(text) => bounded(part, text.clone(), longest),
        other => Err(Wrong::part(part, other, "Input should be a valid string")),
    }
}

fn bounded(part: &str, text: String, longest: usize) -> Result<String, Wrong> {
    if text.len() > longest {
        let why = format!(
            "{} bytes are too long; at most {longest} are kept: put the text elsewhere, and say where with ref_url",
            text.len()
        );
        let wrong = Wrong::part(part, &Value::Null, &why);
        return Err(Wrong { status: StatusCode::PAYLOAD_TOO_LARGE, ..wrong });
    }
    if text.contains('\0') {
        return Err(Wrong::part(part, &Value::from(text), "a text may not have the character U+0000"));
    }
    Ok(text)
}

/// A group, given by its UUID or as an object.
fn group_of(value: &Value) -> Result<GroupOf, Wrong> {
    let map = match value {
        Value::String(uuid) => {
            let uuid = bounded("groups", uuid.clone(), LONGEST_NAME)?;
            return Ok(GroupOf { uuid, ..GroupOf::default() });
        }
        Value::Object(map) => map,
        other => return Err(Wrong::part("groups", other, "Input should be a UUID or an object")),
    };
    let mut reader = Reader { map, wrong: Vec::new() };
    let uuid = reader.text("uuid", LONGEST_NAME).filter(|uuid| !uuid.is_empty());
    let group = GroupOf {
        uuid: uuid.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        description: reader.text("description", LONGEST_NAME),
        ref_url: reader.text("ref_url", LONGEST_TEXT),
    };
    Wrong::all(reader.wrong).map_or(Ok(group), Err)
}

fn testcase_of(value: Option<&Value>) -> Result<Testcase, Wrong> {
    let testcase = match value {
        Some(Value::Object(map)) => {
            let mut reader = Reader { map, wrong: Vec::new() };
            let name = reader.text("name", LONGEST_NAME).unwrap_or_default();
            // An empty one is how some clients say that they have none.
            let ref_url = reader.text("ref_url", LONGEST_TEXT).filter(|url| !url.is_empty());
            if let Some(wrong) = Wrong::all(reader.wrong) {
                return Err(wrong);
            }
            Testcase { name, ref_url }
        }
        Some(value) => Testcase { name: text_of("testcase", value, LONGEST_NAME)?, ref_url: None },
        None => return Err(Wrong::part("testcase", &Value::Null, "Field required")),
    };
    if testcase.name.is_empty() {
        return Err(Wrong::part("testcase", &Value::from(""), "the name should have at least 1 character"));
    }
    Ok(testcase)
}

fn data_of(value: Option<&Value>) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
    let map = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(Wrong::part("data", other, "Input should be an object")),
    };
    let colons: Vec<&String> = map.keys().filter(|key| key.contains(':')).collect();
    if !colons.is_empty() {
        let named =
            colons.iter().map(|key| python(&Value::from(key.as_str()), true)).collect::<Vec<_>>().join(", ");
        return Err(Wrong::bad(format!("Colon not allowed in key name: [{named}]")));
    }
    if map.len() > MOST {
        return Err(Wrong::part("data", &Value::from(map.len()), "too many keys"));
    }
    let mut data = BTreeMap::new();
    for (key, value) in map {
        let part = format!("data.{}", key.chars().take(80).collect::<String>());
        let name = bounded(&part, key.clone(), LONGEST_KEY)?;
        let values = match value {
            Value::Array(list) if list.len() > MOST => {
                return Err(Wrong::part(&part, &Value::Null, "too many values"));
            }
            Value::Array(list) => list.iter().map(|one| python(one, false)).collect(),
            one => vec![python(one, false)],
        };
        let values = values.into_iter().map(|value| bounded(&part, value, LONGEST_TEXT));
        data.insert(name, values.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(data)
}

/// The time that a result says it is of.
fn submitted(value: &Value, now: Timestamp) -> Result<Timestamp, Wrong> {
    let wrong = |why: &str| Err(Wrong::part("submit_time", value, why));
    match time(value) {
        None => wrong("expected milliseconds since 1970 or a time such as 2024-06-01T12:00:00.000000"),
        Some(at) if at > now.plus_seconds(60 * AHEAD_MINUTES) => wrong(&format!(
            "more than {AHEAD_MINUTES} minutes ahead of this server's clock, and it would hide every result until then; leave it out, \
             or set the sender's clock and its time zone"
        )),
        Some(at) => Ok(at),
    }
}

/// The result that a body describes; everything that is wrong with it at once.
pub(crate) fn read(map: &Map<String, Value>, outcomes: &[&str], now: Timestamp) -> Result<NewResult, Wrong> {
    let mut reader = Reader { map, wrong: Vec::new() };
    let note = reader.text("note", LONGEST_TEXT);
    let ref_url = reader.text("ref_url", LONGEST_TEXT);
    let mut wrong = reader.wrong;
    let mut take = |result: Result<(), Wrong>| wrong.extend(result.err());
    let mut new = NewResult { note, ref_url, at: now, ..NewResult::default() };
    take(testcase_of(map.get("testcase")).map(|testcase| {
        new.testcase = testcase.name;
        new.testcase_ref_url = testcase.ref_url;
    }));
    let outcome = map.get("outcome").unwrap_or(&Value::Null);
    new.outcome = outcome.as_str().unwrap_or_default().trim().to_uppercase();
    if !outcomes.contains(&new.outcome.as_str()) {
        take(Err(Wrong::part("outcome", outcome, &format!("must be one of: {}", outcomes.join(", ")))));
    }
    match map.get("groups") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) if list.len() <= MOST => {
            for value in list {
                take(group_of(value).map(|group| new.groups.push(group)));
            }
        }
        Some(other) => take(Err(Wrong::part("groups", other, "Input should be a valid list"))),
    }
    take(data_of(map.get("data")).map(|data| new.data = data));
    if let Some(value) = map.get("submit_time").filter(|value| !value.is_null()) {
        take(submitted(value, now).map(|at| new.at = at));
    }
    Wrong::all(wrong).map_or(Ok(new), Err)
}

/// What tells this post from others: clients repeat one whose answer got lost, and have no word for that.
fn same(sender: &str, map: &Map<String, Value>) -> Same {
    let mut said = format!("{sender}\0").into_bytes();
    // An object of texts and numbers cannot fail to be written.
    let _ = serde_json::to_writer(&mut said, map);
    hashed(&said)
}

/// `POST results`: 201, or 200 if the same was posted before: under the same `Idempotency-Key`, or without one by the same
/// sender a moment ago.
pub(super) async fn result(
    State(app): State<Arc<App>>,
    Poster(sender): Poster,
    place: Place,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let map = object(&headers, body)?;
    let settings = app.results.settings();
    let outcomes: Vec<&str> = settings.outcomes().collect();
    let mut new = read(&map, &outcomes, app.clock.now())?;
    if let Some(once) = headers.get("idempotency-key") {
        let once = once.to_str().ok().filter(|once| !once.is_empty() && once.len() <= LONGEST_ONCE);
        let once =
            once.ok_or_else(|| Wrong::bad("Idempotency-Key should have 1 to 200 ASCII characters."))?;
        new.dedupe = Some(format!("post/{}/{once}", sender.name));
    }
    let same = (new.dedupe.is_none() && !settings.repeats.is_zero()).then(|| same(&sender.name, &map));
    let posted = app.results.post_once(new, same).await.map_err(Wrong::from)?;
    let (status, stored) = match posted {
        Posted::New(stored) => (StatusCode::CREATED, *stored),
        Posted::Before(id) => {
            let stored = app.store.results().result(id).await?;
            (StatusCode::OK, stored.ok_or_else(|| Wrong::not_found("Result not found"))?)
        }
    };
    Ok(shape::json(status, shape::result(&stored, &place.base)))
}

/// `POST groups`
pub(super) async fn group(
    State(app): State<Arc<App>>,
    _: Poster,
    place: Place,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let group = group_of(&Value::Object(object(&headers, body)?))?;
    let results = app.store.results();
    results.put_group(app.results.epoch(), &group, app.clock.now()).await?;
    let filter = NameFilter { names: vec![group.uuid], limit: 1, ..NameFilter::default() };
    let stored =
        results.result_groups(&filter).await?.pop().ok_or_else(|| Wrong::not_found("Group not found"))?;
    Ok(shape::json(StatusCode::CREATED, shape::group(&stored, &place.base)))
}

/// `POST testcases`
pub(super) async fn testcase(
    State(app): State<Arc<App>>,
    _: Poster,
    place: Place,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let testcase = testcase_of(Some(&Value::Object(object(&headers, body)?)))?;
    let results = app.store.results();
    results.put_testcase(app.results.epoch(), &testcase).await?;
    let filter = NameFilter { names: vec![testcase.name], limit: 1, ..NameFilter::default() };
    let stored =
        results.testcases(&filter).await?.pop().ok_or_else(|| Wrong::not_found("Testcase not found"))?;
    Ok(shape::json(StatusCode::CREATED, shape::testcase(&stored, &place.base)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-01-01T00:00:00Z
    const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

    fn parsed(body: Value) -> Result<NewResult, Wrong> {
        read(body.as_object().expect("an object"), &["PASSED", "FAILED"], NOW)
    }

    #[test]
    fn a_result_of_the_future_is_refused() {
        let of = |at: &str| json!({"outcome": "PASSED", "testcase": "t", "submit_time": at});
        for (at, taken) in [
            ("2020-02-29T12:00:00", true),
            ("2026-01-01T00:04:59", true),
            ("2026-01-01T00:05:01", false),
            ("2026-01-01T01:00:00+01:00", true),
            ("2099-01-01T00:00:00", false),
        ] {
            let read = parsed(of(at));
            assert_eq!(read.is_ok(), taken, "{at}");
            if let Err(wrong) = read {
                assert!(
                    wrong.status == 400 && wrong.message.contains("ahead of this server's clock"),
                    "{at}"
                );
            }
        }
    }

    #[test]
    fn bodies_as_clients_send_them() {
        let new = parsed(json!({
            "outcome": " passed ", "testcase": {"name": "a/b", "ref_url": "http://t"}, "note": null, "ref_url": "http://r",
            "groups": ["g1", {"uuid": "g2", "description": "d"}, {"description": "new"}],
            "data": {"item": ["x", "y"], "n": 7, "f": 1.5, "t": true, "none": null, "o": {"x": [1, "it's"]}},
            "submit_time": 1_700_000_000_123_i64, "_auth_token": null, "whatever": 1,
        }))
        .unwrap();
        assert_eq!(
            (new.outcome.as_str(), new.testcase.as_str(), new.at.0),
            ("PASSED", "a/b", 1_700_000_000_123_000)
        );
        assert_eq!(
            new.groups[1],
            GroupOf { uuid: "g2".into(), description: Some("d".into()), ref_url: None }
        );
        assert_eq!(new.groups[2].uuid.len(), 36);
        let data: Vec<_> =
            new.data.iter().map(|(key, values)| format!("{key}={}", values.join("|"))).collect();
        assert_eq!(data, ["f=1.5", "item=x|y", "n=7", "none=None", "o={'x': [1, \"it's\"]}", "t=True"]);
    }

    #[test]
    fn times_in_all_their_forms() {
        let noon = 1_717_243_200_000_000;
        for (value, want) in [
            (json!(1_717_243_200_000_i64), Some(noon)),
            (json!("1717243200000"), Some(noon)),
            (json!("2024-06-01T12:00:00.000000"), Some(noon)),
            (json!("2024-06-01T12:00:00.5Z"), Some(noon + 500_000)),
            (json!("2024-06-01T14:00:00.000000+02:00"), Some(noon)),
            (json!("2024-06-01T14:00:00.000000+0200"), Some(noon)),
            (json!("2024-06-01T12:00:00.000000+00"), Some(noon)),
            (json!("2024-06-01 12:00:00"), Some(noon)),
            (json!("2024-06-01"), Some(noon - 43_200_000_000)),
            (json!("soon"), None),
            (json!(true), None),
            (json!(1e300), None),
            (json!(""), None),
        ] {
            assert_eq!(time(&value).map(|at| at.0), want, "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_all_at_once() {
        let long = "x".repeat(1_000_000);
        for (body, status, messages) in [
            (json!({}), 400, &["testcase: Field required", "outcome: must be one of: PASSED, FAILED"][..]),
            (json!({"outcome": "GOOD", "testcase": ""}), 400, &["at least 1 character", "must be one of"]),
            (
                json!({"outcome": "PASSED", "testcase": "t", "data": {"a:b": 1, "c:d": 2}}),
                400,
                &["Colon not allowed in key name: ['a:b', 'c:d']"],
            ),
            (
                json!({"outcome": "PASSED", "testcase": "t", "data": {"log": long}}),
                413,
                &["data.log: 1000000 bytes are too long", "ref_url"],
            ),
            (
                json!({"outcome": "PASSED", "testcase": "t", "note": 5, "groups": 7}),
                400,
                &["note: Input should be a valid string", "groups: "],
            ),
            (json!({"outcome": "PASSED", "testcase": "a\0b"}), 400, &["U+0000"]),
            (
                json!({"outcome": "PASSED", "testcase": "t", "submit_time": "soon"}),
                400,
                &["submit_time: expected milliseconds"],
            ),
        ] {
            let wrong = parsed(body).expect_err("it is wrong");
            assert_eq!(wrong.status.as_u16(), status, "{}", wrong.message);
            for message in messages {
                assert!(wrong.message.contains(message), "{message}: {}", wrong.message);
            }
        }
    }
}
