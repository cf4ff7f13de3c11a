//! The terminal: how wide it is, and words typed into it, seen or unseen.

use crate::error::CliError;
use crate::table::Canvas;
use rustix::termios::{tcgetattr, tcgetwinsize, tcsetattr, LocalModes, OptionalActions, Termios};
use std::io::{BufRead, IsTerminal, Write};

/// What standard output can show: colours and a width only if it is a terminal.
pub fn canvas() -> Canvas {
    let terminal = std::io::stdout().is_terminal();
    let width = tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    Canvas { width: width.filter(|columns| terminal && *columns > 0), colour }
}

/// Whether progress may be drawn on standard output.
pub fn shows_progress() -> bool {
    std::io::stdout().is_terminal()
}

/// Asks `question` and reads the answer, a line without its end.
///
/// # Errors
/// The input ended, or the terminal failed.
pub fn ask(question: &str) -> Result<String, CliError> {
    show(question)?;
    read_line()
}

fn show(question: &str) -> Result<(), CliError> {
    eprint!("{question}");
    std::io::stderr().flush().map_err(broken)
}

/// Like [`ask`], but what is typed is not shown.
///
/// # Errors
/// The input ended, or the terminal failed.
pub fn ask_hidden(question: &str) -> Result<String, CliError> {
    let hidden = Hidden::start().map_err(|e| broken(e.into()))?;
    let answer = ask(question);
    if hidden.is_some() {
        eprintln!(); // the newline typed was not shown either
    }
    answer
}

/// Asks `question`; true for yes, and only for that.
///
/// # Errors
/// The terminal failed.
pub fn confirmed(question: &str) -> Result<bool, CliError> {
    show(question)?;
    Ok(matches!(typed()?.unwrap_or_default().trim(), "yes" | "y"))
}

/// A line of standard input without its end.
///
/// # Errors
/// The input ended.
pub fn read_line() -> Result<String, CliError> {
    let ended = || CliError::text("the input ended before the question was answered");
    typed()?.ok_or_else(ended)
}

/// A line without its end; none at the end of the input.
fn typed() -> Result<Option<String>, CliError> {
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line).map_err(broken)?;
    Ok((length > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

fn broken(error: std::io::Error) -> CliError {
    CliError::text(format!("cannot ask: {error}"))
}

/// While it lives, the terminal does not show what is typed.
struct Hidden(Termios);

impl Hidden {
    /// None if standard input is no terminal.
    fn start() -> rustix::io::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let shown = tcgetattr(&stdin)?;
        let mut unseen = shown.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&stdin, OptionalActions::Flush, &unseen)?;
        Ok(Some(Self(shown)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0); // nothing left to do
    }
}
