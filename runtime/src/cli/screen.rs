//! What is shown again and again in one place, if stdout is a terminal.

use std::io::IsTerminal as _;

use super::{OutputFormat, print};

/// The terminal's other screen while this lives, or plain output if there is no terminal.
pub(super) struct Screen {
    pub(super) terminal: bool,
}

impl Screen {
    /// Takes the terminal, if stdout is one and people read it.
    pub(super) fn open(output: OutputFormat) -> Self {
        let terminal = std::io::stdout().is_terminal() && output == OutputFormat::Text;
        if terminal {
            print("\x1b[?1049h\x1b[?25l");
        }
        Self { terminal }
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if self.terminal && size.ws_col > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (usize::MAX, usize::MAX),
        }
    }

    /// What of plain lines it has room for.
    pub(super) fn fit(&self, page: &str) -> String {
        let (columns, rows) = self.size();
        let lines = page.lines().take(rows);
        lines.map(|line| clip(line, columns) + "\n").collect()
    }

    /// Replaces what was shown. Nothing is cleared before it is written over, and the terminal is
    /// asked to show it at once: no flicker. Whether anybody reads it.
    pub(super) fn show(&self, page: &str) -> bool {
        if self.terminal {
            let page = page.trim_end_matches('\n').replace('\n', "\x1b[K\r\n");
            print(&format!("\x1b[?2026h\x1b[H{page}\x1b[K\x1b[J\x1b[?2026l"))
        } else {
            print(page)
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            print("\x1b[?25h\x1b[?1049l");
        }
    }
}

/// At most so many characters.
pub(super) fn clip(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}
