//! Takes what RFC 5424's grammar has, and nothing else.

/// A message as RFC 5424 has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) priority: u32,
    pub(super) time: String,
    pub(super) hostname: String,
    pub(super) app_name: String,
    pub(super) proc_id: String,
    pub(super) msg_id: String,
    /// None for `-`. Each element its id and parameters.
    pub(super) data: Vec<(String, Vec<(String, String)>)>,
    /// None if there is no MSG.
    pub(super) text: Option<Vec<u8>>,
}

impl Message {
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let (_, params) = self.data.first()?;
        let (_, value) = params.iter().find(|(other, _)| other == name)?;
        Some(value)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.text.as_deref().unwrap_or_default()).unwrap()
    }
}

/// Reads one message.
pub(super) fn message(bytes: &[u8]) -> Message {
    Parser::message(bytes)
}

/// The messages of a stream with counted octets.
pub(super) fn of_stream(bytes: &[u8]) -> Vec<&[u8]> {
    Parser::counted(bytes)
}

struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    fn expect(&mut self, wanted: &str) {
        let rest = self.0.strip_prefix(wanted.as_bytes());
        self.0 = rest.unwrap_or_else(|| panic!("{wanted:?} at {:?}", self.shown()));
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.0[..self.0.len().min(80)]).into_owned()
    }

    fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| ends(byte));
        let (found, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        found
    }

    /// NILVALUE / 1*max PRINTUSASCII
    fn name(&mut self, max: usize, excluded: &[u8]) -> String {
        let found = self.until(|byte| !byte.is_ascii_graphic() || excluded.contains(&byte));
        assert!((1..=max).contains(&found.len()), "{:?}", self.shown());
        String::from_utf8(found.to_vec()).unwrap()
    }

    fn message(bytes: &'a [u8]) -> Message {
        let mut parser = Self(bytes);
        parser.expect("<");
        let priority = parser.name(3, b">");
        assert!(priority == "0" || !priority.starts_with('0'), "{priority}");
        let priority: u32 = priority.parse().unwrap();
        assert!(priority <= 191);
        parser.expect(">1 ");
        let time = parser.name(32, b"");
        let parsed: jiff::Timestamp = time.parse().unwrap();
        assert_eq!(format!("{parsed:.6}"), time);
        parser.expect(" ");
        let hostname = parser.name(255, b"");
        parser.expect(" ");
        let app_name = parser.name(48, b"");
        parser.expect(" ");
        let proc_id = parser.name(128, b"");
        parser.expect(" ");
        let msg_id = parser.name(32, b"");
        parser.expect(" ");
        let mut data = Vec::new();
        if parser.0.starts_with(b"-") {
            parser.expect("-");
        } else {
            while parser.0.starts_with(b"[") {
                data.push(parser.element());
            }
            assert!(!data.is_empty(), "{}", parser.shown());
        }
        let text = match parser.0 {
            [] => None,
            [b' ', text @ ..] => Some(text.to_vec()),
            _ => panic!("{}", parser.shown()),
        };
        if let Some([0xef, 0xbb, 0xbf, rest @ ..]) = text.as_deref() {
            std::str::from_utf8(rest).unwrap();
        }
        Message {
            priority,
            time,
            hostname,
            app_name,
            proc_id,
            msg_id,
            data,
            text,
        }
    }

    fn element(&mut self) -> (String, Vec<(String, String)>) {
        self.expect("[");
        let id = self.name(32, b"= ]\"");
        let mut params = Vec::new();
        while self.0.starts_with(b" ") {
            self.expect(" ");
            let name = self.name(32, b"= ]\"");
            self.expect("=\"");
            let mut value = Vec::new();
            loop {
                value.extend_from_slice(self.until(|byte| matches!(byte, b'"' | b'\\' | b']')));
                match self.0 {
                    [b'\\', escaped @ (b'"' | b'\\' | b']'), rest @ ..] => {
                        value.push(*escaped);
                        self.0 = rest;
                    }
                    [b'"', ..] => break,
                    _ => panic!("unescaped: {}", self.shown()),
                }
            }
            self.expect("\"");
            params.push((name, String::from_utf8(value).unwrap()));
        }
        self.expect("]");
        (id, params)
    }

    fn counted(bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parser = Self(bytes);
        let mut messages = Vec::new();
        while !parser.0.is_empty() {
            let length = parser.name(10, b"");
            assert!(!length.starts_with('0'));
            parser.expect(" ");
            let (message, rest) = parser.0.split_at(length.parse().unwrap());
            messages.push(message);
            parser.0 = rest;
        }
        messages
    }
}
