//! Koji: builds that are complete, whatever the bus said of them. XML-RPC with Koji's own additions.

use super::json::NoDocument;
use super::poll::{Polled, Poller};
use super::{Incoming, Received, polled};
use crate::http::Http;
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use hyper::Request;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const CURSOR: &str = "completed";
/// At the first look, and how much is asked for again at each.
const OVERLAP: i64 = 600;
const ROWS: u64 = 1_000;
const LONGEST: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_mins(1);
/// What errors begin with that Koji itself gives.
const REFUSAL: &str = "Koji refuses";
/// Values in each other.
const DEEP: usize = 50;

/// Asks for builds that were completed.
#[derive(Debug)]
pub struct Koji {
    http: Http,
    url: String,
    prefix: String,
}

impl Koji {
    /// Of an address such as `https://koji.fedoraproject.org/kojihub`; topics begin with `prefix`, as those of the bus.
    pub fn new(url: &str, prefix: &str) -> Result<Self, String> {
        let http = Http::new(url.starts_with("https://"), None, LONGEST)?;
        Ok(Self { http, url: url.to_owned(), prefix: prefix.to_owned() })
    }

    /// The newest build of a package in a tag that is not `other`.
    pub async fn before(&self, tag: &str, package: &str, other: &str) -> Result<Option<String>, NoDocument> {
        // The newest may be the other one.
        let named = json!({"tag": tag, "package": package, "latest": 2});
        let said = self.call("listTagged", &named).await;
        let said = said.map_err(|why| NoDocument { for_good: why.starts_with(REFUSAL), why })?;
        let names = said.as_array().into_iter().flatten().filter_map(|build| build["nvr"].as_str());
        Ok(names.filter(|nvr| *nvr != other).map(str::to_owned).next())
    }

    async fn call(&self, method: &str, named: &Value) -> Result<Value, String> {
        let body = call(method, named).into_bytes();
        let request = Request::post(&self.url).header("content-type", "text/xml").body(body);
        let request = request.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(PATIENCE, self.http.send(request)).await;
        let answer =
            answer.map_err(|_| format!("{} does not answer within {} s", self.url, PATIENCE.as_secs()))?;
        let answer = answer.map_err(|error| error.why)?;
        if !answer.status().is_success() {
            return Err(format!("{} answers {}", self.url, answer.status()));
        }
        read(&String::from_utf8_lossy(answer.body()))
    }
}

/// A call with named arguments, as Koji takes them.
pub fn call(method: &str, named: &Value) -> String {
    let mut arguments = named.as_object().cloned().unwrap_or_default();
    arguments.insert("__starstar".to_owned(), Value::from(true));
    let mut text =
        format!("<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params><param>");
    write(&Value::Object(arguments), &mut text);
    text.push_str("</param></params></methodCall>");
    text
}

fn write(value: &Value, text: &mut String) {
    let escaped = |plain: &str| plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.push_str("<value>");
    match value {
        Value::Null => text.push_str("<nil/>"),
        Value::Bool(flag) => {
            text.push_str(if *flag { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" });
        }
        Value::Number(number) if number.is_f64() => {
            text.extend(["<double>", &number.to_string(), "</double>"]);
        }
        Value::Number(number) => text.extend(["<i8>", &number.to_string(), "</i8>"]),
        Value::String(plain) => text.extend(["<string>", &escaped(plain), "</string>"]),
        Value::Array(values) => {
            text.push_str("<array><data>");
            for value in values {
                write(value, text);
            }
            text.push_str("</data></array>");
        }
        Value::Object(members) => {
            text.push_str("<struct>");
            for (name, value) in members {
                text.extend(["<member><name>", &escaped(name), "</name>"]);
                write(value, text);
                text.push_str("</member>");
            }
            text.push_str("</struct>");
        }
    }
    text.push_str("</value>");
}

/// What is being read.
enum Open {
    Value(Option<Value>),
    Scalar(String, String),
    Array(Vec<Value>),
    Struct(Map<String, Value>, Option<String>),
    Name(String),
}

/// The value of an answer; a fault is an error.
pub fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_str(text);
    let (mut stack, mut found, mut fault): (Vec<Open>, Option<Value>, bool) = (Vec::new(), None, false);
    let broken = |what: &str| format!("the answer is no XML-RPC: {what}");
    loop {
        let event = reader.read_event().map_err(|error| broken(&error.to_string()))?;
        match event {
            Event::Start(tag) => {
                if stack.len() > DEEP * 3 {
                    return Err(broken("too deep"));
                }
                let name = tag.name().as_ref().to_owned();
                match name.as_str() {
                    "fault" => fault = true,
                    "value" => stack.push(Open::Value(None)),
                    "array" => stack.push(Open::Array(Vec::new())),
                    "struct" => stack.push(Open::Struct(Map::new(), None)),
                    "name" => stack.push(Open::Name(String::new())),
                    "int" | "i4" | "i8" | "double" | "boolean" | "string" | "dateTime.iso8601" | "base64"
                    | "nil" => {
                        stack.push(Open::Scalar(name, String::new()));
                    }
                    _ => {}
                }
            }
            Event::Empty(tag) => match tag.name().as_ref() {
                "value" | "string" => give(&mut stack, &mut found, Value::from("")),
                "nil" => give(&mut stack, &mut found, Value::Null),
                "array" => give(&mut stack, &mut found, json!([])),
                "struct" => give(&mut stack, &mut found, json!({})),
                _ => {}
            },
            Event::Text(piece) => add(&mut stack, &piece),
            Event::CData(piece) => add(&mut stack, &piece),
            Event::GeneralRef(name) => {
                let plain = match &*name {
                    "lt" => "<".to_owned(),
                    "gt" => ">".to_owned(),
                    "amp" => "&".to_owned(),
                    "quot" => "\"".to_owned(),
                    "apos" => "'".to_owned(),
                    number => {
                        let digits = number.strip_prefix('#').ok_or_else(|| broken("an unknown entity"))?;
                        let code = match digits.strip_prefix('x') {
                            Some(hex) => u32::from_str_radix(hex, 16),
                            None => digits.parse(),
                        };
                        let c = code
                            .ok()
                            .and_then(char::from_u32)
                            .ok_or_else(|| broken("an unknown character"))?;
                        c.to_string()
                    }
                };
                add(&mut stack, &plain);
            }
            Event::End(tag) => close(tag.name().as_ref(), &mut stack, &mut found),
            Event::Eof => break,
            _ => {}
        }
    }
    let value = found.ok_or_else(|| broken("there is no value"))?;
    if fault {
        let why = value["faultString"].as_str().unwrap_or("a fault without words");
        return Err(format!("{REFUSAL}: {why} ({})", value["faultCode"]));
    }
    Ok(value)
}

fn add(stack: &mut [Open], piece: &str) {
    match stack.last_mut() {
        Some(Open::Scalar(_, text) | Open::Name(text)) => text.push_str(piece),
        Some(Open::Value(inner)) => match inner {
            // Text without a type is text; blanks around a type are nothing.
            Some(Value::String(text)) => text.push_str(piece),
            None if !piece.trim().is_empty() => *inner = Some(Value::from(piece)),
            _ => {}
        },
        _ => {}
    }
}

fn give(stack: &mut [Open], found: &mut Option<Value>, value: Value) {
    match stack.last_mut() {
        Some(Open::Value(inner)) => *inner = Some(value),
        Some(Open::Array(values)) => values.push(value),
        Some(Open::Struct(members, name)) => {
            if let Some(name) = name.take() {
                members.insert(name, value);
            }
        }
        Some(_) => {}
        None => *found = found.take().or(Some(value)),
    }
}

fn close(tag: &str, stack: &mut Vec<Open>, found: &mut Option<Value>) {
    let fits = match (tag, stack.last()) {
        ("value", Some(Open::Value(_)))
        | ("array", Some(Open::Array(_)))
        | ("struct", Some(Open::Struct(..)))
        | ("name", Some(Open::Name(_))) => true,
        (tag, Some(Open::Scalar(kind, _))) => tag == kind,
        _ => false,
    };
    if !fits {
        return;
    }
    match stack.pop() {
        Some(Open::Value(inner)) => give(stack, found, inner.unwrap_or_else(|| Value::from(""))),
        Some(Open::Array(values)) => give(stack, found, Value::Array(values)),
        Some(Open::Struct(members, _)) => give(stack, found, Value::Object(members)),
        Some(Open::Name(name)) => {
            if let Some(Open::Struct(_, next)) = stack.last_mut() {
                *next = Some(name);
            }
        }
        Some(Open::Scalar(kind, text)) => give(stack, found, scalar(&kind, &text)),
        None => {}
    }
}

fn scalar(kind: &str, text: &str) -> Value {
    let trimmed = text.trim();
    match kind {
        "int" | "i4" | "i8" => trimmed.parse::<i64>().map_or(Value::Null, Value::from),
        "double" => trimmed.parse::<f64>().map_or(Value::Null, Value::from),
        "boolean" => Value::from(trimmed == "1"),
        "nil" => Value::Null,
        _ => Value::from(text),
    }
}

/// The message that the bus would have carried for a build, so that the same rules fit.
pub fn message(build: &Value, prefix: &str) -> Option<Incoming> {
    let id = build["build_id"].as_i64().or_else(|| build["id"].as_i64())?;
    let name = build["name"].as_str().or_else(|| build["package_name"].as_str())?;
    let body = json!({
        "name": name, "version": build["version"].as_str()?, "release": build["release"].as_str()?,
        "epoch": build["epoch"], "build_id": id, "task_id": build["task_id"], "attribute": "state", "old": 0, "new": 1,
        "owner": build["owner_name"], "instance": "primary",
    });
    let topic = format!("{prefix}.buildsys.build.state.change");
    let key = format!("koji-build/{id}/1");
    Some(polled(&key, &topic, &body))
}

#[async_trait]
impl Poller for Koji {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        let now = now.0.div_euclid(1_000_000);
        let known = cursors.get(CURSOR).and_then(|text| text.parse::<i64>().ok());
        let since = known.unwrap_or(now).min(now) - OVERLAP;
        let mut received = Received::default();
        let mut offset = 0;
        loop {
            let options = json!({"order": "build_id", "limit": ROWS, "offset": offset});
            let named = json!({"state": 1, "completeAfter": since, "queryOpts": options});
            let answer = self.call("listBuilds", &named).await?;
            let builds = answer.as_array().ok_or("listBuilds answers no list; is it a Koji?")?;
            received.messages.extend(builds.iter().filter_map(|build| message(build, &self.prefix)));
            if (builds.len() as u64) < ROWS {
                break;
            }
            offset += ROWS;
        }
        let until = known.map_or(now, |known| known.max(now));
        received.cursors.push((CURSOR.to_owned(), Some(until.to_string())));
        Ok(Polled { received, more: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers() {
        let build = "<struct><member><name>build_id</name><value><i8>3000000001</i8></value></member><member><name>name</name>\
                     <value>a&amp;b</value></member><member><name>version</name><value><string>1</string></value></member>\
                     <member><name>release</name><value><string>2</string></value></member><member><name>epoch</name><value><nil/></value></member></struct>";
        let text = format!(
            "<?xml version='1.0'?>\n<methodResponse><params><param><value><array><data>\n<value>{build}</value>\n</data></array></value></param></params></methodResponse>"
        );
        let builds = read(&text).unwrap();
        assert_eq!(
            builds,
            json!([{"build_id": 3_000_000_001_i64, "name": "a&b", "version": "1", "release": "2", "epoch": null}])
        );
        let found = message(&builds[0], "org.x").unwrap();
        assert_eq!(
            (found.key.as_str(), found.topic.as_str()),
            ("koji-build/3000000001/1", "org.x.buildsys.build.state.change")
        );
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1000</int></value></member>\
                     <member><name>faultString</name><value><string>no such tag</string></value></member></struct></value></fault></methodResponse>";
        assert_eq!(read(fault).unwrap_err(), "Koji refuses: no such tag (1000)");
        assert!(read("<html>").is_err() && read("").is_err());
        let named = json!({"a": [1, "<", true, null, {"b": 2}]});
        let sent = call("listBuilds", &named);
        let inner = sent.split("<params><param>").nth(1).unwrap().split("</param>").next().unwrap();
        let mut expected = named;
        expected["__starstar"] = json!(true);
        assert_eq!(read(inner).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(pieces in prop::collection::vec(prop::sample::select(vec![
            "<value>", "</value>", "<array>", "<data>", "</data>", "</array>", "<struct>", "<member>", "</member>", "</struct>", "<name>", "</name>",
            "<int>", "</int>", "<nil/>", "5", "&lt;", "&#x41;", "&no;", "<", " ",
        ]), 0..40)) {
            let _ = read(&pieces.concat());
        }
    }
}
