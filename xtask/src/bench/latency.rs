//! From the moment an independent observer sees a needle to the moment the test's call has returned.
//!
//! The observer has a monitor of its own and dumps the screen each 10 ms; a needle "shows" at the moment it asked for
//! the first dump that holds it pixel by pixel, a little before it was taken, in the peer's disfavour and in ours.

use super::clock::{self, Pace};
use super::grub::{self, Reference};
use super::monitor::Monitor;
use super::proc::Tree;
use super::scratch::Scratch;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(10);
const TAIL: Duration = Duration::from_millis(1);

/// When things were first seen: tag to microseconds since 1970.
pub(super) type Moments = BTreeMap<String, i64>;

/// A line of a growing file and when it was there.
pub(super) struct Line {
    pub(super) seen_us: i64,
    pub(super) text: String,
}

/// Runs a test with the observer beside it. `command` gets the value for QEMU_APPEND that connects the machine to the
/// observer; `record` is the file whose lines tell when calls return. Returns what was shown when, and the lines.
pub(super) fn observe(
    references: &[Reference],
    record: &Utf8Path,
    command: impl FnOnce(&str) -> Result<Command>,
) -> Result<(Moments, Vec<Line>)> {
    let scratch = Scratch::new()?;
    let socket = scratch.path("observer");
    let listener = UnixListener::bind(&socket).with_context(|| socket.to_string())?;
    let append =
        format!("chardev socket,id=observer,path={socket},server=off -mon chardev=observer,mode=readline");
    let mut command = command(&append)?;
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let watcher =
            scope.spawn(|| watch(&listener, &scratch.in_memory("screen.ppm"), references, &running));
        let tail = scope.spawn(|| tail(record, &running));
        let ended = Tree::start(&mut command).and_then(Tree::wait);
        running.store(false, Ordering::Relaxed);
        let shown = watcher.join().map_err(|_| anyhow::anyhow!("the observer panicked"))??;
        let lines = tail.join().map_err(|_| anyhow::anyhow!("the reader of the record panicked"))?;
        if !ended?.success {
            bail!("the observed run failed: {command:?}");
        }
        Ok((shown, lines))
    })
}

/// Dumps the screen until the machine has gone.
fn watch(
    listener: &UnixListener,
    picture: &Utf8Path,
    references: &[Reference],
    running: &AtomicBool,
) -> Result<Moments> {
    let alive = || running.load(Ordering::Relaxed);
    let mut monitor = Monitor::accept(listener, picture, alive)?;
    let mut awaited = grub::tags().peekable();
    let mut shown = Moments::new();
    let mut pace = Pace::new(LOOK);
    while awaited.peek().is_some() && alive() {
        let asked = clock::unix_us();
        let Some(picture) = monitor.screendump()? else { break };
        while let Some(tag) = awaited.next_if(|tag| grub::shows(references, tag, &picture)) {
            shown.insert(tag.to_owned(), asked);
        }
        pace.wait();
    }
    Ok(shown)
}

/// Reads a file as it grows.
fn tail(path: &Utf8Path, running: &AtomicBool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut reader: Option<BufReader<fs_err::File>> = None;
    let mut text = String::new();
    loop {
        // Asked before the last look, so that nothing written before the end is missed.
        let last = !running.load(Ordering::Relaxed);
        if reader.is_none() {
            reader = fs_err::File::open(Utf8PathBuf::from(path)).ok().map(BufReader::new);
        }
        if let Some(reader) = &mut reader {
            while reader.read_line(&mut text).is_ok_and(|count| count > 0) && text.ends_with('\n') {
                lines.push(Line { seen_us: clock::unix_us(), text: std::mem::take(&mut text) });
            }
        }
        if last {
            return lines;
        }
        clock::sleep(TAIL);
    }
}

/// When the calls of an Assay run returned, from its steps. They carry the time since the run began; when that was is
/// taken from the line that was soonest in the file, so the result is never too early.
pub(super) fn returned(steps: &[Line]) -> Result<Moments> {
    let parsed: Vec<(i64, Value)> = steps
        .iter()
        .filter_map(|line| Some((line.seen_us, serde_json::from_str(&line.text).ok()?)))
        .collect();
    let at = |value: &Value| value["at_us"].as_i64();
    let began = parsed.iter().filter_map(|(seen, value)| Some(seen - at(value)?)).min();
    let began = began.context("the run has no steps.jsonl, or no times in it")?;
    let mut moments = Moments::new();
    for (_, value) in &parsed {
        if value["call"] == "assert_screen"
            && let Some(at) = at(value)
        {
            for tag in value["body"]["matched"]["tags"].as_array().into_iter().flatten() {
                moments.entry(tag.as_str().unwrap_or_default().to_owned()).or_insert(began + at);
            }
        }
    }
    Ok(moments)
}

/// The same from isotovideo's log, where each line is written when it happens. Needles are named as their tags.
pub(super) fn returned_by_isotovideo(log: &[Line]) -> Moments {
    let mut moments = Moments::new();
    for line in log {
        if let Some((_, rest)) = line.text.split_once("_handle_found_needle: found ") {
            let name = rest.split(',').next().unwrap_or_default();
            moments.entry(name.to_owned()).or_insert(line.seen_us);
        }
    }
    moments
}

/// Seconds from shown to returned, for every tag of the test.
pub(super) fn delays(shown: &Moments, returned: &Moments) -> Result<Vec<f64>> {
    grub::tags()
        .map(|tag| {
            let shown = shown.get(tag).with_context(|| format!("the observer never saw {tag}"))?;
            let returned = returned.get(tag).with_context(|| format!("no call found {tag}"))?;
            Ok((returned - shown) as f64 / 1e6)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seen_us: i64, text: &str) -> Line {
        Line { seen_us, text: text.to_owned() }
    }

    #[test]
    fn steps_are_placed_by_the_line_written_soonest() {
        let step = |at: i64, tag: &str| {
            format!(
                r#"{{"type":"step","call":"assert_screen","at_us":{at},"body":{{"matched":{{"tags":["{tag}"]}}}}}}"#
            )
        };
        let lines = [
            line(1_000_900, r#"{"type":"plan","modules":[]}"#),
            line(1_000_700, r#"{"type":"module_started","at_us":200}"#),
            line(1_003_000, &step(2_000, "a")),
            line(1_005_400, &step(5_000, "b")),
            line(1_006_000, &step(5_900, "b")),
        ];
        // Began at 1_000_100 at the latest: the last line was soonest.
        let expected = [("a".to_owned(), 1_002_100), ("b".to_owned(), 1_005_100)];
        assert_eq!(returned(&lines).unwrap(), expected.into_iter().collect());
        assert!(returned(&lines[..1]).is_err());
    }

    #[test]
    fn isotovideos_log_tells_the_first_match() {
        let lines = [
            line(5, "[t] [debug] <<< testapi::assert_screen(mustmatch=\"grub-menu\", timeout=60)\n"),
            line(
                7,
                "[t] [debug] >>> testapi::_handle_found_needle: found grub-menu, similarity 1.00 @ 18/80\n",
            ),
            line(
                9,
                "[t] [debug] >>> testapi::_handle_found_needle: found grub-menu, similarity 1.00 @ 18/80\n",
            ),
        ];
        assert_eq!(returned_by_isotovideo(&lines), [("grub-menu".to_owned(), 7)].into_iter().collect());
    }

    #[test]
    fn a_growing_file_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(dir.path()).unwrap().join("steps.jsonl");
        fs_err::write(&file, "one\ntwo\nhal").unwrap();
        let lines = tail(&file, &AtomicBool::new(false));
        assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["one\n", "two\n"]);
    }
}
