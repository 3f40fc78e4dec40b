//! Writes the cases of `tests/oracle` for `oracle.pl` into a directory: pictures and `cases.json`.

#[path = "../tests/oracle/cases.rs"]
#[expect(dead_code, reason = "shared with the test, which uses more of it")]
mod cases;

use assay_screen::{AreaKind, NeedleJson, png};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let folder =
        std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: oracle_cases DIRECTORY"))?;
    fs_err::create_dir_all(&folder)?;
    let mut list = Vec::new();
    for case in cases::all() {
        fs_err::write(format!("{folder}/{}.scene.png", case.name), png::encode(&case.scene))?;
        fs_err::write(format!("{folder}/{}.needle.png", case.name), case.needle_png())?;
        // With openQA's defaults filled in, as its own reader of needles does.
        let needle = NeedleJson::parse(&case.name, case.json.as_bytes()).map_err(std::io::Error::other)?;
        let areas: Vec<_> = needle
            .areas
            .iter()
            .map(|area| {
                json!({
                    "xpos": area.rect.x, "ypos": area.rect.y, "width": area.rect.w, "height": area.rect.h,
                    "type": match area.kind { AreaKind::Exclude => "exclude", _ => "match" },
                    "margin": area.margin(),
                    "match": area.match_percent.unwrap_or(96.0),
                })
            })
            .collect();
        list.push(json!({ "name": case.name, "ratio": case.ratio, "area": areas }));
    }
    fs_err::write(format!("{folder}/cases.json"), serde_json::to_vec_pretty(&list)?)
}
