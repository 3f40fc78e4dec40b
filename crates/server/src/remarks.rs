//! Comments as HTML that is safe to show; what they say to programs is `assay_engine::knowledge::words`.

use assay_engine::knowledge::words::bug_address;
use pulldown_cmark::{
    CodeBlockKind, Event, HeadingLevel, LinkType, Parser, Tag, TagEnd, TextMergeStream, html as markdown,
};

/// Quotes and lists deeper than this are as deep as this: nobody can read them, and each level costs more than its mark.
const DEEPEST: usize = 12;

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

/// Whether a link may lead there: the web, mail, or this server.
fn may_link(address: &str) -> bool {
    let begins =
        |scheme: &str| address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let here = address.starts_with('/') && !address.starts_with("//") && !address.starts_with("/\\");
    here || ["https://", "http://", "mailto:"].into_iter().any(begins)
}

/// A link or a picture whose end has not come yet.
struct Open {
    /// It became a link.
    linked: bool,
    /// What to show if nothing is within: where a picture is.
    bare: Option<String>,
}

/// Makes events that are safe to write from those of the parser.
#[derive(Default)]
struct Writer<'t> {
    events: Vec<Event<'t>>,
    open: Vec<Open>,
    in_link: bool,
    depth: usize,
    in_code: bool,
}

impl<'t> Writer<'t> {
    /// HTML of this file's own making.
    fn own(&mut self, html: impl Into<String>) {
        let html: String = html.into();
        self.events.push(Event::InlineHtml(html.into()));
    }

    fn start_link(&mut self, address: &str) {
        let mut html = String::from("<a rel=\"nofollow noopener\" href=\"");
        escaped(address, &mut html);
        html.push_str("\">");
        self.own(html);
    }

    /// Text, in which addresses and bugs are links, and lines end where its author ended them.
    fn text(&mut self, text: &str) {
        if self.in_code || self.in_link {
            return self.events.push(Event::Text(text.to_owned().into()));
        }
        for (number, line) in text.trim_end_matches('\n').split('\n').enumerate() {
            if number > 0 {
                self.own("<br>\n");
            }
            self.line(line);
        }
    }

    fn line(&mut self, line: &str) {
        let mut plain = String::new();
        for piece in line.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            let bare = word.trim_end_matches(['.', ',', ':', '!', '?', ')']);
            match address(bare) {
                Some(link) => {
                    self.plain(std::mem::take(&mut plain));
                    self.start_link(&link);
                    self.events.push(Event::Text(bare.to_owned().into()));
                    self.own("</a>");
                    plain.push_str(&piece[bare.len()..]);
                }
                None => plain.push_str(piece),
            }
        }
        self.plain(plain);
    }

    fn plain(&mut self, text: String) {
        if !text.is_empty() {
            self.events.push(Event::Text(text.into()));
        }
    }

    fn start_linked(&mut self, address: &str, bare: Option<String>) {
        // Links do not stand in links.
        let linked = may_link(address) && !self.in_link;
        if linked {
            self.in_link = true;
            self.start_link(address);
        }
        self.open.push(Open { linked, bare });
    }

    fn end_linked(&mut self) {
        let Some(Open { linked, bare }) = self.open.pop() else { return };
        if let Some(bare) = bare {
            self.events.push(Event::Text(bare.into()));
        }
        if linked {
            self.in_link = false;
            self.own("</a>");
        }
    }

    fn start(&mut self, tag: Tag<'t>) {
        match tag {
            Tag::Link { link_type: LinkType::Email, dest_url, .. } => {
                self.start_linked(&format!("mailto:{dest_url}"), None);
            }
            Tag::Link { dest_url, .. } => self.start_linked(&dest_url, None),
            // What is shown must not tell other servers who reads it.
            Tag::Image { dest_url, .. } => self.start_linked(&dest_url, Some(dest_url.to_string())),
            Tag::BlockQuote(_) | Tag::List(_) | Tag::Item => {
                self.depth += 1;
                if self.depth <= DEEPEST {
                    self.events.push(Event::Start(tag));
                }
            }
            Tag::CodeBlock(_) => {
                self.in_code = true;
                self.events.push(Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)));
            }
            Tag::HtmlBlock => self.events.push(Event::Start(Tag::Paragraph)),
            Tag::Heading { level, .. } => {
                let (id, classes, attrs) = (None, Vec::new(), Vec::new());
                self.events.push(Event::Start(Tag::Heading { level: below(level), id, classes, attrs }));
            }
            other => self.events.push(Event::Start(other)),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Link | TagEnd::Image => self.end_linked(),
            TagEnd::BlockQuote(_) | TagEnd::List(_) | TagEnd::Item => {
                if self.depth <= DEEPEST {
                    self.events.push(Event::End(tag));
                }
                self.depth -= 1;
            }
            TagEnd::CodeBlock => {
                self.in_code = false;
                self.events.push(Event::End(tag));
            }
            TagEnd::HtmlBlock => self.events.push(Event::End(TagEnd::Paragraph)),
            TagEnd::Heading(level) => self.events.push(Event::End(TagEnd::Heading(below(level)))),
            other => self.events.push(Event::End(other)),
        }
    }

    fn take(&mut self, event: Event<'t>) {
        if let (Event::Text(_) | Event::Code(_), Some(open)) = (&event, self.open.last_mut()) {
            open.bare = None;
        }
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text),
            Event::SoftBreak | Event::HardBreak => self.own("<br>\n"),
            other => self.events.push(other),
        }
    }
}

/// The page has headings of its own above.
fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

/// The text as HTML, as CommonMark has it. HTML of the author's is shown as text, pictures are links.
pub(crate) fn html(text: &str) -> String {
    // HTML is text as well, so that what stands beside it belongs to the same word.
    let plain = |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    };
    let mut writer = Writer::default();
    TextMergeStream::new(Parser::new(text).map(plain)).for_each(|event| writer.take(event));
    let mut html = String::new();
    markdown::push_html(&mut html, writer.events.into_iter());
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
             href=\"https://bugzilla.opensuse.org/show_bug.cgi?id=1\">boo#1</a>.</p>\n<p><a rel=\"nofollow noopener\" \
             href=\"https://x/?a=&quot;b&quot;&amp;c\">https://x/?a=\"b\"&amp;c</a></p>\n<p>javascript:alert(1)</p>\n"
        );
    }

    #[test]
    fn comments_are_markdown() {
        const LINK: &str = "<a rel=\"nofollow noopener\" href=\"";
        let linked = |to: &str, text: &str| format!("{LINK}{to}\">{text}</a>");
        let bug = linked("https://bugzilla.opensuse.org/show_bug.cgi?id=7", "boo#7");
        for (text, want) in [
            (
                "**bold** and *it*\nnext".to_owned(),
                "<p><strong>bold</strong> and <em>it</em><br>\nnext</p>".to_owned(),
            ),
            ("- a boo#7\n- b".to_owned(), format!("<ul>\n<li>a {bug}</li>\n<li>b</li>\n</ul>")),
            ("**boo#7**, `boo#7`".to_owned(), format!("<p><strong>{bug}</strong>, <code>boo#7</code></p>")),
            (
                "label:force_result:passed:boo#7".to_owned(),
                "<p>label:force_result:passed:boo#7</p>".to_owned(),
            ),
            (
                "    if a < b\n    boo#7\n".to_owned(),
                "<pre><code>if a &lt; b\nboo#7\n</code></pre>".to_owned(),
            ),
            ("# a\n#### b".to_owned(), "<h3>a</h3>\n<h6>b</h6>".to_owned()),
            (
                "[x](http://e/?a&b) [y](/tests/1)".to_owned(),
                format!("<p>{} {}</p>", linked("http://e/?a&amp;b", "x"), linked("/tests/1", "y")),
            ),
            (
                "<ann@example.org> [boo#7](https://e)".to_owned(),
                format!(
                    "<p>{} {}</p>",
                    linked("mailto:ann@example.org", "ann@example.org"),
                    linked("https://e", "boo#7")
                ),
            ),
            (
                "![a picture](https://e/p.png) ![](/p.png)".to_owned(),
                format!("<p>{} {}</p>", linked("https://e/p.png", "a picture"), linked("/p.png", "/p.png")),
            ),
            (
                "[![badge](https://e/b.svg)](https://e)".to_owned(),
                format!("<p>{}</p>", linked("https://e", "badge")),
            ),
            (
                "a <b>c</b> <img src=x onerror=f()>".to_owned(),
                "<p>a &lt;b&gt;c&lt;/b&gt; &lt;img src=x onerror=f()&gt;</p>".to_owned(),
            ),
        ] {
            assert_eq!(html(&text).trim_end(), want, "{text}");
        }
        for address in [
            "javascript:f()",
            "JaVaScRiPt:f()",
            "data:text/html,x",
            "//e/x",
            "/\\e",
            "vbscript:x",
            "x:y",
            "java&#10;script:f()",
            "<java script:f()>",
        ] {
            for text in
                [format!("[x]({address})"), format!("![x]({address})"), format!("[x]\n\n[x]: {address}")]
            {
                let shown = html(&text);
                assert!(!shown.contains("<a") && !shown.contains("<img"), "{text}: {shown}");
            }
        }
        assert!(!html("<javascript:f()>").contains("<a"));
        assert!(!html("[x](https://e 'a\" onclick=f()')").contains("onclick"));
    }

    #[test]
    fn hostile_comments_cost_no_more_than_others() {
        let many = |unit: &str| unit.repeat(100 * 1024 / unit.len());
        let units = [
            "[", "](", "[a](", "![", ">", "> ", "- ", "1. ", "*", "_a ", "`", "<", "<!--", "<a ", "&", "\\",
            "[a]: <", "~~~\n", "**a ", ">\n- ",
        ];
        let nested = |to: &str| format!("{}{}", "![a".repeat(12_000), to.repeat(12_000));
        let texts = units.into_iter().map(many).chain(["](/x)", "](x:)"].into_iter().map(nested));
        for text in texts {
            // What takes quadratic time does not end before the test is given up.
            let (shown, start) = (html(&text), text.get(..9).unwrap_or_default());
            assert!(shown.len() < 12 * text.len(), "{start:?} became {} bytes", shown.len());
        }
    }

    /// Everything that may stand in angle brackets.
    fn is_known(tag: &str) -> bool {
        let name = tag.trim_start_matches('/');
        let link =
            tag.strip_prefix("a rel=\"nofollow noopener\" href=\"").and_then(|rest| rest.strip_suffix('"'));
        let list = tag.strip_prefix("ol start=\"").and_then(|rest| rest.strip_suffix('"'));
        matches!(
            name,
            "p" | "a"
                | "em"
                | "strong"
                | "code"
                | "pre"
                | "ul"
                | "ol"
                | "li"
                | "blockquote"
                | "br"
                | "hr /"
                | "h3"
                | "h4"
                | "h5"
                | "h6"
        ) && tag != "a"
            || link.is_some_and(|to| may_link(to) && !to.contains('"'))
            || list.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    }

    proptest::proptest! {
        #[test]
        fn no_markup_gets_through(text in "[a-z#:/<>\"'&\n *_`!()\\[\\]\\\\-]{0,120}") {
            let shown = html(&text);
            for piece in shown.split('<').skip(1) {
                let (tag, _) = piece.split_once('>').unwrap_or((piece, ""));
                proptest::prop_assert!(is_known(tag), "{tag:?} in {shown}");
            }
            let texts = shown.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
            proptest::prop_assert!(texts.into_iter().all(|text| !text.contains('>')), "{}", shown);
            proptest::prop_assert_eq!(shown.matches("<a ").count(), shown.matches("</a>").count());
        }
    }
}
