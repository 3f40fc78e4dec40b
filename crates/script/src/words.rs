//! Parameters that take one word of a fixed list.

/// The words that a parameter of this name takes in every call that has it.
pub(crate) fn allowed(parameter: &str) -> Option<&'static [&'static str]> {
    match parameter {
        "button" => Some(&["left", "middle", "right"]),
        "action" => Some(&["on", "off", "acpi", "reset"]),
        "result" => Some(&["ok", "fail", "softfail"]),
        _ => None,
    }
}
