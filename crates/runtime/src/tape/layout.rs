//! JSON as people like to read it: what fits on a line stands on one, members keep their order, and
//! a list of lines has a line for each.

use serde::Serialize;

/// Columns of a line.
const WIDTH: usize = 110;

/// A value as JSON with line breaks, and one at its end.
///
/// # Errors
/// If the value has no form in JSON.
pub fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(value)?;
    let mut out = String::with_capacity(text.len() * 2);
    Node::parse(&text).write(&mut out, 0, 0);
    out.push('\n');
    Ok(out)
}

/// A value as JSON on one line, with spaces.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    Node::parse(text).flat(&mut out);
    out
}

/// A piece of JSON text.
enum Node<'a> {
    Leaf(&'a str),
    List(Vec<Node<'a>>),
    Object(Vec<(&'a str, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// Read what is known to be JSON. Recursion ends with it: serde_json reads 128 levels.
    fn parse(text: &'a str) -> Node<'a> {
        Reader { text, at: 0 }.node()
    }

    /// Columns on one line.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(text) => text.chars().count(),
            // Text of several lines is read line by line.
            Node::List(items) if items.len() > 1 && items.iter().any(Node::ends_a_line) => WIDTH,
            Node::List(items) => items.iter().map(|item| item.width() + 2).sum::<usize>().max(2),
            Node::Object(members) => {
                let member = |(key, value): &(&str, Node<'_>)| key.chars().count() + value.width() + 4;
                members.iter().map(member).sum::<usize>() + 2
            }
        }
    }

    fn ends_a_line(&self) -> bool {
        matches!(self, Node::Leaf(text) if text.ends_with("\\n\""))
    }

    fn flat(&self, out: &mut String) {
        match self {
            Node::Leaf(text) => out.push_str(text),
            Node::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { ", " });
                    item.flat(out);
                }
                out.push(']');
            }
            Node::Object(members) if members.is_empty() => out.push_str("{}"),
            Node::Object(members) => {
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "{ " } else { ", " });
                    out.push_str(key);
                    out.push_str(": ");
                    value.flat(out);
                }
                out.push_str(" }");
            }
        }
    }

    /// Write it where `used` columns of the line, which begins at `indent`, are taken.
    fn write(&self, out: &mut String, indent: usize, used: usize) {
        // One column for a comma.
        if indent + used + self.width() < WIDTH {
            return self.flat(out);
        }
        let begin = |out: &mut String, open: char, first: bool| {
            out.push_str(if first { "" } else { "," });
            if first {
                out.push(open);
            }
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent + 2));
        };
        let close = match self {
            Node::Leaf(text) => return out.push_str(text),
            Node::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    begin(out, '[', index == 0);
                    item.write(out, indent + 2, 0);
                }
                ']'
            }
            Node::Object(members) => {
                for (index, (key, value)) in members.iter().enumerate() {
                    begin(out, '{', index == 0);
                    out.push_str(key);
                    out.push_str(": ");
                    value.write(out, indent + 2, key.chars().count() + 2);
                }
                '}'
            }
        };
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
        out.push(close);
    }
}

/// Reads text that is known to be JSON, as serde_json made or checked it.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    /// Step over this byte, if it is the next.
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn node(&mut self) -> Node<'a> {
        if self.skip(b'[') {
            let mut items = Vec::new();
            while !self.skip(b']') && self.peek() != 0 {
                items.push(self.node());
                self.skip(b',');
            }
            Node::List(items)
        } else if self.skip(b'{') {
            let mut members = Vec::new();
            while !self.skip(b'}') && self.peek() != 0 {
                let key = self.leaf();
                self.skip(b':');
                members.push((key, self.node()));
                self.skip(b',');
            }
            Node::Object(members)
        } else {
            Node::Leaf(self.leaf())
        }
    }

    /// A string, number or word.
    fn leaf(&mut self) -> &'a str {
        let quoted = self.peek() == b'"';
        let begin = self.at;
        let mut escaped = false;
        for (offset, byte) in self.text.bytes().enumerate().skip(begin) {
            let ends = match byte {
                b'"' if quoted => !escaped && offset > begin,
                _ if quoted => false,
                byte => matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}') || byte.is_ascii_whitespace(),
            };
            escaped = byte == b'\\' && !escaped;
            if ends {
                self.at = offset + usize::from(quoted);
                return &self.text[begin..self.at];
            }
        }
        self.at = self.text.len();
        &self.text[begin..]
    }
}
