//! What pushes do, with the real git: for review, to branches, by SSH and by HTTP.

use crate::common::{Person, Place};
use assay_fakes::gerrit::{Status, SubmitType, Upload};
use camino::Utf8Path;

/// Pushes and takes what comes; what git said if it failed.
async fn push(person: &Person, work: &Utf8Path, refspecs: &[&str]) -> anyhow::Result<Result<String, String>> {
    let mut args = vec!["push", "origin"];
    args.extend(refspecs);
    let said = person.try_run(work, "git", &args).await?;
    Ok(if said.code == 0 { Ok(said.err) } else { Err(said.err) })
}

#[tokio::test]
async fn a_chain_makes_changes_and_only_what_is_new_makes_patchsets() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let alice = place.person("alice").await?;
    let work = alice.clone_of("demo").await?;
    let first = alice.commit(&work, "a", "1\n", "First").await?;
    alice.commit(&work, "b", "1\n", "Second").await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("a chain is pushed");
    assert_eq!(place.gerrit.change(1).await?.current().commit.id, first);

    fs_err::write(work.join("b"), "2\n")?;
    alice.run(&work, "git", &["commit", "-qa", "--amend", "--no-edit"]).await?;
    alice.commit(&work, "c", "1\n", "Third").await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("the longer chain is pushed");
    let counts = [1, 2, 3].map(|number| place.gerrit.change(number));
    let mut versions = Vec::new();
    for change in counts {
        versions.push(change.await?.patchsets.len());
    }
    assert_eq!(versions, [1, 2, 1]);

    let (rows, _) = alice.query("--dependencies --current-patch-set change:2").await?;
    assert_eq!(rows[0]["dependsOn"][0]["number"], 1);
    assert_eq!(rows[0]["dependsOn"][0]["isCurrentPatchSet"], true);
    assert_eq!(rows[0]["neededBy"][0]["number"], 3);

    // The same again is nothing new; another message and a rebase are told apart.
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?;
    assert!(said.is_err_and(|text| text.contains("no new changes")));
    alice.run(&work, "git", &["commit", "-q", "--amend", "-m", "Third, better\n\nChange-Id: Inone"]).await?;
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?;
    assert!(said.is_err_and(|text| text.contains("invalid Change-Id")));
    Ok(())
}

#[tokio::test]
async fn kinds_of_patchsets_decide_which_votes_stay() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let alice = place.person("alice").await?;
    let work = alice.clone_of("demo").await?;
    alice.commit(&work, "a", "1\n", "First").await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("it is pushed");
    place.gerrit.vote("carol", 1, &[("Code-Review", 2), ("Workflow", 1)]).await?;
    place.gerrit.vote("zuul", 1, &[("Verified", 1)]).await?;
    let votes = async || {
        let change = place.gerrit.change(1).await?;
        let votes = change.current().votes.iter().map(|vote| format!("{}{:+}", vote.label, vote.value));
        anyhow::Ok((change.current().kind.word(), votes.collect::<Vec<_>>().join(" ")))
    };

    let message = alice.run(&work, "git", &["log", "-1", "--format=%b"]).await?;
    alice.run(&work, "git", &["commit", "-q", "--amend", "-m", &format!("Better\n\n{message}")]).await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("it is pushed");
    assert_eq!(votes().await?, ("NO_CODE_CHANGE", "Code-Review+2 Verified+1".into()));

    let base = place.gerrit.tip("demo", "master").await?;
    let other = place.gerrit.commit("demo", &base, &[("other", Some("1\n"))], "Other\n").await?;
    place.gerrit.force_push("demo", "master", &other).await?;
    alice.run(&work, "git", &["pull", "-q", "--rebase", "origin", "master"]).await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("it is pushed");
    assert_eq!(votes().await?, ("TRIVIAL_REBASE", "Code-Review+2".into()));

    fs_err::write(work.join("a"), "2\n")?;
    alice.run(&work, "git", &["commit", "-qa", "--amend", "--no-edit"]).await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("it is pushed");
    assert_eq!(votes().await?, ("REWORK", String::new()));
    Ok(())
}

#[tokio::test]
async fn pushes_for_review_are_refused_with_a_reason() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let alice = place.person("alice").await?;
    let work = alice.clone_of("demo").await?;

    fs_err::remove_file(work.join(".git/hooks/commit-msg"))?;
    alice.commit(&work, "a", "1\n", "No hook").await?;
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect_err("there is no Change-Id");
    assert!(
        said.contains("missing Change-Id in message footer") && said.contains("hooks/commit-msg"),
        "{said}"
    );
    assert!(place.gerrit.change(1).await.is_err());

    let id = "I0123456789012345678901234567890123456789";
    let message = format!("One\n\nChange-Id: {id}");
    alice.run(&work, "git", &["commit", "-q", "--amend", "-m", &message]).await?;
    let said = push(&alice, &work, &["HEAD:refs/for/none"]).await?.expect_err("there is no such branch");
    assert!(said.contains("branch none not found"), "{said}");
    let said = push(&alice, &work, &["HEAD:refs/for/master%colour=red"]).await?.expect_err("no such option");
    assert!(said.contains("\"colour\""), "{said}");
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("now it is right");

    alice.commit(&work, "b", "1\n", &message).await?;
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect_err("one Change-Id twice");
    assert!(said.contains("multiple changes") || said.contains("same Change-Id"), "{said}");

    place.gerrit.abandon("alice", 1).await?;
    alice.run(&work, "git", &["reset", "-q", "--soft", "HEAD~1"]).await?;
    alice.run(&work, "git", &["commit", "-q", "--amend", "--no-edit"]).await?;
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect_err("the change is closed");
    assert!(said.contains("closed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_direct_push_needs_the_right_and_marks_what_it_lands() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (alice, zuul) = (place.person("alice").await?, place.person("zuul").await?);
    let one = place.gerrit.upload("alice", &Upload::new("demo", "master", "One", "a", "1\n")).await?;
    let two = Upload::new("demo", "master", "Two", "b", "1\n").on(&one.revision);
    let two = place.gerrit.upload("alice", &two).await?;

    let work = alice.clone_of("demo").await?;
    alice.commit(&work, "x", "1\n", "Straight in").await?;
    let said = push(&alice, &work, &["HEAD:master"]).await?.expect_err("alice has no right");
    assert!(said.contains("prohibited"), "{said}");

    let work = zuul.clone_of("demo").await?;
    let before = zuul.head(&work).await?;
    zuul.run(&work, "git", &["fetch", "-q", "origin", "refs/changes/02/2/1"]).await?;
    let lease = format!("--force-with-lease=refs/heads/master:{before}");
    let merge = format!("{}:refs/heads/master", two.revision);
    zuul.run(&work, "git", &["push", "-q", "--atomic", &lease, "origin", &merge]).await?;
    let new_tip = place.gerrit.tip("demo", "master").await?;
    assert_eq!(new_tip, two.revision);
    for number in [1, 2] {
        let status = place.gerrit.change(number).await?.status;
        assert!(matches!(status, Status::Merged { ref commit, .. } if *commit == new_tip), "{status:?}");
    }
    let told: Vec<String> =
        place.gerrit.events().iter().rev().take(3).map(|event| event["type"].to_string()).collect();
    assert_eq!(told, ["\"change-merged\"", "\"change-merged\"", "\"ref-updated\""]);

    // A branch that was moved by hand meanwhile refuses the push that expects the old tip.
    let other = place.gerrit.commit("demo", &new_tip, &[("y", Some("1"))], "By hand\n").await?;
    place.gerrit.force_push("demo", "master", &other).await?;
    let next = zuul.commit(&work, "z", "1\n", "Next").await?;
    let lease = format!("--force-with-lease=refs/heads/master:{new_tip}");
    let said = zuul
        .try_run(&work, "git", &["push", "--atomic", &lease, "origin", &format!("{next}:refs/heads/master")])
        .await?;
    assert!(said.code != 0 && said.err.contains("stale info"), "{}", said.err);
    let said = push(&zuul, &work, &[&format!("+{next}:refs/heads/master")]).await?;
    assert!(said.is_err_and(|text| text.contains("non-fast-forward")));

    // All refs or none.
    let refs = [&format!("{other}:refs/heads/side"), &format!("+{next}:refs/heads/master")];
    zuul.run(&work, "git", &["fetch", "-q", "origin"]).await?;
    let said = zuul.try_run(&work, "git", &["push", "--atomic", "origin", refs[0], refs[1]]).await?;
    assert!(said.code != 0, "{}", said.err);
    assert!(place.gerrit.tip("demo", "side").await.is_err());
    Ok(())
}

#[tokio::test]
async fn git_over_http_clones_for_all_and_pushes_with_a_password() -> anyhow::Result<()> {
    let place = Place::new().await?;
    place.gerrit.project("deep/er/project", SubmitType::MergeAlways).await?;
    let alice = place.person("alice").await?;
    let url = place.gerrit.url();
    alice.run(&alice.home, "git", &["clone", "-q", &format!("{url}/deep/er/project"), "anonymous"]).await?;
    let work = alice.home.join("anonymous");
    let said = push(&alice, &work, &["HEAD:refs/for/master"]).await?;
    assert!(said.is_err(), "a push without a name");

    let with_password = url.replace("://", "://alice:a-secret@");
    let origin = format!("{with_password}/a/deep/er/project");
    alice.run(&work, "git", &["remote", "set-url", "origin", &origin]).await?;
    fs_err::write(work.join(".git/hooks/commit-msg"), assay_fakes::gerrit::COMMIT_MSG_HOOK)?;
    alice.run(&work, "chmod", &["+x", ".git/hooks/commit-msg"]).await?;
    // More than git sends in one piece, and than is unpacked into single objects.
    for number in 0..120 {
        fs_err::write(work.join(format!("file-{number}")), format!("{number}\n").repeat(2_000 + number))?;
    }
    alice.run(&work, "git", &["add", "."]).await?;
    let commit = alice.commit(&work, "a", "1\n", "By HTTP").await?;
    push(&alice, &work, &["HEAD:refs/for/master"]).await?.expect("a push with a password");
    let change = place.gerrit.change(1).await?;
    assert_eq!(
        (change.current().commit.id.as_str(), change.current().commit.files.len()),
        (commit.as_str(), 121)
    );
    alice
        .run(&work, "git", &["fetch", "-q", &format!("{url}/p/deep/er/project"), "refs/changes/01/1/1"])
        .await?;
    Ok(())
}
