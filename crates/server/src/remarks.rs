//! Comments as HTML that is safe to show; what they say to programs is `assay_engine::knowledge::words`.

use assay_engine::knowledge::words::bug_address;

fn escaped(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

fn address(word: &str) -> Option<String> {
    if word.starts_with("https://") || word.starts_with("http://") {
        return Some(word.to_owned());
    }
    bug_address(word)
}

/// The text as HTML: paragraphs, line breaks, links to addresses and bugs. Nothing of it is markup of the author's.
pub(crate) fn html(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        html.push_str("<p>");
        for (number, line) in paragraph.lines().enumerate() {
            if number > 0 {
                html.push_str("<br>\n");
            }
            for piece in line.split_inclusive(char::is_whitespace) {
                let word = piece.trim_end();
                let bare = word.trim_end_matches(['.', ',', ':', '!', '?', ')']);
                match address(bare) {
                    Some(link) => {
                        html.push_str("<a rel=\"nofollow noopener\" href=\"");
                        escaped(&link, &mut html);
                        html.push_str("\">");
                        escaped(bare, &mut html);
                        html.push_str("</a>");
                        escaped(&piece[bare.len()..], &mut html);
                    }
                    None => escaped(piece, &mut html),
                }
            }
        }
        html.push_str("</p>\n");
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_shown_as_text() {
        let shown = html("<script>alert(1)</script> boo#1.\nhttps://x/?a=\"b\"&c\n\njavascript:alert(1)");
        assert_eq!(
            shown,
            "<p>&lt;script&gt;alert(1)&lt;/script&gt; <a rel=\"nofollow noopener\" \
             href=\"https://bugzilla.opensuse.org/show_bug.cgi?id=1\">boo#1</a>.<br>\n<a rel=\"nofollow noopener\" \
             href=\"https://x/?a=&quot;b&quot;&amp;c\">https://x/?a=&quot;b&quot;&amp;c</a></p>\n<p>javascript:alert(1)</p>\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_markup_gets_through(text in "[a-z#:/<>\"'&\n ]{0,80}") {
            let shown = html(&text);
            let mut rest = shown.replace("<p>", "").replace("</p>", "").replace("<br>", "").replace("</a>", "");
            while let Some(at) = rest.find("<a rel=\"nofollow noopener\" href=\"http") {
                let end = rest[at..].find("\">").map(|end| at + end + 2);
                proptest::prop_assert!(end.is_some());
                rest.replace_range(at..end.unwrap_or(at), "");
            }
            proptest::prop_assert!(!rest.contains(['<', '>', '"', '\'']), "{}", shown);
        }
    }
}
