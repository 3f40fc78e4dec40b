//! The calls of the machine as people look them up, and as the checks need them. Tests hold this table against the
//! methods themselves, against the Python client, and against `docs/writing-tests.md`.

use crate::api::machine_docs;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// A call.
pub(crate) struct CallInfo {
    /// Its heading in the reference.
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    /// Parameters as an author writes them: `tags, timeout=30`.
    params: &'static str,
    /// What it answers.
    returns: &'static str,
}

impl CallInfo {
    /// Names and defaults, in order.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.params.split(", ").filter(|param| !param.is_empty()).map(|param| match param.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (param, None),
        })
    }
}

/// One line of the table.
const fn call(
    group: &'static str,
    name: &'static str,
    params: &'static str,
    returns: &'static str,
) -> CallInfo {
    CallInfo { group, name, params, returns }
}

const CLICK: &str =
    "tags, button=\"left\", clicktime=0.15, dclick=False, mousehide=False, point_id=None, timeout=30";
const TYPE: &str = "text, max_interval=250, wait_screen_change=0, wait_still_screen=0, similarity_level=47, \
    secret=False, lf=False, timeout=30";
const SERIAL: &str = "patterns, timeout=90, expect_not_found=False, no_regex=False, quiet=False, buffer_size=None, \
    record_output=False";

/// Every call, by group.
pub(crate) static CALLS: &[CallInfo] = &[
    call("Screen", "assert_screen", "tags, timeout=30, no_wait=False", "Match"),
    call("Screen", "check_screen", "tags, timeout=0, no_wait=False", "Match or None"),
    call("Screen", "match_has_tag", "tag", "bool"),
    call("Screen", "assert_and_click", CLICK, "Match"),
    call(
        "Screen",
        "assert_and_dclick",
        "tags, button=\"left\", clicktime=0.15, mousehide=False, point_id=None, timeout=30",
        "Match",
    ),
    call(
        "Screen",
        "click_lastmatch",
        "button=\"left\", clicktime=0.15, dclick=False, mousehide=False, point_id=None",
        "",
    ),
    call("Screen", "wait_screen_change", "action=None, timeout=10, similarity_level=50", "bool"),
    call("Screen", "assert_screen_change", "action=None, timeout=10, similarity_level=50", "bool"),
    call("Screen", "wait_still_screen", "stilltime=7, timeout=30, similarity_level=47", "bool"),
    call("Screen", "assert_still_screen", "stilltime=7, timeout=30, similarity_level=47", "bool"),
    call("Screen", "save_screenshot", "", ""),
    call("Screen", "send_key_until_needlematch", "tags, key, counter=20, timeout=1", "Match"),
    call("Keyboard", "send_key", "key, do_wait=False", ""),
    call("Keyboard", "hold_key", "key", ""),
    call("Keyboard", "release_key", "key", ""),
    call("Keyboard", "type_string", TYPE, ""),
    call(
        "Keyboard",
        "enter_cmd",
        "text, max_interval=250, wait_screen_change=0, wait_still_screen=0, similarity_level=47, secret=False, \
            timeout=30",
        "",
    ),
    call("Keyboard", "type_password", "password=None, max_interval=100", ""),
    call("Mouse", "mouse_set", "x, y", ""),
    call("Mouse", "mouse_click", "button=\"left\", hold_time=0.15", ""),
    call("Mouse", "mouse_dclick", "button=\"left\", hold_time=0.1", ""),
    call("Mouse", "mouse_tclick", "button=\"left\", hold_time=0.1", ""),
    call("Mouse", "mouse_hide", "border_offset=0", ""),
    call("Mouse", "mouse_drag", "start, end, button=\"left\", timeout=30", ""),
    call("Serial line", "wait_serial", SERIAL, "str or None"),
    call("Records", "record_info", "title, output=\"\", result=\"ok\"", ""),
    call("Records", "record_soft_failure", "reason", ""),
    call("Records", "force_soft_failure", "reason", ""),
    call("Records", "diag", "message", ""),
    call("Variables", "get_var", "name, default=None", "str or None"),
    call("Variables", "get_required_var", "name", "str"),
    call("Variables", "set_var", "name, value", ""),
    call("Variables", "check_var", "name, value", "bool"),
    call("Variables", "get_var_array", "name", "list of str"),
    call("Variables", "check_var_array", "name, value", "bool"),
    call("Power", "power", "action", ""),
    call("Power", "check_shutdown", "timeout=60", "bool"),
    call("Power", "assert_shutdown", "timeout=60", ""),
    call("Power", "eject_cd", "", ""),
    call("Power", "freeze_vm", "", ""),
    call("Power", "resume_vm", "", ""),
    call("Jobs beside this one", "mutex_create", "name", ""),
    call("Jobs beside this one", "mutex_lock", "name, job=None, timeout=None", ""),
    call("Jobs beside this one", "mutex_try_lock", "name, job=None", "bool"),
    call("Jobs beside this one", "mutex_unlock", "name", ""),
    call("Jobs beside this one", "mutex_wait", "name, job=None, timeout=None", ""),
    call("Jobs beside this one", "barrier_create", "name, tasks", ""),
    call("Jobs beside this one", "barrier_wait", "name, job=None, check_dead_job=False, timeout=None", ""),
    call("Jobs beside this one", "barrier_try_wait", "name", "bool"),
    call("Jobs beside this one", "barrier_destroy", "name", ""),
    call("Jobs beside this one", "get_children", "", "dict of int to str"),
    call("Jobs beside this one", "get_children_by_state", "state", "list of int"),
    call("Jobs beside this one", "get_parents", "", "list of int"),
    call("Jobs beside this one", "get_job_info", "job", "dict"),
    call("Jobs beside this one", "get_job_autoinst_vars", "job", "dict"),
    call("Jobs beside this one", "get_job_autoinst_url", "job", "str or None"),
    call("Jobs beside this one", "wait_for_children", "timeout=None", ""),
    call("Jobs beside this one", "wait_for_children_to_start", "timeout=None", ""),
    call("Jobs beside this one", "get_current_job_id", "", "int or None"),
    call("Flow", "fail", "message", ""),
    call("Flow", "expect", "condition, message", ""),
    call("Flow", "attempt", "function", "Attempt"),
    call("Flow", "until", "function, timeout=30, interval=1", "what the function answers"),
    call("Flow", "retry", "n, function", "what the function answers"),
];

/// Calls of openQA's testapi that authors will look for and that are not there.
pub(crate) static ABSENT: &[&str] = &[
    "script_run",
    "assert_script_run",
    "background_script_run",
    "script_output",
    "validate_script_output",
    "script_sudo",
    "assert_script_sudo",
    "x11_start_program",
    "ensure_installed",
    "become_root",
    "become_user",
    "select_console",
    "add_console",
    "reset_consoles",
    "current_console",
    "console",
    "select_serial_terminal",
    "start_audiocapture",
    "assert_recorded_sound",
    "check_recorded_sound",
    "disconnect_usb",
    "switch_network",
    "upload_logs",
    "upload_asset",
    "data_url",
    "autoinst_url",
    "host_ip",
    "get_test_data",
    "save_tmp_file",
    "parse_junit_log",
    "parse_extra_log",
    "save_memory_dump",
    "save_storage",
];

/// Looks a call up.
pub(crate) fn find(name: &str) -> Option<&'static CallInfo> {
    CALLS.iter().find(|call| call.name == name)
}

/// All names, in the reference's order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    CALLS.iter().map(|call| call.name)
}

/// Does a literal of this kind (`str`, `int`, `bool`, …) suit this parameter? From the method's Rust signature.
pub(crate) fn accepts(call: &str, parameter: &str, kind: &str) -> bool {
    static TYPES: LazyLock<Vec<(String, String, String)>> = LazyLock::new(|| {
        let mut types = Vec::new();
        for (name, member) in machine_docs().members {
            if let starlark::docs::DocMember::Function(function) = member {
                let params = function.params.regular_params();
                types.extend(params.map(|param| (name.clone(), param.name.clone(), param.typ.to_string())));
            }
        }
        types
    });
    let found = TYPES.iter().find(|(c, p, _)| c == call && p == parameter);
    found.is_none_or(|(_, _, ty)| ty.contains("Any") || ty.contains(kind))
}

/// The first line of a method's documentation.
fn summary(name: &str) -> String {
    let docs = machine_docs();
    docs.members.get(name).and_then(|member| member.get_doc_summary()).unwrap_or_default().to_owned()
}

/// All calls of the machine as Markdown: a table for each group, with signature, answer and one line of prose.
/// `docs/writing-tests.md` contains it word for word.
pub fn api_reference() -> String {
    let mut text = String::new();
    let mut group = "";
    for call in CALLS {
        if call.group != group {
            group = call.group;
            let _ = write!(text, "\n### {group}\n\n| call | answers | what it does |\n|---|---|---|\n");
        }
        let CallInfo { name, params, returns, .. } = call;
        let _ = writeln!(text, "| `t.{name}({params})` | {returns} | {} |", summary(name));
    }
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlark::docs::DocMember;
    use std::collections::BTreeMap;

    /// Names, parameters in order, and which of them may be left out.
    #[test]
    fn the_table_is_that_of_the_methods() {
        let mut methods = BTreeMap::new();
        for (name, member) in machine_docs().members {
            let DocMember::Function(function) = member else { panic!("{name} is no method") };
            let params = function.params.pos_or_named.iter();
            let params = params.map(|param| (param.name.clone(), param.default_value.is_none()));
            methods.insert(name, params.collect::<Vec<_>>());
        }
        let table = CALLS.iter().map(|call| {
            let params = call.params().map(|(name, default)| (name.to_owned(), default.is_none()));
            (call.name.to_owned(), params.collect::<Vec<_>>())
        });
        assert_eq!(methods, table.collect());
        assert!(ABSENT.iter().all(|name| find(name).is_none()), "a call that is there is listed as absent");
    }
}
