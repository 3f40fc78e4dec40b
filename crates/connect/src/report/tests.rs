//! The clients and what they tell, against small models behind the real protocols.

use super::bodhi::Bodhi;
use super::matrix::Matrix;
use super::resultsdb::ResultsDb;
use super::wiki::{Login, Wiki};
use super::{LONGEST_ANSWER, Told, webhook};
use crate::events::hook::is_signed;
use crate::http::Http;
use assay_fakes::bodhi::FakeBodhi;
use assay_fakes::matrix::Homeserver;
use assay_fakes::sink::HttpSink;
use assay_fakes::wiki::FakeWiki;
use serde_json::json;

fn http() -> Http {
    Http::new(false, None, LONGEST_ANSWER).unwrap()
}

fn is_later(told: &Told, why: &str) -> bool {
    matches!(told, Told::Later(text) if text.contains(why))
}

#[tokio::test]
async fn webhooks_are_signed_and_repeated_under_the_same_key() {
    let sink = HttpSink::start().await.unwrap();
    let url = format!("{}/hook?x=1", sink.url());
    let client = http();
    let post = || webhook::post(&client, &url, "s3cret", "job.done", "job.done/7", "{\"a\":1}".to_owned());
    sink.answer_next(503);
    sink.answer_next(422);
    assert!(is_later(&post().await, "503"));
    assert!(matches!(post().await, Told::Never(why) if why.contains("422")));
    assert_eq!(post().await, Told::Done(None));
    let got = sink.got();
    assert_eq!((got.len(), got[0].path.as_str(), &got[0]), (3, "/hook?x=1", &got[2]));
    assert_eq!(
        (got[0].headers["x-assay-event"].as_str(), got[0].headers["x-assay-delivery"].as_str()),
        ("job.done", "job.done/7")
    );
    assert!(is_signed(b"s3cret", got[0].body.as_bytes(), &got[0].headers["x-hub-signature-256"]));
    let nobody = webhook::post(&http(), "http://127.0.0.1:1/", "s", "e", "k", String::new()).await;
    assert!(matches!(nobody, Told::Later(_)));
}

/// A ResultsDB has no keys: after an answer that got lost it is asked whether the result is there.
#[tokio::test]
async fn a_result_whose_answer_got_lost_is_posted_once() {
    let sink = HttpSink::start().await.unwrap();
    let there = ResultsDb::new(http(), &format!("{}/api/v2.0/", sink.url()), Some("Bearer t".to_owned()));
    let result = |scenario: &str| {
        json!({"testcase": {"name": "a b"}, "outcome": "PASSED", "ref_url": "http://a/jobs/1",
            "data": {"item": "F-1", "scenario": [scenario], "arch": ["x86_64"]}})
    };
    let post = |look: bool| {
        let (there, result) = (&there, result("one"));
        async move { there.post(&result, look, "2026-11-21T00:00:00").await }
    };
    sink.answer_next(502);
    assert!(is_later(&post(false).await, "502"));
    let found = |all: &[serde_json::Value]| json!({ "data": all }).to_string();
    sink.say_next(200, &found(&[result("two"), result("one")]));
    assert_eq!(post(true).await, Told::Done(Some("it was there already".to_owned())));
    // What is there is about something else.
    sink.say_next(200, &found(&[result("two")]));
    sink.say_next(201, r#"{"id": 7}"#);
    assert_eq!(post(true).await, Told::Done(Some("result 7 there".to_owned())));
    // Whether it is there is not known.
    sink.say_next(200, "<html>");
    assert!(matches!(post(true).await, Told::Later(_)));
    sink.answer_next(503);
    assert!(is_later(&post(true).await, "503"));
    let got = sink.got();
    let methods: Vec<&str> = got.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["POST", "GET", "GET", "POST", "GET", "GET"]);
    assert_eq!(
        got[1].path,
        "/api/v2.0/results?testcases=a%20b&outcome=PASSED&since=2026-11-21T00%3A00%3A00&limit=100&item=F-1"
    );
    assert!(got.iter().all(|one| one.headers["authorization"] == "Bearer t"));
}

#[tokio::test]
async fn a_room_hears_it_once() {
    let server = Homeserver::start().await.unwrap();
    let (id, alias) = assay_fakes::matrix::ROOM;
    let matrix = |room: &str, token: &str| Matrix::new(http(), server.url(), room, token);
    let good = matrix(alias, assay_fakes::matrix::TOKEN);
    server.busy_for(1);
    assert!(is_later(&good.say("t1", "hello", "<b>hello</b>").await, "429"));
    let first = good.say("t1", "hello", "<b>hello</b>").await;
    assert!(matches!(&first, Told::Done(Some(_))), "{first:?}");
    let by_id = matrix(id, assay_fakes::matrix::TOKEN);
    assert_eq!(by_id.say("t1", "hello", "<b>hello</b>").await, first, "the same transaction");
    by_id.say("t2", "more", "more").await;
    let said = server.messages();
    assert_eq!((said.len(), &said[0]["body"], &said[0]["msgtype"]), (2, &"hello".into(), &"m.notice".into()));
    assert!(is_later(&matrix(id, "other").say("t3", "x", "x").await, "M_UNKNOWN_TOKEN"));
    assert!(is_later(&matrix("#no:x", assay_fakes::matrix::TOKEN).say("t3", "x", "x").await, "not found"));
}

#[tokio::test]
async fn an_update_is_commented_once() {
    let server = FakeBodhi::start().await.unwrap();
    let update = assay_fakes::bodhi::UPDATE;
    let mut bodhi = Bodhi::new(http(), server.url(), Some(assay_fakes::bodhi::TOKEN.to_owned()));
    server.lose_next();
    assert!(is_later(&bodhi.comment(update, "passed\n", false).await, "502"));
    assert_eq!(
        bodhi.comment(update, "passed\n", true).await,
        Told::Done(Some("the comment was there already".to_owned()))
    );
    server.end_sessions();
    assert_eq!(
        bodhi.comment(update, "failed", false).await,
        Told::Done(Some("comment 2".to_owned())),
        "a session that ended is begun anew"
    );
    let comment =
        async |bodhi: &mut Bodhi, text: &str, look: bool| match bodhi.comment(update, text, look).await {
            Told::Done(Some(note)) => note,
            told => format!("{told:?}"),
        };
    assert_eq!(comment(&mut bodhi, "passed", true).await, "comment 3", "it was said before something else");
    assert_eq!(
        comment(&mut bodhi, "failed", false).await,
        "comment 4",
        "it is not looked for the first time"
    );
    server.said(update, "alice", "works for me");
    assert_eq!(
        comment(&mut bodhi, "failed", true).await,
        "the comment was there already",
        "others may say more"
    );
    assert_eq!(server.comments(), ["passed\n", "failed", "passed", "failed", "works for me"]);
    assert_eq!(bodhi.waive(update, "known", &["update.install".to_owned()]).await, Told::Done(None));
    assert_eq!(server.waived()[0]["tests"][0], "update.install");
    let is_never = |told: &Told| matches!(told, Told::Never(why) if why.contains("404"));
    assert!(is_never(&bodhi.comment("FEDORA-0", "x", false).await));
    assert!(is_never(&bodhi.waive("FEDORA-0", "x", &[]).await));
    let mut stranger = Bodhi::new(http(), server.url(), Some("other".to_owned()));
    assert!(is_later(&stranger.comment(update, "x", false).await, "invalid token"));
    let elsewhere = format!("{}/elsewhere", server.url());
    let mut lost = Bodhi::new(http(), &elsewhere, None);
    assert!(is_later(&lost.comment(update, "x", false).await, "404"), "a wrong address can be mended");
}

#[tokio::test]
async fn a_page_that_somebody_else_edits_meanwhile_keeps_what_they_wrote() {
    let server = FakeWiki::start().await.unwrap();
    server.put("Results", "a {{result|none}}\n");
    server.put("Current", "#REDIRECT [[Results]]");
    let (name, password) = assay_fakes::wiki::LOGIN;
    let wiki = |password: &str| {
        Wiki::new(http(), &server.api(), Some(Login::Password(name.to_owned(), password.to_owned())))
    };
    let mut good = wiki(password);
    server.meanwhile("Results", "theirs one\n");
    server.meanwhile("Results", "theirs two\n");
    let fill = |text: &str| {
        let new = text.replace("{{result|none}}", "{{result|pass|coconut|bot=true}}");
        Ok((new != text).then_some(new))
    };
    let told = good.edit("Current", "why", fill).await;
    assert!(matches!(&told, Told::Done(Some(note)) if note.starts_with("revision")), "{told:?}");
    assert_eq!(server.text("Results"), "a {{result|pass|coconut|bot=true}}\ntheirs one\ntheirs two\n");
    let ours = server.revisions("Results").into_iter().filter(|one| one.user == "Coconut").count();
    assert_eq!(ours, 1, "one edit");
    assert_eq!(good.edit("Results", "why", fill).await, Told::Done(Some("it was there already".to_owned())));
    let absent = good.edit("Absent", "why", fill).await;
    assert_eq!(absent, Told::Never("there is no page \"Absent\"".to_owned()));
    server.put("Closed", "{{result|none}}");
    server.protect("Closed");
    let closed = good.edit("Closed", "why", fill).await;
    assert!(matches!(&closed, Told::Never(why) if why.contains("protected")), "{closed:?}");
    assert_eq!(
        good.edit("Results", "why", |_| Err("unclear".to_owned())).await,
        Told::Never("unclear".to_owned())
    );
    assert!(is_later(&wiki("wrong").edit("Results", "why", fill).await, "Incorrect username or password"));
    for n in 0..6 {
        server.meanwhile("Results", &format!("again {n} {{{{result|none}}}}\n"));
    }
    assert!(is_later(
        &good.edit("Results", "why", |text| Ok(Some(format!("{text}!")))).await,
        "edits the page all the time"
    ));
}
