//! Floating-point numbers within tagged enums.
//!
//! serde buffers the fields of an internally tagged enum. Where serde_json's feature `arbitrary_precision` is on (the
//! Starlark host needs it, so the `assay` binary has it), a buffered number with a fraction is not a number any more
//! but a map with a private key, which only [`serde_json::Number`] understands.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// For `#[serde(deserialize_with = …)]` on an `f64`.
pub fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    number.as_f64().ok_or_else(|| D::Error::custom(format!("{number} is not a number of seconds or pixels")))
}

/// For `#[serde(default, deserialize_with = …)]` on an `Option<f64>`.
pub fn optional_float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(deserializer)?;
    number
        .map(|number| number.as_f64().ok_or_else(|| D::Error::custom(format!("{number} is too large"))))
        .transpose()
}
