//! How a page looks: in narrow and in wide windows, light and dark, and without complaints of the browser.

use crate::webdriver::Browser;
use serde_json::json;

/// What stands in the head of a page, also in its menus, or beside an input and is cut off, although the page does not
/// scroll.
const HIDDEN: &str = "(() => { \
                      const out = e => { const r = e.getBoundingClientRect(); return r.width < 1 || r.left < 0 || r.right > innerWidth + 1; }; \
                      const cut = p => p.scrollWidth > p.clientWidth + 1 || p.scrollHeight > p.clientHeight + 1; \
                      const all = [...document.querySelectorAll('.bar a, #steps > .panel p')]; \
                      const hidden = all.filter(e => !e.closest('details') && (out(e) || cut(e.parentElement))); \
                      const menus = [...document.querySelectorAll('.bar details')]; menus.forEach(m => m.open = true); \
                      hidden.push(...all.filter(e => e.closest('.bar details') && out(e))); \
                      menus.forEach(m => m.open = false); return hidden.map(e => e.textContent); })()";

/// The page fits its window: nothing has to be scrolled sideways.
pub async fn fits(browser: &Browser, name: &str) {
    for (width, height) in [(360, 740), (1400, 900)] {
        browser.resize(width, height).await;
        let found = browser.eval("document.scrollingElement.scrollWidth").await;
        assert_eq!(found, width, "{name} at {width} pixels is wider than its window");
        let hidden = browser.eval(HIDDEN).await;
        assert_eq!(hidden, json!([]), "{name} at {width} pixels: what of the head cannot be seen");
        browser.screenshot(&format!("{name}-{width}")).await;
    }
}

/// The page in both schemes: the background differs, and the text can be read on it.
pub async fn light_and_dark(browser: &Browser, name: &str) {
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        let colours = browser.eval("[document.body, document.querySelector('h1')].map(e => getComputedStyle(e)).map((s, i) => i ? s.color : s.backgroundColor)").await;
        let luminance = |index: usize| luminance(colours[index].as_str().unwrap());
        let (lighter, darker) = (luminance(0).max(luminance(1)), luminance(0).min(luminance(1)));
        assert!((lighter + 0.05) / (darker + 0.05) > 7.0, "{scheme}: contrast of {colours}");
        backgrounds.push(luminance(0));
        browser.screenshot(&format!("{name}-{scheme}")).await;
    }
    assert!(backgrounds[0] > 0.8 && backgrounds[1] < 0.1, "{backgrounds:?}");
    browser.prefer("light").await;
}

/// Relative luminance of `rgb(r, g, b)`, by WCAG 2.
fn luminance(colour: &str) -> f64 {
    let part = colour.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_end_matches(')');
    let linear = |value: &str| {
        let value = value.trim().parse::<f64>().unwrap() / 255.0;
        if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let channels: Vec<f64> = part.split(',').take(3).map(linear).collect();
    0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
}

/// The browser has nothing to complain about since it was asked last.
pub async fn no_complaints(browser: &Browser) {
    let mut complaints = browser.complaints().await;
    // A job that ends while its page is on the way has no live picture any more.
    complaints.retain(|said| !(said.contains("/live.png-stream") && said.contains("410 (Gone)")));
    assert_eq!(complaints, [""; 0]);
}

/// Marks the page, so that another load of it is noticed.
pub async fn mark(browser: &Browser) {
    browser.eval("window.mark = 'not reloaded'").await;
}

/// It is still the page that was marked.
pub async fn not_reloaded(browser: &Browser) {
    assert_eq!(browser.eval("window.mark ?? null").await, "not reloaded");
}
