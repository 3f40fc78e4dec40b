//! Text for terminals.

use crate::exit::CliError;
use assay_proto::api::ApiError;
use comfy_table::{ContentArrangement, Table, presets};
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something was printed on stdout.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// A plain table: a header and rows, as wide as the terminal.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    table
}

/// True if progress can be drawn.
pub(crate) fn can_draw() -> bool {
    std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

/// A result word with a sign, so that colour is never the only signal.
pub(crate) fn result_word(result: &str) -> String {
    let sign = match result {
        "passed" => "✔",
        "softfailed" => "◐",
        "failed" => "✘",
        "skipped" | "none" => "–",
        "running" => "▶",
        _ => "▲",
    };
    format!("{sign} {result}")
}

/// `1 error`, `2 errors`; `1 policy`, `2 policies`.
pub(crate) fn count(count: usize, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if count == 1 => format!("1 {what}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {what}s"),
    }
}

/// Microseconds for people.
pub(crate) fn duration(us: u64) -> String {
    let seconds = us as f64 / 1e6;
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = us / 1_000_000;
    if whole < 3600 {
        format!("{}:{:02} min", whole / 60, whole % 60)
    } else {
        format!("{}:{:02} h", whole / 3600, whole / 60 % 60)
    }
}

/// Prints a text that may be long. A closed pipe (`| head`) ends the output, not the program's health.
pub(crate) fn put(text: &str) {
    PRINTED.store(true, Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line of `println!`.
pub(crate) fn put_line(words: std::fmt::Arguments<'_>) {
    PRINTED.store(true, Ordering::Relaxed);
    let _ = writeln!(std::io::stdout().lock(), "{words}");
}

/// A line of `eprintln!`.
pub(crate) fn put_error(words: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}

/// Prints a document of `--json`.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("assay: the answer cannot be written as JSON: {error}"),
    }
}

/// Prints the document of `--json` of what failed, unless the command has printed its own: it is one document.
pub(crate) fn print_fault(error: &CliError) {
    if !PRINTED.load(Ordering::Relaxed) {
        print_json(&ApiError { error: error.message.clone(), help: error.help.clone() });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|many| super::count(many, "job")), ["0 jobs", "1 job", "2 jobs"]);
        assert_eq!([1, 2].map(|many| super::count(many, "policy")), ["1 policy", "2 policies"]);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(super::duration(1_900_000), "1.9 s");
        assert_eq!(super::duration(61_000_000), "1:01 min");
        assert_eq!(super::duration(3_700_000_000), "1:01 h");
    }
}
