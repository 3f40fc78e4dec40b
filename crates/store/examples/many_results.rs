//! Fills a database with results, as many as some years of a distribution make: for `cargo xtask bench results --stored`.
//!
//! `many_results URL COUNT OF_ITEM`: results like those that the benchmark posts, OF_ITEM of each item.

use assay_engine::ids::Timestamp;
use assay_store::{GroupOf, NewResult};
use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

/// Results of one transaction.
const AT_ONCE: usize = 4096;
/// Between two results, microseconds.
const APART: i64 = 1_000_000;

#[expect(clippy::disallowed_methods, reason = "the results are to be of the time before now")]
fn now() -> Result<i64, Box<dyn Error>> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, count, of_item] = words.as_slice() else { return Err("many_results URL COUNT OF_ITEM".into()) };
    let (count, of_item): (usize, usize) = (count.parse()?, of_item.parse()?);
    let store = assay_store::open(url).await?;
    let epoch = store.acquire_leadership().await?;
    let first = now()? - APART * i64::try_from(count)?;
    let mut from = 0;
    while from < count {
        let until = (from + AT_ONCE).min(count);
        let results: Vec<NewResult> =
            (from..until).map(|number| result(number, of_item, first)).collect::<Result<_, _>>()?;
        store.results().add_results(epoch, &results).await?;
        if until / 100_000 != from / 100_000 {
            eprintln!("{until} of {count} results are stored");
        }
        from = until;
    }
    store.close().await;
    Ok(())
}

/// As the benchmark posts them.
fn result(number: usize, of_item: usize, first: i64) -> Result<NewResult, Box<dyn Error>> {
    let (item, test) = (number / of_item, number % of_item);
    let texts = [
        ("item", format!("Bench-1-{item}")),
        ("type", "compose".to_owned()),
        ("arch", "x86_64".to_owned()),
        ("firmware", "uefi".to_owned()),
        ("source", "bench".to_owned()),
        ("scenario", format!("bench.dvd.x86_64.m{}", test % 4)),
        ("meta.conventions", "result".to_owned()),
    ];
    Ok(NewResult {
        id: i64::try_from(number)? + 1,
        testcase: format!("compose.t{test}"),
        at: Timestamp(first + APART * i64::try_from(number)?),
        outcome: if number.is_multiple_of(7) { "FAILED" } else { "PASSED" }.to_owned(),
        note: Some(String::new()),
        ref_url: Some(format!("https://tests.example.org/tests/{number}")),
        groups: vec![GroupOf {
            uuid: "0f3309ea-6d4c-59b2-b422-d73e9b8511f3".to_owned(),
            description: Some("source.bench".to_owned()),
            ref_url: None,
        }],
        data: texts.into_iter().map(|(key, value)| (key.to_owned(), vec![value])).collect(),
        ..NewResult::default()
    })
}
