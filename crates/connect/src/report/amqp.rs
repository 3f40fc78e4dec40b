//! Publishing as fedora-messaging does: a topic exchange, persistent messages, publisher confirms.

use crate::events::amqp::Broker;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use serde_json::Value;
use std::time::Duration;

/// How long a broker may take to confirm what was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The routing key.
    pub topic: String,
    /// The same each time it is published: consumers know it by this.
    pub id: String,
    /// The body.
    pub body: Value,
    /// When it happened, as ISO 8601.
    pub sent_at: String,
    /// fedora-messaging's severity: 10, 20, 30, 40.
    pub severity: i32,
}

/// A publisher; connects when it has something to say and stays connected.
pub struct Publisher {
    broker: Broker,
    /// What nobody's queue takes is given back.
    mandatory: bool,
    open: Option<(Connection, Channel)>,
}

impl Publisher {
    /// Prepares it; nothing is connected yet.
    pub fn new(broker: Broker, mandatory: bool) -> Self {
        Self { broker, mandatory, open: None }
    }

    async fn channel(&mut self) -> Result<Channel, String> {
        if let Some((connection, channel)) = &self.open
            && connection.status().connected()
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        self.open = None;
        let connection = self.broker.open().await.map_err(|broken| broken.to_string())?;
        let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
        self.open = Some((connection, channel.clone()));
        Ok(channel)
    }

    /// Publishes all of them and waits until the broker has each; what came of each. After an error that ends the
    /// conversation nobody knows of those that were not confirmed: they are to be sent again, under their ids.
    pub async fn publish(&mut self, messages: &[Outgoing]) -> Vec<Result<(), String>> {
        let published = tokio::time::timeout(PATIENCE, self.publish_all(messages)).await;
        let mut results = match published {
            Ok(Ok(results)) => results,
            Ok(Err(why)) => vec![Err(why); messages.len()],
            Err(_) => {
                vec![
                    Err(format!("the broker does not confirm within {} s", PATIENCE.as_secs()));
                    messages.len()
                ]
            }
        };
        results.resize(messages.len(), Err("the broker ended the conversation".to_owned()));
        if results.iter().any(Result::is_err) {
            self.open = None;
        }
        results
    }

    async fn publish_all(&mut self, messages: &[Outgoing]) -> Result<Vec<Result<(), String>>, String> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: self.mandatory, ..BasicPublishOptions::default() };
        let mut confirms = Vec::with_capacity(messages.len());
        for message in messages {
            let body = message.body.to_string().into_bytes();
            let (exchange, topic) = (self.broker.exchange.as_str(), message.topic.as_str());
            let sent = channel
                .basic_publish(exchange.into(), topic.into(), options, &body, properties(message))
                .await;
            confirms.push(sent.map_err(|error| error.to_string()));
        }
        let mut results = Vec::with_capacity(messages.len());
        for (confirm, message) in confirms.into_iter().zip(messages) {
            results.push(match confirm {
                Ok(confirm) => match confirm.await {
                    Ok(Confirmation::Ack(None)) => Ok(()),
                    Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                        Err(format!(
                            "the broker gives {} back: {} {}; bind a queue to it, or say mandatory = false",
                            message.topic, returned.reply_code, returned.reply_text
                        ))
                    }
                    Ok(Confirmation::Nack(None)) => Err("the broker refuses it (nack)".to_owned()),
                    Ok(Confirmation::NotRequested) => Err("the broker does not confirm".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
                Err(why) => Err(why),
            });
        }
        Ok(results)
    }
}

fn properties(message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut set = |key: &str, value: AMQPValue| {
        headers.insert(key.into(), value);
    };
    set("fedora_messaging_schema", AMQPValue::LongString("base.message".into()));
    set("fedora_messaging_severity", AMQPValue::LongInt(message.severity));
    set("sent-at", AMQPValue::LongString(message.sent_at.as_str().into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_message_id(message.id.as_str().into())
        .with_headers(headers)
}
