//! What dom0 is to agents and to those who make calls: takes requests, and brings the two together.
//!
//! `bulkhead-peer broker NAME=DOMAIN...` allows everything. Programs of dom0 find it at [`SOCKET`],
//! as programs of a guest find their agent. It mirrors one key to each guest, [`KEY`], with its own
//! process number.

use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bulkhead_vchan::channel::{Channel, Wants};
use bulkhead_vchan::{AnyChannel, AnyListener, DomId, Port, Rings, Transport};
use bulkhead_wire::qrexec::control::{DaemonEvent, DaemonLink};
use bulkhead_wire::qrexec::trigger::{Trigger, UntrustedTrigger};
use bulkhead_wire::qrexec::{
    CONTROL_BODY_MAX, CONTROL_PORT, DATA_PORT_MAX, DATA_PORT_MIN, Endpoint, FrameReader,
};
use bulkhead_wire::qubesdb::VCHAN_PORT;
use bulkhead_wire::qubesdb::link::{Link, Role};
use bulkhead_wire::qubesdb::message::Value;
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::qubesdb::store::{STORE_GUEST_MAX, Store};
use rustix::event::{PollFd, PollFlags, poll};

use crate::meet::PATIENCE;

/// Where programs of dom0 ask for calls.
const SOCKET: &str = "/run/bulkhead-peer";

/// What each guest finds in its QubesDB.
const KEY: &str = "/broker";

/// Who calls run as.
const USER: &str = "root";

/// A guest.
struct Guest {
    name: String,
    id: DomId,
    line: AnyChannel,
    link: DaemonLink,
    database: Database,
}

/// dom0's side of a guest's QubesDB.
struct Database {
    listener: Option<AnyListener>,
    channel: Option<AnyChannel>,
    link: Link,
    keys: Store,
}

struct Broker {
    guests: Vec<Guest>,
    programs: UnixListener,
    /// Who waits in dom0 until its call is over.
    waiting: Vec<UnixStream>,
    port: u32,
}

pub(crate) fn run(words: &[String]) -> Result<()> {
    let transport = Transport::from_env()?;
    let guests = words.iter().map(|word| {
        let (name, id) = word.split_once('=').context("NAME=DOMAIN is wanted")?;
        Guest::join(&transport, name, id.parse()?)
    });
    let _ = fs::remove_file(SOCKET);
    let mut broker = Broker {
        guests: guests.collect::<Result<_>>()?,
        programs: UnixListener::bind(SOCKET)?,
        waiting: Vec::new(),
        port: DATA_PORT_MIN,
    };
    loop {
        broker.turn()?;
    }
}

impl Guest {
    fn join(transport: &Transport, name: &str, id: DomId) -> Result<Self> {
        let listener = transport.listen(id, Port::new(VCHAN_PORT), Rings::CONTROL)?;
        let deadline = Instant::now() + PATIENCE;
        let line = transport.connect(id, Port::new(CONTROL_PORT), deadline)?;
        println!("joined {name}");
        let mut keys = Store::default();
        let own = Value::new(std::process::id().to_string());
        keys.write(&DbPath::new(KEY)?, own, STORE_GUEST_MAX)?;
        Ok(Self {
            name: name.to_owned(),
            id,
            line,
            link: DaemonLink::new(),
            database: Database {
                listener: Some(listener),
                channel: None,
                link: Link::new(Role::Dom0),
                keys,
            },
        })
    }

    /// Everything that it says.
    fn hear(&mut self) -> Result<Vec<DaemonEvent>> {
        self.line.acknowledge()?;
        let (mut events, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let n = match self.line.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(e) => return Err(e.into()),
            };
            ensure!(n > 0, "{} is gone", self.name);
            let (mut rest, mut reply) = (buffer.get(..n).unwrap_or_default(), Vec::new());
            while let Some(event) = self.link.push(&mut rest, &mut reply)? {
                events.push(event);
            }
            self.say(&reply)?;
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            let n = self.line.write(&[IoSlice::new(bytes)])?;
            ensure!(n == bytes.len(), "{} does not read", self.name);
        }
        Ok(())
    }
}

impl Database {
    fn turn(&mut self) -> Result<()> {
        if let Some(listener) = self.listener.take() {
            match listener.try_accept() {
                Ok(channel) => self.channel = Some(channel),
                Err((listener, _)) => self.listener = Some(listener),
            }
        }
        let Some(channel) = &mut self.channel else {
            return Ok(());
        };
        channel.acknowledge()?;
        let (mut events, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match channel.read(&mut buffer) {
                Ok(n) => {
                    ensure!(n > 0, "a guest's QubesDB is gone");
                    let bytes = buffer.get(..n).unwrap_or_default();
                    self.link.receive(bytes, &mut self.keys, &mut events)?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        while !self.link.output().is_empty() {
            match channel.write(&[IoSlice::new(self.link.output())]) {
                Ok(n) => self.link.sent(n, &mut self.keys, &mut events)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl Broker {
    /// Waits for something, and looks at everything.
    fn turn(&mut self) -> Result<()> {
        let wants = Wants {
            read: true,
            write: false,
        };
        let mut fds = vec![PollFd::new(&self.programs, PollFlags::IN)];
        for guest in &self.guests {
            let flags = guest.line.poll_flags(wants);
            fds.push(PollFd::from_borrowed_fd(guest.line.fd(), flags));
            let database = &guest.database;
            let listener = database.listener.as_ref().map(AsFd::as_fd);
            if let Some(fd) = database.channel.as_ref().map(Channel::fd).or(listener) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        poll(&mut fds, None)?;
        let asked = !fds.swap_remove(0).revents().is_empty();
        let mut events = Vec::new();
        for (at, guest) in self.guests.iter_mut().enumerate() {
            events.extend(guest.hear()?.into_iter().map(|event| (at, event)));
            guest.database.turn()?;
        }
        for (at, event) in events {
            self.on_event(at, event)?;
        }
        if asked {
            let (stream, _) = self.programs.accept()?;
            self.on_program(stream)?;
        }
        Ok(())
    }

    fn on_event(&mut self, at: usize, event: DaemonEvent) -> Result<()> {
        let guest = self.guests.get(at).context("no such guest")?;
        match event {
            DaemonEvent::Connected { .. } => println!("{} is up", guest.name),
            DaemonEvent::Terminated(endpoint) => {
                println!("{} has left {}", guest.name, endpoint.port);
            }
            DaemonEvent::Withdrawn(_) => println!("{} takes a request back", guest.name),
            DaemonEvent::Request(request) => {
                let (id, name) = (guest.id.number(), guest.name.clone());
                let there = self.order(&request, id, &name)?;
                let guest = self.guests.get_mut(at).context("no such guest")?;
                let answer = guest.link.connect(there, &request.ident)?;
                guest.say(&answer)?;
            }
        }
        Ok(())
    }

    /// Has the service run, and tells where its caller finds it.
    fn order(&mut self, request: &Trigger, caller: u32, name: &str) -> Result<Endpoint> {
        let port = self.port;
        self.port = if port < DATA_PORT_MAX {
            port + 1
        } else {
            DATA_PORT_MIN
        };
        let target = self.guests.iter_mut().find(|g| g.name == request.target);
        let target = target.with_context(|| format!("nobody is `{}`", request.target))?;
        let line = format!("{USER}:QUBESRPC {} {name}", request.service);
        println!("{name} calls {} by {port}", target.name);
        let here = Endpoint {
            domain: caller,
            port,
        };
        let order = target.link.execute(here, line.as_bytes(), false)?;
        target.say(&order)?;
        Ok(Endpoint {
            domain: target.id.number(),
            port,
        })
    }

    /// A program of dom0 says what it wants at once.
    fn on_program(&mut self, mut stream: UnixStream) -> Result<()> {
        let mut frames = FrameReader::new(CONTROL_BODY_MAX);
        let mut buffer = [0; 4096];
        let (kind, body) = loop {
            let n = stream.read(&mut buffer)?;
            ensure!(n > 0, "a program asks for nothing");
            let mut rest = buffer.get(..n).unwrap_or_default();
            if let Some(message) = frames.push(&mut rest)? {
                break message;
            }
        };
        let request = UntrustedTrigger::parse(kind, &body)?.validate()?;
        let there = self.order(&request, DomId::DOM0.number(), "dom0")?;
        stream.write_all(&there.encode())?;
        self.waiting.push(stream);
        Ok(())
    }
}
