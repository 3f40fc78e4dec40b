//! Versions of assets, uploads, and which job uses which.

use crate::database::{Database, Driver, START, is_deposed, test_job};
use assay_engine::assets::{AssetKey, AssetKind, candidates};
use assay_engine::ids::{GroupId, JobId, Timestamp};
use assay_engine::io::Input;
use assay_store::blobs::{BlobRef, Sha256};
use assay_store::{AssetId, AssetRole, AssetStore, AssetUse, Epoch, StoreError, Upload};

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

fn hdd(name: &str) -> AssetKey {
    AssetKey { kind: AssetKind::Hdd, name: name.parse().unwrap() }
}

fn blob(bytes: &[u8]) -> BlobRef {
    BlobRef { sha256: Sha256::of(bytes), size: bytes.len() as u64 }
}

fn upload(id: u8, asset: AssetKey) -> Upload {
    Upload {
        id: format!("{id:032x}"),
        asset,
        size: 3,
        sha256: None,
        private_of: None,
        by: None,
        created_at: at(i64::from(id)),
    }
}

/// Uploads and publishes.
async fn publish(assets: &dyn AssetStore, epoch: Epoch, upload: &Upload, bytes: &[u8]) -> AssetId {
    assets.begin_upload(epoch, upload).await.unwrap();
    assets.publish(epoch, upload, blob(bytes), at(100)).await.unwrap().id
}

pub(crate) async fn versions_are_published_whole(database: &Database) {
    let store = database.open().await;
    let epoch = store.acquire_leadership().await.unwrap();
    let assets = store.assets();
    let disk = hdd("größe 'x'.qcow2");
    let first = Upload { sha256: Some(Sha256::of(b"one")), ..upload(1, disk.clone()) };
    let private = Upload {
        private_of: Some(JobId(7)),
        by: Some((JobId(7), "STORE_HDD_1".to_owned())),
        ..upload(2, AssetKey { name: disk.name.private_of(JobId(7)), ..disk.clone() })
    };
    let second = upload(3, disk.clone());
    for upload in [&first, &private, &second] {
        assets.begin_upload(epoch, upload).await.unwrap();
    }
    assert_eq!(assets.uploads().await.unwrap(), [first.clone(), private.clone(), second.clone()]);
    assert_eq!(assets.upload(&first.id).await.unwrap().as_ref(), Some(&first));
    assert_eq!(assets.asset(&disk).await.unwrap(), [], "what is on its way is not there yet");

    let one = assets.publish(epoch, &first, blob(b"one"), at(10)).await.unwrap();
    assert_eq!((&one.asset, one.blob, one.created_at), (&disk, blob(b"one"), at(10)));
    assert!(assets.fix_asset(epoch, &disk, true).await.unwrap());
    let again = assets.publish(epoch, &first, blob(b"one"), at(10)).await;
    assert!(matches!(again, Err(StoreError::NoUpload { .. })), "{again:?}");
    let two = assets.publish(epoch, &second, blob(b"two"), at(11)).await.unwrap();
    assert!(two.id > one.id && two.fixed, "a name stays fixed: {two:?}");
    let mine = assets.publish(epoch, &private, blob(b"prv"), at(12)).await.unwrap();
    assert_eq!((mine.private_of, mine.published_by), (Some(JobId(7)), Some(JobId(7))));
    assert_eq!(mine.asset.to_string(), "hdd/00000007-größe 'x'.qcow2");
    let made = assets.job_assets(JobId(7)).await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(
        (made[0].role, made[0].setting.as_str(), made[0].id),
        (AssetRole::Publishes, "STORE_HDD_1", mine.id)
    );

    let versions: Vec<_> = assets.asset(&disk).await.unwrap().iter().map(|version| version.id).collect();
    assert_eq!(versions, [two.id, one.id]);
    assert_eq!(assets.assets().await.unwrap().len(), 3);
    assert!(assets.is_asset_blob(Sha256::of(b"two")).await.unwrap());
    assert!(!assets.is_asset_blob(Sha256::of(b"three")).await.unwrap());
    assert!(!assets.fix_asset(epoch, &hdd("other"), true).await.unwrap());
    assert!(assets.fix_asset(epoch, &disk, false).await.unwrap());
    assert!(assets.asset(&disk).await.unwrap().iter().all(|version| !version.fixed));
    assert_eq!(assets.remove_assets(epoch, &[one.id, AssetId(99)]).await.unwrap(), [one.id, AssetId(99)]);
    assert_eq!(
        assets.asset(&disk).await.unwrap(),
        [assay_store::AssetVersion { fixed: false, ..two.clone() }]
    );

    let given_up = upload(9, disk.clone());
    assets.begin_upload(epoch, &given_up).await.unwrap();
    assert!(assets.end_upload(epoch, &given_up.id).await.unwrap());
    assert!(!assets.end_upload(epoch, &given_up.id).await.unwrap());
    assert_eq!(assets.uploads().await.unwrap(), []);
    // Numbers are not used again, even when the last version is gone.
    assets.remove_assets(epoch, &[mine.id]).await.unwrap();
    assert!(publish(assets, epoch, &upload(10, disk.clone()), b"abc").await > mine.id);
    store.acquire_leadership().await.unwrap();
    assert!(is_deposed(&assets.begin_upload(epoch, &upload(11, disk)).await));
}

pub(crate) async fn jobs_keep_the_versions_they_began_with(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("a"), test_job("b"), test_job("c")]).await;
    let (store, epoch) = (driver.store.clone(), driver.epoch);
    let assets = store.assets();
    let disk = hdd("disk.qcow2");
    let old = publish(assets, epoch, &upload(1, disk.clone()), b"old").await;
    let reads = |parents: &[i64]| {
        let parents: Vec<_> = parents.iter().copied().map(JobId).collect();
        vec![
            ("HDD_1".to_owned(), candidates(&disk, &parents)),
            ("HDD_2".to_owned(), candidates(&hdd("missing"), &parents)),
        ]
    };
    let pinned = |found: &[assay_store::JobAsset]| -> Vec<_> {
        found.iter().map(|used| (used.setting.clone(), used.id)).collect()
    };
    let found = assets.pin(epoch, JobId(1), &reads(&[]), at(1)).await.unwrap();
    assert_eq!(pinned(&found), [("HDD_1".to_owned(), old)], "for what is missing there is nothing");
    assert_eq!(assets.asset(&disk).await.unwrap()[0].used_at, Some(at(1)));
    let new = publish(assets, epoch, &upload(2, disk.clone()), b"new").await;
    let private = Upload {
        private_of: Some(JobId(1)),
        by: Some((JobId(1), "STORE_HDD_1".to_owned())),
        ..upload(3, AssetKey { name: disk.name.private_of(JobId(1)), ..disk.clone() })
    };
    let private = publish(assets, epoch, &private, b"prv").await;
    let found = assets.pin(epoch, JobId(1), &reads(&[]), at(2)).await.unwrap();
    assert_eq!(pinned(&found), [("HDD_1".to_owned(), old)], "the second try begins with the same");
    let found = assets.pin(epoch, JobId(2), &reads(&[]), at(3)).await.unwrap();
    assert_eq!(pinned(&found), [("HDD_1".to_owned(), new)]);
    let found = assets.pin(epoch, JobId(3), &reads(&[9, 1]), at(4)).await.unwrap();
    assert_eq!(pinned(&found), [("HDD_1".to_owned(), private)], "a child finds its parent's own");
    assert_eq!(found[0].asset.to_string(), "hdd/00000001-disk.qcow2");
    let users: Vec<_> =
        assets.asset_jobs(private, 10).await.unwrap().iter().map(|used| (used.job.0, used.role)).collect();
    assert_eq!(users, [(3, AssetRole::Reads), (1, AssetRole::Publishes)]);
    // What was missing may come until a later try.
    let late = publish(assets, epoch, &upload(4, hdd("missing")), b"now").await;
    let found = assets.pin(epoch, JobId(1), &reads(&[]), at(5)).await.unwrap();
    assert_eq!(pinned(&found), [("HDD_1".to_owned(), old), ("HDD_2".to_owned(), late)]);
}

pub(crate) async fn what_a_job_needs_is_not_removed(database: &Database) {
    let mut driver = Driver::start(database).await;
    driver.post(vec![test_job("a"), test_job("b")]).await;
    let (store, epoch) = (driver.store.clone(), driver.epoch);
    let assets = store.assets();
    let disk = hdd("disk.qcow2");
    let id = publish(assets, epoch, &upload(1, disk.clone()), b"old").await;
    let reads = [("HDD_1".to_owned(), vec![disk.clone()])];
    for job in [1, 2] {
        assets.pin(epoch, JobId(job), &reads, at(1)).await.unwrap();
    }
    for (job, open) in [(1, true), (2, true)] {
        assert_eq!(
            assets.asset_uses().await.unwrap(),
            [AssetUse { asset: id, group: None, job: JobId(2), open }]
        );
        assert_eq!(assets.remove_assets(epoch, &[id]).await.unwrap(), []);
        driver.input(Input::CancelJob { job: JobId(job), by: "a".to_owned() }).await;
    }
    assert_eq!(
        assets.asset_uses().await.unwrap(),
        [AssetUse { asset: id, group: None, job: JobId(2), open: false }]
    );
    // Jobs of groups count apart.
    let in_group = |group| assay_engine::io::NewJob { group: Some(GroupId(group)), ..test_job("g") };
    driver.post(vec![in_group(5), in_group(6), in_group(5)]).await;
    for job in [3, 4, 5] {
        assets.pin(epoch, JobId(job), &reads, at(2)).await.unwrap();
    }
    let of = |group, job, open| AssetUse { asset: id, group, job: JobId(job), open };
    let uses = [of(None, 2, false), of(Some(GroupId(6)), 4, true), of(Some(GroupId(5)), 5, true)];
    assert_eq!(assets.asset_uses().await.unwrap(), uses);
    for job in [3, 4, 5] {
        driver.input(Input::CancelJob { job: JobId(job), by: "a".to_owned() }).await;
    }
    assert_eq!(assets.remove_assets(epoch, &[id]).await.unwrap(), [id]);
    let known = assets.job_assets(JobId(1)).await.unwrap();
    assert_eq!((known[0].id, known[0].blob), (id, blob(b"old")), "what a job began with stays known");
}
