//! By SSH and git, with the real clients.

use crate::common::Place;
use assay_fakes::gerrit::Numbers;

#[tokio::test]
async fn a_push_for_review_is_a_change_that_is_told_found_voted_and_landed() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (alice, carol, zuul) =
        (place.person("alice").await?, place.person("carol").await?, place.person("zuul").await?);
    let mut stream = zuul.stream("")?;
    place.gerrit.until_streams(1).await?;

    let work = alice.clone_of("demo").await?;
    let revision = alice.commit(&work, "a.txt", "one\n", "First\n\nWhy it is good.").await?;
    alice.run(&work, "git", &["push", "-q", "origin", "HEAD:refs/for/master%topic=cats"]).await?;

    let event = stream.next().await?;
    assert_eq!(event["type"], "patchset-created");
    assert_eq!(event["change"]["number"], 1);
    assert_eq!(event["change"]["topic"], "cats");
    assert_eq!(event["patchSet"]["revision"], revision.as_str());
    assert_eq!(event["patchSet"]["ref"], "refs/changes/01/1/1");
    assert_eq!(event["uploader"]["username"], "alice");

    zuul.run(&zuul.home, "git", &["init", "-q", "fetched"]).await?;
    let fetched = zuul.home.join("fetched");
    zuul.run(&fetched, "git", &["fetch", "-q", &zuul.remote("demo"), "refs/changes/01/1/1"]).await?;
    let got = zuul.run(&fetched, "git", &["rev-parse", "FETCH_HEAD"]).await?;
    assert_eq!(got.trim(), revision);

    carol.ssh("gerrit review --code-review 2 --label Workflow=1 --message 'looks \"good\"' 1,1").await?;
    let event = stream.next().await?;
    assert_eq!(event["type"], "comment-added");
    assert_eq!(event["comment"], "Patch Set 1: Code-Review+2 Workflow+1\n\nlooks \"good\"");
    assert_eq!(event["approvals"][0]["value"], "2");

    let flags = "--all-approvals --comments --commit-message --current-patch-set --dependencies --files \
                 --patch-sets --submit-records";
    let (rows, stats) = zuul.query(&format!("{flags} 1")).await?;
    assert_eq!((rows.len(), &stats["rowCount"]), (1, &1.into()));
    assert_eq!(rows[0]["currentPatchSet"]["files"][1]["file"], "a.txt");
    assert_eq!(rows[0]["submitRecords"][0]["status"], "NOT_READY");
    assert_eq!(rows[0]["submitRecords"][0]["labels"][1]["status"], "NEED");

    let said = zuul.try_ssh("gerrit review --project demo --submit 1,1").await?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("needs Verified"), "{}", said.err);
    zuul.ssh(&format!("gerrit review --project demo --message \"ok\" --verified 2 --submit {revision}"))
        .await?;
    let kinds = [stream.kind().await?, stream.kind().await?, stream.kind().await?];
    assert_eq!(kinds, ["comment-added", "ref-updated", "change-merged"]);
    assert_eq!(place.gerrit.tip("demo", "master").await?, revision);
    let (rows, _) = zuul.query("--current-patch-set project:demo status:merged").await?;
    assert_eq!(rows[0]["status"], "MERGED");
    Ok(())
}

#[tokio::test]
async fn old_servers_give_numbers_as_strings() -> anyhow::Result<()> {
    let place = Place::with(|mut options| {
        options.numbers = Numbers::Strings;
        options
    })
    .await?;
    let zuul = place.person("zuul").await?;
    let upload = assay_fakes::gerrit::Upload::new("demo", "master", "One", "a", "1\n");
    let made = place.gerrit.upload("alice", &upload).await?;
    let (rows, _) = zuul.query(&format!("change:{}", made.change_id)).await?;
    assert_eq!(rows[0]["number"], "1");
    assert_eq!(rows[0]["sortKey"].as_str().map(str::len), Some(16));
    Ok(())
}
