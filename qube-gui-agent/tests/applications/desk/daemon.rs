//! A daemon without a display: it keeps to the protocol, remembers what it is told, and otherwise
//! does what a test says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IoSlice};
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_testing::PATIENCE;
use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::share::{PeerMemory, Viewer};
use bulkhead_vchan::transport::{AnyChannel, Transport};
use bulkhead_vchan::{Channel, DomId, Port, SocketDir};
use bulkhead_wire::gui::daemon_end::{AgentEvent, DaemonEnd};
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::picture::PictureSize;
use bulkhead_wire::gui::text::Letters;
use bulkhead_wire::gui::{
    AgentMessage, Crossing, Cursor, DaemonMessage, Flags, Hints, Input, Kind, PORT, Screen,
    Version, WindowId,
};
use rustix::event::{PollFd, Timespec, poll};

use super::keys;

/// The screen that the daemon tells of.
pub(crate) const SCREEN: Screen = Screen {
    width: 1280,
    height: 800,
    depth: 24,
};

/// Where pictures of windows are kept, if this is set.
const KEEP: &str = "BULKHEAD_KEEP_PICTURES";

/// A window as the daemon knows it.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) place: Place,
    pub(crate) size: Size,
    pub(crate) override_redirect: bool,
    /// Mapped, and for which window.
    pub(crate) mapped: Option<Option<WindowId>>,
    pub(crate) title: String,
    pub(crate) class: (String, String),
    pub(crate) hints: Hints,
    pub(crate) flags: Flags,
    pub(crate) cursor: Cursor,
    /// What we asked for and the agent has not answered.
    pending: Option<(Place, Size)>,
    picture: Option<(Size, PeerMemory)>,
    /// All damage, in order.
    pub(crate) damage: Vec<Part>,
}

/// One connection of a daemon.
pub(crate) struct Daemon {
    channel: AnyChannel,
    end: DaemonEnd,
    viewer: Viewer,
    output: Vec<u8>,
    pub(crate) windows: BTreeMap<WindowId, Window>,
    /// Every message's kind, in order.
    pub(crate) kinds: Vec<(WindowId, Kind)>,
    /// What the agent answered to requests for its clipboard.
    pub(crate) clipboards: Vec<Option<Vec<u8>>>,
    /// Pictures of which it told the size, and what has come of them.
    pub(crate) pictures: Vec<(Option<PictureSize>, Vec<u8>)>,
    /// Windows that are destroyed, while they are not answered.
    pub(crate) destroyed: Vec<WindowId>,
    /// Whether those are answered at once.
    pub(crate) answers_destroy: bool,
    held: u32,
}

impl Daemon {
    #[track_caller]
    pub(crate) fn connect(folder: &Path, qube: DomId, own: Version) -> Self {
        let transport = Transport::Sockets(SocketDir::new(folder, DomId::DOM0));
        let deadline = Instant::now() + PATIENCE;
        let mut channel = transport
            .connect(qube, Port::new(PORT), deadline)
            .expect("the agent waits for a daemon");
        channel.expect_memory();
        let mut daemon = Self {
            channel,
            end: DaemonEnd::new(own, SCREEN),
            viewer: transport.viewer(qube).unwrap(),
            output: Vec::new(),
            windows: BTreeMap::new(),
            kinds: Vec::new(),
            clipboards: Vec::new(),
            pictures: Vec::new(),
            destroyed: Vec::new(),
            answers_destroy: true,
            held: 0,
        };
        daemon.until("a common version", |daemon| daemon.end.version());
        daemon
    }

    /// Says something.
    pub(crate) fn say(&mut self, window: WindowId, message: &DaemonMessage) {
        assert!(self.end.send(window, message, &mut self.output));
        self.flush();
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.channel.write(&[IoSlice::new(&self.output)]) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("the agent does not listen: {e}"),
            }
        }
    }

    /// Takes what the agent says until `ask` has an answer.
    #[track_caller]
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut ask: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.hear();
            if let Some(answer) = ask(self) {
                return answer;
            }
            if Instant::now() >= deadline {
                panic!("waited in vain for {what}; windows: {:#?}", self.windows);
            }
            self.wait(Duration::from_millis(50));
        }
    }

    /// Takes what the agent says for a while: for what is not to happen.
    pub(crate) fn idle(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.hear();
            self.wait(Duration::from_millis(20));
        }
    }

    fn wait(&mut self, at_most: Duration) {
        let wants = Wants {
            read: true,
            write: !self.output.is_empty(),
        };
        let flags = self.channel.poll_flags(wants);
        let mut fds = [PollFd::from_borrowed_fd(self.channel.fd(), flags)];
        let timeout = Timespec::try_from(at_most).unwrap();
        poll(&mut fds, Some(&timeout)).unwrap();
        self.channel.acknowledge().unwrap();
    }

    /// Takes what the agent has said; not more than it has said so far.
    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..256 {
            let read = match self.channel.read(&mut buffer) {
                Ok(0) => panic!("the agent left"),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("the agent cannot be heard: {e}"),
            };
            let mut input = &buffer[..read];
            while let Some(event) = self.end.receive(&mut input, &mut self.output).unwrap() {
                match event {
                    AgentEvent::Ready(_) => {}
                    AgentEvent::Message(id, message) => self.heard(id, message),
                    other => panic!("the agent broke the rules: {other:?}"),
                }
            }
        }
        self.flush();
    }

    #[track_caller]
    pub(crate) fn window(&self, id: WindowId) -> &Window {
        self.windows.get(&id).expect("a window that there is")
    }

    fn known(&mut self, id: WindowId, message: &AgentMessage) -> &mut Window {
        let window = self.windows.get_mut(&id);
        window.unwrap_or_else(|| panic!("{id:?} is not known: {message:?}"))
    }

    fn heard(&mut self, id: WindowId, message: AgentMessage) {
        self.kinds.push((id, message.kind()));
        match message {
            AgentMessage::Create {
                place,
                size,
                override_redirect,
            } => {
                assert!(id != WindowId(0) && !self.destroyed.contains(&id));
                let window = Window {
                    place,
                    size,
                    override_redirect,
                    mapped: None,
                    title: String::new(),
                    class: Default::default(),
                    hints: Hints::default(),
                    flags: Flags::default(),
                    cursor: Cursor::Default,
                    pending: None,
                    picture: None,
                    damage: Vec::new(),
                };
                assert!(self.windows.insert(id, window).is_none(), "{id:?} is there");
            }
            AgentMessage::Destroy => {
                self.known(id, &message);
                self.windows.remove(&id);
                if self.answers_destroy {
                    self.say(id, &DaemonMessage::Destroy);
                } else {
                    self.destroyed.push(id);
                }
            }
            AgentMessage::Map {
                transient_for,
                override_redirect,
            } => {
                if let Some(owner) = transient_for {
                    assert!(self.windows.contains_key(&owner), "{owner:?} is not known");
                }
                let window = self.known(id, &message);
                window.mapped = Some(transient_for);
                assert_eq!(window.override_redirect, override_redirect);
            }
            AgentMessage::Unmap => {
                let window = self.known(id, &message);
                window.mapped = None;
                window.picture = None;
            }
            AgentMessage::Configure { place, size } => self.configured(id, place, size),
            AgentMessage::Damage(part) => {
                let window = self.known(id, &message);
                assert!(window.picture.is_some(), "damage of no picture");
                window.damage.push(part);
            }
            AgentMessage::Clipboard(text) => self.clipboards.push(text),
            AgentMessage::Picture(size) => self.pictures.push((size, Vec::new())),
            AgentMessage::PicturePart(ref part) => {
                let (_, pixels) = self.pictures.last_mut().expect("a part of a picture");
                pixels.extend_from_slice(part);
            }
            AgentMessage::Title(ref title) => {
                let title = title.shown(Letters::Utf8);
                self.known(id, &message).title = title;
            }
            AgentMessage::Class(ref class) => {
                let both = [class.class, class.name].map(|half| half.shown(Letters::Ascii));
                let window = self.known(id, &message);
                assert!(window.mapped.is_none(), "a class too late");
                window.class = both.into();
            }
            AgentMessage::Hints(hints) => self.known(id, &message).hints = hints,
            AgentMessage::Flags { set, unset } => {
                let flags = &mut self.known(id, &message).flags;
                let one = |has: bool, set: bool, unset: bool| (has || set) && !unset;
                flags.fullscreen = one(flags.fullscreen, set.fullscreen, unset.fullscreen);
                flags.attention = one(flags.attention, set.attention, unset.attention);
                flags.minimised = one(flags.minimised, set.minimised, unset.minimised);
            }
            AgentMessage::Cursor(cursor) => self.known(id, &message).cursor = cursor,
            AgentMessage::Dump(ref dump) => {
                self.known(id, &message).picture = None;
                let bytes = dump.size.bytes();
                let memory = self.viewer.map(&mut self.channel, &dump.pages, bytes);
                let memory = memory.expect("the agent's memory can be mapped");
                self.known(id, &message).picture = Some((dump.size, memory));
                self.say(id, &DaemonMessage::DumpAck);
            }
            AgentMessage::Dock => panic!("no icon of a tray is made here"),
        }
    }

    /// As daemons do: while they wait for an answer, all else is answered with what they want.
    fn configured(&mut self, id: WindowId, place: Place, size: Size) {
        let window = self.windows.get_mut(&id).expect("a known window");
        match window.pending {
            Some(pending) if pending == (place, size) => window.pending = None,
            Some((place, size)) => {
                let again = DaemonMessage::Configure {
                    place,
                    size,
                    override_redirect: window.override_redirect,
                };
                self.say(id, &again);
            }
            None => (window.place, window.size) = (place, size),
        }
    }

    /// The person moves and resizes a window.
    pub(crate) fn configure(&mut self, id: WindowId, place: Place, size: Size) {
        let window = self.windows.get_mut(&id).expect("a known window");
        (window.place, window.size) = (place, size);
        if window.pending.is_some() {
            return;
        }
        window.pending = Some((place, size));
        let message = DaemonMessage::Configure {
            place,
            size,
            override_redirect: window.override_redirect,
        };
        self.say(id, &message);
    }

    /// Waits for a new window that has a picture.
    #[track_caller]
    pub(crate) fn new_window(&mut self, what: &str, known: &[WindowId]) -> WindowId {
        self.until(what, |daemon| {
            let mut windows = daemon.windows.iter();
            let found = windows.find(|(id, window)| {
                !known.contains(id) && window.mapped.is_some() && !window.damage.is_empty()
            });
            found.map(|(id, _)| *id)
        })
    }

    #[track_caller]
    pub(crate) fn until_gone(&mut self, id: WindowId) {
        self.until("a window to go", |daemon| {
            (!daemon.windows.contains_key(&id)).then_some(())
        });
    }

    pub(crate) fn focus(&mut self, id: WindowId, here: bool) {
        self.say(id, &DaemonMessage::Keymap([0; 32]));
        let (mode, detail) = (0, 3);
        self.say(id, &DaemonMessage::Focus { here, mode, detail });
    }

    /// Presses or releases a key.
    pub(crate) fn key(&mut self, id: WindowId, keycode: u32, down: bool) {
        let input = Input {
            state: self.held,
            ..Input::default()
        };
        let modifier = match keycode {
            keys::SHIFT => 1,
            keys::CONTROL => 4,
            _ => 0,
        };
        self.held = if down {
            self.held | modifier
        } else {
            self.held & !modifier
        };
        let message = DaemonMessage::Key {
            down,
            input,
            keycode,
        };
        self.say(id, &message);
    }

    pub(crate) fn tap(&mut self, id: WindowId, keycode: u32) {
        self.key(id, keycode, true);
        self.key(id, keycode, false);
    }

    pub(crate) fn type_text(&mut self, id: WindowId, text: &str) {
        for c in text.chars() {
            let (key, shift) = keys::key(c);
            if shift {
                self.key(id, keys::SHIFT, true);
            }
            self.tap(id, key);
            if shift {
                self.key(id, keys::SHIFT, false);
            }
        }
    }

    pub(crate) fn point(&mut self, id: WindowId, x: i32, y: i32) {
        self.cross(id, (x, y), true);
        self.moves(id, (x, y));
    }

    /// The pointer comes to a window or leaves it.
    pub(crate) fn cross(&mut self, id: WindowId, (x, y): (i32, i32), here: bool) {
        let input = Input { x, y, state: 0 };
        let crossing = Crossing {
            here,
            input,
            mode: 0,
            detail: 0,
            focus: false,
        };
        self.say(id, &DaemonMessage::Crossing(crossing));
    }

    /// A window hears of the pointer, wherever that is.
    pub(crate) fn moves(&mut self, id: WindowId, (x, y): (i32, i32)) {
        let input = Input { x, y, state: 0 };
        let is_hint = false;
        self.say(id, &DaemonMessage::Motion { input, is_hint });
    }

    pub(crate) fn button(&mut self, id: WindowId, (x, y): (i32, i32), button: u32, down: bool) {
        let input = Input {
            x,
            y,
            state: self.held,
        };
        let message = DaemonMessage::Button {
            down,
            input,
            button,
        };
        self.say(id, &message);
    }

    pub(crate) fn click(&mut self, id: WindowId, at: (i32, i32), button: u32) {
        self.point(id, at.0, at.1);
        self.button(id, at, button, true);
        self.button(id, at, button, false);
    }

    /// The picture of a window as it is now: its size, and pixels of red, green and blue.
    #[track_caller]
    pub(crate) fn picture(&self, id: WindowId) -> Picture {
        let window = self.window(id);
        let (size, memory) = window.picture.as_ref().expect("a window with a picture");
        let mut bytes = vec![0; size.bytes()];
        memory.read(0, &mut bytes).unwrap();
        let pixels = bytes
            .chunks_exact(4)
            .map(|pixel| [pixel[2], pixel[1], pixel[0]]);
        Picture {
            size: *size,
            pixels: pixels.collect(),
        }
    }

    /// Keeps the picture of a window where the environment asks for it.
    #[track_caller]
    pub(crate) fn keep(&self, id: WindowId, name: &str) {
        if let Some(folder) = std::env::var_os(KEEP) {
            let path = Path::new(&folder).join(format!("{name}.png"));
            self.picture(id).write(&path);
        }
    }

    /// Waits for a picture that `is` right.
    #[track_caller]
    pub(crate) fn until_picture(
        &mut self,
        what: &str,
        id: WindowId,
        is: impl Fn(&Picture) -> bool,
    ) {
        self.until(what, |daemon| {
            let there = daemon.windows.get(&id)?.picture.is_some();
            (there && is(&daemon.picture(id))).then_some(())
        });
    }
}

/// What a window shows.
pub(crate) struct Picture {
    pub(crate) size: Size,
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// How many different colours there are.
    pub(crate) fn colours(&self) -> usize {
        let all: std::collections::HashSet<_> = self.pixels.iter().collect();
        all.len()
    }

    #[track_caller]
    pub(crate) fn at(&self, x: u32, y: u32) -> [u8; 3] {
        self.pixels[(y * self.size.width() + x) as usize]
    }

    fn write(&self, path: &Path) {
        let file = BufWriter::new(File::create(path).unwrap());
        let mut encoder = png::Encoder::new(file, self.size.width(), self.size.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&self.pixels.concat()).unwrap();
    }
}
