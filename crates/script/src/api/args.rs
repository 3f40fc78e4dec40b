//! Arguments: from Starlark values to the protocol's types, with the ranges that a machine can obey.

use assay_proto::driver::{CallError, Place, Tags};
use serde::de::DeserializeOwned;
use starlark::values::float::UnpackFloat;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::type_repr::StarlarkTypeRepr;
use starlark::values::{UnpackValue, Value};

/// The longest wait: 30 days.
const LONGEST: f64 = 30.0 * 86_400.0;

/// One tag set or several.
#[derive(StarlarkTypeRepr, UnpackValue)]
pub(super) enum TagsArg {
    One(String),
    Any(UnpackListOrTuple<String>),
}

impl TagsArg {
    /// `what` is the parameter's name.
    pub(super) fn check(self, what: &str) -> Result<Tags, CallError> {
        let empty = |text: &String| text.split_whitespace().next().is_none();
        match self {
            Self::One(one) if empty(&one) => Err(CallError::usage(format!("`{what}` is empty"))),
            Self::One(one) => Ok(Tags::One(one)),
            Self::Any(any) if any.items.is_empty() => {
                Err(CallError::usage(format!("`{what}` is an empty list")))
            }
            Self::Any(any) if any.items.iter().any(empty) => {
                Err(CallError::usage(format!("`{what}` has an empty text in its list")))
            }
            Self::Any(any) => Ok(Tags::Any(any.items)),
        }
    }
}

/// A place on the screen: `(x, y)` or a tag set.
#[derive(StarlarkTypeRepr, UnpackValue)]
pub(super) enum PlaceArg {
    At((u32, u32)),
    Needle(String),
}

impl From<PlaceArg> for Place {
    fn from(place: PlaceArg) -> Self {
        match place {
            PlaceArg::At((x, y)) => Self::At(x, y),
            PlaceArg::Needle(tags) => Self::Needle(tags),
        }
    }
}

/// The value of a variable: numbers are written as text.
#[derive(StarlarkTypeRepr, UnpackValue)]
pub(super) enum TextArg {
    Text(String),
    Number(i64),
}

impl From<TextArg> for String {
    fn from(text: TextArg) -> Self {
        match text {
            TextArg::Text(text) => text,
            TextArg::Number(number) => number.to_string(),
        }
    }
}

/// A number of seconds (or another quantity) that is not negative and not absurd.
pub(super) fn seconds(what: &str, value: &UnpackFloat) -> Result<f64, CallError> {
    if (0.0..=LONGEST).contains(&value.0) {
        Ok(value.0)
    } else {
        Err(CallError::usage(format!("`{what}` is {}; it must be between 0 and {LONGEST} seconds", value.0)))
    }
}

/// One word of a fixed list, such as a mouse button.
pub(super) fn word<T: DeserializeOwned>(what: &str, value: &str) -> Result<T, CallError> {
    serde_json::from_value(value.into()).map_err(|_| {
        let known = crate::words::allowed(what).unwrap_or_default();
        let help = crate::suggest::did_you_mean(value, known.iter().copied()).unwrap_or_default();
        CallError::usage(format!("`{what}` cannot be {value:?}; {help}"))
    })
}

/// A small number from a Starlark integer.
pub(super) fn small(what: &str, value: i64) -> Result<u32, CallError> {
    u32::try_from(value)
        .map_err(|_| CallError::usage(format!("`{what}` is {value}; it must not be negative")))
}

/// A Starlark value as a text for people: a string as it is, anything else as Starlark writes it.
pub(super) fn display(value: Value<'_>) -> String {
    value.to_str()
}

/// Keeps an error's kind on its way through Starlark.
pub(super) fn raise(error: CallError) -> starlark::Error {
    starlark::Error::new_native(error)
}
