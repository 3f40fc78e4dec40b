//! Reads typed values out of the spanned YAML tree; whatever is wrong names its line.

use assay_formats::diagnostic::Place;
use assay_formats::yaml::{Dialect, Entry, Kind, Node, Scalar};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;
use std::sync::Arc;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadError {
    place: Option<Place>,
    message: String,
}

impl ReadError {
    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{}:{}: ", place.line, place.column)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { place: None, message: message.to_string() }
    }
}

/// A node to read from.
#[derive(Clone, Copy)]
pub(crate) struct From<'n>(pub(crate) &'n Node);

impl<'n> From<'n> {
    fn text(self) -> Option<&'n str> {
        match &self.0.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn scalar(self) -> Option<Scalar<'n>> {
        self.0.scalar(Dialect::Yaml12)
    }
}

impl<'n> Deserializer<'n> for From<'n> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let read = match &self.0.kind {
            Kind::List(nodes) => visitor.visit_seq(Elements(nodes.iter())),
            Kind::Map(entries) => visitor.visit_map(Pairs { entries: entries.iter(), value: None }),
            Kind::Scalar { .. } => match self.scalar() {
                Some(Scalar::Null) | None => visitor.visit_unit(),
                Some(Scalar::Bool(value)) => visitor.visit_bool(value),
                Some(Scalar::Int(value)) => visitor.visit_i64(value),
                Some(Scalar::Float(value)) => visitor.visit_f64(value),
                Some(Scalar::Text(text)) => visitor.visit_borrowed_str(text),
                Some(Scalar::Date) => visitor.visit_borrowed_str(self.text().unwrap_or_default()),
            },
        };
        read.map_err(|error| error.at(self.0.place))
    }

    /// Text takes any scalar as it is written.
    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.text() {
            Some(text) => visitor.visit_borrowed_str(text).map_err(|error: ReadError| error.at(self.0.place)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.scalar() {
            Some(Scalar::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let choice = match &self.0.kind {
            Kind::Scalar { text, .. } => Choice { name: text, place: self.0.place, value: None },
            Kind::Map(entries) if entries.len() == 1 => Choice {
                name: &entries[0].key.text,
                place: entries[0].key.place,
                value: Some(&entries[0].value),
            },
            _ => {
                let found = self.0.what(Dialect::Yaml12);
                let message = format!("expected one word, or a mapping with one key, found {found}");
                return Err(ReadError::custom(message).at(self.0.place));
            }
        };
        visitor.visit_enum(choice).map_err(|error| error.at(self.0.place))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'n>(std::slice::Iter<'n, Arc<Node>>);

impl<'n> SeqAccess<'n> for Elements<'n> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.0.next().map(|node| seed.deserialize(From(node))).transpose()
    }
}

struct Pairs<'n> {
    entries: std::slice::Iter<'n, Entry>,
    value: Option<&'n Node>,
}

impl<'n> MapAccess<'n> for Pairs<'n> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key = seed.deserialize(Key(&entry.key.text)).map_err(|error| error.at(entry.key.place))?;
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let node = self.value.take().ok_or_else(|| ReadError::custom("a value without a key"))?;
        seed.deserialize(From(node))
    }
}

/// A key; numbers are written as text.
struct Key<'n>(&'n str);

impl<'n> Deserializer<'n> for Key<'n> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_u64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let number = self.0.parse();
        visitor.visit_u64(
            number.map_err(|_| ReadError::custom(format!("expected a number, found {:?}", self.0)))?,
        )
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text: StrDeserializer<'_, ReadError> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Choice<'n> {
    name: &'n str,
    place: Place,
    value: Option<&'n Node>,
}

impl<'n> EnumAccess<'n> for Choice<'n> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let name = seed.deserialize(Key(self.name)).map_err(|error| error.at(self.place))?;
        Ok((name, self))
    }
}

impl<'n> VariantAccess<'n> for Choice<'n> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.value {
            None => Ok(()),
            Some(node) if From(node).scalar() == Some(Scalar::Null) => Ok(()),
            Some(node) => Err(ReadError::custom(format!("{} takes nothing", self.name)).at(node.place)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, ReadError> {
        let missing = || ReadError::custom(format!("{} needs a value", self.name)).at(self.place);
        seed.deserialize(From(self.value.ok_or_else(missing)?))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _len: usize, visitor: V) -> Result<V::Value, ReadError> {
        let missing = || ReadError::custom(format!("{} needs a list", self.name)).at(self.place);
        From(self.value.ok_or_else(missing)?).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value.map(|node| &node.kind) {
            Some(Kind::Map(entries)) => {
                let pairs = Pairs { entries: entries.iter(), value: None };
                MapAccessDeserializer::new(pairs).deserialize_any(visitor)
            }
            _ => Err(ReadError::custom(format!("{} needs a mapping", self.name)).at(self.place)),
        }
    }
}
