//! A text as lines that keep their ends.

/// Lines of a text.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    lines: Vec<std::borrow::Cow<'a, str>>,
    /// What new lines end with.
    end: &'static str,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let lines: Vec<_> = text.split_inclusive('\n').map(Into::into).collect();
        // As the first line does.
        let end = match text.find('\n') {
            Some(at) if text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        Self { lines, end }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// A line without its end.
    pub(super) fn get(&self, index: usize) -> &str {
        self.lines.get(index).map_or("", |line| content(line))
    }

    pub(super) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = (usize, &str)> + ExactSizeIterator {
        self.lines
            .iter()
            .enumerate()
            .map(|(index, line)| (index, content(line)))
    }

    /// Gives a line another content, and leaves its end as it is.
    pub(super) fn replace(&mut self, index: usize, line: &str) {
        if let Some(known) = self.lines.get_mut(index) {
            let end = &known[content(known).len()..];
            *known = format!("{line}{end}").into();
        }
    }

    /// Adds a line before the one at `index`, or at the end.
    pub(super) fn insert(&mut self, index: usize, line: &str) {
        let index = index.min(self.lines.len());
        let mut line = format!("{line}{}", self.end);
        if index == self.lines.len()
            && let Some(last) = self.lines.last_mut()
            && !last.ends_with('\n')
        {
            // The last line had no end, and the new last one has none either.
            last.to_mut().push_str(self.end);
            line.truncate(line.len() - self.end.len());
        }
        self.lines.insert(index, line.into());
    }

    /// Keeps the lines that `keep` holds for.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize, &str) -> bool) {
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            keep(index - 1, content(line))
        });
    }

    pub(super) fn text(&self) -> String {
        self.lines.concat()
    }
}

fn content(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}
