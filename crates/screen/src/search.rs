//! Where in a window does a template fit best?
//!
//! The measure is the sum of squared differences (SQDIFF), exact in integers. Which of several good places
//! wins is os-autoinst's rule, see [`Template::search`].
//!
//! The search visits every place, but drops most of them early: the template is cut into cells, and from the
//! sum and the sum of squares of a cell and of the pixels under it follows a lower bound of their distance.
//! Over a flat background the bound is the distance itself. What is dropped could not have won, so the result
//! is that of the plain search.

use crate::gray::Plane;
use crate::rect::Rect;
use crate::similarity::sum_of_squares;

/// A place this much worse than the best, as sum of squares, still counts as equally good.
const TOLERANCE: u64 = 10;

/// Size of a cell. Its sum of squares must fit in 32 bits.
const CELL: (u32, u32) = (32, 16);

/// What is looked for: an area of a needle, blurred, cut into cells.
#[derive(Debug)]
pub(crate) struct Template {
    plane: Plane,
    /// The cells that differ most within themselves first: they rule out most places.
    cells: Vec<Cell>,
}

/// A part of a template.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// In the template.
    rect: Rect,
    sums: Sums,
    /// Square root of the sum of squared deviations from the mean.
    spread: f64,
}

/// Over the pixels of a rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums {
    values: u32,
    squares: u32,
}

impl Sums {
    /// Sum of squared deviations from the mean, times the number of pixels: exact.
    fn scatter(self, pixels: u64) -> u64 {
        pixels * u64::from(self.squares) - u64::from(self.values) * u64::from(self.values)
    }

    fn spread(self, pixels: u64) -> f64 {
        (self.scatter(pixels) as f64 / pixels as f64).sqrt()
    }
}

/// What is known of the distance between a cell and the pixels under it.
enum Bound {
    Exactly(u64),
    AtLeast(u64),
}

impl Template {
    /// Of the part of a needle's picture that an area covers.
    pub(crate) fn new(plane: Plane) -> Template {
        let Rect { x, y, w, h } = plane.rect;
        let columns = (0..w).step_by(CELL.0 as usize);
        let mut cells: Vec<Cell> = columns
            .flat_map(|left| (0..h).step_by(CELL.1 as usize).map(move |top| (left, top)))
            .map(|(left, top)| {
                let rect = Rect { x: left, y: top, w: CELL.0.min(w - left), h: CELL.1.min(h - top) };
                let mut sums = Sums { values: 0, squares: 0 };
                for row in top..rect.bottom() {
                    for &value in plane.row(x + left, y + row, rect.w) {
                        sums.values += u32::from(value);
                        sums.squares += u32::from(value) * u32::from(value);
                    }
                }
                Cell { rect, sums, spread: sums.spread(rect.pixels()) }
            })
            .collect();
        cells.sort_by(|a, b| b.spread.total_cmp(&a.spread));
        Template { plane, cells }
    }

    /// Sum of squared differences to the scene at `x`, `y`.
    pub(crate) fn distance(&self, scene: &Plane, x: u32, y: u32) -> u64 {
        let Rect { w, h, .. } = self.plane.rect;
        self.part_distance(scene, x, y, Rect { x: 0, y: 0, w, h })
    }

    fn part_distance(&self, scene: &Plane, x: u32, y: u32, part: Rect) -> u64 {
        let own = self.plane.rect;
        let rows = (part.y..part.bottom()).map(|row| {
            let wanted = self.plane.row(own.x + part.x, own.y + row, part.w);
            (scene.row(x + part.x, y + row, part.w), wanted)
        });
        if part.w == CELL.0 && part.h <= CELL.1 {
            return u64::from(rows.map(|(a, b)| full_row(a, b)).sum::<u32>());
        }
        rows.map(|(a, b)| sum_of_squares(a, b)).sum()
    }

    /// The distance of some place in `window` that is at most `limit`, or `None` if there is none.
    pub(crate) fn within(&self, scene: &Plane, window: Rect, limit: u64) -> Option<u64> {
        let own = self.plane.rect;
        if is_flat(scene, window) {
            return Some(self.distance(scene, window.x, window.y)).filter(|distance| *distance <= limit);
        }
        let integral = Integral::new(scene, window);
        let (columns, rows) = (window.w - own.w + 1, window.h - own.h + 1);
        let mut places = (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y)));
        places.find_map(|at| self.distance_up_to(scene, window, &integral, at, limit))
    }

    /// The best place in `window`, which contains `place`, both in pixels of the scene: where it is (left,
    /// top) and its sum of squared differences. `scene` must cover the window.
    ///
    /// The rule: start with the distance at `place`. Go through the window row by row; a smaller distance
    /// than the smallest so far discards all places kept; a place at most 10 worse is kept. Of those kept the
    /// one nearest to `place` wins, where, as in os-autoinst, the coordinates of those kept count from the
    /// window's corner and those of `place` from the scene's: of equal copies the lower right one is found.
    ///
    /// `known` is the distance at any place in the window; the smaller it is, the faster the search. Places
    /// beyond it may go unseen, as the place it belongs to, or a better one, would have discarded them.
    pub(crate) fn search(&self, scene: &Plane, window: Rect, place: Rect, known: u64) -> (u32, u32, u64) {
        let here = self.distance(scene, place.x, place.y);
        let (columns, rows) = (window.w - place.w + 1, window.h - place.h + 1);
        if is_flat(scene, window) {
            // Every place is as good as any other.
            let (x, y) = (place.x.min(columns - 1), place.y.min(rows - 1));
            return (window.x + x, window.y + y, here);
        }
        let integral = Integral::new(scene, window);
        let mut best = Best { smallest: here, known, nearest: None };
        for y in 0..rows {
            for x in 0..columns {
                if let Some(distance) = self.distance_up_to(scene, window, &integral, (x, y), best.limit()) {
                    best.offer(distance, (x, y), place);
                }
            }
        }
        // The smallest of all is always within the limit, so there is one.
        let (_, distance, (x, y)) =
            best.nearest.unwrap_or((0, here, (place.x - window.x, place.y - window.y)));
        (window.x + x, window.y + y, distance)
    }

    /// The distance at `at` in the window, or `None` if it is more than `limit`.
    fn distance_up_to(
        &self,
        scene: &Plane,
        window: Rect,
        integral: &Integral,
        at: (u32, u32),
        limit: u64,
    ) -> Option<u64> {
        let exact = |cell: &Cell| self.part_distance(scene, window.x + at.0, window.y + at.1, cell.rect);
        let mut total = 0;
        // The first cell says most: where it does not fit, the bounds of the others would cost more than they save.
        for (index, cell) in self.cells.iter().enumerate() {
            total += match cell.bound(integral, at) {
                Bound::AtLeast(bound) if index == 0 && bound <= limit => exact(cell),
                Bound::Exactly(distance) | Bound::AtLeast(distance) => distance,
            };
            if total > limit {
                return None;
            }
        }
        for cell in &self.cells[1..] {
            if let Bound::AtLeast(bound) = cell.bound(integral, at) {
                total = total - bound + exact(cell);
                if total > limit {
                    return None;
                }
            }
        }
        Some(total)
    }
}

/// The places kept so far.
struct Best {
    smallest: u64,
    known: u64,
    /// Squared distance from the original place, sum of squared differences, place in the window.
    nearest: Option<(i64, u64, (u32, u32))>,
}

impl Best {
    fn limit(&self) -> u64 {
        self.smallest.min(self.known).saturating_add(TOLERANCE)
    }

    /// `distance` is at most the limit.
    fn offer(&mut self, distance: u64, at: (u32, u32), place: Rect) {
        let square = |a: u32, b: u32| (i64::from(a) - i64::from(b)).pow(2);
        let away = square(at.0, place.x) + square(at.1, place.y);
        let better = distance < self.smallest;
        if better {
            self.smallest = distance;
        }
        if better || self.nearest.is_none_or(|(nearest, ..)| away < nearest) {
            self.nearest = Some((away, distance, at));
        }
    }
}

impl Cell {
    /// By the triangle inequality on the deviations from the mean:
    /// `distance >= (difference of sums)^2 / pixels + (difference of spreads)^2`.
    fn bound(&self, integral: &Integral, at: (u32, u32)) -> Bound {
        let pixels = self.rect.pixels();
        let under = integral.sums(Rect { x: self.rect.x + at.0, y: self.rect.y + at.1, ..self.rect });
        let (own, other) = (u64::from(self.sums.values), u64::from(under.values));
        if under.scatter(pixels) == 0 {
            let level = other / pixels;
            return Bound::Exactly(u64::from(self.sums.squares) + level * level * pixels - 2 * level * own);
        }
        let sums = own.abs_diff(other) as f64;
        let spreads = self.spread - under.spread(pixels);
        // The whole number below, and one less for what floating point may have added.
        let bound = (sums * sums / pixels as f64 + spreads * spreads) as u64;
        Bound::AtLeast(bound.saturating_sub(1))
    }
}

/// Sums over rectangles of a window in constant time. Counts modulo 2^32; cells are small enough not to notice.
struct Integral {
    width: usize,
    sums: Vec<Sums>,
}

impl Integral {
    fn new(scene: &Plane, window: Rect) -> Integral {
        let width = window.w as usize + 1;
        let mut sums = vec![Sums { values: 0, squares: 0 }; width * (window.h as usize + 1)];
        for (row, y) in (window.y..window.bottom()).enumerate() {
            let (above, below) = sums[row * width..].split_at_mut(width);
            let mut left = Sums { values: 0, squares: 0 };
            let pixels = scene.row(window.x, y, window.w);
            for ((sum, above), &value) in below[1..].iter_mut().zip(&above[1..]).zip(pixels) {
                left.values = left.values.wrapping_add(u32::from(value));
                left.squares = left.squares.wrapping_add(u32::from(value) * u32::from(value));
                sum.values = above.values.wrapping_add(left.values);
                sum.squares = above.squares.wrapping_add(left.squares);
            }
        }
        Integral { width, sums }
    }

    fn sums(&self, rect: Rect) -> Sums {
        let at = |x: u32, y: u32| self.sums[y as usize * self.width + x as usize];
        let (a, b) = (at(rect.x, rect.y), at(rect.right(), rect.y));
        let (c, d) = (at(rect.x, rect.bottom()), at(rect.right(), rect.bottom()));
        Sums {
            values: d.values.wrapping_sub(b.values).wrapping_sub(c.values).wrapping_add(a.values),
            squares: d.squares.wrapping_sub(b.squares).wrapping_sub(c.squares).wrapping_add(a.squares),
        }
    }
}

/// Sum of squared differences of two rows as wide as a cell: of fixed length, so that it is unrolled.
fn full_row(a: &[u8], b: &[u8]) -> u32 {
    let (Some(a), Some(b)) = (a.first_chunk::<{ CELL.0 as usize }>(), b.first_chunk::<{ CELL.0 as usize }>())
    else {
        return 0;
    };
    let mut sum = 0;
    for (&a, &b) in a.iter().zip(b) {
        let difference = i32::from(i16::from(a) - i16::from(b));
        sum += (difference * difference) as u32;
    }
    sum
}

fn is_flat(scene: &Plane, window: Rect) -> bool {
    let first = scene.row(window.x, window.y, 1)[0];
    (window.y..window.bottom()).all(|y| scene.row(window.x, y, window.w).iter().all(|&value| value == first))
}
