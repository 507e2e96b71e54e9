//! Asking for a secret on the terminal without showing it.

use std::io::{IsTerminal as _, Read as _};

use daypass_base::Secret;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::show;

/// Why no secret came.
#[derive(Debug)]
pub(crate) enum NoSecret {
    /// The person pressed Ctrl-C or ended the input.
    Interrupted,
    /// Nobody can be asked: stdin is no terminal, or the terminal does not work.
    NoTerminal(String),
}

/// No password or key is longer.
const LENGTH_MAX: usize = 64 * 1024;

/// Shows `text` on stderr and reads a line that is not shown.
pub(crate) fn hidden(text: &str) -> Result<Secret<String>, NoSecret> {
    show::prompt(text);
    let secret = read_hidden();
    show::note("");
    secret
}

fn read_hidden() -> Result<Secret<String>, NoSecret> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(NoSecret::NoTerminal("file descriptor 0 is not a terminal".to_owned()));
    }
    let _restored_on_drop = Quiet::new().map_err(|error| NoSecret::NoTerminal(error.to_string()))?;
    let mut line: Secret<Vec<u8>> = Secret::new(Vec::with_capacity(LENGTH_MAX));
    for byte in stdin.lock().bytes() {
        let byte = byte.map_err(|error| NoSecret::NoTerminal(error.to_string()))?;
        match byte {
            b'\r' | b'\n' => return Ok(text_of(&line)),
            // Ctrl-C, and Ctrl-D on an empty line.
            3 => return Err(NoSecret::Interrupted),
            4 if line.expose().is_empty() => return Err(NoSecret::Interrupted),
            // Ctrl-U starts over, backspace takes one character back.
            21 => line = Secret::new(Vec::with_capacity(LENGTH_MAX)),
            8 | 127 => line = shorter(&line),
            byte if line.expose().len() < LENGTH_MAX => line = longer(line, byte),
            _ => {}
        }
    }
    Ok(text_of(&line))
}

fn longer(line: Secret<Vec<u8>>, byte: u8) -> Secret<Vec<u8>> {
    // Copied to grow: the old buffer is wiped when it is dropped.
    let mut bytes = Vec::with_capacity(line.expose().len() + 1);
    bytes.extend_from_slice(line.expose());
    bytes.push(byte);
    Secret::new(bytes)
}

fn shorter(line: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    // The bytes of one character go together.
    let bytes = line.expose();
    let end = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
    Secret::new(bytes.iter().take(end).copied().collect())
}

fn text_of(line: &Secret<Vec<u8>>) -> Secret<String> {
    // To its caller, still wrapped.
    Secret::new(String::from_utf8_lossy(line.expose()).trim().to_owned())
}

/// The terminal without echo, until dropped. Signals are off too, so that Ctrl-C cannot leave it silent.
struct Quiet(Termios);

impl Quiet {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done when the terminal has gone.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
