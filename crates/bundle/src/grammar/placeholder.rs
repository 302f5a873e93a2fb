//! What one placeholder of a rule accepts.
//!
//! Every kind is decided in one pass over the value. Three things hold for all of them, whatever
//! the kind: a value is never empty, it is never longer than [`Placeholder::max_length`], and it
//! does not begin with `-` unless the manifest says `leading_dash = true`. The last one is what
//! keeps a plugin from smuggling an option in where its manifest promised a name.

use crate::path::AbsolutePath;

/// Longest value of a placeholder where the manifest does not say, in bytes.
pub const DEFAULT_MAX_LENGTH: usize = 4096;

/// A placeholder of a rule: what it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// Form of the value.
    pub kind: Kind,
    /// Longest value, in bytes.
    pub max_length: usize,
    /// A value may begin with `-`.
    pub leading_dash: bool,
}

/// Form of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Printable ASCII without spaces.
    Word,
    /// ASCII letters, digits and `_ . : -`, beginning with a letter, a digit or `_`.
    Name,
    /// An absolute path without `.`, `..`, `//`, a `/` at its end or control characters;
    /// beneath one of `under` where that is given.
    Path { under: Vec<AbsolutePath> },
    /// A decimal number without sign and without needless zeros, within the bounds.
    Number { min: u64, max: u64 },
    /// `key=value`: a key of ASCII letters, digits and `_ . : -`, one of `keys` where given; a
    /// value that is not empty and holds no control characters.
    Property { keys: Vec<String> },
    /// Words joined by commas; each one of `items` where given, none empty, none with a leading `-`.
    List { items: Vec<String> },
    /// Any text without control characters, spaces included.
    Text,
    /// Anything an argument can be: all but NUL.
    Any,
    /// One of these.
    OneOf(Vec<String>),
    /// Only these ASCII characters.
    Chars(CharSet),
}

/// The words for `kind = …`.
pub const KINDS: [&str; 8] = ["word", "name", "path", "number", "property", "list", "text", "any"];

impl Kind {
    /// The kind of this name, without limits.
    pub fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "word" => Kind::Word,
            "name" => Kind::Name,
            "path" => Kind::Path { under: Vec::new() },
            "number" => Kind::Number { min: 0, max: u64::MAX },
            "property" => Kind::Property { keys: Vec::new() },
            "list" => Kind::List { items: Vec::new() },
            "text" => Kind::Text,
            "any" => Kind::Any,
            _ => return None,
        })
    }
}

impl From<Kind> for Placeholder {
    fn from(kind: Kind) -> Self {
        Placeholder { kind, max_length: DEFAULT_MAX_LENGTH, leading_dash: false }
    }
}

impl Placeholder {
    /// What a placeholder accepts that the manifest's `[placeholders]` does not mention: the kind
    /// of its own name, and otherwise a `word`.
    pub fn undeclared(name: &str) -> Placeholder {
        Kind::named(name).unwrap_or(Kind::Word).into()
    }

    /// Whether this value fits.
    pub fn accepts(&self, value: &str) -> bool {
        !value.is_empty()
            && value.len() <= self.max_length
            && (self.leading_dash || !value.starts_with('-'))
            && self.kind.accepts(value)
    }
}

impl Kind {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Kind::Word => is_word(value),
            Kind::Name => is_name(value),
            Kind::Path { under } => {
                AbsolutePath::is_valid(value)
                    && (under.is_empty() || under.iter().any(|root| root.is_above(value)))
            }
            Kind::Number { min, max } => {
                value.bytes().all(|b| b.is_ascii_digit())
                    && (value == "0" || !value.starts_with('0'))
                    && value.parse().is_ok_and(|number: u64| (*min..=*max).contains(&number))
            }
            Kind::Property { keys } => value.split_once('=').is_some_and(|(key, value)| {
                is_name(key)
                    && !value.is_empty()
                    && !value.contains(char::is_control)
                    && (keys.is_empty() || keys.iter().any(|allowed| allowed == key))
            }),
            Kind::List { items } => value.split(',').all(|item| {
                is_word(item)
                    && !item.starts_with('-')
                    && (items.is_empty() || items.iter().any(|allowed| allowed == item))
            }),
            Kind::Text => !value.contains(char::is_control),
            Kind::Any => !value.contains('\0'),
            Kind::OneOf(values) => values.iter().any(|allowed| allowed == value),
            Kind::Chars(set) => value.bytes().all(|b| set.contains(b)),
        }
    }
}

fn is_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether this is a value of kind `name`.
pub(crate) fn is_name(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

/// A set of printable ASCII characters, written like the inside of a character class:
/// `a-z0-9_./`. A `-` at either end stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CharSet(u128);

impl CharSet {
    /// Read a set.
    ///
    /// # Errors
    /// With what is wrong, in words.
    pub fn parse(text: &str) -> Result<CharSet, String> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err("an empty set accepts nothing".into());
        }
        if let Some(bad) = text.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(format!("`{}` is not a printable ASCII character", bad.escape_default()));
        }
        let mut set = 0u128;
        let mut at = 0;
        while at < bytes.len() {
            let first = bytes[at];
            let last = match bytes.get(at + 1..at + 3) {
                Some([b'-', last]) => {
                    at += 3;
                    *last
                }
                _ => {
                    at += 1;
                    first
                }
            };
            if first > last {
                return Err(format!("the range `{}-{}` runs backwards", char::from(first), char::from(last)));
            }
            for byte in first..=last {
                set |= 1 << byte;
            }
        }
        Ok(CharSet(set))
    }

    /// Whether it holds a character.
    pub fn contains(&self, byte: u8) -> bool {
        byte < 128 && self.0 & (1 << byte) != 0
    }
}
