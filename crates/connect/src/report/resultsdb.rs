//! An outside ResultsDB, API v2.0.

use super::{Told, ask, json, refused};
use crate::http::{Http, encoded};
use serde_json::Value;

/// Where it is.
pub struct ResultsDb {
    http: Http,
    /// `https://HOST/api/v2.0`, without a slash at its end.
    base: String,
    authorization: Option<String>,
}

impl ResultsDb {
    /// With what goes into the header `Authorization`.
    pub fn new(http: Http, base: &str, authorization: Option<String>) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned(), authorization }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.authorization.as_deref().map(|text| ("authorization", text)));
        headers
    }

    /// Posts a result. It has no key there: with `look`, one that is there already, with the same test case, address and
    /// outcome since `since`, is not posted again.
    pub async fn post(&self, result: &Value, look: bool, since: &str) -> Told {
        if look {
            match self.is_there(result, since).await {
                Ok(true) => return Told::Done(Some("it was there already".to_owned())),
                Ok(false) => {}
                Err(told) => return told,
            }
        }
        let uri = format!("{}/results", self.base);
        match ask(&self.http, "POST", &uri, &self.headers(), result.to_string().into_bytes()).await {
            Ok(answer) if answer.status().is_success() => {
                let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
                Told::Done(body["id"].as_i64().map(|id| format!("result {id} there")))
            }
            Ok(answer) => refused("ResultsDB", &answer),
            Err(told) => told,
        }
    }

    async fn is_there(&self, result: &Value, since: &str) -> Result<bool, Told> {
        let name = result["testcase"]["name"].as_str().or(result["testcase"].as_str()).unwrap_or_default();
        let outcome = result["outcome"].as_str().unwrap_or_default();
        let mut uri = format!(
            "{}/results?testcases={}&outcome={}&since={}&limit=100",
            self.base,
            encoded(name),
            encoded(outcome),
            encoded(since)
        );
        if let Some(item) = result["data"]["item"].as_str().filter(|item| !item.contains(',')) {
            uri.extend(["&item=", &encoded(item)]);
        }
        let answer = ask(&self.http, "GET", &uri, &self.headers(), Vec::new()).await?;
        let body = json("ResultsDB", &answer)?;
        let mut found = body["data"].as_array().into_iter().flatten();
        Ok(found.any(|one| one["ref_url"] == result["ref_url"] && same_place(&one["data"], &result["data"])))
    }
}

/// The same scenario; ResultsDB answers lists where texts were posted.
fn same_place(there: &Value, posted: &Value) -> bool {
    let first = |value: &Value| match value {
        Value::Array(list) => list.first().cloned().unwrap_or_default(),
        other => other.clone(),
    };
    ["scenario", "arch"].iter().all(|key| first(&there[*key]) == first(&posted[*key]))
}
