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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(pattern: &str, path: &str) -> Option<String> {
        let pattern = PathPattern::parse(pattern).expect(pattern);
        pattern.covers(&AbsolutePath::parse(path).expect(path)).map(|relative| relative.display().to_string())
    }

    #[test]
    fn patterns() {
        for (pattern, root) in [
            ("/etc/samba/**", "/etc/samba"),
            ("/etc/samba/smb.conf", "/etc/samba"),
            ("/etc/*/x", "/etc"),
            ("/a/b/c?/d/**", "/a/b"),
        ] {
            assert_eq!(PathPattern::parse(pattern).expect(pattern).root().as_str(), root);
        }
        assert_eq!(covers("/etc/samba/**", "/etc/samba").as_deref(), Some(""));
        assert_eq!(covers("/etc/samba/**", "/etc/samba/a/b").as_deref(), Some("a/b"));
        assert_eq!(covers("/etc/samba/**", "/etc/sambaa"), None);
        assert_eq!(covers("/etc/samba/smb.conf", "/etc/samba/smb.conf").as_deref(), Some("smb.conf"));
        assert_eq!(covers("/etc/samba/smb.conf", "/etc/samba/smb.conf/x"), None);
        assert_eq!(covers("/etc/samba/smb.conf", "/etc/samba"), None);
        assert_eq!(covers("/etc/*.d/*.conf", "/etc/x.d/.conf").as_deref(), Some("x.d/.conf"));
        assert_eq!(covers("/etc/*.d/*.conf", "/etc/x/y.d/a.conf"), None);
        assert_eq!(covers("/etc/*/**", "/etc/a").as_deref(), Some("a"));
        assert_eq!(covers("/etc/*/**", "/etc"), None);
        assert_eq!(covers("/etc/?x", "/etc/éx").as_deref(), Some("éx"));
        assert_eq!(covers("/etc/*a*b", "/etc/aab").as_deref(), Some("aab"));
        assert_eq!(covers("/etc/*a*b", "/etc/aba"), None);
    }

    /// The obvious way, exponential: what [`glob`] must agree with.
    fn reference(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['*', rest @ ..], text) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            (['?', rest @ ..], [_, text @ ..]) => reference(rest, text),
            ([p, rest @ ..], [t, text @ ..]) => p == t && reference(rest, text),
            (_, []) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn glob_agrees_with_the_obvious_way(pattern in "[ab*?é]{0,6}", text in "[abé€𝄞]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), reference(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn nothing_outside_the_root_is_covered(pattern in "/[a-c*?./]{0,10}(/\\*\\*)?", path in "/[a-c./]{0,10}") {
            if let (Ok(pattern), Ok(path)) = (PathPattern::parse(&pattern), AbsolutePath::parse(&path))
                && let Some(relative) = pattern.covers(&path)
            {
                prop_assert!(pattern.root().covers(path.as_str()));
                prop_assert_ne!(pattern.root().as_str(), "/");
                let joined = pattern.root().to_path_buf().join(relative);
                prop_assert_eq!(joined.components().collect::<PathBuf>(), path.to_path_buf());
            }
        }
    }
}
