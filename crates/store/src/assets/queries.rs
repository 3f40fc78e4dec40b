//! Assets in SQL that both databases understand.

use super::{AssetId, AssetRole, AssetStore, AssetUse, AssetVersion, JobAsset, Upload};
use crate::blobs::{BlobRef, Sha256};
use crate::codec::Fields;
use crate::error::StoreError;
use crate::sql::{Backend, Sql, Statement, Value, still_leader};
use crate::types::{Batch, Epoch};
use assay_engine::assets::{AssetKey, AssetKind};
use assay_engine::ids::{GroupId, JobId, Timestamp};

const ASSET_COLUMNS: &str =
    "id, kind, name, sha256, size, private_of, published_by, fixed, created_at, used_at";
const USE_COLUMNS: &str = "job, role, setting, asset, kind, name, sha256, size";
const UPLOAD_COLUMNS: &str = "id, kind, name, size, sha256, private_of, job, setting, created_at";

fn key(fields: &mut Fields) -> Result<AssetKey, StoreError> {
    let kind = fields.word(AssetKind::from_word)?;
    let name = fields.text()?.parse().map_err(|error| fields.broken(error))?;
    Ok(AssetKey { kind, name })
}

fn blob(fields: &mut Fields) -> Result<BlobRef, StoreError> {
    let sha256 = fields.text()?.parse().map_err(|error| fields.broken(error))?;
    Ok(BlobRef { sha256, size: fields.unsigned()? })
}

fn version(row: Vec<Value>) -> Result<AssetVersion, StoreError> {
    let mut fields = Fields::new("assets", row);
    Ok(AssetVersion {
        id: AssetId(fields.int()?),
        asset: key(&mut fields)?,
        blob: blob(&mut fields)?,
        private_of: fields.optional_int()?.map(JobId),
        published_by: fields.optional_int()?.map(JobId),
        fixed: fields.int()? != 0,
        created_at: fields.time()?,
        used_at: fields.optional_time()?,
    })
}

fn job_asset(row: Vec<Value>) -> Result<JobAsset, StoreError> {
    let mut fields = Fields::new("job_assets", row);
    Ok(JobAsset {
        job: JobId(fields.int()?),
        role: fields.word(AssetRole::from_word)?,
        setting: fields.text()?,
        id: AssetId(fields.int()?),
        asset: key(&mut fields)?,
        blob: blob(&mut fields)?,
    })
}

fn upload(row: Vec<Value>) -> Result<Upload, StoreError> {
    let mut fields = Fields::new("asset_uploads", row);
    let id = fields.text()?;
    let asset = key(&mut fields)?;
    let size = fields.unsigned()?;
    let sha256 = fields.optional_text()?.map(|sha| sha.parse()).transpose();
    let sha256 = sha256.map_err(|error: StoreError| fields.broken(error))?;
    let private_of = fields.optional_int()?.map(JobId);
    let by = fields.optional_int()?.map(JobId).zip(fields.optional_text()?);
    Ok(Upload { id, asset, size, sha256, private_of, by, created_at: fields.time()? })
}

impl<B: Backend> Sql<B> {
    async fn write_assets(
        &self,
        doing: &'static str,
        epoch: Epoch,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.backend.write(doing, Some(still_leader(epoch, &Batch::default())), statements).await
    }

    async fn read_assets<T>(
        &self,
        doing: &'static str,
        sql: String,
        values: Vec<Value>,
        read: impl Fn(Vec<Value>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.backend.query(doing, Statement::built(sql, values)).await?;
        rows.into_iter().map(read).collect()
    }
}

/// In the setting's place comes the newest version of `asset`, unless there is one already.
fn pin(job: JobId, setting: &str, asset: &AssetKey) -> Statement {
    Statement::new(
        "INSERT INTO job_assets (job, role, setting, asset, kind, name, sha256, size) \
         SELECT $1, 'reads', $2, id, kind, name, sha256, size FROM assets WHERE kind = $3 AND name = $4 \
         ORDER BY id DESC LIMIT 1 ON CONFLICT DO NOTHING",
        [job.0.into(), setting.into(), asset.kind.word().into(), asset.name.as_str().into()],
    )
}

#[async_trait::async_trait]
impl<B: Backend> AssetStore for Sql<B> {
    async fn assets(&self) -> Result<Vec<AssetVersion>, StoreError> {
        let sql = format!("SELECT {ASSET_COLUMNS} FROM assets ORDER BY id DESC");
        self.read_assets("list assets", sql, vec![], version).await
    }

    async fn asset(&self, asset: &AssetKey) -> Result<Vec<AssetVersion>, StoreError> {
        let sql =
            format!("SELECT {ASSET_COLUMNS} FROM assets WHERE kind = $1 AND name = $2 ORDER BY id DESC");
        let values = vec![asset.kind.word().into(), asset.name.as_str().into()];
        self.read_assets("read an asset", sql, values, version).await
    }

    async fn begin_upload(&self, epoch: Epoch, upload: &Upload) -> Result<(), StoreError> {
        let (job, setting) = upload.by.clone().unzip();
        let statement = Statement::new(
            "INSERT INTO asset_uploads (id, kind, name, size, sha256, private_of, job, setting, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                upload.id.as_str().into(),
                upload.asset.kind.word().into(),
                upload.asset.name.as_str().into(),
                (upload.size as i64).into(),
                upload.sha256.map(|sha| sha.to_string()).into(),
                upload.private_of.map(|job| job.0).into(),
                job.map(|job| job.0).into(),
                setting.into(),
                upload.created_at.0.into(),
            ],
        );
        self.write_assets("begin an upload", epoch, vec![statement]).await.map(drop)
    }

    async fn upload(&self, id: &str) -> Result<Option<Upload>, StoreError> {
        let sql = format!("SELECT {UPLOAD_COLUMNS} FROM asset_uploads WHERE id = $1");
        Ok(self.read_assets("read an upload", sql, vec![id.into()], upload).await?.pop())
    }

    async fn uploads(&self) -> Result<Vec<Upload>, StoreError> {
        let sql = format!("SELECT {UPLOAD_COLUMNS} FROM asset_uploads ORDER BY created_at, id");
        self.read_assets("list uploads", sql, vec![], upload).await
    }

    async fn end_upload(&self, epoch: Epoch, id: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM asset_uploads WHERE id = $1 RETURNING id";
        let rows = self.write_assets("end an upload", epoch, vec![Statement::new(sql, [id.into()])]).await?;
        Ok(!rows.is_empty())
    }

    async fn publish(
        &self,
        epoch: Epoch,
        upload: &Upload,
        blob: BlobRef,
        at: Timestamp,
    ) -> Result<AssetVersion, StoreError> {
        let count = "UPDATE numbers SET last = last + 1 WHERE name = 'assets'";
        let (kind, name) = (upload.asset.kind.word(), upload.asset.name.as_str());
        let private_of = upload.private_of.map(|job| job.0);
        let by = upload.by.as_ref().map(|(job, _)| job.0);
        // Only while the upload is there: of two that complete it, one publishes.
        let insert = Statement::built(
            "INSERT INTO assets (id, kind, name, sha256, size, private_of, published_by, fixed, created_at, used_at) \
             SELECT (SELECT last FROM numbers WHERE name = 'assets'), kind, name, $2, $3, $4, $5, \
             COALESCE((SELECT MAX(fixed) FROM assets WHERE kind = $7 AND name = $8), 0), $6, NULL \
             FROM asset_uploads WHERE id = $1"
                .to_owned(),
            vec![
                upload.id.as_str().into(),
                blob.sha256.to_string().into(),
                (blob.size as i64).into(),
                private_of.into(),
                by.into(),
                at.0.into(),
                kind.into(),
                name.into(),
            ],
        );
        let made = "INSERT INTO job_assets (job, role, setting, asset, kind, name, sha256, size) \
                    SELECT u.job, 'publishes', u.setting, a.id, a.kind, a.name, a.sha256, a.size \
                    FROM asset_uploads u JOIN assets a ON a.id = (SELECT last FROM numbers WHERE name = 'assets') \
                    WHERE u.id = $1 AND u.job IS NOT NULL \
                    ON CONFLICT (job, role, setting) DO UPDATE SET asset = excluded.asset, kind = excluded.kind, \
                    name = excluded.name, sha256 = excluded.sha256, size = excluded.size";
        let end = "DELETE FROM asset_uploads WHERE id = $1";
        let read = format!(
            "SELECT {ASSET_COLUMNS} FROM assets WHERE id = (SELECT last FROM numbers WHERE name = 'assets')"
        );
        let statements = vec![
            Statement::new(count, []),
            insert,
            Statement::new(made, [upload.id.as_str().into()]),
            Statement::new(end, [upload.id.as_str().into()]),
            Statement::built(read, vec![]),
        ];
        let rows = self.write_assets("publish an asset", epoch, statements).await?;
        let published = rows.into_iter().map(version).next().transpose()?;
        published.ok_or_else(|| StoreError::NoUpload { upload: upload.id.clone() })
    }

    async fn pin(
        &self,
        epoch: Epoch,
        job: JobId,
        reads: &[(String, Vec<AssetKey>)],
        at: Timestamp,
    ) -> Result<Vec<JobAsset>, StoreError> {
        let mut statements = Vec::new();
        for (setting, names) in reads {
            statements.extend(names.iter().map(|asset| pin(job, setting, asset)));
        }
        statements.push(Statement::new(
            "UPDATE assets SET used_at = $2 WHERE id IN (SELECT asset FROM job_assets WHERE job = $1 AND role = 'reads')",
            [job.0.into(), at.0.into()],
        ));
        let sql = format!(
            "SELECT {USE_COLUMNS} FROM job_assets WHERE job = $1 AND role = 'reads' ORDER BY setting"
        );
        statements.push(Statement::built(sql, vec![job.0.into()]));
        let rows = self.write_assets("note what a job begins with", epoch, statements).await?;
        rows.into_iter().map(job_asset).collect()
    }

    async fn job_assets(&self, job: JobId) -> Result<Vec<JobAsset>, StoreError> {
        let sql = format!("SELECT {USE_COLUMNS} FROM job_assets WHERE job = $1 ORDER BY role DESC, setting");
        self.read_assets("list the assets of a job", sql, vec![job.0.into()], job_asset).await
    }

    async fn asset_jobs(&self, asset: AssetId, limit: u32) -> Result<Vec<JobAsset>, StoreError> {
        let sql = format!("SELECT {USE_COLUMNS} FROM job_assets WHERE asset = $1 ORDER BY job DESC LIMIT $2");
        let values = vec![asset.0.into(), i64::from(limit).into()];
        self.read_assets("list the jobs of an asset", sql, values, job_asset).await
    }

    async fn asset_uses(&self) -> Result<Vec<AssetUse>, StoreError> {
        let sql = "SELECT a.asset, j.group_id, MAX(a.job), CAST(MAX(CASE WHEN j.finished_at IS NULL THEN 1 ELSE 0 END) AS BIGINT) \
                   FROM job_assets a JOIN jobs j ON j.id = a.job GROUP BY a.asset, j.group_id \
                   ORDER BY a.asset, MAX(a.job)";
        let read = |row| {
            let mut fields = Fields::new("job_assets", row);
            Ok(AssetUse {
                asset: AssetId(fields.int()?),
                group: fields.optional_int()?.map(GroupId),
                job: JobId(fields.int()?),
                open: fields.int()? != 0,
            })
        };
        self.read_assets("list who uses assets", sql.to_owned(), vec![], read).await
    }

    async fn fix_asset(&self, epoch: Epoch, asset: &AssetKey, fixed: bool) -> Result<bool, StoreError> {
        let sql = "UPDATE assets SET fixed = $3 WHERE kind = $1 AND name = $2 RETURNING id";
        let values = [asset.kind.word().into(), asset.name.as_str().into(), i64::from(fixed).into()];
        let rows = self.write_assets("fix an asset", epoch, vec![Statement::new(sql, values)]).await?;
        Ok(!rows.is_empty())
    }

    async fn remove_assets(&self, epoch: Epoch, assets: &[AssetId]) -> Result<Vec<AssetId>, StoreError> {
        let remove = |id: &AssetId| {
            let sql = "DELETE FROM assets WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM job_assets a \
                       JOIN jobs j ON j.id = a.job WHERE a.asset = $1 AND j.finished_at IS NULL)";
            Statement::new(sql, [id.0.into()])
        };
        let mut gone = Vec::new();
        for assets in assets.chunks(100) {
            let mut statements: Vec<_> = assets.iter().map(remove).collect();
            let places: Vec<_> = (1..=assets.len()).map(|number| format!("${number}")).collect();
            let sql = format!("SELECT id FROM assets WHERE id IN ({})", places.join(", "));
            statements.push(Statement::built(sql, assets.iter().map(|id| id.0.into()).collect()));
            let left = self.write_assets("remove assets", epoch, statements).await?;
            let left: Result<Vec<_>, _> =
                left.into_iter().map(|row| Fields::new("assets", row).int().map(AssetId)).collect();
            let left = left?;
            gone.extend(assets.iter().copied().filter(|id| !left.contains(id)));
        }
        Ok(gone)
    }

    async fn is_asset_blob(&self, sha256: Sha256) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM assets WHERE sha256 = $1 LIMIT 1";
        Ok(!self.query("look for an asset", sql, vec![sha256.to_string().into()]).await?.is_empty())
    }
}
