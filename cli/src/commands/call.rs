//! `bulkhead run` and `call`: this process speaks the data protocol, the daemon only introduces.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bulkhead_api::ErrorKind;
use bulkhead_api::call::{COMMAND_MAX, CallRequest, DataConnection, RunRequest};
use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::event::{Event, Topic};
use bulkhead_qrexec::pump::{self, Errors, Input, Options, Output, Streams};
use bulkhead_vchan::AnyChannel;
use bulkhead_wire::qrexec::data::Role;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::listener::Listener;
use crate::args::{CallArgs, Filter, Global, RunArgs};
use crate::client::{self, Client};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::waiting;

/// Exit code where it did not come to a command or service.
const UNREACHED: u8 = 125;

/// Exit code where policy refused.
const DENIED: u8 = 126;

/// Exit code where a qube went away before its command ended.
const DISCONNECTED: u8 = bulkhead_wire::qrexec::EXIT_DISCONNECTED;

/// How long to wait for the daemon's word on why a connection broke.
const REASON_WAIT: Duration = Duration::from_secs(2);

/// How long to wait for a disposable to be gone.
const GONE_WAIT: Duration = Duration::from_secs(60);

/// Longest reason that is read: a sentence with room.
const REASON_MAX: u64 = 4096;

/// What is to be started.
#[derive(Debug)]
enum Request {
    Run(RunRequest),
    Call(CallRequest),
}

impl Request {
    fn is_disposable(&self) -> bool {
        match self {
            Self::Run(request) => request.disposable,
            Self::Call(request) => request.disposable,
        }
    }
}

pub(crate) fn run(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    let command = command_line(&args.command);
    if command.len() > COMMAND_MAX {
        let length = command.len();
        return Err(Failure::new(format!(
            "the command has {length} bytes; a qube takes at most {COMMAND_MAX}"
        ))
        .hint("Send long input on standard input instead.")
        .exit(Exit::Remote(UNREACHED)));
    }
    let request = Request::Run(RunRequest {
        disposable: args.dispvm.is_some(),
        qube: args.qube.or(args.dispvm).unwrap_or_default(),
        user: args.user.unwrap_or_default(),
        command,
        autostart: !args.no_autostart,
    });
    connect_and_relay(global, request, &args.filter)
}

pub(crate) fn call(global: &Global, args: CallArgs) -> Result<Exit, Failure> {
    let (qube, disposable) = call_target(args.qube);
    let request = Request::Call(CallRequest {
        qube,
        service: args.service,
        user: args.user.unwrap_or_default(),
        disposable,
        autostart: !args.no_autostart,
    });
    connect_and_relay(global, request, &args.filter)
}

/// A qube, or the template of a disposable, written as in policy.
fn call_target(text: String) -> (String, bool) {
    if text == "@dispvm" {
        return (String::new(), true);
    }
    match text.strip_prefix("@dispvm:") {
        Some(base) => (base.to_owned(), true),
        None => (text, false),
    }
}

/// One word is the shell's to read; several are quoted, so that they arrive as they are.
fn command_line(words: &[OsString]) -> Vec<u8> {
    if let [only] = words {
        return only.as_bytes().to_vec();
    }
    let quoted: Vec<Vec<u8>> = words.iter().map(|word| quote(word.as_bytes())).collect();
    quoted.join(&b' ')
}

/// A word that a POSIX shell reads as itself.
fn quote(word: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(byte);
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut out = vec![b'\''];
    for &byte in word {
        if byte == b'\'' {
            out.extend(br"'\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
    out
}

fn connect_and_relay(global: &Global, request: Request, filter: &Filter) -> Result<Exit, Failure> {
    let runtime = client::runtime()?;
    // The connection is kept until the end, but nothing more is said on it.
    let (client, data) = runtime.block_on(introduce(global, &request))?;
    let name = data.qube.clone();
    let ending = relay(data, filter);
    if request.is_disposable() {
        let gone = wait_until_gone(&client, &name);
        // A daemon that does not say in time removes it all the same, and the command has ended.
        let _ = runtime.block_on(async { tokio::time::timeout(GONE_WAIT, gone).await });
    }
    ending
}

/// Waits until a disposable is gone, so that nobody sees it after its command.
async fn wait_until_gone(client: &Client, name: &str) -> Result<(), Failure> {
    let mut events = Signals::subscribe(client, &[Topic::Qubes]).await?;
    loop {
        let rows = client.proxy.list().await?;
        if rows.iter().all(|row| row.name != name) {
            return Ok(());
        }
        // Should signals be lost, the list is read again.
        while let Incoming::Event(event) = events.next().await? {
            if matches!(*event, Event::QubeRemoved { name: removed } if removed == name) {
                return Ok(());
            }
        }
    }
}

/// Asks the daemon; a failure ends with a code that tells it from one of the command.
async fn introduce(
    global: &Global,
    request: &Request,
) -> Result<(Client, DataConnection), Failure> {
    let unreached = |failure: Failure| failure.exit_unless_bug(Exit::Remote(UNREACHED));
    let client = Client::connect(&client::socket(global)).await;
    let client = client.map_err(|error| unreached(error.into()))?;
    let data = match request {
        Request::Run(request) => waiting(&starting(&request.qube), client.proxy.run(request)).await,
        Request::Call(request) => {
            waiting(&starting(&request.qube), client.proxy.call(request)).await
        }
    };
    match data {
        Ok(data) => Ok((client, data)),
        Err(error) if error.kind == ErrorKind::Denied => {
            Err(Failure::from(error).exit(Exit::Remote(DENIED)))
        }
        Err(error) => Err(unreached(error.into())),
    }
}

fn starting(qube: &str) -> String {
    match qube {
        "" => "Starting a disposable".to_owned(),
        name => format!("Waiting for {name}"),
    }
}

/// Serves one call with the streams of this process.
fn relay(data: DataConnection, filter: &Filter) -> Result<Exit, Failure> {
    let qube = data.qube;
    let life = OwnedFd::from(data.life);
    let broken = |error: &io::Error| {
        let failure = Failure::io(format!("cannot reach qube `{qube}`"), error);
        failure.exit(Exit::Remote(UNREACHED))
    };
    let of_rings = !data.rings.is_empty();
    let listener = Listener::of(data.domain, data.listener.into(), data.rings);
    let listener = listener.map_err(|error| broken(&error))?;
    let mut channel = match accept(listener, &life).map_err(|error| broken(&error))? {
        Some(channel) => channel,
        None => return Err(never_came(&qube, life)),
    };
    let streams = own_streams().map_err(|error| {
        let failure = Failure::io("cannot use standard input, output or errors", &error);
        failure.exit(Exit::Remote(UNREACHED))
    })?;
    let mut options = Options::new(Role::Caller);
    options.filter_main = wants_filter(filter, io::stdout().is_terminal());
    options.filter_errors = wants_filter(filter, io::stderr().is_terminal());
    if of_rings {
        options.peer = Some(life.try_clone().map_err(|error| broken(&error))?);
    }
    let ending = pump::run(&mut channel, streams, None, options).map_err(|error| {
        Failure::new(format!("the connection to qube `{qube}` failed"))
            .because(&error)
            .exit(Exit::Remote(DISCONNECTED))
    })?;
    match ending.remote {
        Some(code) => {
            let [low, ..] = code.to_le_bytes();
            Ok(Exit::Remote(low))
        }
        None => Err(went_away(&qube, life)),
    }
}

fn wants_filter(filter: &Filter, terminal: bool) -> bool {
    filter.filter_escape_chars || (terminal && !filter.no_filter_escape_chars)
}

/// Waits for the qube to connect; none if the daemon says that it will not.
fn accept(listener: Listener, life: &OwnedFd) -> io::Result<Option<AnyChannel>> {
    let mut listener = listener;
    loop {
        let over = ready(life, Some(Duration::ZERO))?;
        // Looked at after `life`: a qube that came and a command that ended are both seen.
        match listener.try_accept() {
            Ok(channel) => return Ok(Some(channel)),
            Err((back, error)) if error.kind() == io::ErrorKind::WouldBlock => listener = back,
            Err((_, error)) => return Err(error),
        }
        if over {
            return Ok(None);
        }
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(life, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ready(fd: &impl AsFd, wait: Option<Duration>) -> io::Result<bool> {
    let wait = wait.map(|wait| Timespec::try_from(wait).unwrap_or_default());
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], wait.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn own_streams() -> io::Result<Streams> {
    Ok(Streams {
        input: Some(Input::new(io::stdin().as_fd().try_clone_to_owned()?)?),
        output: Some(Output::new(io::stdout().as_fd().try_clone_to_owned()?)?),
        errors: Errors::To(Output::new(io::stderr().as_fd().try_clone_to_owned()?)?),
    })
}

/// The daemon's words on why a connection is over.
fn reason(life: OwnedFd) -> Option<String> {
    if !ready(&life, Some(REASON_WAIT)).unwrap_or(false) {
        return None;
    }
    let mut text = Vec::new();
    let pipe = std::fs::File::from(life);
    // What was read up to an error is still worth showing.
    let _ = pipe.take(REASON_MAX).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn never_came(qube: &str, life: OwnedFd) -> Failure {
    let failure = Failure::new(format!("qube `{qube}` did not start it"));
    let failure = failure.exit(Exit::Remote(UNREACHED));
    match reason(life) {
        Some(reason) => failure.cause(reason),
        None => failure.hint(format!("See `bulkhead logs {qube}`.")),
    }
}

fn went_away(qube: &str, life: OwnedFd) -> Failure {
    let failure = Failure::new(format!("qube `{qube}` went away before it ended"));
    let failure = match reason(life) {
        Some(reason) => failure.cause(reason),
        None => failure.hint(format!("See `bulkhead logs {qube}`.")),
    };
    failure.exit(Exit::Remote(DISCONNECTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: &str) {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        assert_eq!(String::from_utf8(command_line(&words)).unwrap(), expected);
    }

    #[test]
    fn one_word_is_the_shells() {
        check(&["ls | wc -l"], "ls | wc -l");
        check(&["echo $HOME"], "echo $HOME");
    }

    #[test]
    fn several_words_arrive_as_they_are() {
        check(&["ls", "-l", "/tmp"], "ls -l /tmp");
        check(&["echo", "$HOME", "a b"], "echo '$HOME' 'a b'");
        check(&["echo", "it's", ""], r"echo 'it'\''s' ''");
        check(&["sh", "-c", "exit 3"], "sh -c 'exit 3'");
    }

    #[test]
    fn quoting_survives_a_real_shell() {
        let hostile = [
            "printf", "%s|", "a'b", "$(id)", "`id`", "\\", "~", "*", "\n", "é", "!x", "#",
        ];
        let words: Vec<OsString> = hostile.iter().map(Into::into).collect();
        let line = String::from_utf8(command_line(&words)).unwrap();
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        let expected: String = hostile.iter().skip(2).map(|w| format!("{w}|")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn terminals_are_filtered_unless_refused_and_others_when_asked() {
        let filter = |yes, no| Filter {
            filter_escape_chars: yes,
            no_filter_escape_chars: no,
        };
        assert!(wants_filter(&filter(false, false), true));
        assert!(!wants_filter(&filter(false, false), false));
        assert!(!wants_filter(&filter(false, true), true));
        assert!(wants_filter(&filter(true, false), false));
    }
}
