use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}"#;

fn stream() -> Vec<u8> {
    format!(
        "{GREETING}\r\n{}\r\n{}\r\n{}\r\n",
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
        r#"{"return": {"status": "running"}, "id": 3}"#,
        r#"{"id": 4, "error": {"class": "GenericError", "desc": "Device 'x' not found"}}"#,
    )
    .into_bytes()
}

fn messages() -> Vec<Message> {
    vec![
        Message::Greeting(Version { major: 7, minor: 2, micro: 22, package: "Debian 1:7.2".to_owned() }),
        Message::Event(Event { name: "STOP".to_owned(), data: json!({}) }),
        Message::Return { id: Some(3), value: json!({ "status": "running" }) },
        Message::Error {
            id: Some(4),
            class: "GenericError".to_owned(),
            description: "Device 'x' not found".to_owned(),
        },
    ]
}

#[test]
fn lines_become_messages() {
    assert_eq!(Decoder::default().receive(&stream()).unwrap(), messages());
}

#[test]
fn what_is_not_qmp() {
    let error = |bytes: &[u8]| Decoder::default().receive(bytes).unwrap_err().to_string();
    assert!(error(b"Segmentation fault\n").ends_with(": Segmentation fault"));
    assert!(error(b"{}\n").contains("neither greeting, event, return nor error"));
    assert!(error(b"{\"return\": \xff}\n").contains("not QMP"));
    let mut decoder = Decoder::default();
    let part = vec![b' '; MAX_LINE / 2 + 1];
    decoder.receive(&part).unwrap();
    assert_eq!(decoder.receive(&part), Err(DecodeError::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_cut_gives_the_same(cuts in prop::collection::vec(1usize..50, 0..20)) {
        let (stream, mut decoder, mut found) = (stream(), Decoder::default(), Vec::new());
        let mut rest = &stream[..];
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            found.extend(decoder.receive(now).unwrap());
            rest = later;
        }
        found.extend(decoder.receive(rest).unwrap());
        prop_assert_eq!(found, messages());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..300) {
        let mut stream = stream();
        stream.truncate(at);
        stream.extend_from_slice(&bytes);
        stream.push(b'\n');
        let _ = Decoder::default().receive(&stream);
    }
}

/// A QEMU that answers each line by `answers(command, id)`.
async fn server(stream: UnixStream, answers: impl Fn(&str, u64) -> Option<String>) {
    let (reader, mut writer) = stream.into_split();
    writer.write_all(format!("{GREETING}\r\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let call: Value = serde_json::from_str(&line).unwrap();
        let answer = answers(call["execute"].as_str().unwrap(), call["id"].as_u64().unwrap());
        if let Some(answer) = answer {
            writer.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

async fn with_server<F: Future>(
    answers: impl Fn(&str, u64) -> Option<String>,
    client: impl FnOnce(Qmp) -> F,
) -> F::Output {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut tasks = JoinSet::new();
    let work = async {
        let qmp = Qmp::connect(ours, Duration::from_mins(1), &mut tasks).await.unwrap();
        client(qmp).await
    };
    tokio::select! {
        output = work => output,
        () = async { server(theirs, answers).await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test]
async fn calls_events_and_refusals() {
    let answers = |command: &str, id: u64| {
        Some(match command {
            "qmp_capabilities" => format!("{{\"return\": {{}}, \"id\": {id}}}\n"),
            "stop" => format!("{{\"event\": \"STOP\"}}\n{{\"return\": {{}}, \"id\": {id}}}\n"),
            _ => {
                format!("{{\"id\": {id}, \"error\": {{\"class\": \"CommandNotFound\", \"desc\": \"no\"}}}}\n")
            }
        })
    };
    with_server(answers, |qmp| async move {
        assert_eq!(qmp.version().to_string(), "7.2.22 (Debian 1:7.2)");
        let mut events = qmp.events();
        let minute = Duration::from_mins(1);
        assert_eq!(qmp.call("stop", json!({}), minute).await, Ok(json!({})));
        assert_eq!(events.recv().await.unwrap().name, "STOP");
        let refused = qmp.call("dance", json!({}), minute).await.unwrap_err();
        assert_eq!(refused.to_string(), "QEMU refuses dance: no (CommandNotFound)");
    })
    .await;
}

#[tokio::test]
async fn silence_and_garbage() {
    let answers = |command: &str, id: u64| match command {
        "qmp_capabilities" => Some(format!("{{\"return\": {{}}, \"id\": {id}}}\n")),
        "garbage" => Some("what?\n".to_owned()),
        _ => None,
    };
    with_server(answers, |qmp| async move {
        let short = Duration::from_millis(20);
        let silent = qmp.call("query-status", json!({}), short).await.unwrap_err();
        assert_eq!(silent, QmpError::Deadline { command: "query-status".to_owned(), after: short });
        let broken = qmp.call("garbage", json!({}), Duration::from_mins(1)).await.unwrap_err();
        assert!(broken.to_string().contains("sent what is not QMP"), "{broken}");
        let after = qmp.call("stop", json!({}), Duration::from_mins(1)).await.unwrap_err();
        assert_eq!(after, broken);
    })
    .await;
}
