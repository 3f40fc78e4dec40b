//! From text to syntax tree, with bounds that keep a hostile file from exhausting the parser's stack.

use assay_proto::diagnostic::Diagnostic;
use starlark::codemap::{CodeMap, FileSpan, Span};
use starlark::syntax::{AstModule, Dialect, DialectTypes};

/// Larger than any test written by hand.
const MAX_BYTES: usize = 1 << 20;

/// Starlark with types and f-strings. `for` and `if` at the top of a file are left out: a file declares, `run` acts.
fn dialect() -> Dialect {
    Dialect {
        enable_keyword_only_arguments: true,
        enable_types: DialectTypes::Enable,
        enable_load_reexport: false,
        enable_f_strings: true,
        ..Dialect::Standard
    }
}

/// Parses `text`. `file` is its name for people.
pub(crate) fn parse(file: &str, text: String) -> Result<AstModule, Diagnostic> {
    within_bounds(file, &text)?;
    AstModule::parse(file, text, &dialect()).map_err(|error| {
        let found = from_starlark("syntax", file, &error);
        let message = found.message.trim_start_matches("Parse error: ").to_owned();
        match remedy(&message) {
            Some(help) => Diagnostic { message, ..found }.help(help),
            None => Diagnostic { message, ..found },
        }
    })
}

/// What Python has and Starlark has not.
fn remedy(message: &str) -> Option<&'static str> {
    if message.contains("tabs are not allowed") {
        return Some("indent with blanks");
    }
    let word = message.split('`').nth(1)?;
    Some(match word {
        "while" => "use `t.until(lambda: ...)`, `t.retry(n, lambda: ...)` or `for i in range(n):`",
        "try" | "except" | "finally" => {
            "use `t.attempt(lambda: ...)`; its answer has `ok`, `value` and `error`"
        }
        "import" | "from" => "use `load(\"//lib/name.star\", \"function\")`",
        "class" => "use functions and `struct(...)`",
        "raise" | "assert" => "use `t.fail(\"why\")` or `t.expect(condition, \"why\")`",
        "with" | "yield" | "async" | "await" | "global" | "nonlocal" | "is" | "del" => {
            "Starlark is a small part of Python and does not have it"
        }
        "for" | "if" if message.contains("outside `def`") => "put it into a function",
        _ => return None,
    })
}

fn within_bounds(file: &str, text: &str) -> Result<(), Diagnostic> {
    let refuse = |message: &str, help: &str| Diagnostic::error("too-large", file, message).help(help);
    if text.len() > MAX_BYTES {
        return Err(refuse("the file has more than 1 MiB", "split it into modules and lib files"));
    }
    match crate::depth::too_deep(text) {
        None => Ok(()),
        Some((line, message)) => Err(refuse(message, "give the parts names").at(line, 0)),
    }
}

/// Line and column, both from 1.
pub(crate) fn place(codemap: &CodeMap, span: Span) -> (u32, u32) {
    let begin = codemap.resolve_span(span).begin;
    (one_based(begin.line), one_based(begin.column))
}

fn one_based(zero_based: usize) -> u32 {
    u32::try_from(zero_based).unwrap_or(u32::MAX).saturating_add(1)
}

/// A Starlark error with its place; the message is taken as it is.
pub(crate) fn from_starlark(code: &str, file: &str, error: &starlark::Error) -> Diagnostic {
    let text = error.without_diagnostic().to_string();
    let diagnostic = Diagnostic::error(code, file, one_line(&text));
    match error.span() {
        Some(FileSpan { file, span }) => {
            let (line, column) = place(file, *span);
            diagnostic.at(line, column)
        }
        None => diagnostic,
    }
}

/// The message without line breaks and without the final full stop.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}
