//! The bytes of assets: finished ones as blobs, those on their way as files that grow.

use super::Upload;
use crate::blobs::{BlobRef, Blobs, LocalBlobs, OpenBlob, Sha256};
use crate::disk;
use crate::error::StoreError;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

/// `DATA/assets`: `blobs/` by content, `uploads/` by the upload's name.
#[derive(Debug)]
pub struct AssetFiles {
    dir: Utf8PathBuf,
    uploads: Utf8PathBuf,
    blobs: LocalBlobs,
}

impl AssetFiles {
    /// Uses `data/assets`, which is made if it is not there. At most one process may use a directory.
    pub fn open(data: &Utf8Path) -> Result<Self, StoreError> {
        let dir = data.join("assets");
        let uploads = dir.join("uploads");
        disk::make_dir(&uploads).map_err(|error| disk::file_error(data, error))?;
        let blobs = LocalBlobs::open(&dir)?;
        Ok(Self { dir, uploads, blobs })
    }

    fn path(&self, id: &str) -> Result<Utf8PathBuf, StoreError> {
        if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(self.uploads.join(id));
        }
        Err(no_upload(id))
    }

    /// Makes the file of a new upload, if the disk has room for what was announced.
    pub async fn begin(&self, upload: &Upload) -> Result<(), StoreError> {
        let (dir, path, size) = (self.dir.clone(), self.path(&upload.id)?, upload.size);
        disk::blocking(move || {
            let free = rustix::fs::statvfs(dir.as_str()).map(|stat| stat.f_bavail * stat.f_frsize);
            if free.is_ok_and(|free| free < size) {
                return Err(disk::disk_full(&dir));
            }
            let make = || {
                fs::File::create_new(&path)?.sync_all()?;
                disk::sync_dir(path.parent().unwrap_or(&dir))
            };
            make().map_err(|error| disk::file_error(&dir, error))
        })
        .await
    }

    /// Makes a file of this file system all that there is of an upload.
    pub async fn place(&self, upload: &Upload, file: &Utf8Path) -> Result<(), StoreError> {
        let (dir, path, file) = (self.dir.clone(), self.path(&upload.id)?, file.to_owned());
        disk::blocking(move || {
            let place = || {
                fs::rename(&file, &path)?;
                disk::sync_dir(path.parent().unwrap_or(&dir))
            };
            place().map_err(|error| disk::file_error(&dir, error))
        })
        .await
    }

    /// How far an upload has come.
    pub async fn length(&self, id: &str) -> Result<u64, StoreError> {
        match fs::tokio::metadata(self.path(id)?).await {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_upload(id)),
            Err(error) => Err(StoreError::File(error)),
        }
    }

    /// Adds the bytes from `offset` on; what is there already is skipped. They are on disk when this returns, and the
    /// new length is the answer. Of one upload one piece at a time.
    pub async fn append(&self, upload: &Upload, offset: u64, bytes: Vec<u8>) -> Result<u64, StoreError> {
        let have = self.length(&upload.id).await?;
        let end = offset.saturating_add(bytes.len() as u64);
        if offset > have {
            return Err(StoreError::UploadOffset { have, offset });
        }
        if end > upload.size {
            return Err(StoreError::UploadSize { have: end, size: upload.size });
        }
        if end <= have {
            return Ok(have);
        }
        let (dir, path) = (self.dir.clone(), self.path(&upload.id)?);
        disk::blocking(move || {
            let append = || {
                let mut file = fs::OpenOptions::new().write(true).open(&path)?;
                file.seek(SeekFrom::Start(have))?;
                file.write_all(&bytes[(have - offset) as usize..])?;
                file.sync_data()
            };
            append().map_err(|error| disk::file_error(&dir, error))?;
            Ok(end)
        })
        .await
    }

    /// Makes a blob of what was uploaded; what there is of the upload stays until it is abandoned, so that this may be
    /// done again. If the hash is another one than was announced, the bytes are dropped, and the upload begins anew.
    pub async fn finish(&self, upload: &Upload) -> Result<BlobRef, StoreError> {
        let have = self.length(&upload.id).await?;
        if have != upload.size {
            return Err(StoreError::UploadSize { have, size: upload.size });
        }
        let path = self.path(&upload.id)?;
        let finished = self.blobs.adopt(&path, upload.sha256).await;
        if matches!(finished, Err(StoreError::HashMismatch { .. })) {
            let emptied = disk::blocking(move || {
                fs::OpenOptions::new().write(true).truncate(true).open(&path).map_err(StoreError::File)
            });
            emptied.await?;
        }
        finished
    }

    /// Drops what there is of an upload.
    pub async fn abandon(&self, id: &str) -> Result<(), StoreError> {
        match fs::tokio::remove_file(self.path(id)?).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::File(error)),
            _ => Ok(()),
        }
    }

    /// Drops the files of all uploads but these.
    pub async fn sweep(&self, uploads: &[Upload]) -> Result<(), StoreError> {
        let known: BTreeSet<String> = uploads.iter().map(|upload| upload.id.clone()).collect();
        let dir = self.uploads.clone();
        disk::blocking(move || {
            for entry in fs::read_dir(&dir).map_err(StoreError::File)? {
                let entry = entry.map_err(StoreError::File)?;
                if !entry.file_name().to_str().is_some_and(|name| known.contains(name)) {
                    fs::remove_file(entry.path()).map_err(StoreError::File)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Every blob that is here.
    pub async fn stored(&self) -> Result<Vec<Sha256>, StoreError> {
        let dir = self.dir.join("blobs");
        disk::blocking(move || {
            let mut found = Vec::new();
            for shelf in fs::read_dir(&dir).map_err(StoreError::File)? {
                let shelf = shelf.map_err(StoreError::File)?;
                let name = shelf.file_name().to_string_lossy().into_owned();
                for entry in fs::read_dir(shelf.path()).map_err(StoreError::File)? {
                    let entry = entry.map_err(StoreError::File)?;
                    let rest = entry.file_name().to_string_lossy().into_owned();
                    found.extend(format!("{name}{rest}").parse::<Sha256>().ok());
                }
            }
            Ok(found)
        })
        .await
    }

    /// Opens a blob, or `None` if there is no such blob.
    pub async fn get(&self, sha256: Sha256) -> Result<Option<OpenBlob>, StoreError> {
        self.blobs.open(sha256).await
    }

    /// Removes a blob.
    pub async fn remove(&self, sha256: Sha256) -> Result<(), StoreError> {
        self.blobs.remove(sha256).await
    }
}

fn no_upload(id: &str) -> StoreError {
    StoreError::NoUpload { upload: id.chars().take(40).collect() }
}
