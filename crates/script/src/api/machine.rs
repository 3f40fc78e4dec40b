//! The machine's methods: one for each request of the driver protocol, and openQA's conveniences over them.
//! Their names, defaults and groups stand in `crate::reference::CALLS` as well; tests compare the two.
#![expect(unused_variables, reason = "starlark finds the receiver by the name `this`")]

use super::args::{PlaceArg, TagsArg, TextArg, raise, seconds, small, word};
use super::flow;
use super::session::{ask, ask_for};
use super::values::{Attempt, Match};
use allocative::Allocative;
use assay_proto::driver::{CallError, Click, Look, NeedleHit, Request, Still};
use starlark::any::ProvidesStaticType;
use starlark::environment::{Methods, MethodsBuilder};
use starlark::eval::Evaluator;
use starlark::values::float::UnpackFloat;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::typing::StarlarkCallable;
use starlark::values::{NoSerialize, StarlarkPagablePanic, StarlarkValue, Value, starlark_value};
use starlark::{starlark_module, starlark_simple_value};
use std::fmt;

/// `t: Machine`. It has no state: the session has it.
#[derive(Debug, Allocative, ProvidesStaticType, NoSerialize, StarlarkPagablePanic)]
pub(crate) struct Machine;

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

starlark_simple_value!(Machine);
starlark::methods_static!(MACHINE_METHODS = all_methods);

fn all_methods(builder: &mut MethodsBuilder) {
    machine_methods(builder);
    super::cluster::cluster_methods(builder);
}

#[starlark_value(type = "Machine")]
impl<'v> StarlarkValue<'v> for Machine {
    fn get_methods() -> Option<&'static Methods> {
        Some(MACHINE_METHODS.methods())
    }
}

type Seconds = UnpackFloat;

fn click(
    button: &str,
    clicktime: &Seconds,
    dclick: bool,
    mousehide: bool,
    point_id: NoneOr<String>,
) -> Result<Click, CallError> {
    Ok(Click {
        button: word("button", button)?,
        clicktime: seconds("clicktime", clicktime)?,
        dclick,
        mousehide,
        point_id: point_id.into_option(),
    })
}

/// Makes a request whose answer does not matter.
pub(super) fn tell(
    eval: &Evaluator<'_, '_, '_>,
    name: &str,
    request: Result<Request, CallError>,
) -> starlark::Result<NoneType> {
    request.and_then(|request| ask(eval, name, request)).map_err(raise)?;
    Ok(NoneType)
}

/// Makes a request that is answered by yes or no.
pub(super) fn yes_no(
    eval: &Evaluator<'_, '_, '_>,
    name: &str,
    request: Result<Request, CallError>,
) -> starlark::Result<bool> {
    request.and_then(|request| ask_for(eval, name, request)).map_err(raise)
}

/// Makes a request that is answered by a match.
fn matching(
    eval: &Evaluator<'_, '_, '_>,
    name: &str,
    request: Result<Request, CallError>,
) -> starlark::Result<Match> {
    request.and_then(|request| ask_for::<NeedleHit>(eval, name, request)).map(Match::new).map_err(raise)
}

#[starlark_module]
fn machine_methods(builder: &mut MethodsBuilder) {
    /// Waits until a needle with these tags matches; fails the test when none does.
    fn assert_screen<'v>(
        this: &'v Machine,
        tags: TagsArg,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        #[starlark(default = false)] no_wait: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Match> {
        let look = look(tags, &timeout, no_wait);
        matching(eval, "assert_screen", look.map(Request::AssertScreen))
    }

    /// Waits until a needle with these tags matches; `None` when none does.
    fn check_screen<'v>(
        this: &'v Machine,
        tags: TagsArg,
        #[starlark(default = UnpackFloat(0.0))] timeout: Seconds,
        #[starlark(default = false)] no_wait: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneOr<Match>> {
        let look = look(tags, &timeout, no_wait).map_err(raise)?;
        let hit: Option<NeedleHit> =
            ask_for(eval, "check_screen", Request::CheckScreen(look)).map_err(raise)?;
        Ok(NoneOr::from_option(hit.map(Match::new)))
    }

    /// Does the needle that matched last carry this tag?
    fn match_has_tag<'v>(
        this: &'v Machine,
        tag: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        yes_no(eval, "match_has_tag", Ok(Request::MatchHasTag { tag }))
    }

    /// `assert_screen`, then a click on the needle's click point.
    fn assert_and_click<'v>(
        this: &'v Machine,
        tags: TagsArg,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.15))] clicktime: Seconds,
        #[starlark(default = false)] dclick: bool,
        #[starlark(default = false)] mousehide: bool,
        #[starlark(default = NoneOr::None)] point_id: NoneOr<String>,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Match> {
        let click = click(button, &clicktime, dclick, mousehide, point_id);
        matching(eval, "assert_and_click", click.and_then(|click| look_and_click(tags, &timeout, click)))
    }

    /// `assert_and_click` with a double click.
    fn assert_and_dclick<'v>(
        this: &'v Machine,
        tags: TagsArg,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.15))] clicktime: Seconds,
        #[starlark(default = false)] mousehide: bool,
        #[starlark(default = NoneOr::None)] point_id: NoneOr<String>,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Match> {
        let click = click(button, &clicktime, true, mousehide, point_id);
        matching(eval, "assert_and_dclick", click.and_then(|click| look_and_click(tags, &timeout, click)))
    }

    /// Clicks on the needle that matched last.
    fn click_lastmatch<'v>(
        this: &'v Machine,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.15))] clicktime: Seconds,
        #[starlark(default = false)] dclick: bool,
        #[starlark(default = false)] mousehide: bool,
        #[starlark(default = NoneOr::None)] point_id: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let click = click(button, &clicktime, dclick, mousehide, point_id);
        tell(eval, "click_lastmatch", click.map(Request::ClickLastmatch))
    }

    /// Runs `action`, then waits until the screen differs from what it was before; false when it does not.
    fn wait_screen_change<'v>(
        this: &'v Machine,
        #[starlark(default = NoneOr::None)] action: NoneOr<StarlarkCallable<'v>>,
        #[starlark(default = UnpackFloat(10.0))] timeout: Seconds,
        #[starlark(default = UnpackFloat(50.0))] similarity_level: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        flow::screen_change(eval, "wait_screen_change", action.into_option(), &timeout, &similarity_level)
    }

    /// `wait_screen_change` that fails the test when nothing changes.
    fn assert_screen_change<'v>(
        this: &'v Machine,
        #[starlark(default = NoneOr::None)] action: NoneOr<StarlarkCallable<'v>>,
        #[starlark(default = UnpackFloat(10.0))] timeout: Seconds,
        #[starlark(default = UnpackFloat(50.0))] similarity_level: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        flow::screen_change(eval, "assert_screen_change", action.into_option(), &timeout, &similarity_level)
    }

    /// Waits until the screen stays the same for `stilltime`; false when it never does.
    fn wait_still_screen<'v>(
        this: &'v Machine,
        #[starlark(default = UnpackFloat(7.0))] stilltime: Seconds,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        #[starlark(default = UnpackFloat(47.0))] similarity_level: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        let still = still(&stilltime, &timeout, &similarity_level);
        yes_no(eval, "wait_still_screen", still.map(Request::WaitStillScreen))
    }

    /// `wait_still_screen` that fails the test when the screen never rests.
    fn assert_still_screen<'v>(
        this: &'v Machine,
        #[starlark(default = UnpackFloat(7.0))] stilltime: Seconds,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        #[starlark(default = UnpackFloat(47.0))] similarity_level: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        let still = still(&stilltime, &timeout, &similarity_level);
        yes_no(eval, "assert_still_screen", still.map(Request::AssertStillScreen))
    }

    /// Keeps the present screen as a step.
    fn save_screenshot<'v>(
        this: &'v Machine,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "save_screenshot", Ok(Request::SaveScreenshot {}))
    }

    /// Presses a key again and again until a needle matches; fails the test when none does.
    fn send_key_until_needlematch<'v>(
        this: &'v Machine,
        tags: TagsArg,
        key: String,
        #[starlark(default = 20)] counter: i64,
        #[starlark(default = UnpackFloat(1.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Match> {
        let request = || {
            let (tags, timeout) = (tags.check("tags")?, seconds("timeout", &timeout)?);
            Ok(Request::SendKeyUntilNeedlematch { tags, key, counter: small("counter", counter)?, timeout })
        };
        matching(eval, "send_key_until_needlematch", request())
    }

    /// Puts a note on the result page; `result` is `ok`, `softfail` or `fail`.
    fn record_info<'v>(
        this: &'v Machine,
        title: String,
        #[starlark(default = "")] output: &'v str,
        #[starlark(default = "ok")] result: &'v str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let result = word("result", result);
        let request = result.map(|result| Request::RecordInfo { title, output: output.to_owned(), result });
        tell(eval, "record_info", request)
    }

    /// Notes a known problem; the module passes softly.
    fn record_soft_failure<'v>(
        this: &'v Machine,
        reason: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "record_soft_failure", Ok(Request::RecordSoftFailure { reason }))
    }

    /// As `record_soft_failure`; the module stays soft-failed whatever follows.
    fn force_soft_failure<'v>(
        this: &'v Machine,
        reason: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "force_soft_failure", Ok(Request::ForceSoftFailure { reason }))
    }

    /// Writes a line to the log.
    fn diag<'v>(
        this: &'v Machine,
        message: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "diag", Ok(Request::Diag { message }))
    }

    /// The value of a variable, or `default`.
    fn get_var<'v>(
        this: &'v Machine,
        name: String,
        #[starlark(default = NoneOr::None)] default: NoneOr<TextArg>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneOr<String>> {
        let default = default.into_option().map(String::from);
        flow::variable(eval, "get_var", &name, default).map(NoneOr::from_option).map_err(raise)
    }

    /// The value of a variable; fails the test when it is not set.
    fn get_required_var<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let value = flow::variable(eval, "get_required_var", &name, None).map_err(raise)?;
        value.ok_or_else(|| {
            raise(CallError::failed(format!("the variable {name} is not set; set it: {name}=...")))
        })
    }

    /// Sets a variable for the rest of the run.
    fn set_var<'v>(
        this: &'v Machine,
        name: String,
        value: TextArg,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "set_var", Ok(Request::SetVar { name, value: value.into() }))
    }

    /// Has the variable this value?
    fn check_var<'v>(
        this: &'v Machine,
        name: String,
        value: TextArg,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        let value = String::from(value);
        Ok(flow::variable(eval, "check_var", &name, None).map_err(raise)? == Some(value))
    }

    /// The variable's value cut at commas and semicolons; an empty list when it is not set.
    fn get_var_array<'v>(
        this: &'v Machine,
        name: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        flow::variable_list(eval, "get_var_array", &name).map_err(raise)
    }

    /// Is this one of the variable's values cut at commas and semicolons?
    fn check_var_array<'v>(
        this: &'v Machine,
        name: String,
        value: TextArg,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        let value = String::from(value);
        Ok(flow::variable_list(eval, "check_var_array", &name).map_err(raise)?.contains(&value))
    }

    /// Waits for a text on the serial line (regular expressions); the text up to it, or `None`.
    fn wait_serial<'v>(
        this: &'v Machine,
        patterns: TagsArg,
        #[starlark(default = UnpackFloat(90.0))] timeout: Seconds,
        #[starlark(default = false)] expect_not_found: bool,
        #[starlark(default = false)] no_regex: bool,
        #[starlark(default = false)] quiet: bool,
        #[starlark(default = NoneOr::None)] buffer_size: NoneOr<i64>,
        #[starlark(default = false)] record_output: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneOr<String>> {
        let request = || {
            let buffer_size = match buffer_size {
                NoneOr::None => None,
                NoneOr::Other(size) => Some(small("buffer_size", size)? as usize),
            };
            let (patterns, timeout) = (patterns.check("patterns")?, seconds("timeout", &timeout)?);
            Ok(Request::WaitSerial {
                patterns,
                timeout,
                expect_not_found,
                no_regex,
                quiet,
                buffer_size,
                record_output,
            })
        };
        let found = request().and_then(|request| ask_for::<Option<String>>(eval, "wait_serial", request));
        found.map(NoneOr::from_option).map_err(raise)
    }

    /// Presses and releases a key or a chord such as `ctrl-alt-f2`.
    fn send_key<'v>(
        this: &'v Machine,
        key: String,
        #[starlark(default = false)] do_wait: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "send_key", Ok(Request::SendKey { key, do_wait }))
    }

    /// Presses a key and keeps it down.
    fn hold_key<'v>(
        this: &'v Machine,
        key: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "hold_key", Ok(Request::HoldKey { key }))
    }

    /// Releases a key that is held.
    fn release_key<'v>(
        this: &'v Machine,
        key: String,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "release_key", Ok(Request::ReleaseKey { key }))
    }

    /// Types a text; `\n` is the return key.
    fn type_string<'v>(
        this: &'v Machine,
        text: String,
        #[starlark(default = 250)] max_interval: i64,
        #[starlark(default = 0)] wait_screen_change: i64,
        #[starlark(default = UnpackFloat(0.0))] wait_still_screen: Seconds,
        #[starlark(default = UnpackFloat(47.0))] similarity_level: Seconds,
        #[starlark(default = false)] secret: bool,
        #[starlark(default = false)] lf: bool,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let waits = [wait_still_screen, similarity_level, timeout];
        tell(eval, "type_string", typing(text, max_interval, wait_screen_change, &waits, secret, lf))
    }

    /// `type_string` with the return key at the end.
    fn enter_cmd<'v>(
        this: &'v Machine,
        text: String,
        #[starlark(default = 250)] max_interval: i64,
        #[starlark(default = 0)] wait_screen_change: i64,
        #[starlark(default = UnpackFloat(0.0))] wait_still_screen: Seconds,
        #[starlark(default = UnpackFloat(47.0))] similarity_level: Seconds,
        #[starlark(default = false)] secret: bool,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let waits = [wait_still_screen, similarity_level, timeout];
        tell(eval, "enter_cmd", typing(text, max_interval, wait_screen_change, &waits, secret, true))
    }

    /// Types a password (without it, the variable PASSWORD); it is never logged.
    fn type_password<'v>(
        this: &'v Machine,
        #[starlark(default = NoneOr::None)] password: NoneOr<String>,
        #[starlark(default = 100)] max_interval: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let password = password.into_option();
        let request = small("max_interval", max_interval)
            .map(|max_interval| Request::TypePassword { password, max_interval });
        tell(eval, "type_password", request)
    }

    /// Moves the mouse; pixels from the left and from the top.
    fn mouse_set<'v>(
        this: &'v Machine,
        x: i64,
        y: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let request = small("x", x).and_then(|x| Ok(Request::MouseSet { x, y: small("y", y)? }));
        tell(eval, "mouse_set", request)
    }

    /// Clicks where the mouse is.
    fn mouse_click<'v>(
        this: &'v Machine,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.15))] hold_time: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mouse_click", clicks(button, &hold_time, 1))
    }

    /// Double click where the mouse is.
    fn mouse_dclick<'v>(
        this: &'v Machine,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.1))] hold_time: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mouse_dclick", clicks(button, &hold_time, 2))
    }

    /// Triple click where the mouse is.
    fn mouse_tclick<'v>(
        this: &'v Machine,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(0.1))] hold_time: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "mouse_tclick", clicks(button, &hold_time, 3))
    }

    /// Moves the mouse out of the way, to the lower right corner.
    fn mouse_hide<'v>(
        this: &'v Machine,
        #[starlark(default = 0)] border_offset: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let border_offset = small("border_offset", border_offset);
        tell(eval, "mouse_hide", border_offset.map(|border_offset| Request::MouseHide { border_offset }))
    }

    /// Drags from one place to another; a place is `(x, y)` or a needle's tags.
    fn mouse_drag<'v>(
        this: &'v Machine,
        start: PlaceArg,
        end: PlaceArg,
        #[starlark(default = "left")] button: &'v str,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let request = word("button", button).and_then(|button| {
            let timeout = seconds("timeout", &timeout)?;
            Ok(Request::MouseDrag { start: start.into(), end: end.into(), button, timeout })
        });
        tell(eval, "mouse_drag", request)
    }

    /// The power button and its relatives: `on`, `off`, `acpi` or `reset`.
    fn power<'v>(
        this: &'v Machine,
        action: &'v str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        tell(eval, "power", word("action", action).map(|action| Request::Power { action }))
    }

    /// Waits until the machine has switched itself off; false when it does not.
    fn check_shutdown<'v>(
        this: &'v Machine,
        #[starlark(default = UnpackFloat(60.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<bool> {
        let timeout = seconds("timeout", &timeout);
        yes_no(eval, "check_shutdown", timeout.map(|timeout| Request::CheckShutdown { timeout }))
    }

    /// `check_shutdown` that fails the test.
    fn assert_shutdown<'v>(
        this: &'v Machine,
        #[starlark(default = UnpackFloat(60.0))] timeout: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let timeout = seconds("timeout", &timeout);
        tell(eval, "assert_shutdown", timeout.map(|timeout| Request::AssertShutdown { timeout }))
    }

    /// Ejects the CD.
    fn eject_cd<'v>(this: &'v Machine, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<NoneType> {
        tell(eval, "eject_cd", Ok(Request::EjectCd {}))
    }

    /// Stops the machine's processors.
    fn freeze_vm<'v>(this: &'v Machine, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<NoneType> {
        tell(eval, "freeze_vm", Ok(Request::FreezeVm {}))
    }

    /// Lets the machine's processors go on.
    fn resume_vm<'v>(this: &'v Machine, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<NoneType> {
        tell(eval, "resume_vm", Ok(Request::ResumeVm {}))
    }

    /// Fails the test with this message.
    fn fail<'v>(this: &'v Machine, message: String) -> starlark::Result<NoneType> {
        Err(raise(CallError::failed(message)))
    }

    /// Fails the test with this message unless the condition holds.
    fn expect<'v>(this: &'v Machine, condition: Value<'v>, message: String) -> starlark::Result<NoneType> {
        if condition.to_bool() { Ok(NoneType) } else { Err(raise(CallError::failed(message))) }
    }

    /// Runs a function and answers how it went; a failed expectation does not end the test.
    fn attempt<'v>(
        this: &'v Machine,
        function: StarlarkCallable<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Attempt<'v>> {
        flow::attempt(eval, function)
    }

    /// Runs a function after each change of the screen (and each `interval`) until it answers something true.
    fn until<'v>(
        this: &'v Machine,
        function: StarlarkCallable<'v>,
        #[starlark(default = UnpackFloat(30.0))] timeout: Seconds,
        #[starlark(default = UnpackFloat(1.0))] interval: Seconds,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        flow::until(eval, function, &timeout, &interval)
    }

    /// Runs a function up to `n` times until no expectation fails in it, and answers its value.
    fn retry<'v>(
        this: &'v Machine,
        n: i64,
        function: StarlarkCallable<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        flow::retry(eval, n, function)
    }
}

fn look(tags: TagsArg, timeout: &Seconds, no_wait: bool) -> Result<Look, CallError> {
    Ok(Look { tags: tags.check("tags")?, timeout: Some(seconds("timeout", timeout)?), no_wait })
}

fn look_and_click(tags: TagsArg, timeout: &Seconds, click: Click) -> Result<Request, CallError> {
    Ok(Request::AssertAndClick { tags: tags.check("tags")?, timeout: seconds("timeout", timeout)?, click })
}

fn still(stilltime: &Seconds, timeout: &Seconds, similarity_level: &Seconds) -> Result<Still, CallError> {
    Ok(Still {
        stilltime: seconds("stilltime", stilltime)?,
        timeout: seconds("timeout", timeout)?,
        similarity_level: similarity_level.0,
    })
}

fn clicks(button: &str, hold_time: &Seconds, count: u32) -> Result<Request, CallError> {
    Ok(Request::MouseClick {
        button: word("button", button)?,
        hold_time: seconds("hold_time", hold_time)?,
        count,
    })
}

fn typing(
    text: String,
    max_interval: i64,
    wait_screen_change: i64,
    [wait_still_screen, similarity_level, timeout]: &[Seconds; 3],
    secret: bool,
    lf: bool,
) -> Result<Request, CallError> {
    Ok(Request::TypeString {
        text,
        max_interval: small("max_interval", max_interval)?,
        wait_screen_change: small("wait_screen_change", wait_screen_change)?,
        wait_still_screen: seconds("wait_still_screen", wait_still_screen)?,
        similarity_level: similarity_level.0,
        secret,
        lf,
        timeout: seconds("timeout", timeout)?,
    })
}
