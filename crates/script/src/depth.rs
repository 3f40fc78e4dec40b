//! How deep the syntax tree of a text can become, before anything recurses over it. The parser has no bound of its
//! own, and a stack that overflows takes the whole process along.

/// Brackets within brackets.
const MAX_BRACKETS: usize = 100;

/// Operators in a chain, such as `a + b + c` or `not not x`, over all brackets that are open.
const MAX_CHAIN: usize = 1000;

/// `lambda` in one statement: commas between parameters hide how they nest.
const MAX_LAMBDAS: usize = 200;

/// Blocks within blocks.
const MAX_BLOCKS: usize = 100;

/// `elif` in one file: each is a block within the `else` of the one before.
const MAX_ELIFS: usize = 500;

/// The line, from 1, where a bound is passed, and which.
pub(crate) fn too_deep(text: &str) -> Option<(u32, &'static str)> {
    let mut scan = Scan { line: 1, chains: vec![0], lambdas: 0, blocks: Vec::new(), elifs: 0 };
    let mut rest = text;
    let mut line_begins = true;
    while let Some(c) = rest.chars().next() {
        if line_begins {
            rest = scan.line_start(rest);
            line_begins = false;
            if let Some(message) = scan.verdict() {
                return Some((scan.line, message));
            }
            continue;
        }
        let length = match c {
            '\n' => {
                scan.line += 1;
                line_begins = true;
                scan.end_of_line();
                1
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                let length = string_length(rest, c);
                scan.line += u32::try_from(rest[..length].matches('\n').count()).unwrap_or(0);
                length
            }
            '\\' if rest[1..].starts_with('\n') => {
                scan.line += 1;
                2
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                scan.word(&rest[..length]);
                length
            }
            _ => {
                scan.sign(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
        if let Some(message) = scan.verdict() {
            return Some((scan.line, message));
        }
    }
    None
}

/// The length of a string literal with its quotes; up to the end of the line if it is not closed there.
fn string_length(text: &str, quote: char) -> usize {
    let triple = [quote; 3].iter().collect::<String>();
    let (open, multiline) = if text.starts_with(&triple) { (3, true) } else { (1, false) };
    let mut escaped = false;
    for (at, c) in text[open..].char_indices() {
        let at = open + at;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' if !multiline => return at,
            _ if c == quote && !multiline => return at + 1,
            _ if c == quote && text[at..].starts_with(&triple) => return at + 3,
            _ => {}
        }
    }
    text.len()
}

struct Scan {
    line: u32,
    /// Operators since the last comma, for each open bracket; the first is outside of all.
    chains: Vec<usize>,
    lambdas: usize,
    /// Indentation of the blocks that are open.
    blocks: Vec<usize>,
    elifs: usize,
}

impl Scan {
    /// Looks at the indentation; answers the line without it.
    fn line_start<'t>(&mut self, text: &'t str) -> &'t str {
        let line = text.trim_start_matches(' ');
        let indent = text.len() - line.len();
        // These cannot stand within brackets: whatever was left open there, the parser gives up here.
        if indent == 0 && ["def ", "load(", "test("].iter().any(|begin| line.starts_with(begin)) {
            self.chains = vec![0];
            self.lambdas = 0;
        }
        if self.chains.len() == 1 && !line.starts_with(['\n', '#', '\r']) {
            while self.blocks.last().is_some_and(|block| *block >= indent) {
                self.blocks.pop();
            }
            if indent > 0 {
                self.blocks.push(indent);
            }
        }
        line
    }

    fn end_of_line(&mut self) {
        if self.chains.len() == 1 {
            self.chains[0] = 0;
            self.lambdas = 0;
        }
    }

    fn word(&mut self, word: &str) {
        match word {
            "lambda" => self.lambdas += 1,
            "elif" => self.elifs += 1,
            "not" | "and" | "or" | "in" | "if" | "else" => self.operator(),
            _ => {}
        }
    }

    fn operator(&mut self) {
        if let Some(chain) = self.chains.last_mut() {
            *chain += 1;
        }
    }

    fn sign(&mut self, c: char) {
        match c {
            '(' | '[' | '{' => {
                self.operator();
                self.chains.push(0);
            }
            ')' | ']' | '}' if self.chains.len() > 1 => {
                self.chains.pop();
            }
            ',' | ';' => {
                if let Some(chain) = self.chains.last_mut() {
                    *chain = 0;
                }
            }
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '&' | '|' | '^' | '~' | '.' => {
                self.operator();
            }
            _ => {}
        }
    }

    fn verdict(&self) -> Option<&'static str> {
        if self.chains.len() > MAX_BRACKETS + 1 {
            return Some("brackets are nested more than 100 deep");
        }
        if self.blocks.len() > MAX_BLOCKS {
            return Some("blocks are nested more than 100 deep");
        }
        if self.lambdas > MAX_LAMBDAS {
            return Some("the statement has more than 200 `lambda`");
        }
        if self.elifs > MAX_ELIFS {
            return Some("the file has more than 500 `elif`");
        }
        let chain: usize = self.chains.iter().sum();
        (chain > MAX_CHAIN).then_some("the expression has more than 1000 operators in a chain")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_files_are_shallow() {
        let table = "    (\"a\", 3 - 1, f(x.y[3])),\n".repeat(5000);
        let strings = "x = \"((((((((((\" * 3 # ((((((\ny = '''\n((((((\n'''\n".repeat(300);
        let functions =
            "def f(x):\n    if x:\n        return [a + b for a in x]\n    return not x\n\n".repeat(2000);
        for text in [format!("X = [\n{table}]\n"), strings, functions] {
            assert_eq!(too_deep(&text), None);
        }
    }

    #[test]
    fn an_open_bracket_is_left_to_the_parser() {
        let text = format!("X = (1 +\n{}", "def f():\n    return 1 + 2 * 3\n".repeat(2000));
        assert_eq!(too_deep(&text), None);
    }

    #[test]
    fn depth_is_found_with_its_line() {
        assert_eq!(
            too_deep(&format!("a\nb\n{}", "(".repeat(101))),
            Some((3, "brackets are nested more than 100 deep"))
        );
        let chain = format!("x = (1\n{})", "+ 1\n".repeat(1001));
        assert_eq!(too_deep(&chain), Some((1000, "the expression has more than 1000 operators in a chain")));
        let lambdas = format!("x = {}1", "lambda a, b: ".repeat(201));
        assert_eq!(too_deep(&lambdas), Some((1, "the statement has more than 200 `lambda`")));
        let blocks = (1..200).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "if x:\n");
        assert_eq!(too_deep(&blocks), Some((101, "blocks are nested more than 100 deep")));
    }
}
