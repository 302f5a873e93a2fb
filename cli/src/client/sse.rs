//! Server-sent events: text lines to events, as the HTML standard has it (§ 9.2.6).
//!
//! Only `id` and `data` matter here; comments, which keep the connection alive, are skipped.

/// An event of the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream gave, this event's or an earlier one's.
    pub id: Option<String>,
    pub data: String,
}

/// Collects bytes and gives events as they are complete.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    id: Option<String>,
    data: Option<String>,
    /// The id as of the last empty line: what came before it is complete.
    last_id: Option<String>,
}

/// The stream holds an event larger than this: it is none of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an event of more than {} MiB", MOST >> 20)]
pub struct TooLong;

/// An event holds one outcome, whose size the hosts limit to 16 MiB.
const MOST: usize = 64 << 20;

impl Parser {
    /// Take bytes and give the events that they complete. An event that is not ended by an empty
    /// line is dropped with the stream, as the standard asks.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        // Lines are looked for in what is new only.
        let mut scan = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(end) = self.buffer[scan..].iter().position(|byte| *byte == b'\n') {
            let line = &self.buffer[begin..scan + end];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            begin = scan + end + 1;
            scan = begin;
            events.extend(self.line(&line));
        }
        self.buffer.drain(..begin);
        if self.buffer.len() + self.data.as_ref().map_or(0, String::len) > MOST {
            return Err(TooLong);
        }
        Ok(events)
    }

    /// The id to come again with: of the last event, or what was sent in its place without data.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            self.last_id.clone_from(&self.id);
            let data = self.data.take()?;
            return Some(Event { id: self.id.clone(), data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = ": hello\nid: 1\nevent: node\ndata: {\"a\":\ndata: 1}\n\n:\n\ndata:x\r\n\r\nid: 3\n\ndata\n\ndata: lost";

    fn event(id: &str, data: &str) -> Event {
        Event { id: Some(id.into()), data: data.into() }
    }

    #[test]
    fn events_of_a_stream() {
        let events = Parser::default().push(STREAM.as_bytes()).unwrap();
        assert_eq!(events, [event("1", "{\"a\":\n1}"), event("1", "x"), event("3", "")]);
    }

    #[test]
    fn an_id_counts_once_all_before_it_is_there() {
        let mut parser = Parser::default();
        for (text, id) in
            [("id: 4\n", None), ("\n", Some("4")), ("id: 5\ndata: x", Some("4")), ("\n\n", Some("5"))]
        {
            parser.push(text.as_bytes()).unwrap();
            assert_eq!(parser.last_id(), id, "{text:?}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let line = vec![b'x'; 1 << 20];
        let refused = (0..=MOST >> 20).any(|_| parser.push(&line) == Err(TooLong));
        assert!(refused);
    }

    proptest! {
        #[test]
        fn the_cuts_of_the_network_do_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..8)) {
            let whole = Parser::default().push(STREAM.as_bytes()).unwrap();
            let mut cuts = cuts;
            cuts.sort_unstable();
            cuts.push(STREAM.len());
            let (mut parser, mut from, mut events) = (Parser::default(), 0, Vec::new());
            for cut in cuts {
                events.extend(parser.push(&STREAM.as_bytes()[from..cut]).unwrap());
                from = cut;
            }
            prop_assert_eq!(events, whole);
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in any::<Vec<u8>>()) {
            let _ = Parser::default().push(&bytes);
        }
    }
}
