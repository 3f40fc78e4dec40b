//! Serving to the real git over HTTP, and to clients that hang or go away.

mod common;

use assay_git::serve::{Answer, Service, advertisement_head, upload_pack};
use assay_git::{GerritType, Identity, Mode, ProjectName, Repos};
use common::{LONG, World, committer, files, git_in};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// As much of HTTP as git needs; each request's path and `Git-Protocol` are reported.
async fn answer(
    repos: Repos,
    stream: TcpStream,
    seen: tokio::sync::mpsc::UnboundedSender<(String, Option<String>)>,
) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut protocol, mut length) = (String::new(), None, 0);
    stream.read_line(&mut first).await.expect("a request");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a header");
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "git-protocol" => protocol = Some(value.to_owned()),
            "content-length" => length = value.parse().expect("a number"),
            "content-encoding" => panic!("too large a request for this test"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    let path = first.split(' ').nth(1).expect("a path").to_owned();
    seen.send((path.clone(), protocol.clone())).expect("it is heard");
    let (project, service) = if let Some((project, _)) = path.split_once("/info/refs?service=git-upload-pack")
    {
        (project, Service::Advertise)
    } else {
        (path.strip_suffix("/git-upload-pack").expect("a fetch"), Service::Fetch)
    };
    let project: ProjectName = project.trim_start_matches('/').parse().expect("a name");
    let body = std::io::Cursor::new(body);
    let mut answer =
        upload_pack(&repos, &project, service, protocol.as_deref(), body, LONG).expect("it starts");
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\n\r\n", service.content_type());
    stream.write_all(head.as_bytes()).await.expect("written");
    if service == Service::Advertise {
        stream.write_all(advertisement_head()).await.expect("written");
    }
    tokio::io::copy(&mut answer, &mut stream).await.expect("git ends well");
    stream.shutdown().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_git_fetches_a_speculative_state() {
    let world = World::new();
    let root = world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    let change = world.commit("refs/changes/1", &[root], &files(&[("f", "2\n")]));
    world.fetch();
    let mode = Mode::Gerrit { submit: GerritType::MergeAlways, content_merge: true };
    let merged =
        world.repos.merge(&world.state(root), &world.change(change, mode), &committer()).expect("it merges");
    let identity: Identity = "c".repeat(32).parse().expect("an identity");
    world.repos.publish(&merged.state, &identity).expect("references");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (send, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let repos = world.repos.clone();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut requests = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            requests.spawn(answer(repos.clone(), stream, send.clone()));
        }
    });
    let url = format!("http://{address}/some/project");
    for version in ["0", "2"] {
        let mut list = git_in(&world.dir);
        list.args(["-c", &format!("protocol.version={version}"), "ls-remote", &url]);
        let (url, clone) = (url.clone(), world.dir.join(format!("clone-{version}")));
        let dir = world.dir.clone();
        let reference = format!("refs/zuul/master/Z{}", "c".repeat(32));
        let (listed, got) = tokio::task::spawn_blocking(move || {
            let listed = list.output().expect("git runs");
            common::git(&dir, &["init", "-q", clone.as_str()]);
            common::git(
                &clone,
                &["-c", &format!("protocol.version={version}"), "fetch", "-q", &url, &reference],
            );
            (listed, common::git(&clone, &["rev-parse", "FETCH_HEAD", "FETCH_HEAD^{tree}"]))
        })
        .await
        .expect("it ends");
        let listed = String::from_utf8(listed.stdout).expect("UTF-8");
        let names: Vec<&str> =
            listed.lines().filter_map(|line| line.split_once('\t')).map(|(_, name)| name).collect();
        assert_eq!(
            names,
            ["refs/heads/master".to_owned(), format!("refs/zuul/master/Z{}", "c".repeat(32))],
            "{version}"
        );
        assert_eq!(got, format!("{}\n{}", merged.commit, merged.tree));
    }
    let mut versions = Vec::new();
    while let Ok((_, protocol)) = seen.try_recv() {
        versions.push(protocol.is_some());
    }
    assert!(versions.contains(&true) && versions.contains(&false), "{versions:?}");
}

/// Reads until git ends; the error's text if it does not end well.
async fn rest(mut answer: Answer) -> Result<usize, String> {
    let mut bytes = Vec::new();
    answer.read_to_end(&mut bytes).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn clients_that_hang_lie_or_leave() {
    let world = World::new();
    world.commit("refs/heads/master", &[], &files(&[("f", "1\n")]));
    world.fetch();
    let start = |body: tokio::io::DuplexStream, deadline| {
        upload_pack(&world.repos, &world.project, Service::Fetch, Some("version=2"), body, deadline)
            .expect("it starts")
    };
    // The request's body never ends.
    let (_kept, body) = tokio::io::duplex(64);
    let text = rest(start(body, Duration::from_millis(200))).await.expect_err("late");
    assert!(text.contains("was not done after 0.2 s"), "{text}");
    // It is no request.
    let (mut client, body) = tokio::io::duplex(64);
    client.write_all(b"zzzznonsense").await.expect("written");
    drop(client);
    let text = rest(start(body, LONG)).await.expect_err("git refuses");
    assert!(text.contains("ended with"), "{text}");
    // The client goes away: git does as well.
    let (_kept, body) = tokio::io::duplex(64);
    let answer = start(body, LONG);
    let process =
        answer.process().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).expect("it runs");
    let handle =
        rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).expect("a handle");
    drop(answer);
    let ended = tokio::task::spawn_blocking(move || {
        let mut fds = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None)
    });
    assert_eq!(ended.await.expect("polled"), Ok(1));
    let nobody: ProjectName = "nobody".parse().expect("a name");
    assert!(upload_pack(&world.repos, &nobody, Service::Advertise, None, tokio::io::empty(), LONG).is_err());
}
