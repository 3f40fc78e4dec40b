//! Text for terminals.

use comfy_table::{ContentArrangement, Table, presets};
use std::io::IsTerminal;

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

/// Prints a document of `--json`.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("assay: the answer cannot be written as JSON: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_short() {
        assert_eq!(super::duration(1_900_000), "1.9 s");
        assert_eq!(super::duration(61_000_000), "1:01 min");
        assert_eq!(super::duration(3_700_000_000), "1:01 h");
    }
}
