//! What goes wrong with logins, event streams and commands over SSH.

use crate::common::{Place, Stream};
use assay_fakes::gerrit::{Account, Mishap, Options, ServeOptions, SubmitType, Trouble, Upload, serve};
use std::io::{BufRead as _, BufReader};
use tokio_util::sync::CancellationToken;

async fn upload(place: &Place, name: &str) -> anyhow::Result<u64> {
    let upload = Upload::new("demo", "master", name, name, "1\n");
    Ok(place.gerrit.upload("alice", &upload).await?.number)
}

async fn numbers(stream: &mut Stream, count: usize) -> anyhow::Result<Vec<u64>> {
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(stream.next().await?["change"]["number"].as_u64().unwrap_or_default());
    }
    Ok(list)
}

#[tokio::test]
async fn only_known_keys_open_an_account() -> anyhow::Result<()> {
    let place = Place::with(|mut options| {
        options.any_key = false;
        options
    })
    .await?;
    let alice = place.person("alice").await?;
    assert_eq!(alice.try_ssh("gerrit version").await?.code, 255);
    place.gerrit.account(Account::new("alice").with_key(&alice.public_key()?)).await;
    assert_eq!(alice.ssh("gerrit version").await?, "gerrit version 3.9.1\n");
    // The kind of key that older ssh-keygens make.
    let bob = place.person("bob").await?;
    let key = bob.home.join(".ssh/key");
    fs_err::remove_file(&key)?;
    bob.run(&bob.home, "ssh-keygen", &["-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", key.as_str()])
        .await?;
    place.gerrit.account(Account::new("bob").with_key(&bob.public_key()?)).await;
    assert_eq!(bob.ssh("gerrit version").await?, "gerrit version 3.9.1\n");
    assert_eq!(place.person("mallory").await?.try_ssh("gerrit version").await?.code, 255);
    place.gerrit.refuse_logins(true);
    assert_eq!(alice.try_ssh("gerrit version").await?.code, 255);
    place.gerrit.refuse_logins(false);
    assert_eq!(alice.ssh("gerrit ls-projects").await?, "demo\n");
    let said = alice.try_ssh("gerrit create-project more").await?;
    assert!(said.code == 1 && said.err.contains("not permitted"), "{said:?}");
    let said = alice.try_ssh("rm -rf /").await?;
    assert!(said.code == 1 && said.err.contains("not found"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn events_are_dropped_doubled_delayed_and_reordered() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let zuul = place.person("zuul").await?;
    let mut stream = zuul.stream("-s patchset-created -s dropped-output")?;
    place.gerrit.until_streams(1).await?;

    place.gerrit.befall_events(Mishap::Drop, 1);
    place.gerrit.befall_events(Mishap::Duplicate, 1);
    place.gerrit.befall_events(Mishap::Reorder, 3);
    for name in ["one", "two", "three", "four", "five"] {
        upload(&place, name).await?;
    }
    assert_eq!(numbers(&mut stream, 5).await?, [2, 2, 5, 4, 3]);

    place.gerrit.befall_events(Mishap::Delay, 1);
    upload(&place, "six").await?;
    upload(&place, "seven").await?;
    assert_eq!(numbers(&mut stream, 1).await?, [7]);
    place.gerrit.release_events();
    assert_eq!(numbers(&mut stream, 1).await?, [6]);

    // Other types are not wanted on this stream.
    place.gerrit.comment("carol", 1, "hello").await?;
    place.gerrit.send_dropped_output().await;
    assert_eq!(stream.kind().await?, "dropped-output");
    place.gerrit.close_event_streams();
    stream.ended().await?;
    place.gerrit.until_streams(0).await?;

    // A reader who goes away is noticed.
    let stream = zuul.stream("")?;
    place.gerrit.until_streams(1).await?;
    drop(stream);
    place.gerrit.until_streams(0).await
}

#[tokio::test]
async fn commands_are_slow_fail_and_lose_their_answers() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let zuul = place.person("zuul").await?;
    upload(&place, "one").await?;
    let gerrit = &place.gerrit;

    gerrit.trouble("ssh:query", Trouble::Fails, Some(1));
    assert_eq!(zuul.try_ssh("gerrit query --format json 1").await?.code, 1);
    let (rows, _) = zuul.query("1").await?;
    assert_eq!(rows.len(), 1);

    gerrit.trouble("ssh:review", Trouble::Slow, Some(1));
    let slow = zuul.ssh("gerrit review --message slow 1,1");
    let release = async {
        gerrit.until_troubles(2).await?;
        assert!(gerrit.change(1).await?.comments.is_empty(), "nothing is done before it is released");
        gerrit.release_answers();
        anyhow::Ok(())
    };
    let (said, released) = tokio::join!(slow, release);
    released?;
    said?;
    assert_eq!(gerrit.change(1).await?.comments.len(), 1);

    gerrit.trouble("ssh:review", Trouble::AnswerLost, Some(1));
    assert_eq!(zuul.try_ssh("gerrit review --message lost 1,1").await?.code, 255);
    assert_eq!(gerrit.change(1).await?.comments.len(), 2);

    // One that is never answered ends with its client, and others are answered meanwhile.
    gerrit.trouble("ssh:query", Trouble::Never, Some(1));
    let never = zuul.ssh("gerrit query --format json 1");
    let meanwhile = async {
        gerrit.until_troubles(4).await?;
        zuul.query("1").await.map(|(rows, _)| rows.len())
    };
    tokio::select! {
        said = never => anyhow::bail!("it was answered: {said:?}"),
        rows = meanwhile => assert_eq!(rows?, 1),
    }
    Ok(())
}

#[tokio::test]
async fn reviews_do_all_that_is_written_or_say_why_not() -> anyhow::Result<()> {
    let place = Place::new().await?;
    let (alice, carol, zuul) =
        (place.person("alice").await?, place.person("carol").await?, place.person("zuul").await?);
    upload(&place, "one").await?;
    upload(&place, "two").await?;
    let table = [
        (&alice, "gerrit review --code-review 2 1,1", "restricted"),
        (&carol, "gerrit review --verified 1 1,1", "restricted"),
        (&carol, "gerrit review --code-review 3 1,1", "not a valid value"),
        (&carol, "gerrit review --colour 1 1,1", "not a valid option"),
        (&carol, "gerrit review --code-review 1 1,9", "no such patch set"),
        (&carol, "gerrit review --code-review 1 xyz", "not a valid patch set"),
        (&carol, "gerrit review --code-review 1", "required"),
        (&carol, "gerrit review --project other -m x 1,1", "not in project"),
        (&carol, "gerrit review --abandon --submit 1,1", "together"),
        (&carol, "gerrit review --restore 1,1", "change is new"),
        (&alice, "gerrit query --format json --colour 1", "not a valid option"),
    ];
    for (who, command, text) in table {
        let said = who.try_ssh(command).await?;
        assert!(said.code == 1 && said.err.contains(text), "{command}: {said:?}");
    }
    assert!(place.gerrit.change(1).await?.comments.is_empty());
    let (_, error) = zuul.query("colour:red").await?;
    assert_eq!(error["type"], "error");

    alice.ssh("gerrit review --abandon -m 'not now' 1,1 2,1").await?;
    assert!(!place.gerrit.change(2).await?.is_open());
    alice.ssh("gerrit review --restore 2,1").await?;
    let text = place.gerrit.change(1).await?.comments[0].text.clone();
    assert_eq!((text.as_str(), place.gerrit.change(2).await?.is_open()), ("Abandoned\n\nnot now", true));

    carol.ssh("gerrit review --label Code-Review=-1 --label workflow=1 2,1").await?;
    carol.ssh("gerrit review --code-review 0 2,1").await?;
    let event = place.gerrit.events().pop().unwrap_or_default();
    assert_eq!(
        (&event["approvals"][0]["value"], &event["approvals"][0]["oldValue"]),
        (&"0".into(), &"-1".into())
    );
    let votes = place.gerrit.change(2).await?.current().votes.clone();
    assert_eq!(votes.iter().map(|vote| vote.label.as_str()).collect::<Vec<_>>(), ["Workflow"]);
    Ok(())
}

#[tokio::test]
async fn it_runs_as_a_program_of_its_own() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = camino::Utf8Path::from_path(dir.path()).expect("UTF-8");
    let options = ServeOptions {
        options: Options::new(path),
        projects: vec![("demo".into(), SubmitType::MergeAlways)],
    };
    let cancel = CancellationToken::new();
    let (reader, writer) = std::io::pipe()?;
    let look = async {
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(reader).read_line(&mut line).map(|_| line)
        });
        let told: serde_json::Value = serde_json::from_str(&line.await??)?;
        let url = format!("{}/projects/", told["url"].as_str().unwrap_or_default());
        let text = reqwest::get(url).await?.text().await?;
        cancel.cancel();
        anyhow::Ok((told, text))
    };
    let (served, looked) = tokio::join!(serve(options, cancel.clone(), writer), look);
    served?;
    let (told, text) = looked?;
    assert!(text.contains("\"demo\""), "{text}");
    assert!(
        told["ssh"].is_string()
            && told["host_key"].as_str().is_some_and(|key| key.starts_with("ssh-ed25519 "))
    );
    Ok(())
}
