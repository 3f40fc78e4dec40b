//! Whatever the files contain, loading them answers; it does not panic, hang or exhaust the stack.

use crate::common::{temporary, write_suite};
use assay_script::Suite;
use proptest::prelude::*;

const SEED: &str = r#"load("//lib/l.star", "login", root = "USER")
test(name = "boot-1", fatal = False, timeout = "1h30m")
PROMPT = ["grub" + "-prompt"]
def helper(t: Machine, n = 3, *args, **kwargs) -> None:
    for i in range(n):
        t.send_key("ret" if i else "esc", do_wait = True)
def run(t: Machine):
    m = t.assert_screen("a b", timeout = 60)
    if t.check_screen(PROMPT) and not m.tags[0]:
        login(t, user = root)
    elif m.error < 0.5:
        helper(t, *[1], **{"n": 2})
    r = t.attempt(lambda: t.assert_screen("maybe", timeout = 3))
    x = {k: v for k, v in [("a", 1)] if k != f"{r}"}
    t.until(lambda: t.wait_serial("(ok)", timeout = 1) or x)
"#;

const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "\n",
    "\n    ",
    " = ",
    "*",
    "**",
    "lambda",
    "def ",
    "if ",
    "else",
    "for ",
    " in ",
    "not ",
    "-",
    "t",
    "t.",
    "Machine",
    "test(",
    "load(",
    "\"",
    "'",
    "\"\"\"",
    "\\",
    "f\"",
    "{x}",
    "#",
    "1",
    "1e999",
    "0x",
    "None",
    "True",
    "return",
    "pass",
    ".",
    "é",
    "\u{feff}",
    "\0",
    "\t",
    "\r",
    "@",
    "//lib/l.star",
    "run",
    "post_fail",
    "|",
    "->",
    ": Machine",
    "lambda: ",
    "~",
    "+",
    "%",
    "//",
    ";",
];

/// No diagnostic may say that the checker itself failed.
fn survives(tests: &str, library: &str) {
    let dir = temporary();
    write_suite(&dir.path, "=== lib/l.star\n");
    fs_err::create_dir_all(dir.path.join("tests")).unwrap();
    fs_err::write(dir.path.join("tests/a.star"), tests).unwrap();
    fs_err::write(dir.path.join("lib/l.star"), library).unwrap();
    let diagnostics = match Suite::load(&dir.path, None) {
        Ok((_, warnings)) => warnings,
        Err(errors) => {
            assert!(!errors.is_empty());
            errors
        }
    };
    for diagnostic in diagnostics {
        assert!(diagnostic.code != "internal", "{diagnostic}\n{tests}");
        assert!(!diagnostic.message.contains('\n'), "{diagnostic}");
    }
}

const LIBRARY: &str = "USER = \"root\"\ndef login(t: Machine, user: str = USER):\n    t.enter_cmd(user)\n";

/// A text with some places replaced by pieces of the language.
fn mutated(seed: &'static str) -> impl Strategy<Value = String> {
    let edit = (0..seed.len(), 0_usize..12, proptest::sample::select(PIECES));
    proptest::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut text = seed.to_owned();
        for (at, length, piece) in edits {
            let floor = |mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let (begin, end) = (floor(at), floor(at + length));
            text.replace_range(begin..end, piece);
        }
        text
    })
}

/// More by `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_tests(text in mutated(SEED)) {
        survives(&text, LIBRARY);
    }

    #[test]
    fn mutated_libraries(text in mutated(LIBRARY)) {
        survives(SEED, &text);
    }

    #[test]
    fn soup(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        survives(&pieces.concat(), LIBRARY);
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        survives(&text, LIBRARY);
    }

    /// `@test(...)` of Python modules is read by a scanner of our own.
    #[test]
    fn python_declarations(text in "(@test|@post_fail|[()\\[\\]{}\"'\\\\#=,a-z0-9 \\n]|é){0,40}") {
        let dir = temporary();
        fs_err::create_dir_all(dir.path.join("tests")).unwrap();
        fs_err::write(dir.path.join("tests/a.py"), format!("@test{text}")).unwrap();
        let _ = Suite::load(&dir.path, None);
    }
}

/// Chains that make the parser, the checker and the compiler recurse: within the bounds and far beyond.
#[test]
fn deep_trees() {
    let chains: [(&str, &str); 14] = [
        ("-", "1"),
        ("not ", "1"),
        ("1 + ", "1"),
        ("1 +\n  ", "1"),
        ("lambda: ", "1"),
        ("lambda a, b: ", "1"),
        ("1 if 1 else ", "1"),
        ("1 and ", "1"),
        ("1 == ", "1"),
        ("x.a", ".a"),
        ("x", "()"),
        ("x", "[0]"),
        ("(", ")"),
        ("[1, 2, {3: ", "}]"),
    ];
    for times in [20, 90, 180, 490, 2_000, 50_000] {
        for (open, close) in chains {
            let chain = if open == "x" || open == "x.a" {
                format!("{open}{}", close.repeat(times))
            } else if close == "1" {
                format!("{}1", open.repeat(times))
            } else {
                format!("{}{}", open.repeat(times), close.repeat(times))
            };
            for body in [format!("X = ({chain})"), format!("def f(x):\n    return ({chain})")] {
                survives(&format!("test()\ndef run(t: Machine):\n    pass\n{body}\n"), LIBRARY);
            }
        }
        let ifs: String = (1..times.min(600)).map(|depth| format!("{}if 1:\n", " ".repeat(depth))).collect();
        survives(&format!("test()\ndef f():\n{ifs}"), LIBRARY);
        let elifs = "    elif 1:\n        pass\n".repeat(times.min(20_000));
        survives(&format!("test()\ndef f():\n    if 1:\n        pass\n{elifs}"), LIBRARY);
    }
    survives(&"X = 1\n".repeat(20_000), LIBRARY);
    survives(&format!("X = [{}]\n", "(1, \"a\", -2), ".repeat(5_000)), LIBRARY);
}

/// An expression that may hold the variables a, b and c within lists, tuples and dicts.
fn expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec!["a", "b", "c", "1", "'x'", "[]", "t.get_var('V')"])
        .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(x, y)| format!("({x}, {y})")),
            two.clone().prop_map(|(x, y)| format!("[{x}, {y}]")),
            two.clone().prop_map(|(x, y)| format!("{{1: {x}, 2: {y}}}")),
            two.clone().prop_map(|(x, y)| format!("[({x}, v) for v in {y}]")),
            two.clone().prop_map(|(x, y)| format!("list(zip({x}, {y}))")),
            two.clone().prop_map(|(x, y)| format!("({x} if {y} else ({x},))")),
            two.clone().prop_map(|(x, y)| format!("({x} + {y})")),
            two.prop_map(|(x, y)| format!("struct(f = {x}, g = {y})")),
            inner.clone().prop_map(|x| format!("{x}[0]")),
            inner.clone().prop_map(|x| format!("enumerate({x})")),
            inner.clone().prop_map(|x| format!("dict(k = {x})")),
            inner.prop_map(|x| format!("sorted({x})")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(vec!["a", "b", "c"]);
    (name.clone(), name, expression(), 0..7).prop_map(|(x, y, value, form)| match form {
        0 => format!("{x}, {y} = {value}, {y}"),
        1 => format!("for {x} in {value}: {y} = [{x}]"),
        2 => format!("{x} += {value}"),
        3 => format!("{x}.append({value})"),
        4 => format!("{x}[{y}] = {value}"),
        _ => format!("{x} = {value}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// The type checker ends, however types are made of each other.
    #[test]
    fn types_made_of_types(body in proptest::collection::vec(statement(), 1..7)) {
        let body: String = body.iter().map(|line| format!("    {line}\n")).collect();
        survives(&format!("test()\ndef run(t: Machine):\n    a = 1\n    b = 2\n    c = 3\n{body}"), LIBRARY);
    }
}

#[test]
fn links_do_not_lead_out() {
    let outside = temporary();
    fs_err::write(outside.path.join("secret.star"), "SECRET = 1\n").unwrap();
    let dir = temporary();
    write_suite(
        &dir.path,
        "=== tests/a.star\nload(\"//lib/out.star\", \"SECRET\")\nload(\"//lib/dir/secret.star\", S2 = \"SECRET\")\ntest()\n\
         def run(t: Machine):\n    print(SECRET, S2)\n=== lib/x.star\n",
    );
    std::os::unix::fs::symlink(outside.path.join("secret.star"), dir.path.join("lib/out.star")).unwrap();
    std::os::unix::fs::symlink(&outside.path, dir.path.join("lib/dir")).unwrap();
    let errors = Suite::load(&dir.path, None).unwrap_err();
    let codes: Vec<&str> = errors.iter().map(|error| error.code.as_str()).collect();
    assert_eq!(codes, ["outside", "outside"], "{errors:?}");
}

#[test]
fn odd_files_are_refused_by_name() {
    let dir = temporary();
    write_suite(&dir.path, "=== tests/a.star\n");
    fs_err::write(dir.path.join("tests/a.star"), b"test()\n\xff\xfe").unwrap();
    fs_err::create_dir(dir.path.join("tests/b.star")).unwrap();
    fs_err::write(dir.path.join("tests/c.star"), vec![b'#'; 2 << 20]).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path.join("tests/d.star")).unwrap();
    let errors = Suite::load(&dir.path, None).unwrap_err();
    let told: Vec<String> =
        errors.iter().map(|error| format!("{}:{} {}", error.file, error.line, error.code)).collect();
    let expected = [
        "tests/a.star:2 encoding",
        "tests/b.star:0 unreadable",
        "tests/c.star:0 too-large",
        "tests/d.star:0 unreadable",
    ];
    assert_eq!(told, expected, "{errors:?}");
    let missing = Suite::load(&dir.path.join("nowhere"), None).unwrap_err();
    assert!(missing[0].to_string().contains("cannot open the test directory"), "{missing:?}");
}
