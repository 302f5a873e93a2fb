//! Which paths a file rule covers.

use crate::path::AbsolutePath;
use std::path::PathBuf;

/// A pattern of absolute paths, such as `/etc/samba/**` or `/etc/exports.d/*.exports`.
///
/// `*` stands for any characters within one part of a path (none included), `?` for exactly one.
/// A last part `**` stands for everything beneath, at any depth, and for the directory itself, so
/// that it can be listed. At least the first part is literal; the literal directories in front are
/// the *root* beneath which files are opened without following links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    root: AbsolutePath,
    /// Parts below the root; none when the pattern is `root/**`.
    parts: Vec<String>,
    deep: bool,
}

impl PathPattern {
    /// Read a pattern.
    ///
    /// # Errors
    /// With the rule it breaks, in words.
    pub fn parse(text: &str) -> Result<PathPattern, String> {
        AbsolutePath::parse(text).map_err(|why| format!("the pattern `{text}` {why}"))?;
        if let Some(bad) = text.chars().find(|c| "[]{}\\!".contains(*c)) {
            return Err(format!("`{bad}` has no meaning in a pattern: only `*`, `?` and a last `**` have"));
        }
        let mut parts: Vec<&str> = text[1..].split('/').collect();
        let deep = parts.last() == Some(&"**");
        if deep {
            parts.pop();
        }
        if parts.iter().any(|part| part.contains("**")) {
            return Err("`**` is possible as the last part only".into());
        }
        // What a plain path names is opened in its directory: the last part never counts as root.
        let literal = parts.iter().take_while(|part| !is_glob(part)).count();
        let literal = if deep { literal } else { literal.min(parts.len() - 1) };
        if literal == 0 {
            return Err(format!(
                "the pattern `{text}` must begin with a literal directory, such as `/etc/samba`"
            ));
        }
        let root = AbsolutePath::parse(&format!("/{}", parts[..literal].join("/"))).map_err(str::to_owned)?;
        let parts = parts[literal..].iter().map(|part| (*part).to_owned()).collect();
        Ok(PathPattern { text: text.to_owned(), root, parts, deep })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The longest literal directory in front.
    pub fn root(&self) -> &AbsolutePath {
        &self.root
    }

    /// Where `path` lies beneath the root, if the pattern covers it. Empty for the root itself.
    pub fn covers(&self, path: &AbsolutePath) -> Option<PathBuf> {
        let relative = match path.as_str().strip_prefix(self.root.as_str())? {
            "" => "",
            rest => rest.strip_prefix('/')?,
        };
        let mut segments = relative.split('/').filter(|segment| !segment.is_empty());
        for part in &self.parts {
            if !glob(part.as_bytes(), segments.next()?.as_bytes()) {
                return None;
            }
        }
        (self.deep || segments.next().is_none()).then(|| PathBuf::from(relative))
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_glob(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// Match one part of a path. On a mismatch only the last `*` takes one byte more, which is enough
/// (an earlier star can give nothing that the last one can't) and makes the time at most the
/// product of the two lengths. `?` takes one whole character of UTF-8.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let width = |at: usize| match text[at] {
        0..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => {
                t += width(t);
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    let from = from + width(from);
                    star = Some((at, from));
                    (p, t) = (at + 1, from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
