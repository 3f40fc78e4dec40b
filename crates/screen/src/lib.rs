//! Needles (JSON + PNG), matching, frame similarity. Pure: bytes in, verdicts out.

pub mod image;

pub use image::Image;
