//! Carries what an agent and a display say between a channel, the [`Windows`] and the display: one
//! thread, nothing blocks but the wait.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::{AnyChannel, Channel, Viewer};
use bulkhead_wire::bucket::Bucket;
use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::daemon_end::{AgentEvent, DaemonEnd};
use bulkhead_wire::gui::{DaemonMessage, Dump, GuiError, PAGES_MAX, Version, WindowId};
use bulkhead_wire::monitors::Layout;
use bulkhead_wire::proxy::NotPasted;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::carry::{Carrier, FromDaemon, Pasted};
use crate::damage::Damage;
use crate::display::{Change, Display, Event, Image};
use crate::icons::Icons;
use crate::keystroke::Keystroke;
use crate::latest::Latest;
use crate::line::{Line, LineError};
use crate::log::Log;
use crate::monitors;
use crate::outbox::{OUTBOX_MAX, Outbox};
use crate::pasting::Pasting;
use crate::typed::{Chord, Chords};
use crate::windows::{Content, Denied, ICONS_MAX, WindowError, Windows};

/// Bytes that are read before the display has its turn.
const READ_MAX: usize = 64 * 1024;

/// Parts of a picture that are said to the agent before the display has its turn.
const PARTS_AT_ONCE: usize = 8;

/// Changes of windows a second, for long: several animations of menus at once. Who makes more is
/// not listened to until they are paid for.
pub const CHANGES_PER_SECOND: u32 = 300;

/// Changes of windows at once: an agent that connects again shows all that it has.
pub const CHANGES_BURST: u32 = 2000;

/// Pages of all images of a qube: four windows as large as can be, or some forty of 4K.
pub const IMAGE_PAGES_MAX: usize = 4 * PAGES_MAX;

/// Requests that cannot be and are passed over; an agent that makes more of them is no agent.
pub const VIOLATIONS_MAX: u32 = 100;

/// Why a proxy ended. What the agent did is told from what failed here.
#[derive(Debug, Error)]
pub enum ProxyError<F: std::error::Error + 'static> {
    /// The agent does not keep to the protocol.
    #[error("the agent does not keep to the protocol")]
    Protocol(#[from] GuiError),
    /// The agent said what cannot be of its windows.
    #[error("the agent does not keep to its windows")]
    Windows(#[from] WindowError),
    /// It went on asking for what cannot be.
    #[error("the agent asked {VIOLATIONS_MAX} times for what cannot be")]
    Violations,
    /// It does not read.
    #[error("the agent left {OUTBOX_MAX} bytes unread")]
    Unread,
    /// It went in the middle of a message.
    #[error("the agent left in the middle of a message")]
    Cut,
    /// The channel failed.
    #[error("the channel to the agent failed")]
    Channel(#[source] io::Error),
    /// The display failed.
    #[error("the display failed")]
    Display(#[source] F),
    /// Nobody hears what the person wants.
    #[error("the daemon cannot be told")]
    Daemon(#[from] LineError),
    /// The wait failed.
    #[error("cannot wait")]
    Wait(#[source] io::Error),
}

/// What a person may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Copies from the qube's clipboard.
    pub copy: Keystroke,
    /// Pastes to the qube's clipboard.
    pub paste: Keystroke,
    /// Bytes of text that the qube may have carried from its clipboard.
    pub clipboard_max: usize,
    /// Bytes of a picture that it may have carried.
    pub picture_max: usize,
}

/// Who has left, and ended it in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The agent.
    Agent,
    /// The daemon, which had started it.
    Daemon,
}

/// Shows the windows of one qube.
#[derive(Debug)]
pub struct Proxy<D: Display> {
    channel: AnyChannel,
    end: DaemonEnd,
    viewer: Viewer,
    windows: Windows,
    images: BTreeMap<WindowId, Image>,
    image_pages: BTreeMap<WindowId, usize>,
    damage: Damage,
    display: D,
    carrier: Carrier,
    icons: Icons,
    copy: Keystroke,
    paste: Keystroke,
    outbox: Outbox,
    latest: Latest,
    /// A picture of which the agent has not heard all.
    pasting: Option<Pasting>,
    bucket: Bucket,
    /// Whether the agent speaks the protocol.
    is_connected: bool,
    /// The monitors that the qube was told of.
    told: Option<Layout>,
    violations: u32,
    log: Log,
    start: Instant,
    buffer: Vec<u8>,
    /// There may be more to read than was read.
    more: bool,
}

type Done<D> = Result<(), ProxyError<<D as Display>::Failure>>;

impl<D: Display> Proxy<D> {
    /// A proxy of an agent of which nothing was read so far, for a daemon if one has started it.
    #[must_use]
    pub fn new(
        (mut channel, viewer): (AnyChannel, Viewer),
        daemon: Option<Line>,
        settings: Settings,
        display: D,
        log: Log,
    ) -> Self {
        channel.expect_memory();
        Self {
            channel,
            end: DaemonEnd::new(Version::NEWEST, display.screen()),
            viewer,
            windows: Windows::new(display.frame(), display.work()),
            images: BTreeMap::new(),
            image_pages: BTreeMap::new(),
            damage: Damage::default(),
            display,
            carrier: Carrier::new(daemon, settings.clipboard_max, settings.picture_max),
            icons: Icons::new(),
            copy: settings.copy,
            paste: settings.paste,
            outbox: Outbox::default(),
            latest: Latest::default(),
            pasting: None,
            bucket: Bucket::new(CHANGES_PER_SECOND, CHANGES_BURST),
            is_connected: false,
            told: None,
            violations: 0,
            log,
            start: Instant::now(),
            buffer: vec![0; READ_MAX],
            more: true,
        }
    }

    /// Serves until the agent or the daemon has gone.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn serve(mut self) -> Result<Left, ProxyError<D::Failure>> {
        self.keyboard()?;
        loop {
            self.events()?;
            let open = !self.listens() || self.read()?;
            let now = self.now();
            self.icons.turn(now, &mut self.windows, &mut self.log);
            self.flush()?;
            if !self.hear_daemon()? {
                return Ok(Left::Daemon);
            }
            if !open {
                return if self.end.is_between_messages() {
                    Ok(Left::Agent)
                } else {
                    Err(ProxyError::Cut)
                };
            }
            // What came together with answers of the display is no reason for poll to end.
            if !self.events()? {
                self.wait()?;
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether the agent may say more now.
    fn listens(&self) -> bool {
        !self.outbox.is_high() && self.bucket.wait(self.now(), 0).is_zero()
    }

    fn wait(&mut self) -> Done<D> {
        let failed = |e: io::Error| ProxyError::Wait(e);
        let owed = self.bucket.wait(self.now(), 0);
        let listens = self.listens();
        let wants = Wants {
            read: listens,
            write: !self.outbox.is_empty(),
        };
        let now = self.now();
        let patience = [
            self.channel.patience(),
            self.carrier.patience(now),
            self.icons.patience(now),
        ];
        let patience = patience.into_iter().flatten().min();
        let feeds = self.pasting.is_some() && self.outbox.is_empty();
        let wait = match (feeds || listens && self.more, owed) {
            (true, _) => Some(Duration::ZERO),
            (false, Duration::ZERO) => patience,
            (false, owed) => Some(patience.map_or(owed, |patience| patience.min(owed))),
        };
        let timeout = wait.map(|wait| Timespec::try_from(wait).unwrap_or_default());
        let flags = self.channel.poll_flags(wants);
        let mut fds = vec![PollFd::from_borrowed_fd(self.display.fd(), PollFlags::IN)];
        // Who is not listened to and has nothing to read is left out: that it hangs up would end
        // every wait.
        if !flags.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.channel.fd(), flags));
        }
        if let Some(line) = &self.carrier.line {
            fds.push(PollFd::from_borrowed_fd(line.fd(), line.poll_flags()));
        }
        if let Some(fd) = self.icons.fd(now) {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(failed(e.into())),
        }
        drop(fds);
        self.channel.acknowledge().map_err(ProxyError::Channel)
    }

    /// Takes what happened on the display; says whether anything did.
    fn events(&mut self) -> Result<bool, ProxyError<D::Failure>> {
        let mut any = false;
        while let Some(event) = self.display.next().map_err(ProxyError::Display)? {
            any = true;
            match event {
                // The pointer's ways are many, and the last is the one that counts.
                Event::Motion { .. } if self.outbox.is_high() => continue,
                Event::Exposed(key, part) => self.damage.add(key, part),
                Event::Keyboard => self.keyboard()?,
                Event::Monitors => self.monitors()?,
                _ => {}
            }
            self.windows.display(event);
            self.say()?;
        }
        Ok(any)
    }

    /// Reads what the agent said; false once it has gone.
    fn read(&mut self) -> Result<bool, ProxyError<D::Failure>> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.channel.read(&mut buffer);
        let open = match read {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.more = true;
                let done = self.hear(buffer.get(..len).unwrap_or_default());
                done.map(|()| true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.more = false;
                Ok(true)
            }
            Err(e) => Err(ProxyError::Channel(e)),
        };
        self.buffer = buffer;
        open
    }

    fn hear(&mut self, mut input: &[u8]) -> Done<D> {
        while let Some(event) = self.end.receive(&mut input, self.outbox.end())? {
            match event {
                AgentEvent::Ready(version) => {
                    let minor = version.minor();
                    let more = match version.has_pictures() {
                        true => ", and knows pictures",
                        false => "",
                    };
                    self.log.say(&format!("the agent speaks 1.{minor}{more}"));
                    self.carrier.connected(version)?;
                    self.is_connected = true;
                    self.monitors()?;
                }
                AgentEvent::Message(id, message) => {
                    if let Some(content) = self.windows.agent(id, message)? {
                        self.content(id, content)?;
                    }
                    self.say()?;
                }
                AgentEvent::Violation(id, kind, violation) => {
                    self.violations += 1;
                    let text = format!("{kind} for window {} is refused: {violation}", id.0);
                    self.log.of_agent(&text);
                    if self.violations > VIOLATIONS_MAX {
                        return Err(ProxyError::Violations);
                    }
                }
                AgentEvent::Ignored(..) => {}
            }
        }
        Ok(())
    }

    /// Has a qube with an agent told of the monitors, where it was told of others.
    fn monitors(&mut self) -> Done<D> {
        let seen = self.display.monitors().map_err(ProxyError::Display)?;
        let layout = monitors::layout(&seen);
        if let Some(layout) = layout.filter(|layout| Some(layout) != self.told.as_ref())
            && self.is_connected
        {
            self.carrier.monitors(layout.clone())?;
            self.told = Some(layout);
        }
        Ok(())
    }

    /// Finds the keys of the person's own keystrokes.
    fn keyboard(&mut self) -> Done<D> {
        let chord = |keystroke: &Keystroke| {
            let keys = self.display.keys_of(keystroke.symbol);
            let keys = keys.map_err(ProxyError::Display)?;
            if keys.is_empty() {
                self.log
                    .say(&format!("the keyboard has no key for {keystroke}"));
            }
            Ok::<_, ProxyError<D::Failure>>(Chord {
                modifiers: keystroke.modifiers,
                keys,
            })
        };
        let (copy, paste) = (chord(&self.copy)?, chord(&self.paste)?);
        self.windows.set_chords(Chords { copy, paste });
        Ok(())
    }

    /// Does what the daemon says; false once it has gone.
    fn hear_daemon(&mut self) -> Result<bool, ProxyError<D::Failure>> {
        let now = self.now();
        match self.carrier.turn(now, &self.log)? {
            FromDaemon::Nothing => {}
            FromDaemon::Paste(number, pasted) => {
                let given = self.give(pasted);
                if let Err(why) = given {
                    self.log
                        .say(&format!("nothing is pasted: {}", in_words(why)));
                }
                self.carrier.gave(number, given)?;
                let written = self.outbox.write_to(&mut self.channel);
                written.map_err(ProxyError::Channel)?;
            }
            FromDaemon::Icons([stream, report]) => {
                self.icons.begin(stream, report, &mut self.log);
            }
            FromDaemon::Awaited => self.display.await_window(),
            FromDaemon::Gone => return Ok(false),
        }
        Ok(true)
    }

    /// Puts something on the agent's clipboard.
    fn give(&mut self, pasted: Pasted) -> Result<(), NotPasted> {
        if !self.outbox.takes_paste() {
            return Err(NotPasted::Unread);
        }
        let (outbox, end) = (&mut self.outbox, &self.end);
        match pasted {
            Pasted::Text(text) => {
                let message = DaemonMessage::Clipboard(text);
                if !outbox.paste(|out| end.send(WindowId(0), &message, out)) {
                    return Err(NotPasted::TooLarge);
                }
                // What was pasted last is on its clipboard, whatever was still on its way.
                self.pasting = None;
            }
            Pasted::Picture(size, file) => {
                let message = DaemonMessage::Picture(Some(size));
                if !end.send(WindowId(0), &message, outbox.end()) {
                    return Err(NotPasted::NoPictures);
                }
                self.pasting = Some(Pasting::new(file));
            }
        }
        Ok(())
    }

    /// Says more of a picture to an agent that has heard all so far.
    fn feed(&mut self) -> Done<D> {
        for _ in 0..PARTS_AT_ONCE {
            let Some(pasting) = self.pasting.as_mut().filter(|_| self.outbox.is_empty()) else {
                break;
            };
            match pasting.next() {
                Ok(Some(part)) => {
                    let message = DaemonMessage::PicturePart(part);
                    self.end.send(WindowId(0), &message, self.outbox.end());
                }
                Ok(None) => self.pasting = None,
                Err(e) => {
                    self.log.say(&format!("a paste ends: {}", chain(&e)));
                    self.pasting = None;
                }
            }
            let written = self.outbox.write_to(&mut self.channel);
            written.map_err(ProxyError::Channel)?;
        }
        Ok(())
    }

    fn content(&mut self, id: WindowId, content: Content) -> Done<D> {
        match content {
            Content::Dump(dump) => self.dump(id, &dump),
            Content::Damage(key, part) => self.damage.add(key, part),
            Content::Release => self.release(id),
            Content::Clipboard(text) => self.carrier.answered(text, &mut self.log)?,
            Content::Picture(size) => {
                let now = self.now();
                self.carrier.announced(size, now, &mut self.log)?;
            }
            Content::PicturePart(bytes) => self.carrier.part(&bytes, &mut self.log)?,
        }
        Ok(())
    }

    fn release(&mut self, id: WindowId) {
        self.images.remove(&id);
        self.image_pages.remove(&id);
    }

    /// Maps new pages in place of the old, which the agent may take back after the answer.
    fn dump(&mut self, id: WindowId, dump: &Dump) {
        self.release(id);
        // Mapping is as much work as a change of a window.
        self.bucket.take(self.now(), 1);
        let pages = dump.pages.len();
        let mapped = self
            .viewer
            .map(&mut self.channel, &dump.pages, dump.size.bytes());
        let all: usize = self.image_pages.values().sum();
        match mapped {
            Ok(_) if all + pages > IMAGE_PAGES_MAX => {
                let text = format!(
                    "window {} is not shown: more than {IMAGE_PAGES_MAX} pages",
                    id.0
                );
                self.log.of_agent(&text);
            }
            Ok(memory) => {
                let size = dump.size;
                self.images.insert(id, Image { memory, size });
                self.image_pages.insert(id, pages);
            }
            Err(e) => {
                let text = format!("window {} is not shown: {}", id.0, chain(&e));
                self.log.of_agent(&text);
            }
        }
        self.end
            .send(id, &DaemonMessage::DumpAck, self.outbox.end());
    }

    /// Has what the windows say wait for the agent.
    fn say(&mut self) -> Done<D> {
        for (id, message) in self.windows.take_messages() {
            for (id, message) in self.latest.pass(self.outbox.is_high(), id, message) {
                self.end.send(id, &message, self.outbox.end());
            }
        }
        let now = self.now();
        for wished in self.windows.take_wishes() {
            let (wish, time) = (wished.wish, wished.time);
            if self.carrier.wish(wish, time, now, &self.log)? {
                let message = DaemonMessage::ClipboardRequest;
                self.end.send(wished.window, &message, self.outbox.end());
            }
        }
        for denied in self.windows.take_denied() {
            let text = match denied {
                Denied::SelfPlaced(id) => {
                    format!("window {} covers too much to place itself", id.0)
                }
                Denied::TooLarge(id) => format!("window {} is too large beside others", id.0),
                Denied::TooManyIcons(id) => {
                    format!("window {} is no tray icon: there are {ICONS_MAX}", id.0)
                }
            };
            self.log.of_agent(&text);
        }
        if self.outbox.is_full() {
            return Err(ProxyError::Unread);
        }
        Ok(())
    }

    /// Has the display and the agent hear what there is for them.
    fn flush(&mut self) -> Done<D> {
        let changes = self.windows.take_changes();
        let now = self.now();
        let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        self.bucket.take(now, count);
        for change in changes {
            if let Change::Hide(key) = change {
                self.damage.remove(key);
            }
            self.display.apply(change).map_err(ProxyError::Display)?;
        }
        self.paint()?;
        self.display.flush().map_err(ProxyError::Display)?;
        let written = self.outbox.write_to(&mut self.channel);
        written.map_err(ProxyError::Channel)?;
        self.say_latest()?;
        self.feed()
    }

    /// Has an agent that reads hear what was kept while it did not.
    fn say_latest(&mut self) -> Done<D> {
        if self.outbox.is_high() {
            return Ok(());
        }
        for (id, message) in self.latest.take() {
            self.end.send(id, &message, self.outbox.end());
        }
        let written = self.outbox.write_to(&mut self.channel);
        written.map_err(ProxyError::Channel)
    }

    fn paint(&mut self) -> Done<D> {
        while let Some((key, part)) = self.damage.first() {
            let visible = self.windows.find(key).and_then(|(id, size)| {
                let image = self.images.get(&id)?;
                let part = part.within(image.size)?.within(size)?;
                Some((image, part))
            });
            let Some((image, part)) = visible else {
                self.damage.remove(key);
                continue;
            };
            let rows = self.display.paint(key, image, part);
            match rows.map_err(ProxyError::Display)? {
                0 => return Ok(()),
                rows => self.damage.painted(part, rows),
            }
        }
        Ok(())
    }
}

fn in_words(why: NotPasted) -> &'static str {
    match why {
        NotPasted::TooLarge => "it is more than the agent can take",
        NotPasted::NoPictures => "the agent does not know pictures",
        NotPasted::Unread => "the agent does not read",
        NotPasted::Malformed => "the file is not what was announced",
    }
}
