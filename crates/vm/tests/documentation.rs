//! `docs/variables.md` and the table in the code say the same.

use assay_vm::VARIABLES;

#[test]
fn every_variable_is_documented() {
    let path = camino::Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/variables.md");
    let text = fs_err::read_to_string(path).unwrap();
    for variable in VARIABLES {
        let default =
            if variable.default.is_empty() { String::new() } else { format!("`{}`", variable.default) };
        let row = format!("| `{}` | {default} | {} |", variable.name, variable.doc);
        assert!(text.contains(&row), "docs/variables.md lacks this line:\n{row}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, VARIABLES.len(), "docs/variables.md has lines for variables that are gone");
}
