//! Addresses of the web.

use std::fmt::Write as _;

/// A text as one part of an address: a segment of its path, or a name or a value of its query.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn parts_of_addresses() {
        assert_eq!(encoded("a b/ü?#%"), "a%20b%2F%C3%BC%3F%23%25");
        assert_eq!(encoded("A-9._~"), "A-9._~");
    }
}
