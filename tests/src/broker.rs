//! A RabbitMQ of the place.

use crate::binary::{Ended, repository};
use crate::place::Place;

/// A broker with ports and data of its own.
pub struct Broker<'a> {
    place: &'a Place,
    dir: String,
    /// `amqp://…`
    pub url: String,
}

async fn script(place: &Place, arguments: &[&str]) -> Ended {
    let mut command = place.command(repository().join("scripts/rabbitmq-for-tests").as_str());
    command.args(arguments);
    place.run_command(command).await
}

impl<'a> Broker<'a> {
    /// A new one.
    pub async fn start(place: &'a Place) -> Self {
        let dir = place.join("rabbitmq").into_string();
        let url = script(place, &["start", &dir]).await.expect(0).stdout.trim().to_owned();
        Self { place, dir, url }
    }

    /// As a crash would, and back with what it had on disk.
    pub async fn crash(&self) {
        self.kill().await;
        self.again().await;
    }

    /// As a crash would.
    pub async fn kill(&self) {
        script(self.place, &["kill", &self.dir]).await.expect(0);
    }

    /// Back with what it had on disk.
    pub async fn again(&self) {
        script(self.place, &["start", &self.dir]).await.expect(0);
    }

    /// Runs rabbitmqctl on it.
    pub async fn ctl(&self, arguments: &[&str]) {
        script(self.place, &[&["ctl", &self.dir], arguments].concat()).await.expect(0);
    }

    /// It ends, with its data.
    pub async fn stop(self) {
        script(self.place, &["stop", &self.dir]).await.expect(0);
    }
}
