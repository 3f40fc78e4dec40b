//! AMQP 0-9-1: a durable queue on RabbitMQ, as fedora-messaging publishes to it.

use super::{Incoming, MessageInbox, MessageSource, NotStored, Received, incoming, key_of, sent_at};
use crate::pace::Backoff;
use async_trait::async_trait;
use camino::Utf8PathBuf;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Messages that are stored in one transaction.
const TOGETHER: usize = 512;
/// How long a conversation may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a broker is, and who we are there: of those who listen and of those who publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// `amqp://` or `amqps://`.
    pub url: String,
    /// The password in its first line, in place of one in the address.
    pub password_file: Option<Utf8PathBuf>,
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<Utf8PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(Utf8PathBuf, Utf8PathBuf)>,
    /// The exchange.
    pub exchange: String,
}

/// Where a queue is, and what goes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpOptions {
    /// Where.
    pub broker: Broker,
    /// The queue.
    pub queue: String,
    /// Topics that are bound to it.
    pub bindings: Vec<String>,
    /// The queue was made by others and must be there.
    pub passive: bool,
    /// So many messages may be under way.
    pub prefetch: u16,
    /// Longer bodies are parked.
    pub max_body: usize,
}

impl AmqpOptions {
    /// A queue with the usual rest.
    pub fn new(broker: Broker, queue: &str) -> Self {
        let queue = queue.to_owned();
        Self { broker, queue, bindings: Vec::new(), passive: false, prefetch: 1024, max_body: 4 << 20 }
    }
}

impl Broker {
    /// A broker with the usual rest.
    pub fn new(url: &str) -> Self {
        let exchange = "amq.topic".to_owned();
        Self { url: url.to_owned(), password_file: None, ca_file: None, identity: None, exchange }
    }

    fn uri(&self) -> Result<AMQPUri, Broken> {
        let mut uri: AMQPUri =
            self.url.parse().map_err(|why| Broken(format!("the address cannot be read: {why}")))?;
        if let Some(file) = &self.password_file {
            let text = fs_err::read_to_string(file).map_err(|error| Broken(error.to_string()))?;
            text.lines().next().unwrap_or_default().clone_into(&mut uri.authority.userinfo.password);
        }
        Ok(uri)
    }

    fn tls(&self) -> Result<OwnedTLSConfig, Broken> {
        let read = |file: &Utf8PathBuf| fs_err::read(file).map_err(|error| Broken(error.to_string()));
        let cert_chain = self
            .ca_file
            .as_ref()
            .map(|file| fs_err::read_to_string(file).map_err(|error| Broken(error.to_string())));
        let identity = self
            .identity
            .as_ref()
            .map(|(pem, key)| Ok::<_, Broken>(OwnedIdentity::PKCS8 { pem: read(pem)?, key: read(key)? }));
        Ok(OwnedTLSConfig { identity: identity.transpose()?, cert_chain: cert_chain.transpose()? })
    }

    /// A connection; errors are sentences.
    pub(crate) async fn open(&self) -> Result<Connection, Broken> {
        let properties = ConnectionProperties::default().with_connection_name("assay".into());
        let runtime = lapin::runtime::default_runtime().map_err(|error| Broken(error.to_string()))?;
        Ok(Connection::connect_uri_with_config(self.uri()?, properties, self.tls()?, runtime).await?)
    }
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(String);

impl From<lapin::Error> for Broken {
    fn from(error: lapin::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<NotStored> for Broken {
    fn from(error: NotStored) -> Self {
        Self(error.to_string())
    }
}

/// The source.
pub struct Amqp {
    options: AmqpOptions,
    backoff: Backoff,
}

impl Amqp {
    /// Prepares it; nothing is connected yet.
    pub fn new(options: AmqpOptions, backoff: Backoff) -> Self {
        Self { options, backoff }
    }

    async fn connect(&self) -> Result<(Connection, Consumer), Broken> {
        let options = &self.options;
        let connection = options.broker.open().await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
        self.declare(&channel).await?;
        let consumer = channel
            .basic_consume(
                options.queue.as_str().into(),
                "assay".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok((connection, consumer))
    }

    async fn declare(&self, channel: &Channel) -> Result<(), Broken> {
        let AmqpOptions { queue, broker, bindings, passive, .. } = &self.options;
        let durable =
            QueueDeclareOptions { durable: true, passive: *passive, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
        if *passive {
            return Ok(());
        }
        for binding in bindings {
            let (queue, exchange) = (queue.as_str().into(), broker.exchange.as_str().into());
            let options = QueueBindOptions::default();
            channel
                .queue_bind(queue, exchange, binding.as_str().into(), options, FieldTable::default())
                .await?;
        }
        Ok(())
    }

    /// Takes what is there, stores it, and only then acknowledges it.
    async fn converse(&self, inbox: &dyn MessageInbox, well: &mut bool) -> Result<(), Broken> {
        let connected = tokio::time::timeout(PATIENCE, self.connect()).await;
        let (connection, mut consumer) = connected
            .map_err(|_| Broken(format!("the broker does not answer within {} s", PATIENCE.as_secs())))??;
        inbox.report(Ok("consuming"));
        *well = true;
        loop {
            let first = consumer
                .next()
                .await
                .ok_or_else(|| Broken("the broker ended the conversation".to_owned()))?;
            let mut deliveries = vec![first?];
            while deliveries.len() < TOGETHER {
                match consumer.next().now_or_never() {
                    Some(Some(delivery)) => deliveries.push(delivery?),
                    _ => break,
                }
            }
            let messages = deliveries.iter().map(|delivery| self.read(delivery)).collect();
            inbox.receive(&Received { messages, cursors: Vec::new() }).await?;
            if let Some(last) = deliveries.last() {
                last.acker.ack(BasicAckOptions { multiple: true }).await?;
            }
            if !connection.status().connected() {
                return Err(Broken("the connection is lost".to_owned()));
            }
        }
    }

    fn read(&self, delivery: &Delivery) -> Incoming {
        let properties = &delivery.properties;
        let mut headers = match properties.headers() {
            Some(table) => fields(table, 0),
            None => Map::new(),
        };
        for (name, value) in
            [("content_type", properties.content_type()), ("content_encoding", properties.content_encoding())]
        {
            if let Some(value) = value {
                headers.entry(name).or_insert_with(|| value.as_str().into());
            }
        }
        let message_id = properties
            .message_id()
            .as_ref()
            .map(lapin::types::ShortString::as_str)
            .filter(|id| !id.is_empty());
        read(delivery.routing_key.as_str(), message_id, headers, &delivery.data, self.options.max_body)
    }
}

/// A message of fedora-messaging, or of whoever else publishes JSON.
pub fn read(
    topic: &str,
    message_id: Option<&str>,
    headers: Map<String, Value>,
    body: &[u8],
    most: usize,
) -> Incoming {
    let headers = Value::Object(headers);
    let sent_at = sent_at(&headers);
    let id = message_id.filter(|id| !id.is_empty());
    let key = id.map_or_else(|| key_of(topic, &headers, body), str::to_owned);
    incoming((&key, topic), headers, body, most, sent_at)
}

/// Headers as JSON; what is nested too deep is left out.
fn fields(table: &FieldTable, depth: usize) -> Map<String, Value> {
    let members = table.inner().iter().map(|(key, value)| (key.to_string(), field(value, depth)));
    members.collect()
}

fn field(value: &AMQPValue, depth: usize) -> Value {
    const DEEP: usize = 8;
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::ByteArray(value) => json!(hex::encode(value.as_slice())),
        AMQPValue::FieldArray(values) if depth < DEEP => {
            values.as_slice().iter().map(|value| field(value, depth + 1)).collect()
        }
        AMQPValue::FieldTable(table) if depth < DEEP => Value::Object(fields(table, depth + 1)),
        AMQPValue::DecimalValue(value) => json!(format!("{}e-{}", value.value, value.scale)),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) | AMQPValue::Void => Value::Null,
    }
}

#[async_trait]
impl MessageSource for Amqp {
    async fn run(&mut self, inbox: &dyn MessageInbox, cancel: &CancellationToken) {
        let mut failed = 0;
        while !cancel.is_cancelled() {
            let mut well = false;
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = self.converse(inbox, &mut well) => ended,
            };
            failed = if well { 1 } else { failed + 1 };
            if let Err(Broken(why)) = ended {
                inbox.report(Err(&why));
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(self.backoff.draw(failed)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::ids::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn messages_of_fedora_messaging() {
        let headers =
            json!({"fedora_messaging_schema": "base.message", "sent-at": "2026-11-21T10:00:00+00:00"});
        let Value::Object(headers) = headers else { panic!() };
        let good = read("org.fedoraproject.prod.x", Some("id-1"), headers.clone(), b"{\"a\": 1}", 100);
        assert_eq!((good.key.as_str(), good.parked), ("id-1", None));
        assert_eq!(good.sent_at, Some(Timestamp(1_795_255_200_000_000)));
        assert!(good.headers.contains("base.message"));
        for (topic, body, why) in [
            ("a", &b"{\"a\": "[..], "not JSON"),
            ("a", b"\xff\xfe", "not JSON"),
            ("a", b"", "not JSON"),
            ("a", &[b' '; 101], "101 bytes; at most 100"),
            ("a", b"\"\\u0000\"", "NUL"),
            ("a", b"nul", "not JSON"),
            ("a", &[b'['; 100], "not JSON"),
            ("", b"{}", "topic is empty"),
            ("a\u{1}", b"{}", "control characters"),
        ] {
            let parked = read(topic, None, headers.clone(), body, 100);
            assert!(parked.parked.as_ref().is_some_and(|parked| parked.contains(why)), "{why}: {parked:?}");
            assert!(parked.key.starts_with("sha256:"));
        }
        let same = |body: &[u8]| read("a", None, Map::new(), body, 100).key;
        assert_eq!(same(b"{}"), same(b"{}"));
        assert_ne!(same(b"{}"), same(b"[]"));
        let named = |id: &str| read("a", Some(id), Map::new(), b"{}", 100).key;
        assert_eq!(named(""), same(b"{}"));
        let (long, longer) = ("x".repeat(300), "x".repeat(301));
        assert_ne!(named(&long), named(&longer));
        assert!([named("\u{1}"), named(&long)].iter().all(|key| key.starts_with("sha256:")));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_stored(topic in "\\PC{0,300}", id in prop::option::of("\\PC{0,300}"), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = read(&topic, id.as_deref(), Map::new(), &body, 150);
            prop_assert!(!message.body.contains('\0') && !message.key.contains('\0') && !message.key.is_empty());
            prop_assert!(message.parked.is_some() || serde_json::from_str::<Value>(&message.body).is_ok());
        }
    }
}
