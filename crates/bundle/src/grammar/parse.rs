//! From the text of elements to their parsed form.

use super::{Element, MAX_ELEMENTS, Part, Placeholder, Placeholders, Times, Token};
use std::sync::Arc;

/// An element that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GrammarError {
    /// Which element of `args`, from 0.
    pub element: usize,
    /// What is wrong with it, in words.
    pub message: String,
}

/// One character of an element: as it stands, or after `\`.
type Char = (char, bool);

pub(super) fn elements<S: AsRef<str>>(
    args: &[S],
    placeholders: &Placeholders,
) -> Result<Vec<Element>, GrammarError> {
    let mut tokens = 0;
    let mut elements = Vec::with_capacity(args.len().min(MAX_ELEMENTS));
    for (index, text) in args.iter().enumerate() {
        let element = element(text.as_ref(), placeholders)
            .map_err(|message| GrammarError { element: index, message })?;
        tokens += match &element {
            Element::Token(token) => token.alternatives.len(),
            Element::Group { tokens, .. } => tokens.iter().map(|token| token.alternatives.len()).sum(),
        };
        if tokens > MAX_ELEMENTS {
            let message = format!("a rule may hold {MAX_ELEMENTS} tokens and alternatives at most");
            return Err(GrammarError { element: index, message });
        }
        elements.push(element);
    }
    Ok(elements)
}

fn element(text: &str, placeholders: &Placeholders) -> Result<Element, String> {
    if text.is_empty() {
        return Err("an empty element matches no argument".into());
    }
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return Err(format!("`{}` is a control character", bad.escape_default()));
    }
    let chars = unescape(text)?;
    if chars[0] != ('[', false) {
        if chars.contains(&(' ', false)) {
            return Err(format!(
                "`{text}` holds a space: one element is one argument, so write two elements, \
                 or a group `[…]`, or `\\ ` for a space within the argument"
            ));
        }
        return token(&chars, placeholders).map(Element::Token);
    }
    let (inner, repeated) = match &chars[1..] {
        [inner @ .., (']', false)] => (inner, false),
        [inner @ .., (']', false), ('*', false)] => (inner, true),
        _ => return Err(format!("`{text}` begins a group, and does not end with `]` or `]*`")),
    };
    let tokens = inner
        .split(|c| *c == (' ', false))
        .filter(|chars| !chars.is_empty())
        .map(|chars| token(chars, placeholders))
        .collect::<Result<Vec<_>, _>>()?;
    if tokens.is_empty() {
        return Err("a group needs at least one token".into());
    }
    Ok(Element::Group { tokens, repeated })
}

fn unescape(text: &str) -> Result<Vec<Char>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some(c) => (c, true),
                None => return Err(format!("`{text}` ends with `\\`, which has nothing to escape")),
            },
            c => (c, false),
        });
    }
    Ok(out)
}

/// The text of a token, escaped as it was written.
fn show(chars: &[Char]) -> String {
    let mut text = String::new();
    for (c, escaped) in chars {
        if *escaped {
            text.push('\\');
        }
        text.push(*c);
    }
    text
}

fn token(chars: &[Char], placeholders: &Placeholders) -> Result<Token, String> {
    let text = show(chars);
    if let [('{', false), name @ .., (mark @ ('?' | '*' | '+'), false), ('}', false)] = chars {
        let times = match mark {
            '?' => Times::Optional,
            '*' => Times::Any,
            _ => Times::AtLeastOnce,
        };
        let part = placeholder(name, &text, placeholders)?;
        return Ok(Token { text, alternatives: vec![vec![part]], times });
    }
    let alternatives = split_alternatives(chars)
        .into_iter()
        .map(|chars| parts(chars, &text, placeholders))
        .collect::<Result<_, _>>()?;
    Ok(Token { text, alternatives, times: Times::Once })
}

fn split_alternatives(chars: &[Char]) -> Vec<&[Char]> {
    chars.split(|c| *c == ('|', false)).collect()
}

fn parts(mut chars: &[Char], text: &str, placeholders: &Placeholders) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    while let [first, rest @ ..] = chars {
        match *first {
            ('{', false) => {
                let Some(end) = rest.iter().position(|c| *c == ('}', false)) else {
                    return Err(format!("`{text}` has a `{{` without its `}}`"));
                };
                if let Some(Part::Placeholder { name, .. }) = parts.last() {
                    return Err(format!(
                        "`{text}` has no literal after `{{{name}}}`, so nothing says where one value ends and the next begins"
                    ));
                }
                parts.push(placeholder(&rest[..end], text, placeholders)?);
                chars = &rest[end + 1..];
            }
            (c @ ('}' | '[' | ']'), false) => {
                return Err(format!("`{text}` has a stray `{c}`; write `\\{c}` for the character itself"));
            }
            (c, _) => {
                match parts.last_mut() {
                    Some(Part::Literal(literal)) => literal.push(c),
                    _ => parts.push(Part::Literal(c.into())),
                }
                chars = rest;
            }
        }
    }
    if parts.is_empty() {
        return Err(format!("`{text}` has an empty alternative"));
    }
    Ok(parts)
}

fn placeholder(name: &[Char], text: &str, placeholders: &Placeholders) -> Result<Part, String> {
    let name: String = name.iter().map(|(c, _)| *c).collect();
    if let Some(stem) = name.strip_suffix(['?', '*', '+']) {
        return Err(format!(
            "`{{{name}}}` must be a whole element: within `{text}` only `{{{stem}}}` is possible"
        ));
    }
    if !is_placeholder_name(&name) {
        return Err(format!(
            "`{{{name}}}` is not a placeholder: expected a lower-case letter, then letters, digits, `_` and `-`"
        ));
    }
    let accepts = match placeholders.get(&name) {
        Some(declared) => Arc::clone(declared),
        None => Arc::new(Placeholder::undeclared(&name)),
    };
    Ok(Part::Placeholder { name, accepts })
}

/// Whether a placeholder may be called this.
pub(crate) fn is_placeholder_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}
