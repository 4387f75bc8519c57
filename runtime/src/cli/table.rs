//! Columns that line up, for terminals. It knows nothing of what is in them.

use std::fmt::Write as _;

/// Lays out rows; the last cell of a row may be as wide as it likes.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        let inner = row.len().saturating_sub(1);
        for (index, cell) in row.iter().take(inner).enumerate() {
            if widths.len() <= index {
                widths.push(0);
            }
            widths[index] = cell.chars().count().max(widths[index]);
        }
    }
    let mut page = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let last = index + 1 == row.len();
            let width = if last { 0 } else { widths[index] };
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}   ");
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page
}

/// Without control characters: what a plugin said must not steer the terminal.
pub(super) fn tame(page: &str) -> String {
    let steers = |character: char| character.is_control() && character != '\n';
    page.replace(steers, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let page = table(&[
            row(&["NODE", "NAME", "PHASE", "LAG"]),
            row(&["a", "é", "Degraded", "0 B"]),
            row(&["a-long-one", "b", "Running", "1 B"]),
            row(&["c", "a sentence that is long and ends the row"]),
        ]);
        let lines: Vec<&str> = page.lines().collect();
        let column = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        for (word, line) in [("Degraded", 1), ("Running", 2)] {
            assert_eq!(
                column(lines[line], word),
                column(lines[0], "PHASE"),
                "{page}"
            );
        }
        assert_eq!(
            column(lines[3], "a sentence"),
            column(lines[0], "NAME"),
            "{page}"
        );
        assert!(lines.iter().all(|line| line.trim_end() == *line));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(tame("a\u{1b}[2Jb\r\nc"), "a [2Jb \nc");
    }
}
