//! Parameters of a request: from the query and from the body, as openQA's clients send them.

use super::Wrong;
use crate::app::App;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a request says, in the order in which it says it: what is in the body, then what is in the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// A body that is JSON.
    pub(crate) json: Option<Value>,
}

impl Params {
    /// The last value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The same, unless it is empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Values of `name`, given repeatedly, as `name[]`, or with commas between.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let named = |key: &str| key.strip_suffix("[]").unwrap_or(key) == name;
        let values = self.pairs.iter().filter(|(key, _)| named(key));
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Values of `name`, each as it was given.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// True for 1 and other words that mean yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "" | "0" | "false"))
    }

    /// A whole number; an answer that names it if it is something else.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, Wrong> {
        self.given(name)
            .map(|text| text.trim().parse().map_err(|_| Wrong::parameters(&[], &[name])))
            .transpose()
    }

    /// With ends of lines as they are written here: browsers send those of forms as CR LF.
    pub(crate) fn with_plain_lines(mut self) -> Self {
        for (_, value) in &mut self.pairs {
            if value.contains('\r') {
                *value = value.replace("\r\n", "\n");
            }
        }
        self
    }

    /// Everything.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// What is in brackets behind `name`: `settings[KEY]=VALUE`.
    pub(crate) fn bracketed(&self, name: &str) -> BTreeMap<String, String> {
        let inner =
            |key: &str| Some(key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        self.pairs.iter().filter_map(|(key, value)| Some((inner(key)?, value.clone()))).collect()
    }

    /// Those of these that are missing or empty are refused, all at once.
    pub(crate) fn required<const N: usize>(&self, names: [&'static str; N]) -> Result<[&str; N], Wrong> {
        let missing: Vec<_> = names.into_iter().filter(|name| self.given(name).is_none()).collect();
        if missing.is_empty() {
            Ok(names.map(|name| self.get(name).unwrap_or_default()))
        } else {
            Err(Wrong::parameters(&missing, &[]))
        }
    }

    /// `limit` and `offset` of a list: a limit above the greatest counts as the greatest.
    pub(crate) fn page(&self, usual: u32, greatest: u32) -> Result<(u32, u32), Wrong> {
        let limit = self.number::<u32>("limit")?.unwrap_or(usual);
        if limit == 0 {
            return Err(Wrong::bad("Limit exceeds maximum"));
        }
        Ok((limit.min(greatest), self.number("offset")?.unwrap_or(0)))
    }

    /// `Link` headers of a list: the first page, the one before, the next.
    pub(crate) fn links(&self, path: &str, (limit, offset): (u32, u32), more: bool) -> HeaderMap {
        let escaped = |text: &str| crate::web::frame::percent_encoded(text);
        let others = self.pairs.iter().filter(|(key, _)| key != "limit" && key != "offset");
        let others: Vec<_> =
            others.map(|(key, value)| format!("{}={}&", escaped(key), escaped(value))).collect();
        let others = others.concat();
        let link =
            |rel: &str, offset: u32| format!("<{path}?{others}limit={limit}&offset={offset}>; rel=\"{rel}\"");
        let mut all = vec![link("first", 0)];
        if offset > 0 {
            all.push(link("prev", offset.saturating_sub(limit)));
        }
        if more {
            all.push(link("next", offset.saturating_add(limit)));
        }
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
            headers.insert(header::LINK, value);
        }
        headers
    }

    /// A page of these rows, with the headers that lead to the others.
    pub(crate) fn page_of<T>(
        &self,
        path: &str,
        (limit, offset): (u32, u32),
        rows: impl Iterator<Item = T>,
    ) -> (HeaderMap, Vec<T>) {
        let mut rows = rows.skip(offset as usize);
        let page: Vec<T> = rows.by_ref().take(limit as usize).collect();
        (self.links(path, (limit, offset), rows.next().is_some()), page)
    }

    /// From a query alone.
    pub(crate) fn of_query(query: &str) -> Self {
        let mut params = Self::default();
        params.decode(query.as_bytes());
        params
    }

    /// From a query, and a body of that type.
    fn read(query: &str, kind: &str, body: &[u8]) -> Result<Self, Wrong> {
        let mut params = Self::default();
        if kind.starts_with("application/json") && !body.is_empty() {
            let json: Value = serde_json::from_slice(body)
                .map_err(|error| Wrong::bad(format!("The request is not JSON: {error}.")))?;
            if let Value::Object(fields) = &json {
                params
                    .pairs
                    .extend(fields.iter().filter_map(|(key, value)| Some((key.clone(), plain(value)?))));
            }
            params.json = Some(json);
        } else if kind.starts_with("application/x-www-form-urlencoded") || kind.is_empty() {
            params.decode(body);
        } else if kind.starts_with("multipart/form-data") {
            return Err(Wrong::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send parameters in the query, as application/x-www-form-urlencoded or as application/json.",
            ));
        }
        params.decode(query.as_bytes());
        Ok(params)
    }

    fn decode(&mut self, text: &[u8]) {
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, b"".as_slice()),
            };
            self.pairs.push((unescaped(key), unescaped(value)));
        }
    }
}

/// A scalar of JSON as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(if *yes { "1" } else { "0" }.to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `+` for a space and `%XX` for a byte; what is not UTF-8 afterwards is shown as such.
fn unescaped(text: &[u8]) -> String {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            [high, low, ..] if byte == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &after[2..];
            }
            None if byte == b'+' => bytes.push(b' '),
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl FromRequest<Arc<App>> for Params {
    type Rejection = Wrong;
    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Wrong> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        let body = Bytes::from_request(request, app)
            .await
            .map_err(|rejection| Wrong::new(rejection.status(), rejection.body_text()))?;
        Self::read(&query, &kind, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn bodies_and_queries_are_one() {
        let params =
            Params::read("b=3&d=%C3%A9%2F%3A+x&e", FORM, b"a=1&b=2&settings%5BQEMURAM%5D=2&settings[X]=")
                .unwrap();
        assert_eq!(
            (params.get("a"), params.get("b"), params.get("d")),
            (Some("1"), Some("3"), Some("é/: x"))
        );
        assert_eq!((params.get("e"), params.given("e"), params.get("f")), (Some(""), None, None));
        let settings = params.bracketed("settings");
        assert_eq!(
            settings.into_iter().collect::<Vec<_>>(),
            [("QEMURAM".to_owned(), "2".to_owned()), ("X".to_owned(), String::new())]
        );
        let params = Params::read("ids=1,2&ids=3&ids%5B%5D=4&ids=", "", b"").unwrap();
        assert_eq!(params.list("ids"), ["1", "2", "3", "4"]);
        let params =
            Params::read("", "application/json; charset=utf-8", br#"{"a":1,"b":"x","c":[1],"d":null}"#);
        let params = params.unwrap();
        assert_eq!((params.get("a"), params.get("b"), params.get("c")), (Some("1"), Some("x"), None));
        assert_eq!(params.json.unwrap()["c"][0], 1);
        assert!(Params::read("", "application/json", b"{").is_err());
        assert!(Params::read("", "multipart/form-data; boundary=x", b"").is_err());
    }

    #[test]
    fn limits_are_clamped_or_refused() {
        let page = |query: &str| Params::read(query, "", b"").unwrap().page(500, 5000).ok();
        assert_eq!(page(""), Some((500, 0)));
        assert_eq!(page("limit=9999&offset=7"), Some((5000, 7)));
        assert_eq!((page("limit=0"), page("limit=x"), page("offset=-1")), (None, None, None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(query in "\\PC*", body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let params = Params::read(&query, FORM, &body).unwrap();
            for (key, _) in params.pairs() {
                proptest::prop_assert!(params.get(key).is_some());
            }
        }

        #[test]
        fn what_is_escaped_comes_back(text in "\\PC{0,40}") {
            let escaped = text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            proptest::prop_assert_eq!(unescaped(escaped.as_bytes()), text);
        }
    }
}
