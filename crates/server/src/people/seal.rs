//! Secrets that the server needs again, sealed with a key that is not in the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Seals and opens.
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    /// With the key of the data directory.
    pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
        UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// `secret` sealed, as text. It opens only for the same `owner`.
    pub(crate) fn close(&self, owner: &str, secret: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = secret.to_vec();
        let owner = Aad::from(owner.as_bytes());
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), owner, &mut sealed).ok()?;
        Some(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The secret; `None` if it was sealed with another key, for another owner, or has been changed.
    pub(crate) fn open(&self, owner: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let owner = Aad::from(owner.as_bytes());
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), owner, &mut sealed).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_owner_open() {
        let (seal, other) = (Seal::new(&[7; 32]).unwrap(), Seal::new(&[8; 32]).unwrap());
        let sealed = seal.close("K1", b"0123456789ABCDEF").unwrap();
        assert!(!sealed.contains("0123456789ABCDEF"));
        assert_ne!(sealed, seal.close("K1", b"0123456789ABCDEF").unwrap(), "sealed anew each time");
        assert_eq!(seal.open("K1", &sealed).as_deref(), Some(b"0123456789ABCDEF".as_slice()));
        assert_eq!(seal.open("K2", &sealed), None);
        assert_eq!(other.open("K1", &sealed), None);
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(seal.open("K1", &STANDARD.encode(&bytes)), None, "byte {at}");
            bytes[at] ^= 1;
        }
        for text in ["", "AAAA", "no base64!"] {
            assert_eq!(seal.open("K1", text), None);
        }
    }
}
