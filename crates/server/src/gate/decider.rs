//! The way from the gate's loops to the driver.

use super::ports::{Consumes, Decider, Undecided};
use crate::driver::Engine;
use assay_engine::gate::io::{Answer, Input};
use assay_store::{EventState, Store};
use axum::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// The driver, asked until it answers.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
}

/// An input that fails so often is given up.
const PATIENCE: u32 = 3;

#[async_trait::async_trait]
impl Decider for Driver {
    async fn decide(&self, input: Input, consumes: Option<Consumes>) -> Result<Answer, Undecided> {
        let (mut pause, mut failures) = (Duration::from_millis(50), 0);
        loop {
            match self.engine.gate(input.clone(), consumes.clone()).await {
                None => return Err(Undecided::Stopping),
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(fault)) if fault.status == StatusCode::SERVICE_UNAVAILABLE => {}
                Some(Err(fault)) if fault.status == StatusCode::INTERNAL_SERVER_ERROR => {
                    failures += 1;
                    if failures >= PATIENCE {
                        return Err(Undecided::Refused(fault.error));
                    }
                }
                Some(Err(fault)) => return Err(Undecided::Refused(fault.error)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            // Stored after all, while the answer was lost: what came of it is in the store.
            if let Some(consumes) = &consumes
                && let Ok(Some(stored)) = self.store.gate().event(consumes.event).await
                && stored.state != EventState::Received
            {
                return Ok(Answer::Done);
            }
        }
    }
}
