//! The secrets of a call, and hiding their values in all that leaves it.
//!
//! A plugin has handles, never values. A value can still come back: a program repeats its input in an
//! error message, and the plugin hands that on. So everything that comes from the programs of a call, and
//! everything that leaves the call, has `[secret NAME]` where a value would stand: as it is, in base64, in
//! hexadecimal digits, percent-encoded and as JSON writes it; and each longer line of a value of several.
//! A program that prints a value in another form, or in pieces, is not found out: that is for the rules
//! of the manifest, which say what programs get secrets at all.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};
use windlass_types::{Denial, Outcome, SecretName, secret::MIN_BYTES};
use zeroize::Zeroizing;

/// Lines of one value that are looked for by themselves.
const MAX_LINES: usize = 256;

/// The secrets of one call, by name. Their memory is wiped when the last clone goes.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<SecretName, Zeroizing<Vec<u8>>>>);

impl Secrets {
    /// The value of a secret.
    pub fn get(&self, name: &SecretName) -> Option<&Zeroizing<Vec<u8>>> {
        self.0.get(name)
    }

    /// The secret that a handle means.
    pub(crate) fn of_handle(&self, handle: &str) -> Option<(&SecretName, &Zeroizing<Vec<u8>>)> {
        self.0.iter().find(|(name, _)| name.as_str() == handle)
    }
}

impl FromIterator<(SecretName, Zeroizing<Vec<u8>>)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (SecretName, Zeroizing<Vec<u8>>)>>(secrets: I) -> Secrets {
        Secrets(Arc::new(secrets.into_iter().collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A form of a value.
struct Pattern {
    bytes: Zeroizing<Vec<u8>>,
    /// What stands in its place.
    label: Arc<str>,
}

/// Finds the values of secrets.
#[derive(Default)]
pub struct Redactor {
    /// By their first byte, the longest first; empty when there is nothing to find.
    patterns: Vec<Vec<Pattern>>,
    longest: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// For the secrets of a call.
    pub fn new(secrets: &Secrets) -> Redactor {
        let mut redactor = Redactor::default();
        if secrets.0.is_empty() {
            return redactor;
        }
        redactor.patterns.resize_with(256, Vec::new);
        for (name, value) in secrets.0.iter() {
            let label: Arc<str> = label(name).into();
            for bytes in forms(value) {
                redactor.add(bytes, &label);
            }
        }
        for bucket in &mut redactor.patterns {
            bucket.sort_by_key(|pattern| std::cmp::Reverse(pattern.bytes.len()));
        }
        redactor
    }

    fn add(&mut self, bytes: Zeroizing<Vec<u8>>, label: &Arc<str>) {
        let Some(first) = bytes.first().filter(|_| bytes.len() >= MIN_BYTES) else { return };
        let Some(bucket) = self.patterns.get_mut(usize::from(*first)) else { return };
        if bucket.iter().all(|known| known.bytes != bytes) {
            self.longest = self.longest.max(bytes.len());
            bucket.push(Pattern { bytes, label: Arc::clone(label) });
        }
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.longest == 0
    }

    fn starting_with(&self, first: u8) -> &[Pattern] {
        self.patterns.get(usize::from(first)).map_or(&[], Vec::as_slice)
    }

    /// Copy to `out` what can be decided, and give back how much that was. With `more` to come, what may
    /// be the beginning of a value is left.
    fn scan(&self, text: &[u8], more: bool, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while let Some((first, _)) = text.get(at..).and_then(<[u8]>::split_first) {
            let rest = &text[at..];
            let mut found = None;
            for pattern in self.starting_with(*first) {
                if rest.starts_with(&pattern.bytes) {
                    found = Some(pattern);
                    break;
                }
                if more && pattern.bytes.starts_with(rest) {
                    return at;
                }
            }
            match found {
                Some(pattern) => {
                    out.extend_from_slice(pattern.label.as_bytes());
                    at += pattern.bytes.len();
                }
                None => {
                    out.push(*first);
                    at += 1;
                }
            }
        }
        at
    }

    /// Bytes without the values.
    pub fn bytes<'b>(&self, text: &'b [u8]) -> Cow<'b, [u8]> {
        if self.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        self.scan(text, false, &mut out);
        Cow::Owned(out)
    }

    /// What a program printed, of which the end may be missing.
    pub(crate) fn output(&self, printed: Vec<u8>, truncated: bool) -> Vec<u8> {
        if self.is_empty() {
            return printed;
        }
        // The end first: a label in place of a value could hide that a part of one follows.
        let whole = if truncated { self.without_begun(&printed) } else { &printed };
        self.bytes(whole).into_owned()
    }

    /// Text that was cut, without what may be the beginning of a value at its end.
    pub fn without_begun<'b>(&self, text: &'b [u8]) -> &'b [u8] {
        let from = text.len().saturating_sub(self.longest);
        let begins = |at: &usize| {
            let rest = &text[*at..];
            self.starting_with(rest[0]).iter().any(|pattern| pattern.bytes.starts_with(rest))
        };
        &text[..(from..text.len()).find(begins).unwrap_or(text.len())]
    }

    /// Text without the values.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// JSON without the values in any of its texts.
    pub fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text).into_owned()),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(members) => {
                Value::Object(members.into_iter().map(|(key, value)| (key, self.json(value))).collect())
            }
            other => other,
        }
    }

    pub(crate) fn denial(&self, denial: &Denial) -> Denial {
        Denial {
            capability: denial.capability.clone(),
            request: self.text(&denial.request).into_owned(),
            missing: self.text(&denial.missing).into_owned(),
        }
    }

    /// An outcome without the values.
    pub fn outcome(&self, outcome: Outcome) -> Outcome {
        if self.is_empty() {
            return outcome;
        }
        let text = |text: String| self.text(&text).into_owned();
        match outcome {
            Outcome::Succeeded { value } => Outcome::Succeeded { value: self.json(value) },
            Outcome::Failed { error } => Outcome::Failed { error: self.json(error) },
            Outcome::Trapped { reason, message } => Outcome::Trapped { reason, message: text(message) },
            Outcome::Denied { denial, error } => {
                Outcome::Denied { denial: self.denial(&denial), error: error.map(|error| self.json(error)) }
            }
            Outcome::Refused { reason, message } => Outcome::Refused { reason, message: text(message) },
            Outcome::Indeterminate { message } => Outcome::Indeterminate { message: text(message) },
            other => other,
        }
    }
}

/// What stands in the place of a value.
fn label(name: &SecretName) -> String {
    format!("[secret {name}]")
}

/// The forms of a value that are looked for.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = Vec::new();
    // Files end with a newline that is no part of what they hold.
    let trimmed = value.trim_ascii();
    for value in [value, trimmed] {
        forms.push(value.to_vec());
        forms.push(hex::encode(value).into_bytes());
        forms.push(hex::encode_upper(value).into_bytes());
        forms.extend(base64_within(value));
        forms.push(percent(value));
    }
    if let Ok(text) = std::str::from_utf8(trimmed) {
        let json = serde_json::to_string(text).unwrap_or_default();
        forms.push(json.trim_matches('"').as_bytes().to_vec());
        forms.push(text.escape_debug().to_string().into_bytes());
        forms.push(text.escape_default().to_string().into_bytes());
    }
    let lines = trimmed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    forms.extend(lines.take(MAX_LINES).map(<[u8]>::to_vec));
    forms.into_iter().map(Zeroizing::new).collect()
}

/// What base64 has of a value whatever stands before and after it: it makes four characters of three
/// bytes, so there are three ways.
fn base64_within(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    [0, 1, 2].into_iter().flat_map(move |before: usize| {
        let mut shifted = Zeroizing::new(vec![0; before]);
        shifted.extend_from_slice(value);
        // Characters that what stands before has a part in.
        let begin = [0, 2, 3][before];
        let end = usize::from(!shifted.len().is_multiple_of(3));
        [STANDARD_NO_PAD.encode(&*shifted), URL_SAFE_NO_PAD.encode(&*shifted)].into_iter().map(move |text| {
            let until = text.len().saturating_sub(end);
            text.as_bytes().get(begin..until).unwrap_or_default().to_vec()
        })
    })
}

/// RFC 3986: all but the unreserved characters.
fn percent(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() * 3);
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// Finds values in what comes piece by piece.
pub(crate) struct Stream {
    redactor: Arc<Redactor>,
    /// What may be the beginning of a value.
    held: Zeroizing<Vec<u8>>,
}

impl Stream {
    pub(crate) fn new(redactor: Arc<Redactor>) -> Stream {
        Stream { redactor, held: Zeroizing::default() }
    }

    /// What of it can be told now; may be empty.
    pub(crate) fn push(&mut self, piece: Vec<u8>) -> Vec<u8> {
        if self.redactor.is_empty() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        let mut out = Vec::with_capacity(self.held.len());
        let done = self.redactor.scan(&self.held, true, &mut out);
        self.held.drain(..done);
        out
    }

    /// What can't be told yet after all; it has no value in it any more.
    pub(crate) fn put_back(&mut self, rest: Vec<u8>) {
        self.held = Zeroizing::new(rest);
    }

    /// The rest, at the end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.redactor.bytes(&held).into_owned()
    }
}

#[cfg(test)]
mod tests;
