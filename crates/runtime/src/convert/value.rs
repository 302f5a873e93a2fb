//! JSON into values, and values into JSON.

use super::shape::SECRET_FIELD;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Number, Value};
use wasmtime::component::Val;
use windlass_types::{
    SecretName,
    json::{self, Build, JsonError},
    shape::{Case, Field, Shape},
};

/// The arguments of a call from one JSON object. `params` is
/// [`Signature::params_shape`](windlass_types::shape::Signature::params_shape).
pub(crate) fn arguments(params: &Shape, args: &Value) -> Result<Vec<Val>, JsonError> {
    // No arguments at all may be written as null.
    let empty = Value::Object(Map::new());
    let args = if args.is_null() { &empty } else { args };
    match json::read(params, args, &mut Values)? {
        Val::Record(fields) => Ok(fields.into_iter().map(|(_, value)| value).collect()),
        other => Ok(vec![other]),
    }
}

/// Makes wasmtime values.
pub(crate) struct Values;

fn wit_name(json: &str) -> String {
    json.replace('_', "-")
}

impl Build for Values {
    type Out = Val;

    fn bool(&mut self, value: bool) -> Val {
        Val::Bool(value)
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the walk hands over only what fits the shape"
    )]
    fn integer(&mut self, shape: &Shape, value: i128) -> Val {
        match shape {
            Shape::S8 => Val::S8(value as i8),
            Shape::S16 => Val::S16(value as i16),
            Shape::S32 => Val::S32(value as i32),
            Shape::S64 => Val::S64(value as i64),
            Shape::U8 => Val::U8(value as u8),
            Shape::U16 => Val::U16(value as u16),
            Shape::U32 => Val::U32(value as u32),
            _ => Val::U64(value as u64),
        }
    }
    fn f32(&mut self, value: f32) -> Val {
        Val::Float32(value)
    }
    fn f64(&mut self, value: f64) -> Val {
        Val::Float64(value)
    }
    fn char(&mut self, value: char) -> Val {
        Val::Char(value)
    }
    fn string(&mut self, value: &str) -> Val {
        Val::String(value.to_owned())
    }
    fn bytes(&mut self, value: Vec<u8>) -> Val {
        Val::List(value.into_iter().map(Val::U8).collect())
    }
    /// Its handle: the name, which the host looks up among the secrets of the call.
    fn secret(&mut self, name: &SecretName) -> Val {
        Val::Record(vec![(SECRET_FIELD.to_owned(), Val::String(name.to_string()))])
    }
    fn list(&mut self, items: Vec<Val>) -> Val {
        Val::List(items)
    }
    fn tuple(&mut self, items: Vec<Val>) -> Val {
        Val::Tuple(items)
    }
    fn record(&mut self, fields: &[Field], values: Vec<Val>) -> Val {
        Val::Record(fields.iter().map(|field| wit_name(&field.name)).zip(values).collect())
    }
    fn variant(&mut self, case: &Case, payload: Option<Val>) -> Val {
        Val::Variant(wit_name(&case.name), payload.map(Box::new))
    }
    fn enumeration(&mut self, name: &str) -> Val {
        Val::Enum(wit_name(name))
    }
    fn flags(&mut self, names: Vec<&str>) -> Val {
        Val::Flags(names.into_iter().map(wit_name).collect())
    }
    fn option(&mut self, value: Option<Val>) -> Val {
        Val::Option(value.map(Box::new))
    }
    fn result(&mut self, value: Result<Option<Val>, Option<Val>>) -> Val {
        Val::Result(match value {
            Ok(value) => Ok(value.map(Box::new)),
            Err(value) => Err(value.map(Box::new)),
        })
    }
}

/// A value whose JSON text would be longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// A value as JSON, of about `limit` bytes of text at most.
///
/// A value that is not of the shape, which wasmtime never returns, becomes null.
pub(crate) fn to_json(shape: &Shape, value: &Val, limit: u64) -> Result<Value, TooLarge> {
    Writer { left: limit }.value(shape, value)
}

struct Writer {
    left: u64,
}

impl Writer {
    fn spend(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(TooLarge)?;
        Ok(())
    }

    fn text(&mut self, text: String) -> Result<Value, TooLarge> {
        self.spend(text.len() + 3)?;
        Ok(Value::String(text))
    }

    fn number(&mut self, number: impl Into<Number>) -> Result<Value, TooLarge> {
        self.spend(2)?;
        Ok(Value::Number(number.into()))
    }

    fn float(&mut self, float: f64) -> Result<Value, TooLarge> {
        self.spend(2)?;
        Ok(match Number::from_f64(float) {
            Some(number) => Value::Number(number),
            None if float.is_nan() => "NaN".into(),
            None if float > 0.0 => "Infinity".into(),
            None => "-Infinity".into(),
        })
    }

    fn case(&mut self, name: String, payload: Option<Value>) -> Result<Value, TooLarge> {
        match payload {
            None => self.text(name),
            Some(payload) => {
                self.spend(name.len() + 6)?;
                Ok(Value::Object(Map::from_iter([(name, payload)])))
            }
        }
    }

    fn list(&mut self, shape: &Shape, items: &[Val]) -> Result<Value, TooLarge> {
        self.spend(2)?;
        items.iter().map(|item| self.value(shape, item)).collect::<Result<_, _>>().map(Value::Array)
    }

    fn value(&mut self, shape: &Shape, value: &Val) -> Result<Value, TooLarge> {
        match (shape, value) {
            (_, Val::Bool(bool)) => {
                self.spend(5)?;
                Ok(Value::Bool(*bool))
            }
            (_, Val::S8(number)) => self.number(*number),
            (_, Val::S16(number)) => self.number(*number),
            (_, Val::S32(number)) => self.number(*number),
            (_, Val::S64(number)) => self.number(*number),
            (_, Val::U8(number)) => self.number(*number),
            (_, Val::U16(number)) => self.number(*number),
            (_, Val::U32(number)) => self.number(*number),
            (_, Val::U64(number)) => self.number(*number),
            // By its own shortest text: widened, 0.1 would become 0.10000000149011612.
            (_, Val::Float32(float)) if float.is_finite() => {
                self.float(float.to_string().parse().unwrap_or_else(|_| f64::from(*float)))
            }
            (_, Val::Float32(float)) => self.float(f64::from(*float)),
            (_, Val::Float64(float)) => self.float(*float),
            (_, Val::Char(char)) => self.text(char.to_string()),
            (_, Val::String(text)) => self.text(text.clone()),
            (Shape::Bytes, Val::List(items)) => {
                // Before anything is made of it: 4 characters for 3 bytes.
                self.spend(items.len().div_ceil(3).saturating_mul(4) + 3)?;
                let bytes: Vec<u8> =
                    items.iter().map(|item| if let Val::U8(byte) = item { *byte } else { 0 }).collect();
                Ok(Value::String(BASE64.encode(bytes)))
            }
            (Shape::List { item }, Val::List(items)) => self.list(item, items),
            (Shape::Tuple { items: shapes }, Val::Tuple(items)) => {
                self.spend(2)?;
                let items = shapes.iter().zip(items).map(|(shape, item)| self.value(shape, item));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            (Shape::Record { fields, .. }, Val::Record(values)) => {
                self.spend(2)?;
                let mut object = Map::new();
                for (field, (_, value)) in fields.iter().zip(values) {
                    self.spend(field.name.len() + 4)?;
                    object.insert(field.name.clone(), self.value(&field.shape, value)?);
                }
                Ok(Value::Object(object))
            }
            (Shape::Variant { cases, .. }, Val::Variant(name, payload)) => {
                let name = windlass_types::shape::json_name(name);
                let shape =
                    cases.iter().find(|case| case.name == name).and_then(|case| case.payload.as_ref());
                let payload = match (shape, payload) {
                    (Some(shape), Some(payload)) => Some(self.value(shape, payload)?),
                    _ => None,
                };
                self.case(name, payload)
            }
            (_, Val::Enum(name)) => self.text(windlass_types::shape::json_name(name)),
            (_, Val::Flags(names)) => {
                self.spend(2)?;
                let names = names.iter().map(|name| self.text(windlass_types::shape::json_name(name)));
                names.collect::<Result<_, _>>().map(Value::Array)
            }
            (Shape::Option { item }, Val::Option(Some(value))) => self.value(item, value),
            (Shape::Result { ok, err }, Val::Result(result)) => {
                let (name, shape, payload) = match result {
                    Ok(payload) => ("ok", ok, payload),
                    Err(payload) => ("err", err, payload),
                };
                let payload = match (shape, payload) {
                    (Some(shape), Some(payload)) => Some(self.value(shape, payload)?),
                    _ => None,
                };
                self.case(name.to_owned(), payload)
            }
            _ => {
                self.spend(4)?;
                Ok(Value::Null)
            }
        }
    }
}
