//! The six submit types, and what stands in their way.

use crate::common::Place;
use assay_fakes::gerrit::{FakeGerrit, Status, SubmitTrouble, SubmitType, Upload, Uploaded};
use camino::Utf8Path;

/// Gives a change every vote that it needs.
async fn ready(gerrit: &FakeGerrit, number: u64) -> anyhow::Result<()> {
    gerrit.vote("carol", number, &[("Code-Review", 2), ("Workflow", 1)]).await?;
    gerrit.vote("zuul", number, &[("Verified", 2)]).await
}

/// What git says about a repository of the server.
async fn git(repository: &Utf8Path, args: &[&str]) -> anyhow::Result<String> {
    let output = tokio::process::Command::new("git").arg("-C").arg(repository).args(args).output().await?;
    anyhow::ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A change on the branch's first commit, after another commit has come onto the branch.
async fn behind(gerrit: &FakeGerrit, file: &str) -> anyhow::Result<(String, Uploaded)> {
    let base = gerrit.tip("demo", "master").await?;
    let made = gerrit.upload("alice", &Upload::new("demo", "master", "Change", file, "mine\n")).await?;
    let content = format!("theirs, after {base}\n");
    let tip = gerrit.commit("demo", &base, &[("other", Some(&content))], "Other\n").await?;
    gerrit.force_push("demo", "master", &tip).await?;
    ready(gerrit, made.number).await?;
    Ok((tip, made))
}

#[tokio::test]
async fn each_submit_type_lands_in_its_way() -> anyhow::Result<()> {
    use SubmitType as Kind;
    // Type; on the tip: parents and whether it is the very commit; behind it: parents, or refused.
    let table = [
        (Kind::FastForwardOnly, (1, true), None),
        (Kind::MergeIfNecessary, (1, true), Some(2)),
        (Kind::MergeAlways, (2, false), Some(2)),
        (Kind::RebaseIfNecessary, (1, true), Some(1)),
        (Kind::RebaseAlways, (1, false), Some(1)),
        (Kind::CherryPick, (1, false), Some(1)),
    ];
    for (kind, on_tip, when_behind) in table {
        let place = Place::new().await?;
        let (gerrit, repository) = (&place.gerrit, place.gerrit.repository("demo"));
        gerrit.set_submit_type("demo", kind).await?;
        let made = gerrit.upload("alice", &Upload::new("demo", "master", "On the tip", "a", "1\n")).await?;
        ready(gerrit, made.number).await?;
        gerrit.submit("zuul", made.number).await?;
        let tip = gerrit.tip("demo", "master").await?;
        let parents = git(&repository, &["log", "-1", "--format=%P", &tip]).await?;
        let found = (parents.split(' ').count(), tip == made.revision);
        assert_eq!(found, on_tip, "{kind:?} on the tip");

        let (before, made) = behind(gerrit, "b").await?;
        let result = gerrit.submit("zuul", made.number).await;
        let Some(expected) = when_behind else {
            let text = result.expect_err("only fast-forward").to_string();
            assert!(text.contains("fast-forward"), "{text}");
            continue;
        };
        result?;
        let tip = gerrit.tip("demo", "master").await?;
        let parents = git(&repository, &["log", "-1", "--format=%P", &tip]).await?;
        assert_eq!(parents.split(' ').count(), expected, "{kind:?} behind");
        assert!(parents.starts_with(&before), "{kind:?}: the branch's tip is the first parent");
        let files = git(&repository, &["ls-tree", "--name-only", &tip]).await?;
        assert_eq!(files.lines().collect::<Vec<_>>(), ["a", "b", "other"], "{kind:?}");
        let change = gerrit.change(made.number).await?;
        assert!(matches!(&change.status, Status::Merged { commit, .. } if *commit == tip));
        assert_eq!(
            change.patchsets.len(),
            if expected == 1 { 2 } else { 1 },
            "{kind:?}: a new commit is a patchset"
        );
        let footers = git(&repository, &["log", "-1", "--format=%(trailers:key=Reviewed-on)", &tip]).await?;
        assert_eq!(!footers.is_empty(), kind.always_rewrites(), "{kind:?}: {footers}");
        let merged = gerrit.events().pop().unwrap_or_default();
        assert_eq!((&merged["type"], &merged["newRev"]), (&"change-merged".into(), &tip.into()));
    }
    Ok(())
}

#[tokio::test]
async fn conflicts_open_parents_vetoes_and_missing_rights_refuse_a_submit() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let gerrit = &place.gerrit;
    let refused = async |number: u64, user: &str| match gerrit.submit(user, number).await {
        Ok(()) => String::from("it was submitted"),
        Err(error) => error.to_string(),
    };
    for kind in SubmitType::ALL {
        gerrit.set_submit_type("demo", kind).await?;
        let (_, made) = behind(gerrit, "other").await?;
        let text = refused(made.number, "zuul").await;
        assert!(text.contains("conflict in other") || text.contains("fast-forward"), "{kind:?}: {text}");
    }
    gerrit.set_submit_type("demo", SubmitType::MergeIfNecessary).await?;
    let below = gerrit.upload("alice", &Upload::new("demo", "master", "Below", "c", "1\n")).await?;
    let above = Upload::new("demo", "master", "Above", "d", "1\n").on(&below.revision);
    let above = gerrit.upload("alice", &above).await?;
    assert!(refused(above.number, "zuul").await.contains("needs Code-Review; needs Verified"));
    ready(gerrit, above.number).await?;
    assert!(refused(above.number, "bob").await.contains("not permitted"));
    assert!(refused(above.number, "zuul").await.contains(&format!("depends on change {}", below.number)));
    gerrit.vote("carol", above.number, &[("Code-Review", -2)]).await?;
    assert!(refused(above.number, "zuul").await.contains("vetoed by carol"));
    gerrit.vote("carol", above.number, &[("Code-Review", 2)]).await?;
    // A new version of the parent leaves the child on an old one.
    let again = Upload::new("demo", "master", "Below", "c", "2\n").version_of(below.number);
    gerrit.upload("alice", &again).await?;
    assert!(refused(above.number, "zuul").await.contains("old patch set 1"));
    // Cherry-picking lands it all the same.
    gerrit.set_submit_type("demo", SubmitType::CherryPick).await?;
    gerrit.submit("zuul", above.number).await?;
    Ok(())
}

#[tokio::test]
async fn a_submit_can_go_wrong_in_every_way_that_a_gate_must_notice() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let gerrit = &place.gerrit;
    let zuul = place.person("zuul").await?;
    let next = async |name: &str| {
        let made = gerrit.upload("alice", &Upload::new("demo", "master", name, name, "1\n")).await?;
        ready(gerrit, made.number).await?;
        anyhow::Ok(made)
    };
    let tree = async |commit: &str| {
        git(&gerrit.repository("demo"), &["rev-parse", &format!("{commit}^{{tree}}")]).await
    };

    let made = next("other-tree").await?;
    gerrit.next_submit("demo", SubmitTrouble::OtherTree);
    zuul.ssh(&format!("gerrit review --submit {},1", made.number)).await?;
    let tip = gerrit.tip("demo", "master").await?;
    assert_ne!(tree(&tip).await?, tree(&made.revision).await?);
    assert!(!gerrit.change(made.number).await?.is_open());

    let made = next("foreign-push").await?;
    let foreign = gerrit.commit("demo", &tip, &[("foreign", Some("1\n"))], "Foreign\n").await?;
    gerrit.next_submit("demo", SubmitTrouble::ForeignPush(foreign.clone()));
    zuul.ssh(&format!("gerrit review --submit {},1", made.number)).await?;
    let tip = gerrit.tip("demo", "master").await?;
    assert_eq!(git(&gerrit.repository("demo"), &["rev-parse", &format!("{tip}^1")]).await?, foreign);

    let made = next("nothing").await?;
    gerrit.next_submit("demo", SubmitTrouble::Nothing);
    zuul.ssh(&format!("gerrit review --submit {},1", made.number)).await?;
    assert!(gerrit.change(made.number).await?.is_open());
    gerrit.next_submit("demo", SubmitTrouble::Refused("the index is locked".into()));
    let said = zuul.try_ssh(&format!("gerrit review --submit {},1", made.number)).await?;
    assert!(said.code == 1 && said.err.contains("the index is locked"), "{said:?}");

    gerrit.next_submit("demo", SubmitTrouble::AnswerLost);
    let said = zuul.try_ssh(&format!("gerrit review --submit {},1", made.number)).await?;
    assert_eq!(said.code, 255, "ssh says that the connection broke: {said:?}");
    assert!(!gerrit.change(made.number).await?.is_open());
    Ok(())
}
