//! Needles (JSON + PNG), matching, frame similarity. Pure: bytes in, verdicts out.

pub mod gray;
pub mod image;
pub mod matcher;
pub mod needle;
pub mod needle_json;
pub mod png;
pub mod rect;
pub mod scene;
mod search;
pub mod similarity;

pub use image::Image;
pub use matcher::{AreaMatch, Matcher, NeedleMatch, ReferenceMatcher, SearchRatio, best_of};
pub use needle::{Needle, NeedleError};
pub use needle_json::{Area, AreaKind, ClickPoint, NeedleJson, Property};
pub use png::ImageError;
pub use rect::Rect;
pub use scene::Scene;
pub use similarity::similarity;
