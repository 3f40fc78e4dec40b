//! `git-review` from PyPI.

use crate::common::{Person, Place, python_program};
use camino::Utf8Path;

/// Runs git-review; what it printed.
async fn git_review(person: &Person, work: &Utf8Path, args: &[&str]) -> anyhow::Result<String> {
    let program = python_program("git-review").await?;
    let said = person.try_run(work, program.as_str(), args).await?;
    anyhow::ensure!(said.code == 0, "git-review {args:?} ended with {}: {}{}", said.code, said.out, said.err);
    Ok(said.out + &said.err)
}

/// A clone without hook, with a `.gitreview` in it.
async fn prepared(place: &Place, person: &Person) -> anyhow::Result<camino::Utf8PathBuf> {
    person.run(&person.home, "git", &["clone", "-q", &person.remote("demo"), "work"]).await?;
    let work = person.home.join("work");
    let ssh = place.gerrit.ssh();
    let text =
        format!("[gerrit]\nhost={}\nport={}\nproject=demo\ndefaultbranch=master\n", ssh.ip(), ssh.port());
    fs_err::write(work.join(".gitreview"), text)?;
    fs_err::write(work.join(".git/info/exclude"), ".gitreview\n")?;
    Ok(work)
}

#[tokio::test]
async fn git_review_sets_up_pushes_amends_lists_and_downloads() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (alice, bob) = (place.person("alice").await?, place.person("bob").await?);
    let work = prepared(&place, &alice).await?;

    git_review(&alice, &work, &["-s"]).await?;
    assert!(work.join(".git/hooks/commit-msg").exists(), "git-review -s did not get the hook");

    alice.run(&work, "git", &["checkout", "-q", "-b", "fix-it"]).await?;
    alice.commit(&work, "a.txt", "one\n", "Fix it").await?;
    git_review(&alice, &work, &["-t", "cats", "--hashtags", "quick", "--reviewers", "carol"]).await?;
    let change = place.gerrit.change(1).await?;
    assert_eq!((change.topic.as_str(), change.current().number), ("cats", 1));
    assert!(change.reviewers.contains("carol") && change.hashtags.contains("quick"));
    assert_eq!(change.current().commit.footers("Change-Id"), [change.change_id.as_str()]);

    fs_err::write(work.join("a.txt"), "two\n")?;
    alice.run(&work, "git", &["commit", "-q", "-a", "--amend", "--no-edit"]).await?;
    git_review(&alice, &work, &["-w"]).await?;
    let change = place.gerrit.change(1).await?;
    assert_eq!((change.current().number, change.wip), (2, true));

    assert!(git_review(&bob, &prepared(&place, &bob).await?, &["-l"]).await?.contains("Fix it"));
    let bobs = bob.home.join("work");
    git_review(&bob, &bobs, &["-d", "1"]).await?;
    assert_eq!(bob.head(&bobs).await?, change.current().commit.id);
    git_review(&bob, &bobs, &["-d", "1,1"]).await?;
    assert_eq!(bob.head(&bobs).await?, change.patchsets[0].commit.id);
    Ok(())
}

#[tokio::test]
async fn git_review_works_over_http_too() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let alice = place.person("alice").await?;
    let work = prepared(&place, &alice).await?;
    let origin = format!("{}/a/demo", place.gerrit.url().replace("://", "://alice:a-secret@"));
    alice.run(&work, "git", &["remote", "add", "gerrit", &origin]).await?;
    git_review(&alice, &work, &["-s"]).await?;
    alice.run(&work, "git", &["checkout", "-q", "-b", "by-http"]).await?;
    alice.commit(&work, "a.txt", "one\n", "By HTTP").await?;
    git_review(&alice, &work, &["-t", "by-http"]).await?;
    assert_eq!(place.gerrit.change(1).await?.topic, "by-http");
    assert!(git_review(&alice, &work, &["-l"]).await?.contains("By HTTP"));
    let bob = place.person("bob").await?;
    let bobs = prepared(&place, &bob).await?;
    bob.run(&bobs, "git", &["remote", "add", "gerrit", &format!("{}/demo", place.gerrit.url())]).await?;
    git_review(&bob, &bobs, &["-d", "1"]).await?;
    assert_eq!(bob.head(&bobs).await?, place.gerrit.change(1).await?.current().commit.id);
    Ok(())
}
