//! The fake Gerrit as a program of its own.

use super::model::SubmitType;
use super::{FakeGerrit, Options};
use serde_json::json;
use std::io::Write;
use tokio_util::sync::CancellationToken;

/// What `serve` begins with.
pub struct ServeOptions {
    /// The server.
    pub options: Options,
    /// Projects that are there from the beginning.
    pub projects: Vec<(String, SubmitType)>,
}

/// Starts a server, writes its addresses as one line of JSON (`ssh`, `url`, `host_key`, `directory`), and runs until it
/// is cancelled.
pub async fn serve(
    options: ServeOptions,
    cancel: CancellationToken,
    mut out: impl Write,
) -> anyhow::Result<()> {
    let directory = options.options.dir.clone();
    let gerrit = FakeGerrit::start(options.options).await?;
    for (name, submit_type) in &options.projects {
        gerrit.project(name, *submit_type).await?;
    }
    let line = json!({
        "ssh": gerrit.ssh().to_string(),
        "url": gerrit.url(),
        "host_key": gerrit.host_key(),
        "directory": directory,
    });
    writeln!(out, "{line}")?;
    out.flush()?;
    cancel.cancelled().await;
    gerrit.stop().await;
    Ok(())
}
