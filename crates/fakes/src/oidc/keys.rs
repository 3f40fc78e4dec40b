//! Keys that sign tokens, and what is published of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// A key of nobody: making RSA keys takes longer than a test should.
const RSA: &[u8] = include_bytes!("rsa.der");

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A key with its name.
pub(super) struct SigningKey {
    name: String,
    pair: Pair,
}

impl SigningKey {
    pub(super) fn new(algorithm: Algorithm, name: &str) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let failed = |what: &dyn std::fmt::Display| anyhow::anyhow!("no key could be made: {what}");
        let pair = match algorithm {
            Algorithm::Rs256 => {
                Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(RSA).map_err(|error| failed(&error))?))
            }
            Algorithm::Es256 => {
                let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let made = EcdsaKeyPair::generate_pkcs8(kind, &random).map_err(|error| failed(&error))?;
                let pair = EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random);
                Pair::Ecdsa(Box::new(pair.map_err(|error| failed(&error))?))
            }
            Algorithm::EdDsa => Pair::Ed25519(Box::new(ed25519()?)),
        };
        Ok(Self { name: name.to_owned(), pair })
    }

    /// A key of the same kind that only says that it is this one.
    pub(super) fn forger(&self) -> anyhow::Result<Forger<'_>> {
        let other = match &self.pair {
            // There is one RSA key only: what it signed is spoilt instead.
            Pair::Rsa(_) => None,
            Pair::Ecdsa(_) => Some(Self::new(Algorithm::Es256, &self.name)?),
            Pair::Ed25519(_) => Some(Self::new(Algorithm::EdDsa, &self.name)?),
        };
        Ok(Forger { real: self, other })
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ecdsa(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// What is published of it.
    pub(super) fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": text(&public.n), "e": text(&public.e) })
            }
            Pair::Ecdsa(pair) => {
                // After a byte that says that it is not compressed.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) })
            }
        };
        key["use"] = json!("sig");
        key["kid"] = json!(self.name);
        key["alg"] = json!(self.algorithm());
        key
    }

    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let message = message(&json!({ "alg": self.algorithm(), "kid": self.name, "typ": "JWT" }), claims);
        let random = SystemRandom::new();
        let failed = |_| anyhow::anyhow!("the token could not be signed");
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).map_err(failed)?;
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message.as_bytes()).map_err(failed)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Signs under a name that is not its own.
pub(super) struct Forger<'k> {
    real: &'k SigningKey,
    other: Option<SigningKey>,
}

impl Forger<'_> {
    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        if let Some(other) = &self.other {
            return other.sign(claims);
        }
        // A good signature, of other claims.
        let mut changed = claims.clone();
        changed["groups"] = json!(["somebody else's"]);
        let (signed, wanted) = (self.real.sign(&changed)?, self.real.sign(claims)?);
        let signature = signed.rsplit('.').next().unwrap_or_default();
        let message = wanted.rsplit_once('.').map_or("", |(message, _)| message);
        Ok(format!("{message}.{signature}"))
    }
}

fn ed25519() -> anyhow::Result<Ed25519KeyPair> {
    let failed = |what: &dyn std::fmt::Display| anyhow::anyhow!("no key could be made: {what}");
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|error| failed(&error))?;
    Ed25519KeyPair::from_pkcs8(made.as_ref()).map_err(|error| failed(&error))
}

fn message(head: &Value, claims: &Value) -> String {
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", text(head), text(claims))
}

/// A token that is not signed.
pub(super) fn unsigned(claims: &Value) -> String {
    format!("{}.", message(&json!({ "alg": "none" }), claims))
}

/// A token that is signed with a secret that two know.
pub(super) fn with_secret(secret: &str, claims: &Value) -> String {
    let message = message(&json!({ "alg": "HS256" }), claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}
