//! Waiting for the screen to change or to rest, and for text on the serial line.

use super::look::off_thread;
use super::session::{Answer, Origin, Session, draft};
use assay_proto::driver::{CallError, Request, Still, Tags};
use assay_records::step::{StepBody, StepResult};
use assay_screen::{Image, similarity};
use assay_vm::FrameSource;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is kept of the serial line while a pattern is looked for.
const SERIAL_WINDOW: usize = 1024 * 1024;
/// A flooding guest is looked at once in this time, so that the patterns do not eat the processor.
const SERIAL_PACE: Duration = Duration::from_millis(5);

impl Session {
    pub(super) async fn wait_screen_change(
        &mut self,
        reference: Option<u64>,
        timeout: f64,
        level: f64,
    ) -> Result<bool, CallError> {
        let _demand = self.machine.demand();
        let reference = match reference {
            None => self.present(),
            Some(number) => {
                let kept = usize::try_from(number)
                    .ok()
                    .and_then(|n| n.checked_sub(1))
                    .and_then(|n| self.references.get(n));
                kept.cloned()
                    .ok_or_else(|| CallError::usage(format!("there is no screen reference {number}")))?
            }
        };
        let deadline = self.deadline(timeout);
        loop {
            let now = self.frames.borrow_and_update().image.clone();
            if differs(&reference, &now, level) {
                return Ok(true);
            }
            tokio::select! {
                changed = self.frames.changed() => changed.map_err(|_| screen_gone())?,
                () = tokio::time::sleep_until(deadline) => return Ok(false),
            }
        }
    }

    pub(super) async fn wait_still_screen(&mut self, still: &Still) -> Result<bool, CallError> {
        let _demand = self.machine.demand();
        let deadline = self.deadline(still.timeout);
        let rest = self.seconds(still.stilltime);
        let mut reference = self.frames.borrow_and_update().image.clone();
        let mut since = Instant::now();
        loop {
            let rested = since + rest;
            if rested > deadline {
                // It cannot rest long enough any more.
                tokio::time::sleep_until(deadline).await;
                return Ok(false);
            }
            tokio::select! {
                changed = self.frames.changed() => changed.map_err(|_| screen_gone())?,
                () = tokio::time::sleep_until(rested) => return Ok(true),
            }
            let now = self.frames.borrow_and_update().image.clone();
            if differs(&reference, &now, still.similarity_level) {
                (reference, since) = (now, Instant::now());
            }
        }
    }

    pub(super) async fn wait_serial(&mut self, request: Request, origin: &Origin) -> Answer {
        let Request::WaitSerial {
            patterns,
            timeout,
            expect_not_found,
            no_regex,
            quiet,
            buffer_size,
            record_output,
            ..
        } = request
        else {
            return Err(CallError::usage("not a wait_serial"));
        };
        let compiled = compile(&patterns, no_regex)?;
        let found = self.read_serial(&compiled, timeout, buffer_size).await?;
        let ok = found.is_ok() != expect_not_found;
        // As openQA: with `expect_not_found` the answer is what was read without a match, and null for a match.
        let (Ok(text) | Err(text)) = &found;
        let text = text.replace("\r\n", "\n");
        if !quiet {
            let shown = found.is_ok().then(|| if record_output { text.clone() } else { last_lines(&text) });
            let result = if ok { StepResult::Ok } else { StepResult::Unknown };
            let body = StepBody::Serial {
                patterns: patterns.sets(),
                found: shown,
                timeout_s: timeout,
                expect_not_found,
            };
            self.rec.step(draft(origin, result, body));
        }
        Ok(if ok { json!(text) } else { Value::Null })
    }

    /// Reads the serial line until one of the patterns matches. `Ok`: the text up to the end of the match. `Err`: the text
    /// that was read without one.
    async fn read_serial(
        &mut self,
        patterns: &Arc<[Regex]>,
        timeout: f64,
        buffer_size: Option<usize>,
    ) -> Result<Result<String, String>, CallError> {
        let deadline = self.deadline(timeout);
        let window = buffer_size.unwrap_or(SERIAL_WINDOW).clamp(1, SERIAL_WINDOW);
        let mut length = self.serial.length();
        let mut buffer: Vec<u8> = Vec::new();
        let mut start = self.serial_at;
        loop {
            let total = *length.borrow_and_update();
            let mut at = start + buffer.len() as u64;
            while at < total {
                let chunk = self.serial.read_from(at, SERIAL_WINDOW).map_err(|error| {
                    CallError::infrastructure(format!("the serial log cannot be read: {error}"))
                })?;
                if chunk.bytes.is_empty() {
                    break;
                }
                if chunk.offset > at {
                    // The guest wrote faster than the log is kept: what lies between is lost to the pattern.
                    (buffer, start) = (Vec::new(), chunk.offset);
                }
                buffer.extend_from_slice(&chunk.bytes);
                at = start + buffer.len() as u64;
                let end;
                (buffer, end) = search(patterns.clone(), buffer).await?;
                if let Some(end) = end {
                    self.serial_at = start + end as u64;
                    return Ok(Ok(String::from_utf8_lossy(&buffer[..end]).into_owned()));
                }
                let surplus = buffer.len().saturating_sub(window);
                buffer.drain(..surplus);
                start += surplus as u64;
            }
            tokio::select! {
                changed = length.changed() => {
                    if changed.is_err() {
                        return Err(CallError::infrastructure("the machine's serial port is gone"));
                    }
                    if buffer.len() > SERIAL_WINDOW / 2 {
                        tokio::time::sleep(SERIAL_PACE).await;
                    }
                }
                () = tokio::time::sleep_until(deadline) => return Ok(Err(String::from_utf8_lossy(&buffer).into_owned())),
            }
        }
    }
}

/// Where the first match ends. A pattern with large counts can take minutes for this, so it is not done where a halt
/// has to be heard.
async fn search(patterns: Arc<[Regex]>, buffer: Vec<u8>) -> Result<(Vec<u8>, Option<usize>), CallError> {
    off_thread(move || {
        let end = patterns.iter().filter_map(|one| one.find(&buffer)).map(|hit| hit.end()).min();
        (buffer, end)
    })
    .await
}

fn compile(patterns: &Tags, no_regex: bool) -> Result<Arc<[Regex]>, CallError> {
    let compile = |pattern: String| {
        let text = if no_regex { regex::escape(&pattern) } else { pattern.clone() };
        RegexBuilder::new(&text).size_limit(4 << 20).build().map_err(|error| {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default().to_owned();
            CallError::usage(format!(
                "{pattern:?} is not a regular expression ({last}); for a plain text say no_regex = True"
            ))
        })
    };
    patterns.sets().into_iter().map(compile).collect()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn differs(reference: &Arc<Image>, now: &Arc<Image>, level: f64) -> bool {
    !Arc::ptr_eq(reference, now) && similarity(reference, now) < level
}

fn screen_gone() -> CallError {
    CallError::infrastructure("the screen is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_regular_expressions_or_plain_texts() {
        let regex = compile(&Tags::One("login: ?$".into()), false).unwrap();
        assert!(regex[0].is_match(b"debian login: "));
        let plain = compile(&Tags::Any(vec!["a+b".into(), "$?".into()]), true).unwrap();
        assert!(plain[0].is_match(b"1 a+b 2") && !plain[0].is_match(b"aab"));
        let error = compile(&Tags::One("(".into()), false).unwrap_err();
        assert!(error.message.contains("no_regex = True"), "{}", error.message);
    }
}
