//! A machine with a test that drives it: every call of the test arrives here.

use super::recorder::{Draft, Recorder};
use super::secrets::Secrets;
use crate::exec::Cluster;
use crate::suite::NeedleStore;
use assay_proto::driver::{Call, CallError, PowerAction, Request};
use assay_proto::worker::Question;
use assay_records::journal::Entry;
use assay_records::step::{NeedleHit, Source, StepBody, StepResult};
use assay_screen::{Image, NeedleMatch};
use assay_vm::{Frame, FrameSource, Machine, MachineError, Power, SerialLog};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a call answers.
pub(super) type Answer = Result<Value, CallError>;

/// The last needle that matched, for `match_has_tag` and `click_lastmatch`.
#[derive(Clone)]
pub(super) struct LastMatch {
    pub(super) hit: NeedleHit,
    pub(super) found: NeedleMatch,
}

/// The state of a run between two calls.
pub(super) struct Session {
    pub(super) machine: Machine,
    pub(super) frames: watch::Receiver<Frame>,
    pub(super) serial: SerialLog,
    pub(super) serial_at: u64,
    pub(super) needles: Arc<NeedleStore>,
    pub(super) vars: BTreeMap<String, String>,
    pub(super) rec: Recorder,
    pub(super) last_match: Option<LastMatch>,
    pub(super) pointer: Option<(u32, u32)>,
    pub(super) references: Vec<Arc<Image>>,
    /// `TIMEOUT_SCALE`: all timeouts of calls are multiplied by it.
    pub(super) scale: f64,
    /// The jobs beside this one; none without a server.
    pub(super) cluster: Option<Cluster>,
}

/// Who made the call that is being answered.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) source: Option<Source>,
    pub(super) began: Instant,
}

/// Twice the time in which QEMU looks at the guest's screen, and a little.
const TWO_LOOKS: Duration = Duration::from_millis(70);

/// Screens kept for `wait_screen_change`; older ones are forgotten.
const KEEP_REFERENCES: usize = 32;

impl Session {
    /// Answers a call and journals both.
    pub(super) async fn answer(&mut self, call: Call) -> Answer {
        let origin =
            Origin { name: call.name.clone(), source: call.stack.last().cloned(), began: Instant::now() };
        let secret = is_secret(&call.request);
        if let Some(value) = secret_of(&call.request) {
            self.rec.secrets.add(value);
        }
        self.rec.journal_call(&call, secret);
        self.rec.log(&describe(&call, secret, &self.rec.secrets));
        let answer = self.dispatch(call.request, &origin).await;
        let error = answer.as_ref().err().map(|error| error.message.clone());
        if let Some(error) = &error {
            self.rec.log(&format!("{}: {error}", origin.name));
        }
        let error = error.map(|error| self.rec.secrets.cover(error).into_owned());
        self.rec.journal(Entry::Answer { name: origin.name, error });
        answer
    }

    async fn dispatch(&mut self, request: Request, origin: &Origin) -> Answer {
        match request {
            Request::AssertScreen(look) => self.assert_screen(&look, origin).await,
            Request::CheckScreen(look) => self.check_screen(&look, origin).await,
            Request::MatchHasTag { tag } => Ok(json!(self.match_has_tag(&tag))),
            Request::AssertAndClick { tags, timeout, click } => {
                self.assert_and_click(&tags, timeout, &click, origin).await
            }
            Request::ClickLastmatch(click) => self.click_lastmatch(&click).await,
            Request::ScreenReference {} => Ok(json!(self.remember_screen())),
            Request::WaitScreenChange { reference, timeout, similarity_level } => {
                self.wait_screen_change(reference, timeout, similarity_level).await.map(Value::Bool)
            }
            Request::AssertScreenChange { reference, timeout, similarity_level } => {
                let changed = self.wait_screen_change(reference, timeout, similarity_level).await?;
                self.insist(changed, origin, format!("the screen did not change within {timeout} s"))
            }
            Request::WaitStillScreen(still) => self.wait_still_screen(&still).await.map(Value::Bool),
            Request::AssertStillScreen(still) => {
                let rested = self.wait_still_screen(&still).await?;
                let wanted =
                    format!("the screen did not rest for {} s within {} s", still.stilltime, still.timeout);
                self.insist(rested, origin, wanted)
            }
            Request::SaveScreenshot {} => self.save_screenshot(origin).await,
            Request::SendKeyUntilNeedlematch { tags, key, counter, timeout } => {
                self.send_key_until_needlematch(&tags, &key, counter, timeout, origin).await
            }
            Request::RecordInfo { title, output, result } => {
                self.rec.text(&origin.name, origin.source.clone(), result.into(), &title, &output);
                Ok(Value::Null)
            }
            Request::RecordSoftFailure { reason } | Request::ForceSoftFailure { reason } => {
                self.rec.text(
                    &origin.name,
                    origin.source.clone(),
                    StepResult::Softfail,
                    "Soft failure",
                    &reason,
                );
                self.rec.soften();
                Ok(Value::Null)
            }
            // The log line that every call writes is all it is for.
            Request::Diag { .. } => Ok(Value::Null),
            Request::GetVar { name, default } => Ok(json!(self.vars.get(&name).cloned().or(default))),
            Request::SetVar { name, value } => {
                self.vars.insert(name, value);
                Ok(Value::Null)
            }
            other => self.dispatch_input(other, origin).await,
        }
    }

    async fn dispatch_input(&mut self, request: Request, origin: &Origin) -> Answer {
        match request {
            Request::WaitSerial { .. } => self.wait_serial(request, origin).await,
            Request::SendKey { key, do_wait } => self.send_key(&key, do_wait).await,
            Request::HoldKey { key } => self.hold_key(&key).await,
            Request::ReleaseKey { key } => self.release_key(&key).await,
            Request::TypeString { .. } => self.type_string(request).await,
            Request::TypePassword { password, max_interval } => {
                self.type_password(password, max_interval).await
            }
            Request::MouseSet { x, y } => self.mouse_set(x, y).await,
            Request::MouseClick { button, hold_time, count } => {
                self.mouse_click(button, hold_time, count).await
            }
            Request::MouseHide { border_offset } => self.mouse_hide(border_offset).await,
            Request::MouseDrag { start, end, button, timeout } => {
                self.mouse_drag(&start, &end, button, timeout, origin).await
            }
            Request::Power { action } => self.power(action).await,
            Request::CheckShutdown { timeout } => self.check_shutdown(timeout).await.map(Value::Bool),
            Request::AssertShutdown { timeout } => {
                let off = self.check_shutdown(timeout).await?;
                self.insist(off, origin, format!("the machine did not switch itself off within {timeout} s"))
            }
            Request::EjectCd {} => {
                self.machine.eject_cd().await.map_err(machine_error)?;
                self.touched("eject_cd");
                Ok(Value::Null)
            }
            Request::FreezeVm {} => {
                self.machine.freeze().await.map_err(machine_error)?;
                self.touched("freeze_vm");
                Ok(Value::Null)
            }
            Request::ResumeVm {} => {
                self.machine.resume().await.map_err(machine_error)?;
                self.touched("resume_vm");
                Ok(Value::Null)
            }
            other => self.dispatch_cluster(other, origin).await,
        }
    }

    /// What is asked of the server.
    async fn dispatch_cluster(&mut self, request: Request, origin: &Origin) -> Answer {
        match request {
            Request::Lock { lock, timeout } => self.lock(lock, timeout, origin).await,
            Request::GetChildren {} => self.jobs(Question::Children {}).await,
            Request::GetChildrenByState { state } => self.jobs(Question::ChildrenInState { state }).await,
            Request::GetParents {} => self.jobs(Question::Parents {}).await,
            Request::GetJobInfo { job } => self.job_info(job).await,
            Request::GetCurrentJobId {} => Ok(json!(self.cluster.as_ref().map(|cluster| cluster.job))),
            Request::WaitForChildren { timeout } => {
                self.wait_for_children(Question::WaitForChildren {}, timeout, origin).await
            }
            Request::WaitForChildrenToStart { timeout } => {
                self.wait_for_children(Question::WaitForChildrenToStart {}, timeout, origin).await
            }
            // All others have been answered before.
            other => Err(CallError::usage(format!("{other:?} cannot be answered here"))),
        }
    }

    /// An expectation: recorded with the present screen, and a failure of the test when it does not hold.
    pub(super) fn insist(&mut self, holds: bool, origin: &Origin, otherwise: String) -> Answer {
        if holds {
            return Ok(Value::Bool(true));
        }
        let screen = self.present();
        let body = StepBody::Text { title: "expectation".into(), output: otherwise.clone() };
        self.rec.step(Draft {
            screen: Some(&screen),
            counts: false,
            ..draft(origin, StepResult::Fail, body)
        });
        Err(CallError::failed(otherwise))
    }

    async fn save_screenshot(&mut self, origin: &Origin) -> Answer {
        self.fresh().await?;
        let screen = self.present();
        self.rec.step(Draft {
            screen: Some(&screen),
            ..draft(origin, StepResult::Unknown, StepBody::Screenshot)
        });
        Ok(Value::Null)
    }

    /// The latest picture of the screen.
    pub(super) fn present(&self) -> Arc<Image> {
        self.frames.borrow().image.clone()
    }

    /// Waits until the latest picture shows what the guest shows now.
    pub(super) async fn fresh(&mut self) -> Result<(), CallError> {
        let _demand = self.machine.demand();
        self.frames.borrow_and_update();
        // While frames are in demand QEMU looks at the guest's screen every 30 ms: no news in twice that time means
        // that the picture stands.
        match tokio::time::timeout(TWO_LOOKS, self.frames.changed()).await {
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(_)) => Err(CallError::infrastructure("the screen is gone")),
        }
    }

    fn remember_screen(&mut self) -> u64 {
        self.references.push(self.present());
        let number = self.references.len() as u64;
        // The numbers go on counting; what is too old to be of use gives its memory back.
        if self.references.len() > KEEP_REFERENCES {
            let old = self.references.len() - 1 - KEEP_REFERENCES;
            self.references[old] = Arc::new(Image::filled(0, 0, [0; 3]));
        }
        number
    }

    /// Seconds of a call as a deadline.
    pub(super) fn deadline(&self, seconds: f64) -> Instant {
        Instant::now() + self.seconds(seconds)
    }

    pub(super) fn seconds(&self, seconds: f64) -> Duration {
        Duration::try_from_secs_f64((seconds * self.scale).clamp(0.0, 1e7)).unwrap_or_default()
    }

    async fn power(&mut self, action: PowerAction) -> Answer {
        let (what, name) = match action {
            PowerAction::On => (Power::On, "on"),
            PowerAction::Off => (Power::Off, "off"),
            PowerAction::Acpi => (Power::Acpi, "acpi"),
            PowerAction::Reset => (Power::Reset, "reset"),
        };
        self.machine.power(what).await.map_err(machine_error)?;
        self.touched(&format!("power {name}"));
        Ok(Value::Null)
    }

    async fn check_shutdown(&mut self, timeout: f64) -> Result<bool, CallError> {
        let mut shutdown = self.machine.shutdown();
        let off = shutdown.wait_for(Option::is_some);
        match tokio::time::timeout(self.seconds(timeout), off).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(CallError::infrastructure("the machine is gone")),
            Err(_) => Ok(false),
        }
    }

    fn touched(&mut self, action: &str) {
        self.rec.journal(Entry::Machine { action: action.to_owned() });
    }
}

/// A step of `origin` that counts and shows no screen.
pub(super) fn draft(origin: &Origin, result: StepResult, body: StepBody) -> Draft<'_> {
    Draft {
        call: &origin.name,
        source: origin.source.clone(),
        began: origin.began,
        result,
        screen: None,
        body,
        counts: true,
    }
}

/// A machine's refusal as the answer to a call.
pub(super) fn machine_error(error: MachineError) -> CallError {
    match error.class() {
        assay_vm::Class::Usage => CallError::usage(error.to_string()),
        assay_vm::Class::Infrastructure => CallError::infrastructure(error.to_string()),
    }
}

fn is_secret(request: &Request) -> bool {
    match request {
        Request::TypeString { secret, .. } => *secret,
        Request::TypePassword { .. } => true,
        Request::SetVar { name, .. } | Request::GetVar { name, .. } => super::is_secret_name(name),
        _ => false,
    }
}

/// The value that a call makes a secret.
fn secret_of(request: &Request) -> Option<&str> {
    match request {
        Request::TypeString { text, secret: true, .. } => Some(text),
        Request::TypePassword { password, .. } => password.as_deref(),
        Request::SetVar { name, value } if super::is_secret_name(name) => Some(value),
        _ => None,
    }
}

fn describe(call: &Call, secret: bool, secrets: &Secrets) -> String {
    let place =
        call.stack.last().map(|source| format!(" ({}:{})", source.file, source.line)).unwrap_or_default();
    if secret {
        return format!("{} ***{place}", call.name);
    }
    if let Request::Diag { message } = &call.request {
        return format!("diag: {message}{place}");
    }
    let mut value = serde_json::to_value(&call.request).unwrap_or_default();
    // Covered before they are written as JSON, which may write a secret in other characters.
    let args = value.get_mut("args").map(Value::take).map(|args| secrets.cover_value(args).to_string());
    let args = args.unwrap_or_default();
    format!("{} {args}{place}", call.name)
}
