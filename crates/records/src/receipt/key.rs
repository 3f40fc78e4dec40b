//! Keys: the signer's own, and the public ones that a trust file names.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::envelope::{Envelope, EnvelopeSignature, decode, encode, pae};

/// First word of the line that holds a private key.
const PRIVATE: &str = "ed25519-private";

/// Signs receipts. It never shows its key.
pub struct Signer {
    key: SigningKey,
    key_id: String,
}

/// Why a file is not a private key. The text never holds any of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// There is no line with a key.
    #[error("the key file has no key; its one line is `ed25519-private BASE64`")]
    Empty,
    /// More than one line with a key.
    #[error("line {0} of the key file is a second key; keep one key in each file")]
    Second(usize),
    /// A line does not begin with the word.
    #[error("line {0} of the key file does not begin with `ed25519-private`; PEM files are not read")]
    Word(usize),
    /// The rest of the line is not 32 bytes in base64.
    #[error(
        "line {0} of the key file does not end in 32 bytes of base64; restore the file or make a new key"
    )]
    Seed(usize),
}

impl Signer {
    /// A key from its 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let key_id = PublicKey(key.verifying_key()).key_id();
        Self { key, key_id }
    }

    /// Reads a key file: `ed25519-private BASE64-OF-THE-SEED`, with comments and empty lines.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut found = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if found.is_some() {
                return Err(KeyFileError::Second(number));
            }
            let mut words = line.split_whitespace();
            if words.next() != Some(PRIVATE) {
                return Err(KeyFileError::Word(number));
            }
            let seed = words.next().filter(|_| words.next().is_none()).and_then(decode);
            let seed: Option<[u8; 32]> = seed.and_then(|seed| seed.try_into().ok());
            found = Some(Self::from_seed(&seed.ok_or(KeyFileError::Seed(number))?));
        }
        found.ok_or(KeyFileError::Empty)
    }

    /// The key file, to be written where only the server can read it.
    pub fn to_key_file(&self) -> String {
        format!(
            "# Signs the receipts of an Assay server. Whoever has this file can forge them.\n# Key id {}\n{PRIVATE} {}\n",
            self.key_id,
            encode(self.key.as_bytes())
        )
    }

    /// SHA-256 of the public key, hex.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// Signs a payload.
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Envelope {
        let signature = self.key.sign(&pae(payload_type, payload));
        Envelope {
            payload_type: payload_type.into(),
            payload: encode(payload),
            signatures: vec![EnvelopeSignature {
                keyid: self.key_id.clone(),
                sig: encode(&signature.to_bytes()),
            }],
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A text that is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not 32 bytes in base64.
    #[error("this is not 32 bytes in base64")]
    Base64,
    /// Not a point on the curve, or one of the few that sign anything.
    #[error("these bytes are not a public key of ed25519")]
    Point,
}

impl PublicKey {
    /// Reads base64.
    pub fn parse(text: &str) -> Result<Self, PublicKeyError> {
        let bytes =
            decode(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or(PublicKeyError::Base64)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| PublicKeyError::Point)?;
        if key.is_weak() { Err(PublicKeyError::Point) } else { Ok(Self(key)) }
    }

    /// Base64, as in a trust file.
    pub fn to_base64(&self) -> String {
        encode(self.0.as_bytes())
    }

    /// SHA-256 of the key, hex.
    pub fn key_id(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }

    /// True if this key made the signature, which is 64 bytes, over exactly these bytes.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // The strict check: one message has one signature only.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_base64())
    }
}
