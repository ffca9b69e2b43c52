//! What the commands do, print and return.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use bulkhead_wire::qubesdb::message::Kind;

use super::connection::{Connection, RequestError};
use super::options::{Action, Options, OptionsError, parse};

const DONE: u8 = 0;
const FAILED: u8 = 1;
const MISSING: u8 = 2;

/// Exit code of `qubesdb-read-bool` for an error and for wrong usage.
const BOOL_ERROR: u8 = 3;

const USAGE: &str = "usage: qubesdb-COMMAND [-frqwx] [-d QUBE] ARGUMENTS
       qubesdb-cmd -c COMMAND [-frqwx] [-d QUBE] ARGUMENTS

  read PATH...              print values; exit code 2 if one is missing
  write PATH VALUE ...      set keys
  rm PATH...                remove keys, or all below a path that ends in /
  list PATH                 print the keys that start so
  multiread PATH...         print keys that start so with their values
  watch [-n N] PATH...      print N changed paths (1; negative: without end)

  -f            print full paths
  -r            print values as they are, without escapes
  -q            do not print errors
  -w            wait until the key exists
  -x            remove the key after reading it
  -e VALUE      print VALUE if the key does not exist (also --default)
  -d QUBE       ask the daemon of another qube
  -h            print this";

pub(super) fn main(name: &str, arguments: Vec<OsString>) -> ExitCode {
    let options = match parse(name, arguments) {
        Ok(options) => options,
        Err(OptionsError::Help) => {
            eprintln!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("{name}: {e}\n{USAGE}");
            return ExitCode::from(FAILED);
        }
    };
    let mut run = Run {
        name,
        options: &options,
        out: io::stdout().lock(),
        failed: false,
    };
    let code = run.all();
    // What could not be written was not delivered.
    let flushed = run.out.flush();
    if flushed.is_err() && code == DONE {
        ExitCode::from(FAILED)
    } else {
        ExitCode::from(code)
    }
}

/// `qubesdb-read-bool KEY [DEFAULT]`: 0 for any text, 1 for none, else DEFAULT.
pub(super) fn read_bool(arguments: &[OsString]) -> ExitCode {
    let (key, default) = match arguments {
        [key] => (key, MISSING),
        [key, default] => match default.to_str().and_then(|text| text.parse().ok()) {
            Some(default) => (key, default),
            None => return ExitCode::from(BOOL_ERROR),
        },
        _ => {
            eprintln!("usage: qubesdb-read-bool KEY [DEFAULT]");
            return ExitCode::from(BOOL_ERROR);
        }
    };
    let read = Connection::open(None).and_then(|mut daemon| daemon.read(key.as_bytes()));
    ExitCode::from(match read {
        Ok(value) if value.as_bytes().is_empty() => 1,
        Ok(_) => 0,
        Err(RequestError::Missing) => default,
        Err(_) => BOOL_ERROR,
    })
}

struct Run<'a> {
    name: &'a str,
    options: &'a Options,
    out: io::StdoutLock<'a>,
    failed: bool,
}

impl Run<'_> {
    fn all(&mut self) -> u8 {
        let words = &self.options.words;
        let usable = match self.options.action {
            Action::Read => self.options.default.is_none() || words.len() == 1,
            Action::Write => words.len().is_multiple_of(2),
            Action::List => words.len() == 1,
            Action::Remove | Action::MultiRead | Action::Watch => true,
        };
        if !usable {
            eprintln!("{}: wrong number of arguments", self.name);
            return FAILED;
        }
        let domain = self
            .options
            .domain
            .as_ref()
            .map(|name| name.to_string_lossy());
        let mut daemon = match Connection::open(domain.as_deref()) {
            Ok(daemon) => daemon,
            Err(e) => {
                self.fail("cannot connect", &e);
                return FAILED;
            }
        };
        let mut missing = false;
        match self.options.action {
            Action::Read => missing = self.read(&mut daemon),
            Action::Write => {
                for pair in words.chunks(2) {
                    if let [path, value] = pair {
                        let done = daemon.act(Kind::Write, path, value);
                        self.check("cannot write", path, done);
                    }
                }
            }
            Action::Remove => {
                for path in words {
                    let done = daemon.act(Kind::Remove, path, b"");
                    self.check("cannot remove", path, done);
                }
            }
            Action::List => self.entries(&mut daemon, Kind::List),
            Action::MultiRead => self.entries(&mut daemon, Kind::MultiRead),
            Action::Watch => self.watch(&mut daemon),
        }
        match (self.failed, missing) {
            (true, _) => FAILED,
            (false, true) => MISSING,
            (false, false) => DONE,
        }
    }

    /// True if a key is missing.
    fn read(&mut self, daemon: &mut Connection) -> bool {
        let mut missing = false;
        for path in &self.options.words {
            let mut value = daemon.read(path);
            if let Err(RequestError::Missing) = value {
                if self.options.wait {
                    value = wait_for(daemon, path);
                } else if let Some(default) = &self.options.default {
                    value = Ok(default.clone().into());
                }
            }
            match value {
                Ok(value) => {
                    let shown = self.options.full_path.then_some(path.as_slice());
                    self.print(shown, value.as_bytes());
                }
                Err(e @ RequestError::Missing) => {
                    self.complain("cannot read", path, &e);
                    missing = true;
                }
                Err(e) => {
                    self.complain("cannot read", path, &e);
                    self.failed = true;
                }
            }
            if self.options.remove {
                let done = daemon.act(Kind::Remove, path, b"");
                self.check("cannot remove", path, done);
            }
        }
        missing
    }

    fn entries(&mut self, daemon: &mut Connection, kind: Kind) {
        for prefix in &self.options.words {
            match daemon.list(kind, prefix) {
                Ok(entries) => {
                    for (path, value) in entries {
                        let skipped = if self.options.full_path {
                            0
                        } else {
                            prefix.len()
                        };
                        let shown = path.as_str().as_bytes().get(skipped..).unwrap_or_default();
                        match kind {
                            Kind::List => self.line(&[shown]),
                            _ => self.print(Some(shown), value.as_bytes()),
                        }
                    }
                }
                Err(e) => self.check("cannot list", prefix, Err(e)),
            }
        }
    }

    fn watch(&mut self, daemon: &mut Connection) {
        if self.options.words.is_empty() {
            return;
        }
        for path in &self.options.words {
            let done = daemon.act(Kind::Watch, path, b"");
            self.check("cannot watch", path, done);
            if self.failed {
                return;
            }
        }
        let mut left = self.options.events;
        while left != 0 && !self.failed {
            left = left.saturating_sub(i64::from(left > 0));
            match daemon.changed() {
                Ok(path) => {
                    self.line(&[path.as_str().as_bytes()]);
                    // Whoever reads waits for just this line.
                    self.failed |= self.out.flush().is_err();
                }
                Err(e) => self.fail("cannot wait", &e),
            }
        }
    }

    fn print(&mut self, path: Option<&[u8]>, value: &[u8]) {
        let value = if self.options.raw {
            value.to_vec()
        } else {
            escaped(value)
        };
        match path {
            Some(path) => self.line(&[path, b" = ", &value]),
            None => self.line(&[&value]),
        }
    }

    fn line(&mut self, parts: &[&[u8]]) {
        let mut text = parts.concat();
        text.push(b'\n');
        self.failed |= self.out.write_all(&text).is_err();
    }

    fn check(&mut self, what: &str, path: &[u8], done: Result<(), RequestError>) {
        if let Err(e) = done {
            self.complain(what, path, &e);
            self.failed = true;
        }
    }

    fn complain(&self, what: &str, path: &[u8], error: &RequestError) {
        self.say(
            &format!("{what} {}", String::from_utf8_lossy(&escaped(path))),
            error,
        );
    }

    fn fail(&mut self, what: &str, error: &RequestError) {
        self.say(what, error);
        self.failed = true;
    }

    fn say(&self, what: &str, error: &RequestError) {
        if self.options.quiet {
            return;
        }
        let mut text = format!("{}: {what}: {error}", self.name);
        if let Some(cause) = error.source() {
            text.push_str(&format!(": {cause}"));
        }
        eprintln!("{text}");
    }
}

fn wait_for(
    daemon: &mut Connection,
    path: &[u8],
) -> Result<bulkhead_wire::qubesdb::message::Value, RequestError> {
    daemon.act(Kind::Watch, path, b"")?;
    loop {
        match daemon.read(path) {
            Err(RequestError::Missing) => daemon.changed().map(drop)?,
            read => return read,
        }
    }
}

/// Bytes outside ASCII text as `\xHH`.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            0x20..0x80 => text.push(*byte),
            other => text.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ascii_text_is_escaped() {
        assert_eq!(escaped(b"a b\x7f"), b"a b\x7f");
        assert_eq!(escaped("a\n\u{e4}".as_bytes()), br"a\x0a\xc3\xa4");
    }
}
