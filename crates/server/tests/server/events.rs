//! Events and the time: a clock that jumps loses nothing, and does nothing twice.

use crate::common::Server;
use assay_fakes::datagrepper::FakeDatagrepper;
use assay_fakes::koji::FakeKoji;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: i64 = 3_600;

/// How many events each source has brought, once it has brought so many.
async fn brought(server: &Server, wanted: &[(&str, i64)]) {
    let mut counts = BTreeMap::new();
    let found = async {
        loop {
            let (_, all) = server.get("/api/assay/v1/sources").await;
            counts.clear();
            for source in all["sources"].as_array().unwrap() {
                assert_eq!(source["trouble"], Value::Null, "{source}");
                let name = source["name"].as_str().unwrap().to_owned();
                counts.insert(name, (source["doing"].clone(), source["events"].as_i64().unwrap()));
            }
            if wanted.iter().all(|(name, count)| counts.get(*name).is_some_and(|(_, found)| found == count)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    assert!(found.is_ok(), "never {wanted:?}: {counts:?}");
}

/// A look of each source begins and ends: it knows of something that it has brought before once more.
async fn looked(server: &Server) {
    let known = async || {
        let (_, all) = server.get("/api/assay/v1/sources").await;
        let sources = all["sources"].as_array().unwrap().clone();
        let of =
            |name: &str| sources.iter().find(|one| one["name"] == name).unwrap()["known"].as_i64().unwrap();
        ["koji", "grepper"].map(of)
    };
    let before = known().await;
    let more = async {
        while known().await.iter().zip(before).any(|(now, before)| *now < before + 2) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), more).await.is_ok(), "nobody looks");
}

/// Our clock jumps; those of Koji and of datagrepper go on.
#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_repeats_nothing() {
    let (koji, grepper) = (FakeKoji::start().await.unwrap(), FakeDatagrepper::start().await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let toml = format!(
        "[source.hourly]\ndriver = \"timer\"\ncron = \"0 * * * *\"\n\
         [source.koji]\ndriver = \"koji\"\nurl = {:?}\nevery = 1\n\
         [source.grepper]\ndriver = \"datagrepper\"\nurl = {:?}\nevery = 1\nsettle = 0\n",
        koji.hub(),
        grepper.url()
    );
    fs_err::write(&file, toml).unwrap();
    let start = crate::common::BEGINNING / 1_000_000;
    let (mut there, mut count) = (start, 0);
    // So much later there something happens there.
    let mut happens = |later: i64| {
        count += 1;
        there += later;
        koji.build(&format!("build-{count}-1"), there - 5, &[]);
        grepper.carried(&format!("id-{count}"), "org.t.x", json!({"count": count}), there - 5);
        koji.says_it_is(there);
        grepper.says_it_is(there);
    };
    happens(0);
    let server = Server::start_with(|config| config.config = Some(file)).await;
    assert_eq!(server.clock_micros() / 1_000_000, start);
    let ours = |hours: i64| server.clock.advance(hours * HOUR * 1_000_000);
    brought(&server, &[("koji", 1), ("grepper", 1), ("hourly", 0)]).await;
    looked(&server).await;

    // Five hours forward, for half an hour: what happens meanwhile is found; of five times that were due the last one counts.
    ours(5);
    happens(HOUR / 4);
    brought(&server, &[("koji", 2), ("grepper", 2), ("hourly", 1)]).await;
    looked(&server).await;
    happens(HOUR / 4);
    brought(&server, &[("koji", 3), ("grepper", 3), ("hourly", 1)]).await;
    looked(&server).await;

    // It is set right: nothing is due once more, and what is due next is.
    ours(-5);
    happens(HOUR / 4);
    brought(&server, &[("koji", 4), ("grepper", 4), ("hourly", 1)]).await;
    looked(&server).await;
    ours(1);
    happens(HOUR / 4);
    brought(&server, &[("koji", 5), ("grepper", 5), ("hourly", 2)]).await;
    looked(&server).await;
    // What was due when the clock was wrong is not due again; the next one is.
    for (hours, hourly) in [(3, 3), (1, 3), (1, 4)] {
        ours(hours);
        happens(hours * HOUR);
        looked(&server).await;
        brought(&server, &[("hourly", hourly)]).await;
    }
    brought(&server, &[("koji", 8), ("grepper", 8), ("hourly", 4)]).await;
}
