//! XML-RPC with what Koji adds to it (`nil`, `i8`), both ways: calls, answers and faults.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Map, Value, json};

/// Elements within each other.
const DEEP: usize = 150;

/// Why there is no value in an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It is no XML-RPC.
    #[error("{0}")]
    Broken(String),
    /// The server refuses.
    #[error("{text} ({code})")]
    Fault {
        /// Its number.
        code: i64,
        /// Its words.
        text: String,
    },
}

/// A call with its arguments, in their order.
pub fn call(method: &str, arguments: &[Value]) -> String {
    let mut text = String::from("<?xml version='1.0'?><methodCall><methodName>");
    escape(method, &mut text);
    text.push_str("</methodName><params>");
    for argument in arguments {
        text.push_str("<param>");
        write(argument, &mut text);
        text.push_str("</param>");
    }
    text.push_str("</params></methodCall>");
    text
}

/// The answer to a call.
pub fn answer(value: &Value) -> String {
    let mut text = String::from("<?xml version='1.0'?><methodResponse><params><param>");
    write(value, &mut text);
    text.push_str("</param></params></methodResponse>");
    text
}

/// The answer to a call that is refused.
pub fn fault(code: i64, why: &str) -> String {
    let mut text = String::from("<?xml version='1.0'?><methodResponse><fault>");
    write(&json!({"faultCode": code, "faultString": why}), &mut text);
    text.push_str("</fault></methodResponse>");
    text
}

fn write(value: &Value, text: &mut String) {
    text.push_str("<value>");
    match value {
        Value::Null => text.push_str("<nil/>"),
        Value::Bool(flag) => {
            text.push_str(if *flag { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" });
        }
        Value::Number(number) => {
            let tag = match number.as_i64() {
                Some(whole) if i32::try_from(whole).is_ok() => "int",
                Some(_) => "i8",
                None if number.is_u64() => "i8",
                None => "double",
            };
            text.extend(["<", tag, ">", &number.to_string(), "</", tag, ">"]);
        }
        Value::String(plain) => {
            text.push_str("<string>");
            escape(plain, text);
            text.push_str("</string>");
        }
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
                text.push_str("<member><name>");
                escape(name, text);
                text.push_str("</name>");
                write(value, text);
                text.push_str("</member>");
            }
            text.push_str("</struct>");
        }
    }
    text.push_str("</value>");
}

/// Text as XML may hold it; what it may not hold at all is replaced.
fn escape(plain: &str, text: &mut String) {
    for c in plain.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            // A reader makes a line break of it otherwise.
            '\r' => text.push_str("&#13;"),
            '\t' | '\n' => text.push(c),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

/// What is being read.
enum Open {
    Value(Option<Value>),
    Scalar(String, String),
    Array(Vec<Value>),
    Struct(Map<String, Value>, Option<String>),
    Name(String),
    Method(String),
}

/// A document that was read.
#[derive(Default)]
struct Document {
    method: Option<String>,
    values: Vec<Value>,
    is_fault: bool,
    stack: Vec<Open>,
}

/// The value of an answer.
pub fn read_answer(text: &str) -> Result<Value, NoAnswer> {
    let document = Document::read(text).map_err(NoAnswer::Broken)?;
    let value = document.values.into_iter().next();
    let value = value.ok_or_else(|| NoAnswer::Broken("there is no value".to_owned()))?;
    if document.is_fault {
        let text = value["faultString"].as_str().unwrap_or("a fault without words").to_owned();
        return Err(NoAnswer::Fault { code: value["faultCode"].as_i64().unwrap_or_default(), text });
    }
    Ok(value)
}

/// The method of a call and its arguments.
pub fn read_call(text: &str) -> Result<(String, Vec<Value>), String> {
    let document = Document::read(text)?;
    let method = document.method.ok_or("there is no methodName")?;
    Ok((method, document.values))
}

impl Document {
    fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        let mut document = Self::default();
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(tag) => document.open(tag.name().as_ref())?,
                Event::Empty(tag) => match tag.name().as_ref() {
                    "value" | "string" => document.give(Value::from("")),
                    "nil" => document.give(Value::Null),
                    "array" => document.give(json!([])),
                    "struct" => document.give(json!({})),
                    _ => {}
                },
                Event::Text(piece) => document.add(&piece),
                Event::CData(piece) => document.add(&piece),
                Event::GeneralRef(name) => document.add(&entity(&name)?),
                Event::End(tag) => document.close(tag.name().as_ref()),
                Event::Eof => return Ok(document),
                _ => {}
            }
        }
    }

    fn open(&mut self, name: &str) -> Result<(), String> {
        if self.stack.len() > DEEP {
            return Err("too deep".to_owned());
        }
        match name {
            "fault" => self.is_fault = true,
            "methodName" => self.stack.push(Open::Method(String::new())),
            "value" => self.stack.push(Open::Value(None)),
            "array" => self.stack.push(Open::Array(Vec::new())),
            "struct" => self.stack.push(Open::Struct(Map::new(), None)),
            "name" => self.stack.push(Open::Name(String::new())),
            "int" | "i4" | "i8" | "double" | "boolean" | "string" | "dateTime.iso8601" | "base64" | "nil" => {
                self.stack.push(Open::Scalar(name.to_owned(), String::new()));
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, piece: &str) {
        match self.stack.last_mut() {
            Some(Open::Scalar(_, text) | Open::Name(text) | Open::Method(text)) => text.push_str(piece),
            Some(Open::Value(inner)) => match inner {
                // Text without a type is text; blanks around a type are nothing.
                Some(Value::String(text)) => text.push_str(piece),
                None if !piece.trim().is_empty() => *inner = Some(Value::from(piece)),
                _ => {}
            },
            _ => {}
        }
    }

    fn give(&mut self, value: Value) {
        match self.stack.last_mut() {
            Some(Open::Value(inner)) => *inner = Some(value),
            Some(Open::Array(values)) => values.push(value),
            Some(Open::Struct(members, name)) => {
                if let Some(name) = name.take() {
                    members.insert(name, value);
                }
            }
            Some(_) => {}
            None => self.values.push(value),
        }
    }

    fn close(&mut self, tag: &str) {
        let fits = match (tag, self.stack.last()) {
            ("value", Some(Open::Value(_)))
            | ("array", Some(Open::Array(_)))
            | ("struct", Some(Open::Struct(..)))
            | ("name", Some(Open::Name(_)))
            | ("methodName", Some(Open::Method(_))) => true,
            (tag, Some(Open::Scalar(kind, _))) => tag == kind,
            _ => false,
        };
        if !fits {
            return;
        }
        match self.stack.pop() {
            Some(Open::Value(inner)) => self.give(inner.unwrap_or_else(|| Value::from(""))),
            Some(Open::Array(values)) => self.give(Value::Array(values)),
            Some(Open::Struct(members, _)) => self.give(Value::Object(members)),
            Some(Open::Name(name)) => {
                if let Some(Open::Struct(_, next)) = self.stack.last_mut() {
                    *next = Some(name);
                }
            }
            Some(Open::Method(name)) => self.method = Some(name.trim().to_owned()),
            Some(Open::Scalar(kind, text)) => self.give(scalar(&kind, &text)),
            None => {}
        }
    }
}

fn entity(name: &str) -> Result<String, String> {
    let plain = match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        number => {
            let digits = number.strip_prefix('#').ok_or("an unknown entity")?;
            let code = match digits.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            let c = code.ok().and_then(char::from_u32).ok_or("an unknown character")?;
            return Ok(c.to_string());
        }
    };
    Ok(plain.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_other_writers() {
        let build = "<struct><member><name>build_id</name><value><i8>3000000001</i8></value></member><member><name>name</name>\
                     <value>a&amp;b</value></member><member><name>version</name><value><string>1</string></value></member>\
                     <member><name>took</name><value><double>1.5</double></value></member><member><name>epoch</name><value><nil/></value></member></struct>";
        let text = format!(
            "<?xml version='1.0'?>\n<methodResponse><params><param><value><array><data>\n<value>{build}</value>\n</data></array></value></param></params></methodResponse>"
        );
        let expected = json!([{"build_id": 3_000_000_001_i64, "name": "a&b", "version": "1", "took": 1.5, "epoch": null}]);
        assert_eq!(read_answer(&text).unwrap(), expected);
        assert!(read_answer("<html>").is_err() && read_answer("").is_err());
        assert_eq!(
            read_answer(&fault(1000, "no such <tag>")).unwrap_err().to_string(),
            "no such <tag> (1000)"
        );
        let sent = call(
            "listBuilds",
            &[json!(1), json!({"a": [3_000_000_001_i64, "\r<\u{1}"], "__starstar": true})],
        );
        assert!(
            sent.contains("<value><int>1</int></value>") && sent.contains("<i8>3000000001</i8>"),
            "{sent}"
        );
        let (method, arguments) = read_call(&sent).unwrap();
        assert_eq!(method, "listBuilds");
        assert_eq!(
            arguments,
            [json!(1), json!({"a": [3_000_000_001_i64, "\r<\u{fffd}"], "__starstar": true})]
        );
        assert!(read_call("<methodCall/>").is_err());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = "[^\u{0}-\u{1f}\u{fffe}\u{ffff}]{0,12}".prop_map(Value::from);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z &<]{0,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any_value()) {
            prop_assert_eq!(&read_answer(&answer(&value)).unwrap(), &value);
            let (method, arguments) = read_call(&call("m", &[value.clone(), Value::Null])).unwrap();
            prop_assert_eq!((method.as_str(), arguments), ("m", vec![value, Value::Null]));
        }

        #[test]
        fn any_text_is_read_or_refused(pieces in prop::collection::vec(prop::sample::select(vec![
            "<value>", "</value>", "<array>", "<data>", "</data>", "</array>", "<struct>", "<member>", "</member>", "</struct>", "<name>", "</name>",
            "<int>", "</int>", "<nil/>", "5", "&lt;", "&#x41;", "&no;", "<", " ", "<methodName>", "</methodName>",
        ]), 0..40)) {
            let _ = read_answer(&pieces.concat());
            let _ = read_call(&pieces.concat());
        }
    }
}
