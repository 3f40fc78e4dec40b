//! Sites that make a job important by leading to its page, as openQA's `recognized_referers`.

use crate::app::App;
use assay_engine::ids::JobId;
use assay_store::{Comment, CommentId, CommentTarget, StoreError};
use axum::http::{HeaderMap, Uri, header};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};

/// Such sites.
#[derive(Debug, Default)]
pub(crate) struct Referers {
    /// Their hosts. None and no visit counts.
    hosts: Mutex<Vec<String>>,
    /// Held from looking whether a job is linked until that is written: two visits at once would write it twice.
    linking: tokio::sync::Mutex<()>,
}

impl Referers {
    pub(crate) fn set(&self, hosts: Vec<String>) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// The host that a visitor comes from, if it is one of them.
    fn host(&self, headers: &HeaderMap) -> Option<String> {
        let page: Uri = headers.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
        // Without a scheme it is no address of a page.
        let host = page.scheme().and(page.host())?.to_ascii_lowercase();
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).contains(&host).then_some(host)
    }
}

impl App {
    /// Somebody looks at the page of a job. If such a site has led there, a comment says so once, and its things stay
    /// longer. Of the site's address only the host is written: anybody may send the rest.
    pub(crate) async fn visited(self: &Arc<Self>, job: JobId, headers: &HeaderMap) {
        let Some(host) = self.referers.host(headers) else { return };
        // The page is shown all the same.
        if let Err(error) = self.link(job, &host).await {
            tracing::warn!(%job, %host, %error, "that a page leads to a job cannot be noted");
        }
    }

    async fn link(self: &Arc<Self>, job: JobId, host: &str) -> Result<(), StoreError> {
        let _linking = self.referers.linking.lock().await;
        if self.is_linked(job).await? {
            return Ok(());
        }
        let now = self.clock.now();
        let comment = Comment {
            id: CommentId(0),
            target: CommentTarget::Job(job),
            author: String::new(),
            text: format!("label:linked A page of {host} leads to this job."),
            created_at: now,
            updated_at: now,
        };
        let id = self.keep_comment(&comment).await?;
        self.audit("", "comment_create", json!({"id": id.0, "job_id": job.0, "linked_from": host}));
        Ok(())
    }
}
