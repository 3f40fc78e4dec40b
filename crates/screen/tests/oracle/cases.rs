//! Made-up screens and needles, each from a seed, for the comparison with os-autoinst's own matcher.

use assay_screen::{Image, Rect, SearchRatio, png};

/// One question to a matcher.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) scene: Image,
    pub(crate) needle: Image,
    pub(crate) json: String,
    pub(crate) ratio: f64,
}

impl Case {
    pub(crate) fn search(&self) -> SearchRatio {
        SearchRatio::new(self.ratio)
    }

    pub(crate) fn needle_png(&self) -> Vec<u8> {
        png::encode(&self.needle)
    }
}

/// A small generator of numbers (splitmix64): the same on every machine for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (self.next() % u64::from(limit)) as u32
    }

    pub(crate) fn colour(&mut self) -> [u8; 3] {
        let bits = self.next();
        [bits as u8, (bits >> 8) as u8, (bits >> 16) as u8]
    }
}

pub(crate) fn fill(image: &mut Image, rect: Rect, rgb: [u8; 3]) {
    let width = image.width();
    let cut = rect.grown(0, image.bounds());
    for y in cut.y..cut.bottom() {
        for x in cut.x..cut.right() {
            image.rgb_mut()[(y * width + x) as usize * 3..][..3].copy_from_slice(&rgb);
        }
    }
}

/// Something like glyphs: dark and bright dots in 8x16 cells, left to right.
pub(crate) fn text(image: &mut Image, rect: Rect, seed: u64, rgb: [u8; 3]) {
    let mut random = Random::new(seed);
    for top in (rect.y..rect.bottom()).step_by(16) {
        for left in (rect.x..rect.right()).step_by(8) {
            let glyph = random.next();
            for bit in 0..60 {
                let (x, y) = (left + bit % 6, top + 2 + bit / 6);
                if glyph >> bit & 1 == 1 && x < rect.right() && y < rect.bottom() {
                    fill(image, Rect { x, y, w: 1, h: 1 }, rgb);
                }
            }
        }
    }
}

/// Adds up to `strength` to or takes it from every byte.
pub(crate) fn noise(image: &mut Image, seed: u64, strength: u32) {
    let mut random = Random::new(seed);
    for byte in image.rgb_mut() {
        let change = random.below(2 * strength + 1) as i32 - strength as i32;
        *byte = (i32::from(*byte) + change).clamp(0, 255) as u8;
    }
}

/// A screen with a ramp, boxes and lines of text.
pub(crate) fn screen(width: u32, height: u32, seed: u64) -> Image {
    let mut random = Random::new(seed);
    let mut image = Image::filled(width, height, random.colour());
    for y in 0..height / 3 {
        fill(&mut image, Rect { x: 0, y, w: width, h: 1 }, [(y * 2) as u8, y as u8, 90]);
    }
    for _ in 0..6 {
        let rect = Rect {
            x: random.below(width),
            y: random.below(height),
            w: 10 + random.below(80),
            h: 8 + random.below(50),
        };
        fill(&mut image, rect, random.colour());
    }
    for _ in 0..5 {
        let rect = Rect { x: random.below(width), y: random.below(height), w: 100, h: 16 };
        text(&mut image, rect, random.next(), random.colour());
    }
    image
}

pub(crate) fn paste(image: &mut Image, part: &Image, x: u32, y: u32) {
    let width = image.width();
    for row in 0..part.height().min(image.height().saturating_sub(y)) {
        let columns = part.width().min(width.saturating_sub(x));
        let start = ((y + row) * width + x) as usize * 3;
        let bytes = &part.row(row)[..columns as usize * 3];
        image.rgb_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

fn area(rect: Rect, more: &str) -> String {
    let Rect { x, y, w, h } = rect;
    format!(r#"{{"xpos":{x},"ypos":{y},"width":{w},"height":{h}{more}}}"#)
}

fn json(areas: &[String]) -> String {
    format!(r#"{{"area":[{}],"properties":[],"tags":["t"]}}"#, areas.join(","))
}

fn rect(x: u32, y: u32, w: u32, h: u32) -> Rect {
    Rect { x, y, w, h }
}

/// All cases, always the same.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 0..40 {
        cases.push(shifted(seed));
        cases.push(noisy(seed));
        cases.push(excluded(seed));
        cases.push(edges(seed));
    }
    for seed in 0..12 {
        cases.push(unrelated(seed));
        cases.push(smooth(seed));
        cases.push(copies(seed));
    }
    for seed in 0..24 {
        cases.push(levels(seed));
    }
    cases.extend(sizes());
    cases
}

/// Two areas of a screen, moved by a few pixels: inside the margin, just at it, beyond.
fn shifted(seed: u64) -> Case {
    let mut random = Random::new(1000 + seed);
    let needle = screen(320, 240, seed);
    let mut scene = screen(320, 240, seed ^ 0xff);
    let (dx, dy) = (random.below(24), random.below(24));
    let areas = [rect(40, 100, 60, 20), rect(150, 150, 90, 40)];
    for place in areas {
        let part = needle.crop(place).expect("inside");
        paste(&mut scene, &part, place.x + dx - 12, place.y + dy - 12);
    }
    let margin = 5 + random.below(12);
    let more = format!(r#","margin":{margin},"match":{}"#, 80 + random.below(20));
    Case {
        name: format!("shifted-{seed}"),
        scene,
        needle,
        json: json(&areas.map(|place| area(place, &more))),
        ratio: if seed.is_multiple_of(4) { 0.02 } else { 0.0 },
    }
}

/// The same screen with noise, from invisible to heavy.
fn noisy(seed: u64) -> Case {
    let needle = screen(240, 160, 77 + seed);
    let mut scene = needle.clone();
    noise(&mut scene, seed, 1 + seed as u32 * 2);
    let areas = [rect(30, 30, 100, 40), rect(20, 100, 64, 16)];
    Case {
        name: format!("noisy-{seed}"),
        scene,
        needle,
        json: json(&areas.map(|place| area(place, r#","margin":12"#))),
        ratio: 0.0,
    }
}

/// Something else in an excluded rectangle, sometimes moved, sometimes sticking out.
fn excluded(seed: u64) -> Case {
    let mut random = Random::new(2000 + seed);
    let needle = screen(240, 160, 300 + seed);
    let mut scene = Image::filled(240, 160, [0; 3]);
    let moved = if seed.is_multiple_of(3) { random.below(5) } else { 0 };
    paste(&mut scene, &needle, moved, moved);
    let hidden =
        rect(60 + random.below(30), 50 + random.below(20), 20 + random.below(30), 10 + random.below(20));
    text(&mut scene, hidden, seed, [250, 250, 0]);
    let beyond = rect(200, 100, 40 + (seed % 2) as u32, 60);
    let areas = [
        area(rect(40, 40, 110, 60), r#","margin":8"#),
        area(hidden, r#","type":"exclude""#),
        area(beyond, r#","type":"exclude""#),
        area(rect(180, 90, 50, 50), r#","margin":10,"type":"match""#),
    ];
    Case { name: format!("excluded-{seed}"), scene, needle, json: json(&areas), ratio: 0.0 }
}

/// Areas that touch the edges or cover a whole side.
fn edges(seed: u64) -> Case {
    let needle = screen(160, 120, 500 + seed);
    let mut scene = needle.clone();
    noise(&mut scene, seed, (seed % 5) as u32 * 4);
    let places = [
        rect(0, 0, 40, 30),
        rect(120, 90, 40, 30),
        rect(0, 60, 160, 1),
        rect(80, 0, 1, 120),
        rect(159, 119, 1, 1),
    ];
    let mut random = Random::new(seed);
    let first = random.below(5) as usize;
    let second = random.below(5) as usize;
    let areas = [places[first], places[second]].map(|place| area(place, r#","margin":20"#));
    Case { name: format!("edges-{seed}"), scene, needle, json: json(&areas), ratio: 0.0 }
}

/// Nothing alike; also blank scenes, as before a machine shows anything.
fn unrelated(seed: u64) -> Case {
    let needle = screen(240, 160, 700 + seed);
    let scene = match seed % 3 {
        0 => Image::filled(240, 160, [0; 3]),
        1 => Image::filled(240, 160, [120, 130, 140]),
        _ => screen(240, 160, 900 + seed),
    };
    let place = area(rect(100, 70, 60, 30), r#","margin":15"#);
    Case { name: format!("unrelated-{seed}"), scene, needle, json: json(&[place]), ratio: 0.0 }
}

/// A ramp without any edge, where many places are nearly alike.
fn smooth(seed: u64) -> Case {
    let ramp = |from: u32| {
        let mut image = Image::filled(200, 120, [0; 3]);
        for x in 0..200 {
            fill(&mut image, rect(x, 0, 1, 120), [u32::midpoint(x, from) as u8; 3]);
        }
        image
    };
    let place = area(rect(60, 40, 50, 30), r#","margin":9"#);
    Case {
        name: format!("smooth-{seed}"),
        scene: ramp(10 + seed as u32 * 2),
        needle: ramp(10),
        json: json(&[place]),
        ratio: 0.0,
    }
}

/// The area is gone from its place; two or three equal copies elsewhere.
fn copies(seed: u64) -> Case {
    let mut random = Random::new(4000 + seed);
    let mut needle = Image::filled(600, 400, [20, 20, 30]);
    let place = rect(300, 200, 24, 16);
    text(&mut needle, place, seed, [255; 3]);
    let part = needle.crop(place).expect("inside");
    let mut scene = Image::filled(600, 400, [20, 20, 30]);
    let offsets = [(270, 200), (340, 200), (300, 240), (300, 170), (280, 180), (330, 225)];
    for _ in 0..2 + seed % 2 {
        let (x, y) = offsets[random.below(6) as usize];
        paste(&mut scene, &part, x, y);
    }
    Case { name: format!("copies-{seed}"), scene, needle, json: json(&[area(place, "")]), ratio: 0.0 }
}

/// Flat colours against each other: the gray levels themselves, and match levels just met or missed.
fn levels(seed: u64) -> Case {
    let mut random = Random::new(6000 + seed);
    let colour = random.colour();
    let near = colour.map(|byte| byte.saturating_add((seed % 8) as u8));
    let needle = Image::filled(32, 24, colour);
    let scene = Image::filled(32, 24, near);
    let more = format!(r#","match":{}"#, 90 + seed % 10);
    Case {
        name: format!("levels-{seed}"),
        scene,
        needle,
        json: json(&[area(rect(8, 8, 10, 9), &more)]),
        ratio: 0.0,
    }
}

/// Scenes of another size than the needle's picture. The whole screen is searched and one place fits, so
/// that it does not matter where the search starts: the oracle is older than the scaling of positions.
fn sizes() -> Vec<Case> {
    let needle = screen(240, 160, 42);
    let place = rect(60, 100, 60, 24);
    let part = needle.crop(place).expect("inside");
    [(200, 140), (240, 160), (320, 240), (480, 320)]
        .into_iter()
        .map(|(width, height)| {
            let mut scene = screen(width, height, 43);
            paste(&mut scene, &part, width - 130, height - 60);
            let name = format!("sizes-{width}x{height}");
            Case { name, scene, needle: needle.clone(), json: json(&[area(place, "")]), ratio: 1.0 }
        })
        .collect()
}
