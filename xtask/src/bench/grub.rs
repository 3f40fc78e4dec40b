//! The test that is measured, as examples/grub has it, and its needles as exact references.

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use serde::Deserialize;

/// What the test does, in order.
pub(super) const SEQUENCE: &[Action] = &[
    Action::Wait("grub-menu"),
    Action::Key("c"),
    Action::Wait("grub-prompt"),
    Action::Line("echo hello from assay"),
    Action::Wait("grub-echo"),
    Action::Line("ls"),
    Action::Wait("grub-devices"),
    Action::Line("halt"),
];

/// The image that it boots, and the memory it gives.
pub(super) const ISO: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";
pub(super) const RAM_MIB: &str = "128";

#[derive(Clone, Copy)]
pub(super) enum Action {
    /// Until a needle with this tag is on the screen.
    Wait(&'static str),
    /// One key.
    Key(&'static str),
    /// A line, with the return key.
    Line(&'static str),
}

/// The tags that the test waits for, in order.
pub(super) fn tags() -> impl Iterator<Item = &'static str> {
    SEQUENCE.iter().filter_map(|action| match action {
        Action::Wait(tag) => Some(*tag),
        Action::Key(_) | Action::Line(_) => None,
    })
}

/// A needle's match areas as exact pixels.
pub(super) struct Reference {
    tags: Vec<String>,
    width: usize,
    height: usize,
    areas: Vec<Area>,
}

/// An area and its rows, RGB.
struct Area {
    x: usize,
    y: usize,
    rows: Vec<Vec<u8>>,
}

/// A picture as QEMU dumps it: 8-bit RGB.
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rgb: Vec<u8>,
}

impl Picture {
    /// Reads a binary PPM with 255 levels; `None` while the file is not whole.
    pub(super) fn from_ppm(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
        if parts.next()? != b"P6" {
            return None;
        }
        let size = std::str::from_utf8(parts.next()?).ok()?;
        let (width, height) = size.split_once(' ')?;
        let (width, height) = (width.parse().ok()?, height.parse().ok()?);
        let rgb = parts.nth(1)?;
        (rgb.len() == width * height * 3).then(|| Self { width, height, rgb: rgb.to_vec() })
    }

    fn row(&self, x: usize, y: usize, width: usize) -> &[u8] {
        let start = (y * self.width + x) * 3;
        &self.rgb[start..start + width * 3]
    }
}

#[derive(Deserialize)]
struct NeedleJson {
    area: Vec<AreaJson>,
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct AreaJson {
    xpos: usize,
    ypos: usize,
    width: usize,
    height: usize,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

impl Reference {
    /// All needles of a test directory; every tag of the test must be among them.
    pub(super) fn load_all(example: &Utf8Path) -> Result<Vec<Self>> {
        let dir = example.join("needles");
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&dir).context("the benchmark compares with the example's needles")? {
            let path = camino::Utf8PathBuf::try_from(entry?.path())?;
            if path.extension() == Some("json") {
                all.push(Self::load(&path).with_context(|| format!("{path} cannot serve as a reference"))?);
            }
        }
        for tag in tags() {
            if !all.iter().any(|reference| reference.has(tag)) {
                bail!("no needle in {dir} has the tag {tag}; make it with `assay needle new`");
            }
        }
        Ok(all)
    }

    fn load(json: &Utf8Path) -> Result<Self> {
        let needle: NeedleJson = serde_json::from_slice(&fs_err::read(json)?)?;
        let picture = decode_png(&json.with_extension("png"))?;
        let areas = needle.area.iter().filter(|area| area.kind.as_deref().unwrap_or("match") == "match");
        let areas = areas
            .map(|area| {
                if area.xpos + area.width > picture.width || area.ypos + area.height > picture.height {
                    bail!("an area lies outside the picture");
                }
                let row = |y| picture.row(area.xpos, y, area.width).to_vec();
                Ok(Area {
                    x: area.xpos,
                    y: area.ypos,
                    rows: (area.ypos..area.ypos + area.height).map(row).collect(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { tags: needle.tags, width: picture.width, height: picture.height, areas })
    }

    pub(super) fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// True if every area is there, pixel by pixel.
    pub(super) fn is_on(&self, picture: &Picture) -> bool {
        (self.width, self.height) == (picture.width, picture.height)
            && self.areas.iter().all(|area| {
                let mut rows = area.rows.iter().enumerate();
                rows.all(|(dy, row)| picture.row(area.x, area.y + dy, row.len() / 3) == row)
            })
    }
}

/// True if a needle with this tag is on the picture.
pub(super) fn shows(references: &[Reference], tag: &str, picture: &Picture) -> bool {
    references.iter().any(|reference| reference.has(tag) && reference.is_on(picture))
}

fn decode_png(path: &Utf8Path) -> Result<Picture> {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(fs_err::File::open(path)?));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut buffer = vec![0; reader.output_buffer_size().context("the picture is too large")?];
    let info = reader.next_frame(&mut buffer)?;
    let samples = info.color_type.samples();
    let pixels = buffer[..info.buffer_size()].chunks_exact(samples);
    let rgb = pixels
        .flat_map(|pixel| if samples >= 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] })
        .collect();
    Ok(Picture { width: info.width as usize, height: info.height as usize, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The benchmark is worth nothing if it does something else than the example.
    #[test]
    fn the_sequence_is_that_of_the_example() {
        let example = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grub");
        let mut files: Vec<_> =
            fs_err::read_dir(example.join("tests")).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs_err::read_to_string(file).unwrap()).collect();
        let mut at = 0;
        for action in SEQUENCE {
            let (Action::Wait(word) | Action::Key(word) | Action::Line(word)) = action;
            let quoted = format!("\"{word}\"");
            let found = text[at..].find(&quoted);
            assert!(found.is_some(), "{quoted} does not follow in examples/grub/tests");
            at += found.unwrap() + quoted.len();
        }
        let vars = fs_err::read_to_string(example.join("vars.json")).unwrap();
        assert!(vars.contains(&format!("\"{ISO}\"")) && vars.contains(&format!("\"{RAM_MIB}\"")));
    }

    fn picture(changed: Option<(usize, usize)>) -> Picture {
        let mut rgb = vec![7; 4 * 3 * 3];
        if let Some((x, y)) = changed {
            rgb[(y * 4 + x) * 3 + 2] = 8;
        }
        Picture { width: 4, height: 3, rgb }
    }

    #[test]
    fn one_pixel_inside_an_area_counts_and_outside_does_not() {
        let area = Area { x: 1, y: 1, rows: vec![vec![7; 6], vec![7; 6]] };
        let reference = Reference { tags: vec!["a".into()], width: 4, height: 3, areas: vec![area] };
        assert!(reference.is_on(&picture(None)));
        assert!(reference.is_on(&picture(Some((3, 2)))));
        assert!(!reference.is_on(&picture(Some((2, 2)))));
        assert!(!reference.is_on(&Picture { width: 3, height: 4, rgb: vec![7; 36] }));
    }

    #[test]
    fn ppm_is_read_only_when_whole() {
        let whole = b"P6\n2 1\n255\nabcdef";
        assert_eq!(
            Picture::from_ppm(whole).map(|p| (p.width, p.height, p.rgb)),
            Some((2, 1, b"abcdef".to_vec()))
        );
        // Pixels may hold a line's end.
        assert!(Picture::from_ppm(b"P6\n2 1\n255\n\n\n\n\n\n\n").is_some());
        assert!(Picture::from_ppm(&whole[..16]).is_none() && Picture::from_ppm(b"").is_none());
    }
}
