//! Keyboard and mouse.

use super::look::button_bit;
use super::secrets::COVER;
use super::session::{Answer, Origin, Session, machine_error};
use assay_proto::driver::{Button, CallError, Place, Request, Still};
use assay_records::journal::Entry;
use assay_vm::{Key, TypingPace, keys};
use serde_json::Value;
use std::time::Duration;

/// Between the clicks of a double click.
const BETWEEN_CLICKS: Duration = Duration::from_millis(50);
/// The guest should have fetched the release before the next movement: QEMU joins the two otherwise.
const AFTER_RELEASE: Duration = Duration::from_millis(50);
/// Steps of the way that a drag takes, so that the guest sees a movement.
const DRAG_STEPS: u32 = 8;
const DRAG_PACE: Duration = Duration::from_millis(10);

impl Session {
    pub(super) async fn send_key(&mut self, key: &str, do_wait: bool) -> Answer {
        self.rec.journal(Entry::Keys { keys: key.to_owned() });
        self.machine.send_key(key, TypingPace::default()).await.map_err(machine_error)?;
        if do_wait {
            self.rest(2.0, 10.0, 47.0).await?;
        }
        Ok(Value::Null)
    }

    pub(super) async fn hold_key(&mut self, key: &str) -> Answer {
        self.rec.journal(Entry::Keys { keys: format!("+{key}") });
        for key in chord(key)? {
            self.machine.key_down(key).await.map_err(machine_error)?;
        }
        Ok(Value::Null)
    }

    pub(super) async fn release_key(&mut self, key: &str) -> Answer {
        self.rec.journal(Entry::Keys { keys: format!("-{key}") });
        for key in chord(key)?.into_iter().rev() {
            self.machine.key_up(key).await.map_err(machine_error)?;
        }
        Ok(Value::Null)
    }

    pub(super) async fn type_string(&mut self, request: Request) -> Answer {
        let Request::TypeString {
            mut text,
            max_interval,
            wait_screen_change,
            wait_still_screen,
            similarity_level,
            secret,
            lf,
            timeout,
        } = request
        else {
            return Err(CallError::usage("not a type_string"));
        };
        // Also where it is typed in parts none of which is the secret.
        let secret = secret || self.rec.secrets.are_in(&text);
        if lf {
            text.push('\n');
        }
        let group = if wait_screen_change == 0 { usize::MAX } else { wait_screen_change as usize };
        let characters: Vec<char> = text.chars().collect();
        for part in characters.chunks(group.min(characters.len().max(1))) {
            let before = self.present();
            self.references.push(before);
            let reference = self.references.len() as u64;
            self.type_part(&part.iter().collect::<String>(), max_interval, secret).await?;
            if wait_screen_change > 0 {
                self.wait_screen_change(Some(reference), timeout, similarity_level).await?;
            }
            self.references.pop();
        }
        if wait_still_screen > 0.0 {
            self.rest(wait_still_screen, timeout, similarity_level).await?;
        }
        Ok(Value::Null)
    }

    pub(super) async fn type_password(&mut self, password: Option<String>, max_interval: u32) -> Answer {
        let Some(password) = password.or_else(|| self.vars.get("PASSWORD").cloned()) else {
            return Err(CallError::usage(
                "type_password has no password: give one, or set the variable PASSWORD",
            ));
        };
        self.type_part(&password, max_interval, true).await
    }

    async fn type_part(&mut self, text: &str, max_interval: u32, secret: bool) -> Answer {
        self.rec.journal(Entry::Keys { keys: if secret { COVER.into() } else { text.to_owned() } });
        self.machine
            .type_string(text, TypingPace::from_max_interval(max_interval))
            .await
            .map_err(machine_error)?;
        Ok(Value::Null)
    }

    async fn rest(&mut self, stilltime: f64, timeout: f64, similarity_level: f64) -> Result<(), CallError> {
        self.wait_still_screen(&Still { stilltime, timeout, similarity_level }).await.map(|_| ())
    }

    async fn point(&mut self, x: u32, y: u32, buttons: u8) -> Result<(), CallError> {
        self.rec.journal(Entry::Pointer { x, y, buttons });
        self.machine.pointer(x, y, buttons).await.map_err(machine_error)
    }

    pub(super) async fn mouse_set(&mut self, x: u32, y: u32) -> Answer {
        let screen = self.present();
        if x >= screen.width() || y >= screen.height() {
            return Err(CallError::usage(format!(
                "({x}, {y}) is outside of the screen, which has {} x {} pixels",
                screen.width(),
                screen.height()
            )));
        }
        self.point(x, y, 0).await?;
        self.pointer = Some((x, y));
        Ok(Value::Null)
    }

    pub(super) async fn mouse_click(&mut self, button: Button, hold_time: f64, count: u32) -> Answer {
        let (x, y) = self.pointer.ok_or_else(|| {
            CallError::usage("where to click? call mouse_set first, or use assert_and_click with a needle")
        })?;
        let hold = self.seconds(hold_time / self.scale);
        for number in 0..count.clamp(1, 3) {
            if number > 0 {
                tokio::time::sleep(BETWEEN_CLICKS).await;
            }
            self.point(x, y, button_bit(button)).await?;
            tokio::time::sleep(hold).await;
            self.point(x, y, 0).await?;
        }
        tokio::time::sleep(AFTER_RELEASE).await;
        Ok(Value::Null)
    }

    pub(super) async fn mouse_hide(&mut self, border_offset: u32) -> Answer {
        let screen = self.present();
        let corner = |size: u32| size.saturating_sub(1).saturating_sub(border_offset);
        self.mouse_set(corner(screen.width()), corner(screen.height())).await
    }

    pub(super) async fn mouse_drag(
        &mut self,
        start: &Place,
        end: &Place,
        button: Button,
        timeout: f64,
        origin: &Origin,
    ) -> Answer {
        let from = self.place(start, timeout, origin).await?;
        let to = self.place(end, timeout, origin).await?;
        self.mouse_set(from.0, from.1).await?;
        let pressed = button_bit(button);
        self.point(from.0, from.1, pressed).await?;
        for step in 1..=DRAG_STEPS {
            let along = |a: u32, b: u32| {
                let (a, b) = (i64::from(a), i64::from(b));
                (a + (b - a) * i64::from(step) / i64::from(DRAG_STEPS)) as u32
            };
            self.point(along(from.0, to.0), along(from.1, to.1), pressed).await?;
            tokio::time::sleep(DRAG_PACE).await;
        }
        self.mouse_set(to.0, to.1).await
    }
}

fn chord(name: &str) -> Result<Vec<Key>, CallError> {
    keys::chord(name).map_err(|error| CallError::usage(error.to_string()))
}
