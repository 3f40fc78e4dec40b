//! PNG: every kind of it to RGB, and nothing that a hostile file can do.

use ::png::{BitDepth, ColorType, Encoder};
use assay_screen::{Image, ImageError, png};

fn file(
    color: ColorType,
    depth: BitDepth,
    width: u32,
    data: &[u8],
    more: impl Fn(&mut Encoder<'_, &mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    more(&mut encoder);
    encoder.write_header().expect("a header").write_image_data(data).expect("the data");
    bytes
}

#[test]
fn every_colour_type_becomes_rgb() {
    let plain =
        |color, depth, width, data: &[u8]| png::decode(&file(color, depth, width, data, |_| ())).unwrap();
    let (one, eight, sixteen) = (BitDepth::One, BitDepth::Eight, BitDepth::Sixteen);
    assert_eq!(plain(ColorType::Rgb, eight, 2, &[1, 2, 3, 4, 5, 6]).rgb(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        plain(ColorType::Rgba, eight, 1, &[1, 2, 3, 0]).rgb(),
        [1, 2, 3],
        "alpha is dropped, not applied"
    );
    assert_eq!(
        plain(ColorType::Rgb, sixteen, 1, &[1, 255, 2, 255, 3, 255]).rgb(),
        [1, 2, 3],
        "the upper byte"
    );
    assert_eq!(plain(ColorType::Rgba, sixteen, 1, &[1, 0, 2, 0, 3, 0, 9, 9]).rgb(), [1, 2, 3]);
    assert_eq!(plain(ColorType::Grayscale, eight, 2, &[7, 9]).rgb(), [7, 7, 7, 9, 9, 9]);
    assert_eq!(
        plain(ColorType::Grayscale, one, 3, &[0b1010_0000]).rgb(),
        [[255; 3], [0; 3], [255; 3]].concat()
    );
    assert_eq!(plain(ColorType::Grayscale, sixteen, 1, &[7, 200]).rgb(), [7, 7, 7]);
    assert_eq!(plain(ColorType::GrayscaleAlpha, eight, 1, &[7, 0]).rgb(), [7, 7, 7]);
    let palette = |encoder: &mut Encoder<'_, &mut Vec<u8>>| {
        encoder.set_palette(vec![9, 8, 7, 1, 2, 3]);
        encoder.set_trns(vec![0]);
    };
    let indexed = file(ColorType::Indexed, BitDepth::Two, 2, &[0b0100_0000], palette);
    assert_eq!(png::decode(&indexed).unwrap().rgb(), [1, 2, 3, 9, 8, 7]);
}

#[test]
fn interlaced_pictures_are_put_together() {
    // 3x2, Adam7, RGB 10 20 30, 40 50 60, ... 160 170 180.
    let bytes = include_bytes!("data/interlaced.png");
    let wanted: Vec<u8> = (1..=18).map(|i| i * 10).collect();
    assert_eq!(png::decode(bytes).unwrap(), Image::from_rgb(3, 2, wanted).unwrap());
}

#[test]
fn what_is_written_reads_the_same() {
    for (width, height) in [(1, 1), (3, 5), (640, 480)] {
        let data = (0..width * height * 3).map(|i| (i % 251 * 3) as u8).collect();
        let image = Image::from_rgb(width, height, data).unwrap();
        assert_eq!(png::decode(&png::encode(&image)).unwrap(), image);
    }
}

/// A file that says it is that large and holds next to nothing.
fn announced(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_chunk(::png::chunk::IDAT, &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]).expect("a chunk");
    drop(writer);
    bytes
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    let message = png::decode(&announced(1 << 20, 1 << 20)).unwrap_err().to_string();
    assert_eq!(message, "1048576x1048576 pixels are more than the 64 million allowed; use a smaller picture");
    assert!(matches!(png::decode(&announced(u32::MAX >> 1, 1)), Err(ImageError::TooLarge { .. })));
    assert!(png::decode(&announced(1000, 1000)).is_err());
}

#[test]
fn broken_files_are_told_apart() {
    let good = png::encode(&Image::filled(40, 30, [1, 2, 3]));
    assert!(matches!(png::decode(b""), Err(ImageError::Empty)));
    assert!(matches!(png::decode(b"P6 1 1 255 abc"), Err(ImageError::NotPng)));
    for length in 1..good.len() - 12 {
        assert!(
            matches!(png::decode(&good[..length]), Err(ImageError::Truncated)),
            "{length} of {}",
            good.len()
        );
    }
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    assert!(matches!(png::decode(&flipped), Err(ImageError::Damaged(_))));
}
