//! Rectangles in a picture.

/// A rectangle in pixels, from the upper left corner of the picture. It may be empty or stick out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
}

impl Rect {
    /// The first column to the right of it.
    pub fn right(self) -> u32 {
        self.x.saturating_add(self.w)
    }

    /// The first row below it.
    pub fn bottom(self) -> u32 {
        self.y.saturating_add(self.h)
    }

    /// How many pixels it covers.
    pub fn pixels(self) -> u64 {
        u64::from(self.w) * u64::from(self.h)
    }

    /// Covers no pixel.
    pub fn is_empty(self) -> bool {
        self.w == 0 || self.h == 0
    }

    /// Whether `other` lies in it completely. Edges past `u32::MAX` are never inside.
    pub fn contains(self, other: Rect) -> bool {
        let fits = |start: u32, length: u32, from: u32, size: u32| {
            start >= from && u64::from(start) + u64::from(length) <= u64::from(from) + u64::from(size)
        };
        fits(other.x, other.w, self.x, self.w) && fits(other.y, other.h, self.y, self.h)
    }

    /// The smallest rectangle around both.
    #[must_use]
    pub fn union(self, other: Rect) -> Rect {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Rect { x, y, w: right - x, h: bottom - y }
    }

    /// It and `margin` pixels all round, cut at the edges of `bounds`.
    #[must_use]
    pub fn grown(self, margin: u32, bounds: Rect) -> Rect {
        let (x, y) =
            (self.x.saturating_sub(margin).max(bounds.x), self.y.saturating_sub(margin).max(bounds.y));
        let right = self.right().saturating_add(margin).min(bounds.right());
        let bottom = self.bottom().saturating_add(margin).min(bounds.bottom());
        Rect { x, y, w: right.saturating_sub(x), h: bottom.saturating_sub(y) }
    }
}
