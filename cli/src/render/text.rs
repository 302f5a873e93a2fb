//! Foreign text made safe to show.

/// Text without anything that a terminal would obey: control characters and those that change the
/// direction of writing appear as `\u{…}`. Newlines and tabs become spaces.
pub fn clean(text: &str) -> String {
    clean_text(text).replace(['\n', '\t'], " ")
}

/// Like [`clean`], keeping line breaks.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Like [`clean`], keeping line breaks and tabs, for text that comes in pieces.
pub fn clean_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' => {}
            '\n' | '\t' => out.push(c),
            c if is_active(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` cut to `max` characters, with an ellipsis where something was cut.
pub fn short(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// A program and its arguments as they could be typed: quoted where a shell would split them.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quote = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%^".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", clean(word).replace('\'', r"'\''"))
        }
    };
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// `1 node`, `3 nodes`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Names as people sort them: `n2` before `n10`.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let key = |text: &str| {
        let mut parts: Vec<(String, u64)> = vec![(String::new(), 0)];
        let mut digits = false;
        for c in text.chars() {
            let last = parts.last_mut().expect("never empty");
            match c.to_digit(10) {
                Some(digit) => {
                    last.1 = last.1.saturating_mul(10).saturating_add(digit.into());
                    digits = true;
                }
                None if digits => {
                    parts.push((c.to_string(), 0));
                    digits = false;
                }
                None => last.0.push(c),
            }
        }
        parts
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(clean("a\x1b]0;title\x07b\u{9b}2Jc\u{202e}d"), r"a\u{1b}]0;title\u{7}b\u{9b}2Jc\u{202e}d");
        assert_eq!(clean("täxt\nnext\tcell\r"), "täxt next cell");
        assert_eq!(clean_lines("a\nb\x07"), "a\nb\\u{7}");
    }

    #[test]
    fn words_are_quoted_where_needed() {
        assert_eq!(
            command_line(["zpool", "list", "-o", "name,size", "my tank", "it's"]),
            r"zpool list -o name,size 'my tank' 'it'\''s'"
        );
        assert_eq!(command_line(["x", ""]), "x ''");
    }

    #[test]
    fn names_sort_by_number() {
        let mut names = ["n10", "n2", "n1", "rack-2-n1", "rack-10-n1", "n"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["n", "n1", "n2", "n10", "rack-2-n1", "rack-10-n1"]);
    }

    #[test]
    fn long_text_is_cut_at_characters() {
        assert_eq!(short("ääää", 3), "ää…");
        assert_eq!(short("äää", 3), "äää");
    }
}
