//! From text to syntax tree, with bounds that keep a hostile file from exhausting the parser's stack.

use assay_proto::diagnostic::Diagnostic;
use starlark::codemap::{CodeMap, FileSpan, Span};
use starlark::syntax::{AstModule, Dialect, DialectTypes};

/// Larger than any test written by hand.
const MAX_BYTES: usize = 1 << 20;

/// Brackets within brackets. The parser recurses, about 20 frames for each.
const MAX_BRACKETS: usize = 100;

/// Tokens of one logical line: a chain such as `not not not …` or `a + b + c + …` recurses as well.
const MAX_LINE_BYTES: usize = 64 << 10;

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
    AstModule::parse(file, text, &dialect()).map_err(|error| from_starlark("syntax", file, &error))
}

fn within_bounds(file: &str, text: &str) -> Result<(), Diagnostic> {
    let refuse = |message: String, help: &str| Diagnostic::error("too-large", file, message).help(help);
    if text.len() > MAX_BYTES {
        return Err(refuse(format!("the file has more than {MAX_BYTES} bytes"), "split it into modules and lib files"));
    }
    let (mut depth, mut nots) = (0_usize, 0_usize);
    for (number, line) in text.lines().enumerate() {
        let at = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        if line.len() > MAX_LINE_BYTES {
            let message = format!("the line has more than {MAX_LINE_BYTES} bytes");
            return Err(refuse(message, "split it").at(at, 0));
        }
        // Brackets in texts and comments count too: they are few, and telling them apart is the parser's work.
        for byte in line.bytes() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_BRACKETS {
                let message = format!("brackets are nested more than {MAX_BRACKETS} deep");
                return Err(refuse(message, "give the inner parts names").at(at, 0));
            }
        }
        nots += usize::from(line.trim_start().starts_with("elif"));
        if nots > 2000 {
            return Err(refuse("more than 2000 `elif`".to_owned(), "use a dict").at(at, 0));
        }
    }
    Ok(())
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
