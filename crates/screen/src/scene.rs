//! A frame to match needles against.

use std::sync::{Arc, Mutex, PoisonError};

use crate::gray::Gray;
use crate::image::Image;
use crate::rect::Rect;

/// A frame and what was computed from it. One scene serves all needles: the gray levels are computed once, and
/// only of the parts that needles look at.
#[derive(Debug)]
pub struct Scene {
    image: Arc<Image>,
    gray: Mutex<Option<Arc<Gray>>>,
}

impl Scene {
    /// A scene without anything computed yet.
    pub fn new(image: Arc<Image>) -> Scene {
        Scene { image, gray: Mutex::new(None) }
    }

    /// The frame.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The gray levels of at least `rect`, which must lie in the frame. Kept, and grown when more is asked
    /// for; when that comes to half the frame all of it is computed.
    pub(crate) fn gray(&self, rect: Rect) -> Arc<Gray> {
        let mut gray = self.gray.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = rect;
        if let Some(gray) = &*gray {
            if gray.rect.contains(rect) {
                return Arc::clone(gray);
            }
            wanted = gray.rect.union(rect);
        }
        let bounds = self.image.bounds();
        if wanted.pixels() * 2 >= bounds.pixels() {
            wanted = bounds;
        }
        let grown = Arc::new(Gray::of(&self.image, wanted));
        *gray = Some(Arc::clone(&grown));
        grown
    }
}
