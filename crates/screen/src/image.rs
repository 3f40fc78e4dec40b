//! Pictures as the rest of the crate sees them.

use crate::rect::Rect;

/// An 8-bit RGB picture: rows from the top, three bytes a pixel, no padding, at least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Image {
    /// A picture of one colour. A size of 0 is taken as 1: a picture has at least one pixel.
    pub fn filled(width: u32, height: u32, rgb: [u8; 3]) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        let data = rgb.repeat(width as usize * height as usize);
        Self { width, height, data }
    }

    /// Takes `data` as it is; `None` unless it holds exactly `width * height * 3` bytes, and some.
    pub fn from_rgb(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        let wanted = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (wanted > 0 && data.len() == wanted).then_some(Self { width, height, data })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes, `width * height * 3` of them.
    pub fn rgb(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, to draw into.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The whole picture as a rectangle.
    pub fn bounds(&self) -> Rect {
        Rect { x: 0, y: 0, w: self.width, h: self.height }
    }

    /// The bytes of row `y`, three a pixel. `y` must be less than the height.
    pub fn row(&self, y: u32) -> &[u8] {
        let stride = self.width as usize * 3;
        &self.data[y as usize * stride..][..stride]
    }

    /// The part of the picture inside `rect`; `None` if `rect` is empty or sticks out.
    pub fn crop(&self, rect: Rect) -> Option<Image> {
        if rect.is_empty() || !self.bounds().contains(rect) {
            return None;
        }
        let mut data = Vec::with_capacity(rect.pixels() as usize * 3);
        for y in rect.y..rect.bottom() {
            data.extend_from_slice(&self.row(y)[rect.x as usize * 3..rect.right() as usize * 3]);
        }
        Some(Image { width: rect.w, height: rect.h, data })
    }

    /// The picture at `height` pixels with its proportions kept, each new pixel the mean of those it covers
    /// (box filter, exact areas). For thumbnails: it never enlarges, a lower picture comes back as it is.
    #[must_use]
    pub fn scale_to_height(&self, height: u32) -> Image {
        let height = height.clamp(1, self.height);
        if height == self.height {
            return self.clone();
        }
        let scaled =
            (u64::from(self.width) * u64::from(height) + u64::from(self.height) / 2) / u64::from(self.height);
        let width = (scaled as u32).clamp(1, self.width);
        let columns = spans(self.width, width);
        let rows = spans(self.height, height);
        let total = u64::from(self.width) * u64::from(self.height);
        let mut data = Vec::with_capacity(width as usize * height as usize * 3);
        let mut sums = vec![0_u64; self.width as usize * 3];
        for row in &rows {
            sums.fill(0);
            for (y, weight) in row.covered() {
                for (sum, &byte) in sums.iter_mut().zip(self.row(y)) {
                    *sum += u64::from(byte) * weight;
                }
            }
            for column in &columns {
                let mut pixel = [0_u64; 3];
                for (x, weight) in column.covered() {
                    for (value, sum) in pixel.iter_mut().zip(&sums[x as usize * 3..]) {
                        *value += sum * weight;
                    }
                }
                data.extend(pixel.map(|value| ((value + total / 2) / total) as u8));
            }
        }
        Image { width, height, data }
    }
}

/// The stretch of `from` pixels that one of `to` covers, in units of 1/to pixel.
struct Span {
    start: u64,
    end: u64,
    to: u64,
}

impl Span {
    /// The pixels it touches, each with how much of it is covered (of `to`).
    fn covered(&self) -> impl Iterator<Item = (u32, u64)> {
        (self.start / self.to..self.end.div_ceil(self.to)).map(|index| {
            let from = self.start.max(index * self.to);
            let till = self.end.min((index + 1) * self.to);
            (index as u32, till - from)
        })
    }
}

fn spans(from: u32, to: u32) -> Vec<Span> {
    let (from, to) = (u64::from(from), u64::from(to));
    (0..to).map(|index| Span { start: index * from, end: (index + 1) * from, to }).collect()
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(width: u32, height: u32) -> Image {
        let data = (0..width * height).flat_map(|i| [i as u8, (i * 3) as u8, (i * 7) as u8]).collect();
        Image::from_rgb(width, height, data).unwrap()
    }

    #[test]
    fn crop_takes_exactly_the_rectangle_or_nothing() {
        let image = steps(5, 4);
        let part = image.crop(Rect { x: 3, y: 1, w: 2, h: 2 }).unwrap();
        assert_eq!(part.rgb(), [8, 24, 56, 9, 27, 63, 13, 39, 91, 14, 42, 98]);
        assert_eq!(image.crop(Rect { x: 4, y: 0, w: 2, h: 1 }), None);
        assert_eq!(image.crop(Rect { x: 0, y: 0, w: 0, h: 1 }), None);
        assert_eq!(image.crop(Rect { x: u32::MAX, y: 0, w: 2, h: 1 }), None);
    }

    #[test]
    fn scaling_averages_the_covered_area() {
        // Two by two blocks, then a factor that is no whole number: 3 columns to 2 weigh 1, 1/2 | 1/2, 1.
        let image = Image::from_rgb(2, 2, vec![0, 0, 0, 10, 20, 30, 20, 40, 60, 30, 60, 90]).unwrap();
        assert_eq!(image.scale_to_height(1).rgb(), [15, 30, 45]);
        let image = Image::from_rgb(3, 3, [[0; 3], [90; 3], [30; 3]].concat().repeat(3)).unwrap();
        assert_eq!(image.scale_to_height(2).rgb(), [[30; 3], [50; 3]].concat().repeat(2));
    }

    #[test]
    fn scaling_keeps_proportions_and_never_enlarges() {
        let image = Image::filled(1024, 768, [9, 200, 255]);
        let thumbnail = image.scale_to_height(45);
        assert_eq!((thumbnail.width(), thumbnail.height()), (60, 45));
        assert_eq!(thumbnail, Image::filled(60, 45, [9, 200, 255]));
        assert_eq!(image.scale_to_height(2000), image);
        assert_eq!(Image::filled(1, 900, [1; 3]).scale_to_height(45).width(), 1);
        assert_eq!(Image::filled(900, 1, [1; 3]).scale_to_height(45).height(), 1);
    }

    #[test]
    fn a_picture_has_pixels() {
        assert_eq!(Image::from_rgb(0, 3, vec![]), None);
        assert_eq!(Image::from_rgb(1, 1, vec![0; 4]), None);
        assert_eq!(Image::filled(0, 0, [1; 3]).rgb(), [1; 3]);
    }
}
