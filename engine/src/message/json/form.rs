//! Reading places of a form without ever quoting what stands there.
//!
//! What is read comes from a stranger, and may be payload anywhere. serde's own complaints quote
//! what they found: a number in a payload's place would end up in a log. So every place but one is
//! read by a [`Form`], through a deserializer that is asked for nothing in particular and so has
//! nothing to complain of; the form then tells only which kind of thing it found. The one other
//! place is a number, whose error is replaced by who reads it.

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData, str::FromStr};

/// What may stand in one place of the form. Whatever a form does not take is refused by its kind alone.
pub(super) trait Form<'de>: Sized {
    type Value;

    /// Which place this is and what should stand there: the beginning of every complaint.
    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    fn text<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(refusal(&self, "a string"))
    }

    fn object<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(refusal(&self, "an object"))
    }

    fn null<E: de::Error>(self) -> Result<Self::Value, E> {
        Err(refusal(&self, "null"))
    }
}

pub(super) fn refusal<'de, E: de::Error>(form: &impl Form<'de>, found: &str) -> E {
    E::custom(format_args!("{}, not {found}", Expectation(form, PhantomData)))
}

struct Expectation<'a, 'de, F>(&'a F, PhantomData<&'de ()>);

impl<'de, F: Form<'de>> fmt::Display for Expectation<'_, 'de, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expected(f)
    }
}

/// Reads a place by its form.
pub(super) struct Read<F>(pub(super) F);

impl<'de, F: Form<'de>> DeserializeSeed<'de> for Read<F> {
    type Value = F::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<F::Value, D::Error> {
        // Asked for anything in particular, a deserializer would itself complain, and quote.
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Form<'de>> Visitor<'de> for Read<F> {
    type Value = F::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expected(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<F::Value, E> {
        self.0.text(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<F::Value, A::Error> {
        self.0.object(members)
    }

    fn visit_unit<E: de::Error>(self) -> Result<F::Value, E> {
        self.0.null()
    }

    fn visit_none<E: de::Error>(self) -> Result<F::Value, E> {
        self.0.null()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<F::Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<F::Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a truth value"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a number"))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a number"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a number"))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<F::Value, E> {
        Err(refusal(&self.0, "a number"))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<F::Value, E> {
        Err(refusal(&self.0, "raw bytes"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<F::Value, A::Error> {
        Err(refusal(&self.0, "an array"))
    }
}

/// A text that is read as a `T`.
pub(super) struct Text<T> {
    member: &'static str,
    read_as: PhantomData<T>,
}

impl<T> Text<T> {
    pub(super) fn of(member: &'static str) -> Self {
        Self { member, read_as: PhantomData }
    }
}

impl<T: FromStr<Err: fmt::Display>> Form<'_> for Text<T> {
    type Value = T;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` must be a string", self.member)
    }

    fn text<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error| E::custom(format_args!("`{}`: {error}", self.member)))
    }
}

/// A form, or null in its place.
pub(super) struct OrNull<F>(pub(super) F);

impl<'de, F: Form<'de>> Form<'de> for OrNull<F> {
    type Value = Option<F::Value>;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expected(f)?;
        f.write_str(" or null")
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.0.text(text).map(Some)
    }

    fn null<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// The name of a header, or of the member of an object that stands for bytes.
pub(super) struct Name;

impl<'de> Form<'de> for Name {
    type Value = String;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member must be a string")
    }

    fn text<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
