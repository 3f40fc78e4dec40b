//! Gray, blurred planes: what is compared when a needle is matched.
//!
//! The numbers are those that os-autoinst gets from OpenCV's 8-bit code: `BGR2GRAY` in 15-bit fixed point,
//! rounded half up, and `GaussianBlur` 3x3 (weights 1 2 1 each way, `BORDER_REFLECT_101`), whose rounding
//! depends on how much is blurred at once, see [`Rounding`]. Checked to the last bit against the binary.

use crate::image::Image;
use crate::rect::Rect;

/// The gray level of the solid green that excluded areas are painted with.
const EXCLUDED: u8 = luma(0, 255, 0);

const fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((9798 * r as u32 + 19235 * g as u32 + 3735 * b as u32 + (1 << 14)) >> 15) as u8
}

/// The gray levels of a part of a picture. One byte a pixel, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gray {
    /// Which part of the picture it is.
    pub rect: Rect,
    /// The whole picture.
    bounds: Rect,
    data: Vec<u8>,
}

impl Gray {
    /// Of the part `rect` of `image`, which must lie in it.
    pub fn of(image: &Image, rect: Rect) -> Gray {
        let mut data = Vec::with_capacity(rect.pixels() as usize);
        for y in rect.y..rect.bottom() {
            let row = &image.row(y)[rect.x as usize * 3..rect.right() as usize * 3];
            data.extend(row.chunks_exact(3).map(|p| luma(p[0], p[1], p[2])));
        }
        Gray { rect, bounds: image.bounds(), data }
    }

    /// A copy of the part `rect`, which must lie in it, with `hidden` rectangles painted over. Those that do
    /// not lie in the picture are left out, as upstream does.
    #[must_use]
    pub fn hiding(&self, rect: Rect, hidden: &[Rect]) -> Gray {
        let mut data = Vec::with_capacity(rect.pixels() as usize);
        for y in rect.y..rect.bottom() {
            data.extend_from_slice(&self.row(y)[(rect.x - self.rect.x) as usize..][..rect.w as usize]);
        }
        let mut part = Gray { rect, bounds: self.bounds, data };
        for hidden in hidden.iter().filter(|hidden| self.bounds.contains(**hidden)) {
            part.paint(*hidden);
        }
        part
    }

    fn row(&self, y: u32) -> &[u8] {
        &self.data[(y - self.rect.y) as usize * self.rect.w as usize..][..self.rect.w as usize]
    }

    fn paint(&mut self, hidden: Rect) {
        let own = self.rect;
        let (left, right) = (hidden.x.max(own.x), hidden.right().min(own.right()));
        if left >= right {
            return;
        }
        for y in hidden.y.max(own.y)..hidden.bottom().min(own.bottom()) {
            let start = (y - own.y) as usize * own.w as usize + (left - own.x) as usize;
            self.data[start..start + (right - left) as usize].fill(EXCLUDED);
        }
    }
}

/// What the blur does with a remainder of exactly one half.
///
/// OpenCV blurs a whole picture by code that rounds it up. A part is blurred by other code, which works in
/// groups of four columns and rounds it to the even neighbour; only the columns left over, at most three on
/// the right of the part, are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    /// The first column of the picture that is rounded up; those before go to the even neighbour.
    pub up_from: u32,
}

/// Which part of a picture os-autoinst would have blurred by now, as it decides the rounding: each part asked
/// for is added to it, and from half of the picture on it is all of it.
#[derive(Debug, Clone)]
pub struct BlurredSoFar {
    bounds: Rect,
    part: Option<Rect>,
}

impl BlurredSoFar {
    /// Nothing yet of a picture of that size.
    pub fn nothing(bounds: Rect) -> BlurredSoFar {
        BlurredSoFar { bounds, part: None }
    }

    /// Asks for `rect` and tells how it is rounded.
    pub fn add(&mut self, rect: Rect) -> Rounding {
        let mut part = self.part.map_or(rect, |part| part.union(rect));
        if part.pixels() * 2 >= self.bounds.pixels() {
            part = self.bounds;
        }
        self.part = Some(part);
        let up_from = if part == self.bounds { 0 } else { part.x + part.w / 4 * 4 };
        Rounding { up_from }
    }
}

/// A part of a picture, gray and blurred. One byte a pixel, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane {
    /// Which part of the picture it is.
    pub rect: Rect,
    data: Vec<u8>,
}

impl Plane {
    /// The part `rect`. `gray` must cover it and the pixels next to it, which count in the blur.
    pub fn blurred(gray: &Gray, rect: Rect, rounding: Rounding) -> Plane {
        let mut data = Vec::with_capacity(rect.pixels() as usize);
        let w = rect.w as usize;
        let even = (rounding.up_from.clamp(rect.x, rect.right()) - rect.x) as usize;
        let mut sums = vec![0_u16; w + 2];
        for y in rect.y..rect.bottom() {
            column_sums(gray, rect, y, &mut sums);
            let sum = |at: usize| sums[at] + 2 * sums[at + 1] + sums[at + 2];
            data.extend((0..even).map(|at| ((sum(at) + 7 + (sum(at) >> 4 & 1)) >> 4) as u8));
            data.extend((even..w).map(|at| ((sum(at) + 8) >> 4) as u8));
        }
        Plane { rect, data }
    }

    /// The bytes from column `x` of row `y`, both counted in the picture, `w` of them.
    pub fn row(&self, x: u32, y: u32, w: u32) -> &[u8] {
        let start = (y - self.rect.y) as usize * self.rect.w as usize + (x - self.rect.x) as usize;
        &self.data[start..start + w as usize]
    }
}

/// The neighbours of `at` in `0..size`, mirrored at the edges without repeating the edge itself.
fn neighbours(at: u32, size: u32) -> (u32, u32) {
    match (at, size) {
        (_, 1) => (0, 0),
        (0, _) => (1, 1),
        _ if at + 1 == size => (at - 1, at - 1),
        _ => (at - 1, at + 1),
    }
}

/// Row `y` of `rect` and one column more on each side, each pixel with those above and below it: 1 2 1.
fn column_sums(gray: &Gray, rect: Rect, y: u32, sums: &mut [u16]) {
    let (above, below) = neighbours(y, gray.bounds.h);
    let rows = [above, y, below].map(|y| gray.row(y));
    let start = (rect.x - gray.rect.x) as usize;
    let [above, middle, below] = rows.map(|row| &row[start..start + rect.w as usize]);
    for (((sum, &a), &b), &c) in sums[1..].iter_mut().zip(above).zip(middle).zip(below) {
        *sum = u16::from(a) + 2 * u16::from(b) + u16::from(c);
    }
    let single = |x: u32| {
        let [a, b, c] = rows.map(|row| u16::from(row[(x - gray.rect.x) as usize]));
        a + 2 * b + c
    };
    sums[0] = single(neighbours(rect.x, gray.bounds.w).0);
    sums[rect.w as usize + 1] = single(neighbours(rect.right() - 1, gray.bounds.w).1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Rounding = Rounding { up_from: 0 };

    fn noise(width: u32, height: u32) -> Image {
        let mut state = 1_u32;
        let data = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        Image::from_rgb(width, height, data).unwrap()
    }

    #[test]
    fn gray_levels_of_the_primaries() {
        assert_eq!((luma(255, 0, 0), luma(0, 255, 0), luma(0, 0, 255)), (76, 150, 29));
        assert_eq!((luma(255, 255, 255), luma(0, 0, 0), luma(0, 130, 0)), (255, 0, 76));
    }

    #[test]
    fn the_blur_spreads_a_dot_and_mirrors_at_the_edge() {
        let mut dot = Image::filled(5, 5, [0; 3]);
        dot.rgb_mut()[(2 * 5 + 1) * 3..][..3].fill(160);
        let plane = Plane::blurred(&Gray::of(&dot, dot.bounds()), dot.bounds(), UP);
        let row = |y| plane.row(0, y, 5).to_vec();
        assert_eq!(row(1), [20, 20, 10, 0, 0], "left of the edge lies column 1 again");
        assert_eq!(row(2), [40, 40, 20, 0, 0]);
        assert_eq!(row(4), [0; 5]);
    }

    #[test]
    fn halves_go_to_the_even_neighbour_but_for_the_columns_left_over() {
        // 8/16 and 24/16 in a row: columns of 2 and 6 between columns of 0.
        let mut image = Image::filled(64, 3, [0; 3]);
        for x in (0..64).step_by(4) {
            for y in 0..3 {
                let start = (y * 64 + x) * 3;
                image.rgb_mut()[start..start + 3].fill(if x % 8 == 0 { 2 } else { 6 });
            }
        }
        let rect = Rect { x: 7, y: 0, w: 7, h: 3 };
        let rounding = BlurredSoFar::nothing(image.bounds()).add(rect);
        let plane = Plane::blurred(&Gray::of(&image, image.bounds()), rect, rounding);
        // Halves: 7 and 9 (0.5), 11 (1.5) up to the group of four, 13 (1.5) after it.
        assert_eq!(plane.row(7, 1, 7), [0, 1, 0, 0, 2, 3, 2]);
        let whole = Plane::blurred(&Gray::of(&image, image.bounds()), rect, UP);
        assert_eq!(whole.row(7, 1, 7), [1, 1, 1, 0, 2, 3, 2]);
    }

    #[test]
    fn parts_add_up_until_they_are_the_whole() {
        let bounds = Rect { x: 0, y: 0, w: 100, h: 10 };
        let mut so_far = BlurredSoFar::nothing(bounds);
        assert_eq!(so_far.add(Rect { x: 10, y: 0, w: 7, h: 10 }).up_from, 14);
        assert_eq!(so_far.add(Rect { x: 12, y: 1, w: 1, h: 1 }).up_from, 14, "lies in it already");
        assert_eq!(so_far.add(Rect { x: 40, y: 0, w: 19, h: 10 }).up_from, 58);
        assert_eq!(so_far.add(Rect { x: 59, y: 0, w: 1, h: 10 }).up_from, 0, "half of the picture");
        assert_eq!(so_far.add(Rect { x: 0, y: 0, w: 1, h: 1 }).up_from, 0);
    }

    #[test]
    fn a_part_equals_the_same_part_of_the_whole() {
        for (width, height) in [(1, 1), (1, 7), (9, 1), (2, 2), (13, 11)] {
            let image = noise(width, height);
            let hidden = [Rect { x: width / 2, y: height / 3, w: width / 2, h: height / 2 }];
            let gray = Gray::of(&image, image.bounds()).hiding(image.bounds(), &hidden);
            let whole = Plane::blurred(&gray, image.bounds(), UP);
            for x in 0..width {
                for y in 0..height {
                    let rect = Rect { x, y, w: width - x, h: (height - y).min(3) };
                    let ring = rect.grown(1, image.bounds());
                    let part = Plane::blurred(&Gray::of(&image, ring).hiding(ring, &hidden), rect, UP);
                    for row in rect.y..rect.bottom() {
                        assert_eq!(part.row(x, row, rect.w), whole.row(x, row, rect.w), "{rect:?} row {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_hidden_rectangle_that_sticks_out_is_not_painted() {
        let image = noise(8, 8);
        let gray = Gray::of(&image, image.bounds());
        assert_eq!(gray.hiding(image.bounds(), &[Rect { x: 4, y: 4, w: 5, h: 1 }]), gray);
        assert_ne!(gray.hiding(image.bounds(), &[Rect { x: 4, y: 4, w: 4, h: 1 }]), gray);
    }
}
