//! Reads `endpoints.txt`.
//!
//! ```text
//! METHOD PATH ROLE
//!   One sentence.
//!   ?name* what it is          a parameter in the query; `*` if it must be there
//!   -name* what it is          a field of a form
//!   <Object {"example": 1}     the body: an object of `assay_proto::api`, an example, or both
//!   >Object                    the answer, likewise; `>>` if it is 201; `text/plain` and other types as they are
//! ```

use serde_json::Value;

const TEXT: &str = include_str!("endpoints.txt");

/// Who may send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Public,
    /// Whoever has a key.
    Known,
    Operator,
    Admin,
    /// The test of a running job.
    Test,
}

impl Access {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Known => "known",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Test => "test",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Public, Self::Known, Self::Operator, Self::Admin, Self::Test]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Form,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) text: String,
}

/// What crosses in one direction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Object {
        name: String,
        example: Option<Value>,
    },
    Example(Value),
    /// Of this media type.
    Bytes(String),
}

/// One method of one address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) role: Access,
    pub(crate) summary: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Option<Body>,
    pub(crate) answer: Option<Body>,
    pub(crate) created: bool,
}

impl Endpoint {
    pub(crate) fn is_openqa(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    /// The family of addresses.
    pub(crate) fn tag(&self) -> String {
        let rest = self.path.strip_prefix("/api/assay/v1/").or_else(|| self.path.strip_prefix("/api/v1/"));
        let word = rest.unwrap_or(&self.path).trim_start_matches('/').split('/').next().unwrap_or_default();
        if self.is_openqa() { format!("openQA: {word}") } else { word.to_owned() }
    }

    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    pub(crate) fn operation_id(&self) -> String {
        let words = self.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let words: Vec<_> = words.filter(|word| *word != "api" && *word != "v1").collect();
        let root = if self.is_openqa() { "_openqa" } else { "" };
        format!("{}{root}_{}", self.method.to_lowercase(), words.join("_"))
    }

    /// How to ask with curl.
    pub(crate) fn curl(&self) -> String {
        let mut path = self.path.clone();
        for name in self.path_parameters() {
            let value = match name {
                "id" | "comment" | "number" | "item" | "group" => "1",
                "state" => "running",
                "kind" if self.path.contains("/tags/") => "important",
                "kind" => "iso",
                "name" if self.path.contains("/assets/") => "f43.iso",
                "file" => "autoinst-log.txt",
                "build" => "43-20261121.n.0",
                other => other,
            };
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let query: Vec<_> = (self.fields.iter())
            .filter(|field| field.place == Place::Query && field.required)
            .map(|field| format!("{}=…", field.name))
            .collect();
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut words = vec!["curl".to_owned()];
        if self.method != "GET" {
            words.push(format!("-X {}", self.method));
        }
        match self.role {
            Access::Public => {}
            Access::Test => words.push("-H \"X-API-JobToken: $JOBTOKEN\"".to_owned()),
            Access::Known | Access::Operator | Access::Admin => {
                words.push("-H \"Authorization: Bearer $ASSAY_TOKEN\"".to_owned());
            }
        }
        let form = self.fields.iter().filter(|field| field.place == Place::Form && field.required);
        words.extend(form.map(|field| format!("-d {}=…", field.name)));
        match &self.body {
            Some(Body::Object { example: Some(example), .. } | Body::Example(example)) => {
                words.push(format!("-H 'Content-Type: application/json' -d '{example}'"));
            }
            Some(Body::Object { name, .. }) => {
                let example = super::schema::example(name);
                words.push(format!("-H 'Content-Type: application/json' -d '{example}'"));
            }
            Some(Body::Bytes(_)) => words.push("--data-binary @FILE".to_owned()),
            None => {}
        }
        let url = format!("$ASSAY_URL{path}");
        words.push(if url.contains(['?', '&']) { format!("\"{url}\"") } else { url });
        words.join(" ")
    }
}

fn body(text: &str) -> Result<Body, String> {
    let text = text.trim();
    let example = |text: &str| serde_json::from_str(text).map_err(|error| format!("{text}: {error}"));
    if text.starts_with(['{', '[', '"']) {
        return Ok(Body::Example(example(text)?));
    }
    if text.contains('/') {
        return Ok(Body::Bytes(text.to_owned()));
    }
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let example = (!rest.is_empty()).then(|| example(rest)).transpose()?;
    Ok(Body::Object { name: name.to_owned(), example })
}

fn field(place: Place, text: &str) -> Field {
    let (name, text) = text.split_once(' ').unwrap_or((text, ""));
    let required = name.ends_with('*');
    Field { place, name: name.trim_end_matches('*').to_owned(), required, text: text.trim().to_owned() }
}

fn head(line: &str) -> Result<Endpoint, String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [method, path, role] = words[..] else {
        return Err(format!("{line:?} is not METHOD PATH ROLE"));
    };
    Ok(Endpoint {
        method: method.to_owned(),
        path: path.to_owned(),
        role: Access::from_word(role).ok_or_else(|| format!("{role:?} is no role"))?,
        summary: String::new(),
        fields: Vec::new(),
        body: None,
        answer: None,
        created: false,
    })
}

fn take(endpoint: &mut Endpoint, line: &str) -> Result<(), String> {
    if let Some(text) = line.strip_prefix('?') {
        endpoint.fields.push(field(Place::Query, text));
    } else if let Some(text) = line.strip_prefix('-') {
        endpoint.fields.push(field(Place::Form, text));
    } else if let Some(text) = line.strip_prefix('<') {
        endpoint.body = Some(body(text)?);
    } else if let Some(text) = line.strip_prefix(">>") {
        endpoint.answer = Some(body(text)?);
        endpoint.created = true;
    } else if let Some(text) = line.strip_prefix('>') {
        endpoint.answer = Some(body(text)?);
    } else {
        let gap = if endpoint.summary.is_empty() { "" } else { " " };
        endpoint.summary = format!("{}{gap}{line}", endpoint.summary);
    }
    Ok(())
}

pub(super) fn parse(text: &str) -> Result<Vec<Endpoint>, String> {
    let mut all: Vec<Endpoint> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = |error: String| format!("endpoints.txt:{}: {error}", number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let last = all.last_mut().ok_or_else(|| at("there is no address above it".to_owned()))?;
            take(last, line.trim()).map_err(at)?;
        } else {
            all.push(head(line).map_err(at)?);
        }
    }
    Ok(all)
}

/// Every address; a line that cannot be read is for the tests to find.
pub(super) fn all() -> Vec<Endpoint> {
    parse(TEXT).unwrap_or_else(|error| {
        tracing::error!(error, "the description of the API cannot be read");
        Vec::new()
    })
}

#[cfg(test)]
pub(super) fn checked() -> Vec<Endpoint> {
    parse(TEXT).unwrap()
}
