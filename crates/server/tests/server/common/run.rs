//! What a run leaves behind, for tests and for the showcase: steps with pictures.

use assay_records::step::{
    AreaHit, ModuleFlags, ModulePlan, ModuleResult, NeedleHit, Picture, Record, Source, Step, StepBody,
    StepResult,
};

/// A picture of a screen: a bar, lines of "text", and a box.
pub(crate) fn screen(seed: u32, lines: u32) -> Vec<u8> {
    const WIDTH: u32 = 1024;
    const HEIGHT: u32 = 768;
    let mut pixels = vec![0u8; (WIDTH * HEIGHT * 3) as usize];
    let mut fill = |x: u32, y: u32, w: u32, h: u32, colour: [u8; 3]| {
        for row in y..(y + h).min(HEIGHT) {
            for column in x..(x + w).min(WIDTH) {
                let at = ((row * WIDTH + column) * 3) as usize;
                pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    };
    fill(0, 0, WIDTH, HEIGHT, [18, 20, 30]);
    fill(0, 0, WIDTH, 56, [(seed * 53 % 120) as u8 + 30, 60, 130]);
    for line in 0..lines {
        let length = 120 + (seed * 97 + line * 211) % 640;
        for word in 0..length / 60 {
            fill(
                60 + word * 64,
                100 + line * 30,
                30 + (seed + word * 31 + line * 17) % 28,
                14,
                [200, 205, 210],
            );
        }
    }
    fill(640, 560, 300, 120, [40, 90 + (seed * 31 % 100) as u8, 60]);
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().expect("memory takes everything");
    writer.write_image_data(&pixels).expect("memory takes everything");
    drop(writer);
    png
}

pub(crate) fn picture(sha256: &str) -> Picture {
    Picture { sha256: sha256.into(), width: 1024, height: 768 }
}

pub(crate) fn plan(modules: &[&str]) -> Record {
    let plan = |name: &&str| ModulePlan {
        name: (*name).into(),
        file: format!("tests/{name}.star"),
        flags: ModuleFlags { fatal: *name == "boot", ..ModuleFlags::default() },
    };
    Record::Plan { modules: modules.iter().map(plan).collect() }
}

pub(crate) fn environment() -> Record {
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Record::Environment {
        facts: vec![
            fact("QEMU", "7.2.22"),
            fact("accelerator", "tcg: /dev/kvm is there but a guest does not boot under it"),
            fact("namespace", "own network namespace; nothing listens on a network address"),
        ],
    }
}

pub(crate) fn started(module: &str, at_us: u64) -> Record {
    Record::ModuleStarted { module: module.into(), at_us }
}

pub(crate) fn ended(module: &str, result: ModuleResult, at_us: u64, duration_us: u64) -> Record {
    Record::ModuleEnded { module: module.into(), result, at_us, duration_us }
}

pub(crate) fn hit(name: &str, similarity: f64, ok: bool, png: Option<&str>, json: Option<&str>) -> NeedleHit {
    let tags = vec![name.split('-').next().unwrap_or(name).to_owned(), name.to_owned()];
    let areas = vec![
        AreaHit { x: 56, y: 92, w: 420, h: 60, similarity, ok },
        AreaHit { x: 636, y: 556, w: 308, h: 128, similarity: (similarity + 0.02).min(1.0), ok: true },
    ];
    let error = (1.0 - similarity).powi(2);
    let text = |text: Option<&str>| text.map(str::to_owned);
    NeedleHit { name: name.into(), tags, error, json: text(json), png: text(png), areas }
}

fn step(module: &str, number: u32, call: &str, result: StepResult, body: StepBody) -> Step {
    Step {
        module: module.into(),
        number,
        at_us: 900_000 * u64::from(number),
        duration_us: 310_000,
        call: call.into(),
        source: Some(Source { file: format!("tests/{module}.star"), line: 6 + number }),
        result,
        screenshot: None,
        body,
    }
}

pub(crate) fn found(module: &str, number: u32, tag: &str, shot: &str, needle: NeedleHit) -> Record {
    let body = StepBody::Look {
        tags: vec![tag.into()],
        timeout_s: 30.0,
        matched: Some(needle),
        candidates: Vec::new(),
    };
    let step = step(module, number, "assert_screen", StepResult::Ok, body);
    Record::Step(Box::new(Step { screenshot: Some(picture(shot)), ..step }))
}

pub(crate) fn missed(module: &str, number: u32, tag: &str, shot: &str, candidates: Vec<NeedleHit>) -> Record {
    let body = StepBody::Look { tags: vec![tag.into()], timeout_s: 30.0, matched: None, candidates };
    let step = step(module, number, "assert_screen", StepResult::Fail, body);
    Record::Step(Box::new(Step { screenshot: Some(picture(shot)), ..step }))
}

pub(crate) fn looked(module: &str, number: u32, shot: &str) -> Record {
    let step = step(module, number, "save_screenshot", StepResult::Unknown, StepBody::Screenshot);
    Record::Step(Box::new(Step { screenshot: Some(picture(shot)), ..step }))
}

pub(crate) fn text(module: &str, number: u32, title: &str, output: &str, result: StepResult) -> Record {
    let body = StepBody::Text { title: title.into(), output: output.into() };
    Record::Step(Box::new(step(module, number, "record_info", result, body)))
}

pub(crate) fn serial(module: &str, number: u32, pattern: &str, found: Option<&str>) -> Record {
    let body = StepBody::Serial {
        patterns: vec![pattern.into()],
        found: found.map(str::to_owned),
        timeout_s: 90.0,
        expect_not_found: false,
    };
    let result = if found.is_some() { StepResult::Ok } else { StepResult::Fail };
    Record::Step(Box::new(step(module, number, "wait_serial", result, body)))
}

/// As JSON lines.
pub(crate) fn lines(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        out.extend(serde_json::to_vec(record).expect("records are JSON"));
        out.push(b'\n');
    }
    out
}
