//! Keys, host keys, passwords, and a server that is ill.

use crate::common::{World, new_key};
use assay_connect::gerrit::{Gerrit, GerritError, GerritOptions, HostKeys, RestLogin, RestOptions};
use assay_fakes::gerrit::{Account, Numbers, Trouble};
use assay_proto::clock::SystemClock;
use std::sync::Arc;
use std::time::Duration;

async fn version(gerrit: &Gerrit) -> Result<String, GerritError> {
    gerrit.version().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_fit_are_named_with_the_remedy() {
    let world = World::new(Numbers::Integers).await;
    let dir = &world.dir;
    let public = new_key(&dir.join("stranger"), 9);
    fs_err::write(dir.join("stranger.pub"), public).expect("written");
    fs_err::write(
        dir.join("junk"),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    )
    .expect("written");
    // Made by `ssh-keygen -t ed25519 -N secret`.
    fs_err::write(dir.join("encrypted"), include_str!("encrypted_key")).expect("written");
    for (file, said, remedy) in [
        ("missing", "No such file", "ssh-keygen -t ed25519"),
        ("junk", "no private key", "ssh-keygen -t ed25519"),
        ("encrypted", "has a passphrase", "ssh-keygen -p"),
        ("stranger.pub", "public half", "without .pub"),
        ("stranger", "does not accept the key SHA256:", "public half of the key to that account"),
    ] {
        let gerrit = world.client(false, |options| options.ssh.key = dir.join(file));
        let error = version(&gerrit).await.expect_err(file);
        assert!(matches!(error, GerritError::Unauthorised { .. }), "{file}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(said) && text.contains(remedy), "{file}: {text}");
    }
    version(&world.client(false, |_| {})).await.expect("the right key");
    // Old accounts have RSA keys.
    let rsa = dir.join("rsa");
    let mut keygen = tokio::process::Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa.as_str()]).status().await;
    assert!(made.expect("ssh-keygen runs").success());
    let public = fs_err::read_to_string(dir.join("rsa.pub")).expect("written");
    world.fake.account(Account::new("old").with_key(&public)).await;
    let gerrit = world.client(false, |options| (options.ssh.key, options.ssh.user) = (rsa, "old".to_owned()));
    version(&gerrit).await.expect("an RSA key");
    let gerrit = world.client(false, |_| {});
    world.fake.refuse_logins(true);
    assert!(matches!(version(&gerrit).await, Err(GerritError::Unauthorised { .. })));
    world.fake.refuse_logins(false);
    version(&gerrit).await.expect("let in again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_host_key_is_refused() {
    let world = World::new(Numbers::Integers).await;
    let dir = &world.dir;
    let other = new_key(&dir.join("other"), 8);
    let address = world.fake.ssh();
    let host = format!("[{}]:{}", address.ip(), address.port());
    let with = |keys: HostKeys| world.client(false, |options| options.ssh.host_keys = keys);
    for (name, text, ok, said) in [
        ("right", format!("{host} {}\n", world.fake.host_key()), true, ""),
        ("bare", format!("# ours\n{}\n", world.fake.host_key()), true, ""),
        ("wrong", format!("{host} {other}\n"), false, "otherwise somebody stands between"),
        ("none", "[elsewhere]:22 ssh-ed25519 AAAA\n".to_owned(), false, "ssh-keyscan -p"),
    ] {
        fs_err::write(dir.join(name), text).expect("written");
        let result = version(&with(HostKeys::Pinned(dir.join(name)))).await;
        match result {
            Ok(_) => assert!(ok, "{name}"),
            Err(error) => {
                assert!(!ok && matches!(error, GerritError::Untrusted { .. }), "{name}: {error:?}");
                assert!(error.to_string().contains(said), "{name}: {error}");
            }
        }
    }
    // The first key is learnt; a new one is not.
    let file = dir.join("data/known_hosts");
    version(&with(HostKeys::TrustOnFirstUse(file.clone()))).await.expect("the first time");
    let learnt = fs_err::read_to_string(&file).expect("recorded");
    assert_eq!(learnt.trim(), format!("{host} {}", world.fake.host_key()));
    version(&with(HostKeys::TrustOnFirstUse(file.clone()))).await.expect("the second time");
    fs_err::write(&file, learnt.replace(world.fake.host_key(), &other)).expect("written");
    let error = version(&with(HostKeys::TrustOnFirstUse(file.clone()))).await.expect_err("another key");
    assert!(
        matches!(error, GerritError::Untrusted { .. }) && error.to_string().contains(file.as_str()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ill_server_is_asked_again_within_the_deadline() {
    let world = World::new(Numbers::Integers).await;
    let fake = &world.fake;
    let change = world.upload("org/a", "one").await;
    let query = format!("change:{}", change.number);
    let rest = world.client(true, |options| options.query = Duration::from_millis(500));
    fake.trouble("http:GET /changes/", Trouble::Fails, Some(2));
    assert_eq!(rest.query(&query).await.expect("the third try").len(), 1);
    fake.trouble("http:GET /changes/", Trouble::Fails, Some(3));
    let error = rest.query(&query).await.expect_err("three failures");
    assert!(matches!(&error, GerritError::Unreachable { why, .. } if why.contains("500")), "{error}");
    fake.trouble("http:GET /changes/", Trouble::Never, Some(1));
    assert!(matches!(rest.query(&query).await, Err(GerritError::TimedOut { .. })));

    let ssh = world.client(false, |options| options.query = Duration::from_millis(500));
    for trouble in [Trouble::Never, Trouble::AnswerLost, Trouble::Fails] {
        fake.trouble("ssh:query", trouble, Some(1));
        let error = ssh.query(&query).await.expect_err("trouble");
        assert!(error.is_temporary(), "{trouble:?}: {error:?}");
        assert_eq!(ssh.query(&query).await.expect("a new connection").len(), 1);
    }
    let error = ssh.query("nosuchoperator:1").await.expect_err("refused");
    assert!(matches!(&error, GerritError::Refused { why, .. } if why.contains("nosuchoperator")), "{error}");

    let stranger = world.client(true, |options| {
        fs_err::write(world.dir.join("wrong"), "guess\n").expect("written");
        let rest = options.rest.as_mut().expect("REST");
        rest.login = RestLogin::Basic("ci".to_owned(), world.dir.join("wrong"));
    });
    let error = stranger.query(&query).await.expect_err("wrong password");
    assert!(
        matches!(error, GerritError::Unauthorised { .. }) && error.to_string().contains("HTTP password"),
        "{error}"
    );
    // HTTPS is tried with certificates of our own choice; here the other end speaks HTTP.
    let mut options = world.rest();
    options.url = options.url.replace("http://", "https://");
    options.ca_file = Some(world.dir.join("ca.pem"));
    let with = |options: &RestOptions| {
        let mut all = GerritOptions::new("gerrit", world.ssh());
        all.rest = Some(options.clone());
        Gerrit::new(all, Arc::new(SystemClock))
    };
    let error = with(&options).err().expect("no certificates");
    assert!(
        matches!(&error, GerritError::Untrusted { .. }) && error.to_string().contains("ca.pem"),
        "{error}"
    );
    fs_err::write(world.dir.join("ca.pem"), include_str!("ca.pem")).expect("written");
    let error = with(&options).expect("a client").query(&query).await.expect_err("no TLS there");
    assert!(matches!(&error, GerritError::Unreachable { sent: false, .. }), "{error:?}");
    let nobody = world.client(true, |options| {
        // A port that nobody listens on any more.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        options.rest.as_mut().expect("REST").url = format!("http://127.0.0.1:{port}");
        options.ssh.port = port;
    });
    assert!(matches!(nobody.query(&query).await, Err(GerritError::Unreachable { sent: false, .. })));
}
