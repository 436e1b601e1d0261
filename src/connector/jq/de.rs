//! A value read as a Rust type, without JSON text or serde's own values between. Whole numbers beyond 64 bits are text, as ids are
//! everywhere; the errors are serde's, and name fields and types.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::connector::jq::val::Val;

/// An output of a filter.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a>(pub(super) &'a Val);

impl Output<'_> {
    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        matches!(self.0, Val::Obj(_))
    }
}

impl<'de> IntoDeserializer<'de> for Output<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Output<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Val::Null => visitor.visit_unit(),
            Val::Bool(value) => visitor.visit_bool(*value),
            Val::Int(number) => visitor.visit_i64(*number),
            Val::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => visitor.visit_i64(*number as i64),
            Val::Float(number) if number.is_finite() => visitor.visit_f64(*number),
            Val::Float(_) => visitor.visit_unit(),
            Val::Big(text) | Val::Str(text) => visitor.visit_borrowed_str(text.as_str()),
            Val::Arr(array) => visitor.visit_seq(SeqDeserializer::new(array.items.iter().map(Output))),
            Val::Obj(object) => {
                let members = object.map.iter().map(|(key, value)| (StrDeserializer::<Error>::new(key.as_str()), Output(value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Val::Null => visitor.visit_none(),
            Val::Float(number) if !number.is_finite() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Val::Str(text) => StrDeserializer::<Error>::new(text.as_str()).deserialize_enum(name, variants, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
