//! Webhooks: what others send by HTTP, signed.

use super::{Incoming, incoming, key_of};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// HMAC-SHA-256 as hex digits.
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    const BLOCK: usize = 64;
    let mut key = [0; BLOCK];
    if secret.len() > BLOCK {
        key[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        key[..secret.len()].copy_from_slice(secret);
    }
    let pad = |with: u8| key.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(body).finalize();
    hex::encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// True if `signature`, with or without `sha256=` before it, is that of `body`. Takes as long whatever is wrong.
pub fn is_signed(secret: &[u8], body: &[u8], signature: &str) -> bool {
    let given = signature.strip_prefix("sha256=").unwrap_or(signature).as_bytes();
    let right = sign(secret, body);
    given.len() == right.len()
        && given.iter().zip(right.as_bytes()).fold(0, |all, (a, b)| all | (a.to_ascii_lowercase() ^ b)) == 0
}

/// The message of a request. `id` is what its sender calls the delivery.
pub fn read(
    topic: &str,
    id: Option<&str>,
    headers: Map<String, Value>,
    body: &[u8],
    most: usize,
) -> Incoming {
    let headers = Value::Object(headers);
    // Without an identity, what differs only in headers is the same.
    let key = id.filter(|id| !id.is_empty()).map_or_else(|| key_of(topic, &Value::Null, body), str::to_owned);
    incoming((&key, topic), headers, body, most, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        // RFC 4231, cases 2 and 6.
        let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(b"Jefe", b"what do ya want for nothing?"), right);
        let long = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(sign(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"), long);
        assert!(is_signed(b"Jefe", b"what do ya want for nothing?", &format!("sha256={right}")));
        for wrong in ["", "sha256=", &right[1..], &right.replace('5', "6")] {
            assert!(!is_signed(b"Jefe", b"what do ya want for nothing?", wrong), "{wrong}");
        }
    }
}
