//! Matrix, by its client-server API: a message to a room, once by its transaction.

use super::Told;
use crate::http::{Http, encoded};
use serde_json::{Value, json};

/// A room on a homeserver.
pub struct Matrix {
    http: Http,
    base: String,
    room: String,
    token: String,
}

impl Matrix {
    /// `room` is a room's id, or an alias that is asked for.
    pub fn new(http: Http, base: &str, room: &str, token: &str) -> Self {
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            room: room.to_owned(),
            token: format!("Bearer {token}"),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Told> {
        let uri = format!("{}/_matrix/client/v3/{path}", self.base);
        let headers = [("authorization", self.token.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let answer = super::ask(&self.http, method, &uri, &headers, body).await?;
        super::json("the homeserver", &answer)
    }

    async fn room(&self) -> Result<String, Told> {
        if !self.room.starts_with('#') {
            return Ok(self.room.clone());
        }
        let found = self.ask("GET", &format!("directory/room/{}", encoded(&self.room)), None).await?;
        let id = found["room_id"].as_str().map(str::to_owned);
        id.ok_or_else(|| Told::Later(format!("the homeserver does not know the room {}", self.room)))
    }

    /// Says it. The homeserver takes a transaction once, however often it comes.
    pub async fn say(&self, transaction: &str, text: &str, html: &str) -> Told {
        let said = async {
            let room = encoded(&self.room().await?);
            let content = json!({
                "msgtype": "m.notice", "body": text,
                "format": "org.matrix.custom.html", "formatted_body": html,
            });
            let path = format!("rooms/{room}/send/m.room.message/{}", encoded(transaction));
            self.ask("PUT", &path, Some(content)).await
        };
        match said.await {
            Ok(answer) => Told::Done(answer["event_id"].as_str().map(str::to_owned)),
            Err(told) => told,
        }
    }
}
