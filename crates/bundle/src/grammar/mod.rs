//! Argument grammars: which argument lists a rule allows.
//!
//! A rule's `args` is a list of *elements*. They are matched against the whole argument list of a
//! program, from its first argument to its last: nothing may be left over on either side.
//!
//! | element | matches |
//! |---|---|
//! | `-H` | this very argument |
//! | `on\|off` | one argument, one of these |
//! | `{pool}` | one argument that the placeholder `pool` accepts |
//! | `{pool?}` | such an argument, or none |
//! | `{device*}`, `{device+}` | any number of them; at least one |
//! | `name={value}`, `{host}:{path}` | one argument made of these parts |
//! | `[-o {columns}]` | these arguments in a row, or none of them |
//! | `[-o {property}]*` | the same any number of times |
//!
//! The syntax in full (one element is one string of the manifest's array):
//!
//! ```text
//! element     = group | token
//! group       = "[" spaces token { spaces token } spaces "]" [ "*" ]
//! token       = "{" name ( "?" | "*" | "+" ) "}" | alternative { "|" alternative }
//! alternative = part { part }
//! part        = literal | "{" name "}"
//! name        = letter { letter | digit | "_" | "-" }         (ASCII, lower case)
//! literal     = one or more characters; "\" makes the next one literal
//! ```
//!
//! * Groups do not nest. Outside a group a space must be written `\ `: an element that holds one
//!   is nearly always two arguments by mistake. So must `[ ] { } | \` wherever they stand for
//!   themselves.
//! * Two placeholders of one token need a literal between them. A placeholder that a literal
//!   follows ends at the *first* place where that literal stands (the last literal of a token:
//!   where the argument ends with it). There is no second try, so what a token means does not
//!   depend on what follows it.
//! * What a placeholder accepts is declared by name in the manifest's `[placeholders]`, see
//!   [`Placeholder`]; the same rules about emptiness and a leading `-` hold within a token.
//! * The same placeholder twice stands for two arguments that need not be equal.
//!
//! Matching runs all possibilities at once (a set of positions in the rule moves over the
//! arguments, as in Thompson's NFA simulation), so the time is at most the size of the rule times
//! the bytes of the arguments, whatever the two are. Rules and argument lists are bounded:
//! [`MAX_ELEMENTS`], [`MAX_ARGS`], [`MAX_ARGS_BYTES`].

mod matching;
mod parse;
mod placeholder;
#[cfg(test)]
mod tests;

pub use parse::GrammarError;
pub(crate) use parse::is_placeholder_name;
pub(crate) use placeholder::is_name;
pub use placeholder::{CharSet, DEFAULT_MAX_LENGTH, KINDS, Kind, Placeholder};

use std::{collections::BTreeMap, sync::Arc};

/// Tokens that one rule may hold.
pub const MAX_ELEMENTS: usize = 128;
/// Arguments of one call. Far past what administration tools take in practice.
pub const MAX_ARGS: usize = 1024;
/// Bytes of all arguments of one call. The kernel allows 128 KiB for a single argument and 2 MiB
/// in all (execve(2)); a plugin that has more to say uses standard input.
pub const MAX_ARGS_BYTES: usize = 64 * 1024;

/// The placeholders a manifest declares, by name.
pub type Placeholders = BTreeMap<String, Arc<Placeholder>>;

/// Which argument lists a rule allows.
#[derive(Debug, Clone)]
pub struct Grammar {
    elements: Vec<Element>,
    program: matching::Program,
}

/// One element, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    Token(Token),
    Group { tokens: Vec<Token>, repeated: bool },
}

/// What stands for one argument, and how often it may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// As the manifest has it, for messages.
    text: String,
    alternatives: Vec<Vec<Part>>,
    times: Times,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Optional,
    Any,
    AtLeastOnce,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder { name: String, accepts: Arc<Placeholder> },
}

/// Where an argument list leaves a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Index of the first argument that fits nothing; the number of arguments if they end too early.
    pub at: usize,
    /// What the rule has there: elements as written, and the end of the arguments as `end`.
    pub expected: Vec<String>,
}

impl Grammar {
    /// Read the elements of a rule.
    ///
    /// # Errors
    /// With the element that is wrong.
    pub fn parse<S: AsRef<str>>(args: &[S], placeholders: &Placeholders) -> Result<Grammar, GrammarError> {
        let elements = parse::elements(args, placeholders)?;
        let program = matching::Program::compile(&elements);
        Ok(Grammar { elements, program })
    }

    /// Whether the rule allows this argument list.
    ///
    /// # Errors
    /// With the place where the arguments leave the rule.
    pub fn matches<S: AsRef<str>>(&self, args: &[S]) -> Result<(), Mismatch> {
        self.program.run(args)
    }

    /// Names of the placeholders it uses, in order, repeated ones repeatedly.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.accepted().map(|(name, _)| name)
    }

    /// The placeholders it uses with what they accept.
    pub fn accepted(&self) -> impl Iterator<Item = (&str, &Placeholder)> {
        self.tokens().flat_map(|token| &token.alternatives).flatten().filter_map(|part| match part {
            Part::Placeholder { name, accepts } => Some((name.as_str(), &**accepts)),
            Part::Literal(_) => None,
        })
    }

    /// Tokens and alternatives: with the arguments, what matching takes time in proportion to.
    pub(crate) fn size(&self) -> usize {
        self.tokens().map(|token| token.alternatives.len()).sum()
    }

    fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.elements.iter().flat_map(|element| match element {
            Element::Token(token) => std::slice::from_ref(token),
            Element::Group { tokens, .. } => tokens,
        })
    }
}

/// Whether an argument list is within [`MAX_ARGS`] and [`MAX_ARGS_BYTES`] and holds no NUL.
///
/// # Errors
/// With what is wrong, in words.
pub fn check_limits<S: AsRef<str>>(args: &[S]) -> Result<(), String> {
    if args.len() > MAX_ARGS {
        return Err(format!("{} arguments, where {MAX_ARGS} are allowed", args.len()));
    }
    let bytes: usize = args.iter().map(|arg| arg.as_ref().len()).sum();
    if bytes > MAX_ARGS_BYTES {
        return Err(format!("arguments of {bytes} bytes, where {MAX_ARGS_BYTES} are allowed"));
    }
    match args.iter().position(|arg| arg.as_ref().contains('\0')) {
        Some(at) => Err(format!("argument {} holds a NUL", at + 1)),
        None => Ok(()),
    }
}
