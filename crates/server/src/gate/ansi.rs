//! A console's lines as HTML: colours, times, and nothing else that a job's output could do to a page.

use std::fmt::Write as _;

/// The classes of bold, dim, italic and underlined text.
const STYLES: [&str; 4] = ["b", "d", "i", "u"];

/// What the text looks like from here on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    /// Which of [`STYLES`].
    styles: [bool; 4],
    /// 0 to 15.
    front: Option<u8>,
    back: Option<u8>,
}

impl Look {
    fn classes(self) -> String {
        let styles = STYLES.iter().zip(self.styles).filter(|(_, on)| *on);
        let mut classes: Vec<String> = styles.map(|(word, _)| (*word).to_owned()).collect();
        classes.extend(self.front.map(|colour| format!("f{colour}")));
        classes.extend(self.back.map(|colour| format!("g{colour}")));
        classes.join(" ")
    }

    /// One "select graphic rendition".
    fn select(&mut self, codes: &str) {
        let mut codes = codes.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1..=4 => self.styles[usize::from(code) - 1] = true,
                22 => self.styles[..2].fill(false),
                23 | 24 => self.styles[usize::from(code) - 21] = false,
                30..=37 => self.front = Some((code - 30) as u8),
                90..=97 => self.front = Some((code - 90 + 8) as u8),
                39 => self.front = None,
                40..=47 => self.back = Some((code - 40) as u8),
                100..=107 => self.back = Some((code - 100 + 8) as u8),
                49 => self.back = None,
                // Colours beyond the sixteen are left out, with their numbers.
                38 | 48 => match codes.next() {
                    Some(5) => drop(codes.next()),
                    Some(2) => drop((codes.next(), codes.next(), codes.next())),
                    _ => {}
                },
                _ => {}
            }
        }
    }
}

/// Renders lines one after the other; colours last until they are changed.
#[derive(Debug, Default)]
pub(crate) struct Renderer {
    look: Look,
    number: u64,
}

/// `2026-11-21 04:30:00.123` and ` | `.
const TIME: usize = 23;
const BAR: &str = " | ";

impl Renderer {
    /// Goes on after so many lines.
    pub(crate) fn after(lines: u64) -> Self {
        Self { number: lines, ..Self::default() }
    }

    /// A row of the table, without the line's end.
    pub(crate) fn row(&mut self, line: &[u8]) -> String {
        self.number += 1;
        let text = String::from_utf8_lossy(line);
        let stamped = text.get(..TIME).filter(|_| text.get(TIME..TIME + BAR.len()) == Some(BAR));
        let (time, rest) = match stamped {
            Some(time) => (time, &text[TIME + BAR.len()..]),
            None => ("", &*text),
        };
        let number = self.number;
        let (day, clock) = time.split_once(' ').unwrap_or(("", time));
        let mut row =
            format!("<div id=\"L{number}\" class=\"line\"><a href=\"#L{number}\">{number}</a><time title=\"");
        escape(day, &mut row);
        row.push_str("\">");
        escape(clock, &mut row);
        row.push_str("</time><span>");
        self.text(rest, &mut row);
        row.push_str("</span></div>\n");
        row
    }

    fn text(&mut self, mut text: &str, row: &mut String) {
        while let Some(at) = text.find('\u{1b}') {
            self.plain(&text[..at], row);
            let (skipped, select) = sequence(&text[at + 1..]);
            if let Some(codes) = select {
                self.look.select(codes);
            }
            text = &text[at + 1 + skipped..];
        }
        self.plain(text, row);
    }

    fn plain(&self, text: &str, row: &mut String) {
        if text.is_empty() {
            return;
        }
        if self.look == Look::default() {
            return escape(text, row);
        }
        let _ = write!(row, "<span class=\"{}\">", self.look.classes());
        escape(text, row);
        row.push_str("</span>");
    }
}

/// How long the sequence after an escape is, and its codes if it selects a look.
fn sequence(text: &str) -> (usize, Option<&str>) {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'[') => {
            let end = bytes[1..].iter().position(|byte| (0x40..=0x7e).contains(byte));
            match end {
                Some(end) if bytes[1 + end] == b'm' => (end + 2, Some(&text[1..=end])),
                Some(end) => (end + 2, None),
                None => (bytes.len(), None),
            }
        }
        // Titles and links, up to BEL or ESC \.
        Some(b']') => match text.find(['\u{7}', '\u{1b}']) {
            Some(end) if bytes[end] == 0x7 => (end + 1, None),
            Some(end) if bytes.get(end + 1) == Some(&b'\\') => (end + 2, None),
            Some(end) => (end, None),
            None => (bytes.len(), None),
        },
        Some(first) if first.is_ascii() => (1, None),
        _ => (0, None),
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push('\t'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(line: &str) -> String {
        let row = Renderer::default().row(line.as_bytes());
        let (_, text) = row.split_once("</time><span>").unwrap();
        text.strip_suffix("</span></div>\n").unwrap().to_owned()
    }

    #[test]
    fn rows() {
        let row = Renderer::after(6).row(b"2026-11-21 04:30:00.123 | ok");
        assert_eq!(
            row,
            "<div id=\"L7\" class=\"line\"><a href=\"#L7\">7</a><time title=\"2026-11-21\">04:30:00.123</time><span>ok\
             </span></div>\n"
        );
        for (line, expected) in [
            ("plain", "plain"),
            ("<script>&\"", "&lt;script&gt;&amp;&quot;"),
            ("\u{1b}[31mred\u{1b}[0m not", "<span class=\"f1\">red</span> not"),
            ("\u{1b}[1;4;92;41mx", "<span class=\"b u f10 g1\">x</span>"),
            ("\u{1b}[38;5;200mx\u{1b}[38;2;1;2;3my", "xy"),
            ("\u{1b}[2K\u{1b}[1Gx", "x"),
            ("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y", "xy"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
            ("\u{1b}ü", "ü"),
            ("a\u{8}\u{0}b", "a\u{fffd}\u{fffd}b"),
        ] {
            assert_eq!(text(line), expected, "{line:?}");
        }
        let mut renderer = Renderer::default();
        renderer.row(b"\x1b[32mgreen");
        assert!(renderer.row(b"still").contains("<span class=\"f2\">still</span>"));
    }

    proptest! {
        #[test]
        fn nothing_of_a_line_is_markup(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let row = Renderer::default().row(&bytes);
            let inside = row.split_once("</time><span>").unwrap().1.strip_suffix("</span></div>\n").unwrap();
            let bare = inside.replace("</span>", "");
            for part in bare.split('<').skip(1) {
                prop_assert!(part.starts_with("span class=\""), "{row}");
            }
        }
    }
}
