//! Signed webhooks.

use super::{Told, ask, refused};
use crate::events::hook::sign;
use crate::http::Http;

/// Posts a body. The receiver knows a repetition by `x-assay-delivery`, and the sender by the signature.
pub async fn post(http: &Http, url: &str, secret: &str, event: &str, key: &str, body: String) -> Told {
    let signature = format!("sha256={}", sign(secret.as_bytes(), body.as_bytes()));
    let headers = [
        ("content-type", "application/json"),
        ("x-assay-event", event),
        ("x-assay-delivery", key),
        ("x-hub-signature-256", signature.as_str()),
    ];
    match ask(http, "POST", url, &headers, body.into_bytes()).await {
        Ok(answer) if answer.status().is_success() => Told::Done(None),
        Ok(answer) => refused("the hook", &answer),
        Err(told) => told,
    }
}
