//! Keys and pointer, at a pace that the guest can follow.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::keys::{self, Key, UnknownKey};
use crate::pacer::Pacer;

/// What a sleep may be late by.
const TIMER: Duration = Duration::from_millis(2);

/// Between two looks whether the guest had its time.
const LOOK: Duration = Duration::from_millis(1);
/// The most that a pause is prolonged by.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How fast to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypingPace {
    /// From a key's press to its release.
    pub hold: Duration,
    /// From a release to the next press.
    pub gap: Duration,
}

impl Default for TypingPace {
    /// 100 plain keys a second, less on a busy host (see `Pacer`). Measured against GRUB under TCG with its
    /// output on screen and serial port (`no_key_is_lost` in `tests/machine/grub.rs`): 4 ms and more lose
    /// nothing, 2 ms lose keys.
    fn default() -> Self {
        Self { hold: Duration::from_millis(5), gap: Duration::from_millis(5) }
    }
}

impl TypingPace {
    /// openQA's `max_interval`: 250 and above is the full pace, less is slower by 1/sqrt(n) seconds a key.
    pub fn from_max_interval(max_interval: u32) -> Self {
        let mut pace = Self::default();
        if max_interval < 250 {
            pace.gap += Duration::from_secs_f64(1.0 / f64::from(max_interval.max(1)).sqrt());
        }
        pace
    }
}

/// What goes to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Key { key: Key, down: bool },
    Pointer { x: u16, y: u16, buttons: u8 },
}

/// An action and the pause after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) then: Duration,
}

/// Steps to be done in a row. Dropping the receiver of `done` ends them early.
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Presses the keys in order and releases them in the opposite one.
pub(crate) fn press(keys: &[Key], pace: TypingPace) -> Vec<Step> {
    let step = |key, down, then| Step { action: Action::Key { key, down }, then };
    let down = keys.iter().map(|&k| step(k, true, pace.hold));
    let up = keys.iter().rev().map(|&k| step(k, false, pace.hold));
    let mut steps: Vec<Step> = down.chain(up).collect();
    if let Some(last) = steps.last_mut() {
        last.then = pace.gap;
    }
    steps
}

/// The keys of a text. Shift stays down over neighbouring characters that need it.
pub(crate) fn typing(text: &str, pace: TypingPace) -> Result<Vec<Step>, UnknownKey> {
    let step = |key, down, then| Step { action: Action::Key { key, down }, then };
    let mut steps = Vec::with_capacity(text.len() * 2);
    let mut shift = false;
    for c in text.chars().filter(|&c| c != '\r') {
        let stroke = keys::stroke(c)?;
        if stroke.shift != shift {
            shift = stroke.shift;
            steps.push(step(Key::SHIFT, shift, pace.hold));
        }
        steps.push(step(stroke.key, true, pace.hold));
        steps.push(step(stroke.key, false, pace.gap));
    }
    if shift {
        steps.push(step(Key::SHIFT, false, pace.gap));
    }
    Ok(steps)
}

/// Sleeps until `due`, and as much longer as the guest needs on a busy host.
async fn pause(due: &mut Instant, pacer: &mut Pacer) {
    let last = *due + LONGEST_WAIT;
    loop {
        tokio::time::sleep_until(*due).await;
        if pacer.settled() || *due >= last {
            return;
        }
        *due += LOOK;
    }
}

/// Carries scripts out one after the other. A script whose caller went away is cut short, and the keys
/// that it had pressed are released.
pub(crate) async fn perform(
    mut scripts: mpsc::Receiver<Script>,
    sink: mpsc::Sender<Action>,
    mut pacer: Pacer,
) {
    while let Some(mut script) = scripts.recv().await {
        let mut pressed = BTreeSet::new();
        let mut cut_short = false;
        let mut due = Instant::now();
        pacer.restart();
        for step in &script.steps {
            if let Action::Key { key, down } = step.action {
                if down {
                    pressed.insert(key)
                } else {
                    pressed.remove(&key)
                };
            }
            if sink.send(step.action).await.is_err() {
                return;
            }
            // The timer's rounding is made up for; a longer delay of ours is not: keys keep their distance.
            due = due.max(Instant::now() - TIMER) + step.then;
            pacer.owe(step.then);
            tokio::select! {
                () = pause(&mut due, &mut pacer) => {}
                () = script.done.closed() => { cut_short = true; break; }
            }
        }
        if cut_short {
            for key in pressed {
                if sink.send(Action::Key { key, down: false }).await.is_err() {
                    return;
                }
            }
        } else {
            // A caller that left at this very moment does not wait for the answer.
            let _ = script.done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(steps: &[Step]) -> String {
        let one = |s: &Step| match s.action {
            Action::Key { key, down } => format!("{}{:02x}", if down { '+' } else { '-' }, key.scancode()),
            Action::Pointer { .. } => "pointer".to_owned(),
        };
        steps.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn shift_is_held_over_neighbouring_capitals() {
        let steps = typing("aBC d", TypingPace::default()).unwrap();
        assert_eq!(shown(&steps), "+1e -1e +2a +30 -30 +2e -2e -2a +39 -39 +20 -20");
        assert_eq!(shown(&typing("A", TypingPace::default()).unwrap()), "+2a +1e -1e -2a");
    }

    #[test]
    fn a_combination_is_released_backwards() {
        let steps = press(&keys::chord("ctrl-alt-f2").unwrap(), TypingPace::default());
        assert_eq!(shown(&steps), "+1d +38 +3c -3c -38 -1d");
    }

    #[test]
    fn max_interval_slows_down() {
        assert_eq!(TypingPace::from_max_interval(250), TypingPace::default());
        assert_eq!(
            TypingPace::from_max_interval(100).gap,
            TypingPace::default().gap + Duration::from_millis(100)
        );
        assert!(TypingPace::from_max_interval(0).gap < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_leave_keys_pressed() {
        let (scripts, receiver) = mpsc::channel(1);
        let (sink, mut actions) = mpsc::channel(16);
        let performer = perform(receiver, sink, Pacer::default());
        let pace = TypingPace { hold: Duration::from_hours(1), gap: Duration::ZERO };
        let (done, finished) = oneshot::channel();
        scripts.send(Script { steps: press(&keys::chord("ctrl-c").unwrap(), pace), done }).await.unwrap();
        let mut seen = Vec::new();
        let watch = async {
            let mut finished = Some(finished);
            while let Some(Action::Key { key, down }) = actions.recv().await {
                seen.push((key.scancode(), down));
                finished.take();
                if seen.len() == 2 {
                    break;
                }
            }
        };
        tokio::select! { () = performer => {}, () = watch => {} }
        assert_eq!(seen, [(0x1d, true), (0x1d, false)]);
    }
}
