//! Reads an attempt's streams, wherever they are: in the spool while they grow, in blobs afterwards.

use crate::app::App;
use assay_engine::ids::AttemptId;
use assay_proto::worker::Stream;
use assay_store::blobs::BlobRef;
use assay_store::{StoreError, StoredAttempt};
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// The end of a stream, for a page.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// Length of the whole stream.
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
}

impl App {
    /// The attempt as it is stored now.
    pub(crate) async fn attempt(&self, id: AttemptId) -> Result<Option<StoredAttempt>, StoreError> {
        let attempts = self.store.attempts(id.job).await?;
        Ok(attempts.into_iter().find(|attempt| attempt.row.id == id))
    }

    /// The blob of a stream; `None` while the stream is in the spool.
    async fn closed(&self, attempt: &StoredAttempt, stream: Stream) -> Result<Option<BlobRef>, StoreError> {
        let closed = |attempt: &StoredAttempt| attempt.streams.as_ref()?.get(stream.file_name()).copied();
        if attempt.streams.is_some() || attempt.row.end.is_none() {
            return Ok(closed(attempt));
        }
        // It has ended; perhaps its streams have been closed since the row was read.
        Ok(self.attempt(attempt.row.id).await?.and_then(|attempt| closed(&attempt)))
    }

    /// The blob of a stream that was not in the spool when it was looked for there: it may have been closed, and the
    /// spool removed, since the row was read.
    async fn closed_since(
        &self,
        attempt: &StoredAttempt,
        stream: Stream,
    ) -> Result<Option<BlobRef>, StoreError> {
        let id = attempt.row.id;
        // Nothing is removed before the end; that spares running attempts the look.
        if let Some(live) = self.live.get(id)
            && !live.has_ended().await
        {
            return Ok(None);
        }
        match self.attempt(id).await? {
            Some(attempt) => Ok(attempt.streams.and_then(|mut streams| streams.remove(stream.file_name()))),
            None => Ok(None),
        }
    }

    /// Length of a stream.
    pub(crate) async fn stream_len(
        &self,
        attempt: &StoredAttempt,
        stream: Stream,
    ) -> Result<u64, StoreError> {
        if let Some(blob) = self.closed(attempt, stream).await? {
            return Ok(blob.size);
        }
        match self.spool.len(attempt.row.id, stream.file_name()).await? {
            0 => Ok(self.closed_since(attempt, stream).await?.map_or(0, |blob| blob.size)),
            size => Ok(size),
        }
    }

    /// At most `max` bytes from `from` on.
    pub(crate) async fn read_stream(
        &self,
        attempt: &StoredAttempt,
        stream: Stream,
        from: u64,
        max: usize,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(blob) = self.closed(attempt, stream).await? {
            return self.read_blob(blob, from, max).await;
        }
        let bytes = self.spool.read(attempt.row.id, stream.file_name(), from, max).await?;
        if bytes.is_empty()
            && let Some(blob) = self.closed_since(attempt, stream).await?
        {
            return self.read_blob(blob, from, max).await;
        }
        Ok(bytes)
    }

    async fn read_blob(&self, blob: BlobRef, from: u64, max: usize) -> Result<Vec<u8>, StoreError> {
        let Some(mut open) = self.blobs.open(blob.sha256).await? else { return Ok(Vec::new()) };
        open.reader.seek(SeekFrom::Start(from)).await.map_err(StoreError::File)?;
        let mut bytes = Vec::new();
        open.reader.take(max as u64).read_to_end(&mut bytes).await.map_err(StoreError::File)?;
        Ok(bytes)
    }

    /// The last `max` bytes of a stream.
    pub(crate) async fn read_end(
        &self,
        attempt: &StoredAttempt,
        stream: Stream,
        max: usize,
    ) -> Result<End, StoreError> {
        let size = self.stream_len(attempt, stream).await?;
        let bytes = self.read_stream(attempt, stream, size.saturating_sub(max as u64), max).await?;
        Ok(End { size, bytes })
    }
}
