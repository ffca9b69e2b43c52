//! An agent that says what a test has it say.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::{AnyChannel, Channel, SharedMemory, Sharer};
use bulkhead_wire::gui::agent_end::{AgentEnd, DaemonEvent};
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::{
    AgentMessage, DaemonMessage, Dump, PAGE_LEN, PIXEL_LEN, Version, WindowId,
};
use rustix::event::{PollFd, Timespec, poll};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Agent {
    pub(crate) channel: AnyChannel,
    end: AgentEnd,
    pub(crate) sharer: Sharer,
    heard: VecDeque<(WindowId, DaemonMessage)>,
    /// It answers where its windows are to be, as agents do, and not only where a test does.
    pub(crate) answers: bool,
    /// What was dumped stays.
    memories: Vec<SharedMemory>,
}

pub(crate) fn size(width: u32, height: u32) -> Size {
    Size::near(width, height)
}

impl Agent {
    pub(crate) fn start(channel: AnyChannel, sharer: Sharer) -> Self {
        Self::start_old(channel, sharer, Version::NEWEST)
    }

    /// One that speaks no newer version than this.
    pub(crate) fn start_old(channel: AnyChannel, sharer: Sharer, version: Version) -> Self {
        let mut hello = Vec::new();
        let end = AgentEnd::new(version, &mut hello);
        let mut it = Self {
            channel,
            end,
            sharer,
            heard: VecDeque::new(),
            answers: false,
            memories: Vec::new(),
        };
        it.raw(&hello).expect("a proxy");
        let deadline = Instant::now() + PATIENCE;
        while it.end.version().is_none() {
            assert!(it.hear(deadline), "the proxy left");
        }
        it
    }

    /// Writes bytes, all of them.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.channel.write(&[IoSlice::new(rest)]) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let wants = Wants {
                        read: false,
                        write: true,
                    };
                    self.wait(wants, Instant::now() + PATIENCE);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn wait(&self, wants: Wants, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "the proxy is silent");
        let flags = self.channel.poll_flags(wants);
        let mut fds = [PollFd::from_borrowed_fd(self.channel.fd(), flags)];
        poll(&mut fds, Some(&Timespec::try_from(left).expect("a time"))).expect("a wait");
    }

    /// Bytes of a message.
    pub(crate) fn bytes(&self, id: u32, message: &AgentMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(self.end.send(WindowId(id), message, &mut bytes));
        bytes
    }

    #[track_caller]
    pub(crate) fn say(&mut self, id: u32, message: AgentMessage) {
        let bytes = self.bytes(id, &message);
        self.raw(&bytes).expect("a proxy");
    }

    /// Reads what there is; false at the end.
    fn hear(&mut self, deadline: Instant) -> bool {
        let mut buffer = [0; 4096];
        let read = match self.channel.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let wants = Wants {
                    read: true,
                    write: false,
                };
                self.wait(wants, deadline);
                return true;
            }
            Err(e) => panic!("{e}"),
        };
        let mut input = &buffer[..read];
        let mut new = 0;
        while let Some(event) = self.end.receive(&mut input).expect("a daemon") {
            if let DaemonEvent::Message(id, message) = event {
                self.heard.push_back((id, message));
                new += 1;
            }
        }
        if self.answers {
            let new: Vec<_> = self.heard.iter().rev().take(new).rev().cloned().collect();
            for (id, message) in new {
                if let DaemonMessage::Configure { place, size, .. } = message {
                    self.say(id.0, AgentMessage::Configure { place, size });
                }
            }
        }
        true
    }

    /// The next message of which `wanted` makes something; those before are dropped.
    #[track_caller]
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(u32, &DaemonMessage) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some((id, message)) = self.heard.pop_front() {
                if let Some(found) = wanted(id.0, &message) {
                    return found;
                }
            }
            assert!(self.hear(deadline), "the proxy left before {what}");
        }
    }

    /// Waits until the proxy has done all that was said so far.
    #[track_caller]
    pub(crate) fn sync(&mut self) {
        self.create(SYNC, (0, 0), size(1, 1), false);
        self.say(SYNC, AgentMessage::Destroy);
        self.until("an answer", |id, message| {
            (id == SYNC && *message == DaemonMessage::Destroy).then_some(())
        });
    }

    pub(crate) fn create(&mut self, id: u32, at: (i32, i32), size: Size, itself: bool) {
        let create = AgentMessage::Create {
            place: Place::near(at.0, at.1),
            size,
            override_redirect: itself,
        };
        self.say(id, create);
    }

    pub(crate) fn map(&mut self, id: u32, owner: Option<u32>, itself: bool) {
        let map = AgentMessage::Map {
            transient_for: owner.map(WindowId),
            override_redirect: itself,
        };
        self.say(id, map);
    }

    /// Shows pixels in a window, all of them.
    pub(crate) fn draw(&mut self, id: u32, size: Size, pixel: impl Fn(u32, u32) -> u32) -> usize {
        let memory = self.sharer.make(size.bytes().div_ceil(PAGE_LEN).max(1));
        let memory = memory.expect("memory");
        fill(&memory, size, Part::all(size), pixel);
        let pages = self.channel.offer(&memory, 0).expect("an offer");
        self.say(id, AgentMessage::Dump(Dump { size, pages }));
        self.say(id, AgentMessage::Damage(Part::all(size)));
        self.memories.push(memory);
        self.memories.len() - 1
    }

    /// Draws a part again.
    pub(crate) fn redraw(
        &mut self,
        (id, memory): (u32, usize),
        whole: Size,
        part: Part,
        pixel: impl Fn(u32, u32) -> u32,
    ) {
        fill(&self.memories[memory], whole, part, pixel);
        self.say(id, AgentMessage::Damage(part));
    }

    pub(crate) fn memory(&self, memory: usize) -> &SharedMemory {
        &self.memories[memory]
    }

    /// Gives up what was dumped.
    pub(crate) fn forget(&mut self) {
        self.memories.clear();
    }

    /// A window that shows pixels.
    pub(crate) fn window(
        &mut self,
        id: u32,
        at: (i32, i32),
        size: Size,
        pixel: impl Fn(u32, u32) -> u32,
    ) -> usize {
        self.create(id, at, size, false);
        self.map(id, None, false);
        self.draw(id, size, pixel)
    }
}

/// The window that [`Agent::sync`] uses.
const SYNC: u32 = 0xffff_0000;

pub(crate) fn fill(
    memory: &SharedMemory,
    whole: Size,
    part: Part,
    pixel: impl Fn(u32, u32) -> u32,
) {
    for y in part.y..part.y + part.size.height() {
        let row = (part.x..part.x + part.size.width()).flat_map(|x| pixel(x, y).to_le_bytes());
        let row: Vec<u8> = row.collect();
        let at = (y as usize * whole.width() as usize + part.x as usize) * PIXEL_LEN;
        memory.write(at, &row).expect("room");
    }
}
