//! Bytes in a cassette: text where they are text, so that people can read and change them.
//!
//! One line is a string. Several lines are a list of strings, joined as they stand, each with its
//! newline. What is not UTF-8 is `{"base64": "…"}`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};

/// Bytes that a plugin gave or got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Ok(text) = std::str::from_utf8(&self.0) else {
            let mut map = to.serialize_map(Some(1))?;
            map.serialize_entry("base64", &BASE64.encode(&self.0))?;
            return map.end();
        };
        match text.split_inclusive('\n').nth(1) {
            Some(_) => to.collect_seq(text.split_inclusive('\n')),
            None => to.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        from.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, a list of its lines, or {\"base64\": …}")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.as_bytes().to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(line) = lines.next_element::<String>()? {
            bytes.extend_from_slice(line.as_bytes());
        }
        Ok(Bytes(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        match (map.next_entry::<String, String>()?, map.next_key::<String>()?) {
            (Some((key, text)), None) if key == "base64" => {
                BASE64.decode(text).map(Bytes).map_err(|error| A::Error::custom(format!("base64: {error}")))
            }
            _ => Err(A::Error::custom("bytes are a text, a list of its lines, or {\"base64\": …}")),
        }
    }
}

/// Permission bits as people write them: `"0644"`.
pub(crate) mod octal {
    use super::{Deserialize as _, Deserializer, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{mode:04o}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        u32::from_str_radix(&text, 8)
            .map_err(|_| D::Error::custom(format!("`{text}` are no permission bits, such as `0644`")))
    }
}

/// The same where there may be none.
pub(crate) mod maybe_octal {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Mode(#[serde(with = "super::octal")] u32);

    pub(crate) fn serialize<S: Serializer>(mode: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        mode.map(Mode).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        Ok(Option::<Mode>::deserialize(from)?.map(|mode| mode.0))
    }
}
