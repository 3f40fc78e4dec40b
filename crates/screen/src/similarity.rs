//! How alike two frames are, as os-autoinst measures it.

use crate::image::Image;

/// What identical frames get instead of infinity, dB.
pub const IDENTICAL: f64 = 1e6;

/// `wait_still_screen`: a frame below this, dB, against the reference restarts the still time.
pub const STILL_LEVEL: f64 = 47.0;

/// `wait_screen_change`: a frame below this, dB, against the first one is a change.
pub const CHANGE_LEVEL: f64 = 50.0;

/// Peak signal-to-noise ratio in dB over all three channels: `10 log10(255^2 * 3N / sum of squares)`.
///
/// [`IDENTICAL`] for equal frames, 0 for frames of different size.
pub fn similarity(a: &Image, b: &Image) -> f64 {
    if (a.width(), a.height()) != (b.width(), b.height()) {
        return 0.0;
    }
    match sum_of_squares(a.rgb(), b.rgb()) {
        0 => IDENTICAL,
        noise => 10.0 * (255.0 * 255.0 * a.rgb().len() as f64 / noise as f64).log10(),
    }
}

/// The sum of squared differences of two slices of one length.
pub(crate) fn sum_of_squares(a: &[u8], b: &[u8]) -> u64 {
    // 65,536 squares of at most 255 fit in 32 bits, in which the inner loop runs as vectors.
    a.chunks(1 << 16).zip(b.chunks(1 << 16)).map(|(a, b)| u64::from(short_sum(a, b))).sum()
}

fn short_sum(a: &[u8], b: &[u8]) -> u32 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| {
            let difference = i32::from(i16::from(a) - i16::from(b));
            (difference * difference) as u32
        })
        .fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_unequal_and_incomparable_frames() {
        let black = Image::filled(300, 400, [0; 3]);
        assert!((similarity(&black, &black.clone()) - 1e6).abs() < f64::EPSILON);
        assert!(similarity(&black, &Image::filled(300, 400, [255; 3])).abs() < 1e-9, "0 dB: all noise");
        assert!(similarity(&black, &Image::filled(400, 300, [0; 3])).abs() < f64::EPSILON);
        let mut speck = black.clone();
        speck.rgb_mut()[7] = 10;
        let wanted = 10.0 * (65025.0 * 360_000.0 / 100.0_f64).log10();
        assert!((similarity(&black, &speck) - wanted).abs() < 1e-9);
    }

    #[test]
    fn the_levels_tell_a_blinking_cursor_from_new_text() {
        let screen = Image::filled(1024, 768, [0; 3]);
        let mut cursor = screen.clone();
        for y in 0..2 {
            for x in 0..8 * 3 {
                cursor.rgb_mut()[y * 1024 * 3 + x] = 170;
            }
        }
        assert!(similarity(&screen, &cursor) > STILL_LEVEL.max(CHANGE_LEVEL));
        for y in 0..16 {
            for x in 0..80 * 3 {
                cursor.rgb_mut()[y * 1024 * 3 + x] = 170;
            }
        }
        assert!(similarity(&screen, &cursor) < STILL_LEVEL);
    }
}
