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

    /// The line of a trust file for this key; `name` is one word.
    pub fn to_trust_line(&self, name: &str) -> String {
        format!("ed25519 {} {name}", self.to_base64())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, tests 1 and 2: seed, public key, message, signature.
    const RFC_8032: [[&str; 4]; 2] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
    ];

    #[test]
    fn rfc_8032() {
        for vector in RFC_8032 {
            let [seed, public, message, signature] = vector.map(|text| hex::decode(text).expect("hex"));
            let signer = Signer::from_seed(&seed.try_into().expect("32 bytes"));
            assert_eq!(signer.public_key().0.as_bytes().to_vec(), public);
            assert_eq!(signer.key.sign(&message).to_bytes().to_vec(), signature);
            assert!(signer.public_key().verifies(&message, &signature));
            assert!(!signer.public_key().verifies(b"other", &signature));
            assert!(!signer.public_key().verifies(&message, &signature[..63]));
        }
    }
}
