//! The way to the daemon, and its signals as values: what every client needs.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::proxy::CacheProperties;
use zbus::{Message, MessageStream};

use crate::call::Ask;
use crate::event::{Event, Topic};
use crate::notification::NotificationOrder;
use crate::qube::QubeRow;
use crate::{ApiError, ErrorKind, Manager1Proxy, from_json};

/// How long a daemon may take to answer the D-Bus handshake: it has nothing to do for it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    /// The interface, as called over this connection.
    pub proxy: Manager1Proxy<'static>,
    /// The connection itself.
    pub connection: zbus::Connection,
    socket: PathBuf,
}

/// Where the daemon usually listens: in `$XDG_RUNTIME_DIR` for an ordinary user who has one there,
/// else in `/run`.
pub fn default_socket() -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let own = runtime_dir.map(|dir| Path::new(&dir).join("bulkhead/bus"));
    own.filter(|path| !rustix::process::geteuid().is_root() && path.exists())
        .unwrap_or_else(|| PathBuf::from("/run/bulkhead/bus"))
}

impl Client {
    /// Connects to the daemon that listens at `socket`. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// Where none listens, or it does not let this user in; with hints for a person.
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
        let build = Builder::unix_stream(stream).p2p().build();
        let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, build).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refused(socket, &error)),
            Err(_) => {
                let seconds = HANDSHAKE_TIMEOUT.as_secs();
                return Err(no_daemon(socket)
                    .cause(format!("nothing came back within {seconds} s"))
                    .hint("Look at its log; it may have to be restarted."));
            }
        };
        let proxy = Manager1Proxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|error| refused(socket, &error))?;
        Ok(Self {
            proxy,
            connection,
            socket: socket.to_owned(),
        })
    }

    /// Another connection: the calls of one are served one after the other.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub async fn another(&self) -> Result<Self, ApiError> {
        Self::connect(&self.socket).await
    }
}

fn no_daemon(socket: &Path) -> ApiError {
    ApiError::new(
        ErrorKind::Unreachable,
        format!("no daemon answers at `{}`", socket.display()),
    )
}

fn unreachable(socket: &Path, error: &io::Error) -> ApiError {
    let failure = no_daemon(socket).because(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("Only root and members of the group bulkhead may talk to it.")
        }
        _ => failure
            .hint(
                "Start it with `systemctl start bulkheadd`, or `bulkheadd --system FILE` by hand.",
            )
            .hint("If it listens elsewhere, say where with --socket or $BULKHEAD_SOCKET."),
    }
}

fn is_hang_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn refused(socket: &Path, error: &zbus::Error) -> ApiError {
    let failure = ApiError::new(
        ErrorKind::AccessDenied,
        format!("bulkheadd at `{}` refused the connection", socket.display()),
    );
    match error {
        zbus::Error::Handshake(said) => {
            // The daemon says why in the words of the handshake.
            let why = said
                .split_once("ERROR ")
                .map_or(said.as_str(), |(_, why)| why);
            let failure = failure.cause(why.trim());
            if why.contains("group") {
                failure
                    .hint("Add yourself with `sudo usermod -aG bulkhead $USER`, then log in again.")
            } else {
                failure
            }
        }
        zbus::Error::InputOutput(error) if is_hang_up(error.kind()) => {
            failure.cause("it closed the connection during the handshake")
        }
        other => failure.because(other),
    }
}

/// What came.
#[derive(Debug)]
pub enum Incoming {
    /// Something changed.
    Event(Box<Event>),
    /// Some changes were missed: everything must be read again.
    Lost,
}

/// The signals of a connection, from the moment of [`Signals::subscribe`].
#[derive(Debug)]
pub struct Signals(MessageStream);

impl Signals {
    /// Asks for signals. What is read afterwards and what they say together misses nothing.
    ///
    /// # Errors
    /// Where the daemon refuses or is gone.
    pub async fn subscribe(client: &Client, topics: &[Topic]) -> Result<Self, ApiError> {
        let stream = MessageStream::from(&client.connection);
        let names: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
        client.proxy.subscribe(&names).await?;
        Ok(Self(stream))
    }

    /// The next one. A signal that this version does not know is passed over.
    ///
    /// # Errors
    /// Where the daemon is gone, or says what this version cannot read.
    pub async fn next(&mut self) -> Result<Incoming, ApiError> {
        loop {
            let message = match self.0.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ApiError::from(error)),
                None => return Err(hung_up()),
            };
            if let Some(incoming) = decode(&message)? {
                return Ok(incoming);
            }
        }
    }
}

/// What a connection is to do that shows notifications.
#[derive(Debug)]
pub struct NotificationOrders(MessageStream);

impl NotificationOrders {
    /// Shows notifications by this connection from now on.
    ///
    /// # Errors
    /// Where the daemon refuses or is gone.
    pub async fn begin(client: &Client) -> Result<Self, ApiError> {
        let stream = MessageStream::from(&client.connection);
        client.proxy.show_notifications().await?;
        Ok(Self(stream))
    }

    /// The next one. It has to be taken soon: what comes behind it waits, signals included.
    ///
    /// # Errors
    /// Where the daemon is gone, or says what this version cannot read.
    pub async fn next(&mut self) -> Result<NotificationOrder, ApiError> {
        loop {
            let message = match self.0.next().await {
                Some(message) => message?,
                None => return Err(hung_up()),
            };
            let is_order = message.message_type() == Type::Signal
                && (message.header().member()).is_some_and(|name| name == "NotificationOrdered");
            if is_order {
                return from_json(message.body().deserialize()?);
            }
        }
    }
}

fn hung_up() -> ApiError {
    ApiError::new(
        ErrorKind::Unreachable,
        "bulkheadd has closed the connection",
    )
    .hint("It was stopped or restarted; run the command again.")
}

fn decode(message: &Message) -> Result<Option<Incoming>, ApiError> {
    if message.message_type() != Type::Signal {
        return Ok(None);
    }
    let header = message.header();
    let body = message.body();
    let Some(member) = header.member() else {
        return Ok(None);
    };
    let event = match member.as_str() {
        "QubeChanged" => {
            let (_, _, row): (&str, &str, QubeRow) = body.deserialize()?;
            Event::QubeChanged(row)
        }
        "QubeRemoved" => Event::QubeRemoved {
            name: body.deserialize()?,
        },
        "AskAdded" => {
            let (_, json): (u64, &str) = body.deserialize()?;
            Event::AskAdded(from_json::<Ask>(json)?)
        }
        "AskRemoved" => {
            let (id, outcome) = body.deserialize()?;
            Event::AskRemoved { id, outcome }
        }
        "ApplyStarted" => {
            let (apply, who, steps) = body.deserialize()?;
            Event::ApplyStarted { apply, who, steps }
        }
        "StepStarted" => {
            let (apply, step, text) = body.deserialize()?;
            Event::StepStarted { apply, step, text }
        }
        "StepProgress" => {
            let (apply, step, text) = body.deserialize()?;
            Event::StepProgress { apply, step, text }
        }
        "StepFinished" => {
            let (apply, step, error) = body.deserialize()?;
            Event::StepFinished { apply, step, error }
        }
        "Undoing" => {
            let (apply, because) = body.deserialize()?;
            Event::Undoing { apply, because }
        }
        "StepUndone" => {
            let (apply, step, error) = body.deserialize()?;
            Event::StepUndone { apply, step, error }
        }
        "PolicyChanged" => {
            let (ok, rules, errors) = body.deserialize()?;
            Event::PolicyChanged { ok, rules, errors }
        }
        "ClipboardChanged" => Event::ClipboardChanged(from_json(body.deserialize()?)?),
        "AuditRecorded" => Event::AuditRecorded(from_json(body.deserialize()?)?),
        "SignalsLost" => return Ok(Some(Incoming::Lost)),
        _ => return Ok(None),
    };
    Ok(Some(Incoming::Event(Box::new(event))))
}
