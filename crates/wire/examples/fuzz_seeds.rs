//! Writes what our own encoders make into the corpora of the fuzz targets: `fuzz_seeds FOLDER`.
//!
//! A fuzzer that begins with whole messages does not spend its time on finding their headers.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

use bulkhead_wire::end::{Carrier, End};
use bulkhead_wire::filecopy::offer::{self, Offer};
use bulkhead_wire::filecopy::{Dialect, Encoder, Entry, Kind as Item, Stamp};
use bulkhead_wire::gui::geometry::{Part, Place, Size};
use bulkhead_wire::gui::picture::PictureSize;
use bulkhead_wire::gui::text::{UntrustedClass, UntrustedTitle};
use bulkhead_wire::gui::{self, AgentMessage, DaemonMessage, WindowId};
use bulkhead_wire::icons::{self, Icon, IconSize};
use bulkhead_wire::notify::guest_end::GuestEnd;
use bulkhead_wire::notify::{self, Notification, Urgency};
use bulkhead_wire::qrexec::announced::Announced;
use bulkhead_wire::qrexec::control::{AgentLink, DaemonLink};
use bulkhead_wire::qrexec::frame::message;
use bulkhead_wire::qrexec::local::ClientCommand;
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Endpoint, HEADER_LEN, Ident, Kind, Version, hello, vmexec};
use bulkhead_wire::qubesdb::message as db;
use bulkhead_wire::qubesdb::path::DbPath;
use bulkhead_wire::relay::{self, FromRelay, RequestId, ToRelay};
use bulkhead_wire::service::{Address, Identity, Order, Report, ToPump, What};
use bulkhead_wire::xl;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Body of a message at most, as far as seeds go.
const BODY_MAX: u32 = 65_536;

/// What a caller says it will send.
const ANNOUNCED: Announced = Announced {
    files: 3,
    folders: 1,
    bytes: 13_002_342,
    at_least: true,
};

fn main() -> Outcome {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("usage: fuzz_seeds FOLDER")?;
    let folder = Path::new(&folder);
    let mut seeds = qrexec()?;
    seeds.extend(qubesdb()?);
    seeds.extend(filecopy()?);
    seeds.extend(packets()?);
    seeds.extend(service_packets()?);
    seeds.extend(xl_packets()?);
    seeds.extend(gui_agent());
    seeds.push(("gui_daemon", gui_daemon()));
    seeds.extend(icons()?);
    seeds.push((
        "monitors",
        b"1920 1080 0 0 508 285\n2560 1440 1920 -40\n".to_vec(),
    ));
    seeds.extend(notifications()?);
    for (number, (target, bytes)) in seeds.into_iter().enumerate() {
        let corpus = folder.join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::write(corpus.join(format!("seed-{number}")), bytes)?;
    }
    Ok(())
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

/// The targets that choose how a stream arrives and a mode take both from the first bytes.
fn stream(mode: u8, bytes: &[u8]) -> Vec<u8> {
    [&[6, mode], bytes].concat()
}

/// An operation of the relay's target: which one, and bytes for it.
fn relay_op(op: u8, bytes: &[u8]) -> Vec<u8> {
    let chunks = bytes.chunks(255).map(|part| {
        let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
        [&[op, length], part].concat()
    });
    chunks.collect::<Vec<_>>().concat()
}

fn qrexec() -> Outcome<Seeds> {
    let mut seeds = Seeds::new();
    let end = Endpoint {
        domain: 2,
        port: 513,
    };
    let mut asked = Vec::new();
    let versions = [Version::V2, Version::V3, Version::V4];
    let idents = [Ident::for_slot(3), Ident::announcing(4, ANNOUNCED)];
    let forms = versions.iter().flat_map(|v| idents.iter().map(|i| (*v, i)));
    for (version, ident) in forms {
        let mode = version as u8;
        let mut trigger = Trigger::ask("", "vault", "qubes.Filecopy+x");
        trigger.ident = ident.clone();
        let bytes = trigger.encode(version)?;
        let body = bytes.get(HEADER_LEN..).ok_or("a trigger has a header")?;
        seeds.push(("qrexec_trigger", [&[mode], body].concat()));
        asked.extend(bytes);
    }
    let ended = AgentLink::terminated(end);
    let guest = [&hello(Version::V4)[..], &asked, &ended].concat();
    seeds.push(("qrexec_control", stream(0, &guest)));
    let (mut greeted, mut reply) = (DaemonLink::new(), Vec::new());
    greeted.push(&mut &hello(Version::V4)[..], &mut reply)?;
    let execute = greeted.execute(end, b"user:QUBESRPC qubes.GetDate+ work", false)?;
    let daemon = [&reply[..], &execute].concat();
    seeds.push(("qrexec_control", stream(4, &daemon)));
    let command = ClientCommand::Execute {
        endpoint: end,
        cmdline: b"user:true".to_vec(),
        just_exec: true,
    };
    let client = [&hello(Version::V3)[..], &command.encode()?].concat();
    seeds.push(("qrexec_control", stream(6, &client)));
    for mode in 0..2 {
        let mut data = hello(Version::V3).to_vec();
        for kind in [Kind::Stdin, Kind::Stdout, Kind::Stderr] {
            data.extend(message(kind, BODY_MAX, &[b"some bytes"])?);
            data.extend(message(kind, BODY_MAX, &[])?);
        }
        data.extend(message(Kind::ExitCode, BODY_MAX, &[&7_u32.to_le_bytes()])?);
        seeds.push(("qrexec_data", stream(mode, &data)));
    }
    let calls = [
        relay_op(0, &asked),
        relay_op(9, &[]),
        relay_op(6, &[]),
        relay_op(0, &ended),
    ];
    seeds.push(("relay_guest", calls.concat()));
    seeds.push(("relay_guest", relay_op(8, &client)));
    for line in [
        "user:QUBESRPC qubes.Filecopy+a work",
        "DEFAULT:nogui:QUBESRPC qubes.StartApp+xterm dom0 keyword adminvm",
        "root:exec true",
    ] {
        seeds.push(("qrexec_command", line.into()));
    }
    let config =
        "# how it runs\nforce-user=root\nwait-for-session=1\nskip-service-descriptor=true\n";
    seeds.push(("qrexec_config", config.into()));
    let words = ["ls", "-l", "a b", "\u{e9}"];
    seeds.push(("vmexec", words.join("\n").into()));
    seeds.push(("vmexec", vmexec::encode(&words).into()));
    Ok(seeds)
}

fn qubesdb() -> Outcome<Seeds> {
    let (name, folder, none) = (DbPath::new("/name")?, DbPath::new("/a/")?, DbPath::empty());
    let mut said = Vec::new();
    for (kind, path, data) in [
        (db::Kind::MultiRead, &none, &b""[..]),
        (db::Kind::MultiReadReply, &name, b"work"),
        (db::Kind::MultiReadReply, &none, b""),
        (db::Kind::Write, &name, b"other"),
        (db::Kind::Remove, &name, b""),
        (db::Kind::Read, &name, b""),
        (db::Kind::List, &folder, b""),
        (db::Kind::Watch, &name, b""),
    ] {
        db::encode(&mut said, kind, path, data);
    }
    let mut seeds = Seeds::new();
    for mode in 0..2 {
        seeds.push(("qubesdb_link", stream(mode, &said)));
        seeds.push(("qubesdb_local", stream(mode, &said)));
    }
    seeds.push(("relay_guest", relay_op(4, &said)));
    Ok(seeds)
}

fn filecopy() -> Outcome<Seeds> {
    let mut seeds = Seeds::new();
    let time = Stamp {
        seconds: 1,
        nanos: 2,
    };
    for (mode, dialect) in (0..).zip([Dialect::Plain, Dialect::Resumable]) {
        let (mut encoder, mut out) = (Encoder::new(dialect), Vec::new());
        let items: [(&[u8], Item, &[u8]); 4] = [
            (b"d", Item::Directory, b""),
            (b"d/file", Item::File { size: 5, offset: 0 }, b"bytes"),
            (b"d/link", Item::Link { length: 4 }, b"file"),
            (b"d", Item::Directory, b""),
        ];
        for (name, kind, content) in items {
            let entry = Entry {
                name,
                kind,
                permissions: 0o640,
                atime: time,
                mtime: time,
            };
            encoder.entry(&entry, &mut out)?;
            encoder.content(content)?;
            out.extend_from_slice(content);
        }
        encoder.end(&mut out)?;
        seeds.push(("filecopy", stream(mode, &out)));
    }
    seeds.push(("filecopy", stream(0, &offer::encode(&Vec::<Offer>::new()))));
    Ok(seeds)
}

const CLIENT: End = End::Client {
    server: 7,
    page: 8,
    port: 9,
};
const SERVER: End = End::Server {
    client: 7,
    page: 8,
    port: 9,
    index: 4096,
    orders: (12, 16),
};

fn packets() -> Outcome<Seeds> {
    let request = FromRelay::CallRequest {
        request: RequestId(7),
        service: "qubes.Filecopy".into(),
        target: "vault".into(),
        requested_source: String::new(),
        announced: Some(ANNOUNCED),
    };
    let setup = ToRelay::Setup {
        qube: "work".into(),
        domid: 7,
        default_user: "user".into(),
        serve_clients: true,
        carrier: Carrier::Sockets,
    };
    let write = ToRelay::DbWrite {
        path: "/name".into(),
        value: b"work".to_vec(),
    };
    Ok(vec![
        ("relay_packets", relay::encode(&request)?),
        ("relay_packets", relay::encode(&setup)?),
        ("relay_packets", relay::encode(&write)?),
        (
            "relay_packets",
            relay::encode(&ToRelay::AttachControl(CLIENT))?,
        ),
        (
            "relay_packets",
            relay::encode(&ToRelay::AttachDatabase(SERVER))?,
        ),
    ])
}

fn service_packets() -> Outcome<Seeds> {
    let connected = Report::Connected {
        exit_on_client_eof: true,
        exit_on_service_eof: false,
    };
    let program = Order {
        user: Some(Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![27, 1000],
            name: "ann".into(),
            home: "/home/ann".into(),
            shell: "/bin/sh".into(),
        }),
        descriptor: "test.X+a work keyword adminvm".into(),
        session: Some(("/etc/qubes-rpc/qubes.WaitForSession".into(), "ann".into())),
        what: What::Program("/etc/qubes-rpc/test.X".into()),
    };
    let mut orders = vec![program.clone()];
    for at in [
        Address::Unix("/run/x.sock".into()),
        Address::Tcp("127.0.0.1:22".parse()?),
        Address::Tcp("[::1]:22".parse()?),
    ] {
        orders.push(Order {
            what: What::Socket {
                at,
                introduce: true,
                exit_on_client_eof: false,
                exit_on_service_eof: true,
            },
            ..program.clone()
        });
    }
    let mut packets = vec![
        relay::encode(&ToPump::Setup {
            domid: 7,
            carrier: Carrier::Rings,
        })?,
        relay::encode(&ToPump::Channel(End::Socket))?,
        relay::encode(&ToPump::Channel(CLIENT))?,
        relay::encode(&connected)?,
    ];
    for report in [
        Report::Running,
        Report::Switch,
        Report::Failed { code: 127 },
        Report::Ended { code: -1 },
    ] {
        packets.push(relay::encode(&report)?);
    }
    for order in &orders {
        packets.push(relay::encode(order)?);
    }
    let named = packets.into_iter().map(|bytes| ("service_packets", bytes));
    Ok(named.collect())
}

fn xl_packets() -> Outcome<Seeds> {
    let target = xl::Target {
        domid: xl::DomId::new(7)?,
        uuid: xl::DomainUuid([9; 16]),
    };
    let disk = xl::Disk {
        vdev: xl::Vdev::new("xvda")?,
        path: xl::HostPath::new("/dev/loop0")?,
        access: xl::Access::ReadOnly,
        backend: xl::DomId::DOM0,
        sole: true,
    };
    let nic = xl::Nic {
        id: xl::NicId::new(0)?,
        mac: xl::MacAddress::new([0, 0x16, 0x3e, 0x5e, 0x6c, 0])?,
        backend: xl::DomId::new(3)?,
        ip: Some([10, 137, 0, 9].into()),
    };
    let config = xl::DomainConfig {
        domid: target.domid,
        uuid: target.uuid,
        name: xl::DomainName::new("work")?,
        mode: xl::Mode::Pvh(xl::Kernel {
            path: xl::HostPath::new("/vmlinuz")?,
            ramdisk: Some(xl::HostPath::new("/initrd")?),
            cmdline: xl::Cmdline::new("root=/dev/xvda ro")?,
        }),
        memory: xl::Mib::new(400)?,
        maximum: xl::Mib::new(4000)?,
        vcpus: xl::Vcpus::new(2)?,
        vcpus_maximum: xl::Vcpus::new(2)?,
        weight: xl::Weight::default(),
        disks: vec![disk.clone()],
        nics: vec![nic.clone()],
        pci: vec![xl::PciAddress::new(0, 3, 0, 0)?],
        initial: xl::Initial::Paused,
    };
    let operations = [
        xl::Operation::Create(Box::new(config)),
        xl::Operation::SetMemory {
            target,
            memory: xl::Mib::new(800)?,
        },
        xl::Operation::AttachDisk { target, disk },
        xl::Operation::AttachNic { target, nic },
        xl::Operation::List {
            from: xl::DomId::DOM0,
        },
    ];
    let mut packets = Vec::new();
    for (id, operation) in (1..).map(xl::RequestId).zip(operations) {
        packets.push(relay::encode(&xl::ToXl::Request { id, operation })?);
    }
    let failed = xl::XlError {
        operation: xl::OperationKind::Create,
        domid: Some(target.domid),
        failure: xl::Failure::Libxl(xl::LibxlCode::Fail),
        log: vec!["libxl: error: something".into()],
    };
    let done = xl::FromXl::Done {
        id: xl::RequestId(1),
        result: Err(failed),
    };
    let died = xl::FromXl::Died {
        target,
        how: xl::Ending::Crash,
    };
    packets.extend([relay::encode(&done)?, relay::encode(&died)?]);
    let named = packets.into_iter().map(|bytes| ("xl_packets", bytes));
    Ok(named.collect())
}

/// The window that both ends of the GUI protocol speak of.
const WINDOW: WindowId = WindowId(5);

/// A window from its creation to its end, as agents of different versions tell it.
fn gui_agent() -> Seeds {
    let (place, size) = (Place::near(10, 20), Size::near(64, 16));
    let set = gui::Flags {
        fullscreen: true,
        ..gui::Flags::default()
    };
    let unset = gui::Flags::default();
    let class = gui::WindowClass {
        class: UntrustedClass::new("Mail"),
        name: UntrustedClass::new("mail"),
    };
    let agent = [
        AgentMessage::Create {
            place,
            size,
            override_redirect: false,
        },
        AgentMessage::Class(Box::new(class)),
        AgentMessage::Hints(gui::Hints {
            min: Some(size),
            ..gui::Hints::default()
        }),
        AgentMessage::Map {
            transient_for: Some(WindowId(4)),
            override_redirect: false,
        },
        AgentMessage::Title(Box::new(UntrustedTitle::new("Inbox – Mail"))),
        AgentMessage::Flags { set, unset },
        AgentMessage::Configure { place, size },
        AgentMessage::Dump(gui::Dump {
            size,
            pages: vec![8],
        }),
        AgentMessage::Damage(Part::all(size)),
        AgentMessage::Cursor(gui::Cursor::Font(52)),
        AgentMessage::Clipboard(Some(b"copied".to_vec())),
        AgentMessage::Picture(PictureSize::new(1, 2)),
        AgentMessage::PicturePart(b"redgreen".to_vec()),
        AgentMessage::Dock,
        AgentMessage::Unmap,
        AgentMessage::Destroy,
    ];
    let mut seeds = Seeds::new();
    let plain = [0, 4, 8].into_iter().filter_map(gui::Version::new);
    for version in plain.chain([gui::Version::NEWEST]) {
        let mut said = vec![16];
        said.extend_from_slice(&version.encode());
        for message in &agent {
            message.encode(version, WINDOW, &mut said);
        }
        seeds.push(("gui_agent", said));
    }
    seeds
}

/// What a daemon has to say of that window.
fn gui_daemon() -> Vec<u8> {
    let input = gui::Input {
        x: 3,
        y: 4,
        state: 5,
    };
    let daemon = [
        DaemonMessage::Configure {
            place: Place::near(10, 20),
            size: Size::near(64, 16),
            override_redirect: false,
        },
        DaemonMessage::Crossing(gui::Crossing {
            here: true,
            input,
            mode: 0,
            detail: 0,
            focus: true,
        }),
        DaemonMessage::Focus {
            here: true,
            mode: 0,
            detail: 0,
        },
        DaemonMessage::Keymap([0; gui::KEYMAP_LEN]),
        DaemonMessage::Key {
            down: true,
            input,
            keycode: 38,
        },
        DaemonMessage::Button {
            down: false,
            input,
            button: 1,
        },
        DaemonMessage::Motion {
            input,
            is_hint: false,
        },
        DaemonMessage::Flags {
            set: gui::Flags::default(),
            unset: gui::Flags::default(),
        },
        DaemonMessage::ClipboardRequest,
        DaemonMessage::Clipboard(b"pasted".to_vec()),
        DaemonMessage::Picture(PictureSize::new(1, 2)),
        DaemonMessage::PicturePart(b"redgreen".to_vec()),
        DaemonMessage::DumpAck,
        DaemonMessage::Map {
            transient_for: None,
            override_redirect: false,
        },
        DaemonMessage::Close,
        DaemonMessage::Destroy,
    ];
    let screen = gui::Screen {
        width: 1920,
        height: 1080,
        depth: 24,
    };
    let mut said = vec![16];
    said.extend_from_slice(&gui::Version::NEWEST.encode());
    said.extend_from_slice(&screen.encode());
    for message in &daemon {
        message.encode(gui::Version::NEWEST, WINDOW, &mut said);
    }
    said
}

fn icons() -> Outcome<Seeds> {
    let mut seeds = Seeds::new();
    for (width, height) in [(1, 1), (3, 2), (16, 16)] {
        let size = IconSize::new(width, height).ok_or("a size of icons")?;
        let icon = Icon::new(size, vec![b'7'; size.bytes()]).ok_or("an icon")?;
        let mut said = vec![6];
        for window in [0, 7, u32::MAX] {
            icons::encode(WindowId(window), &icon, &mut said);
        }
        seeds.push(("icons", said));
    }
    Ok(seeds)
}

fn notifications() -> Outcome<Seeds> {
    let versions = [notify::Version::PLAIN, notify::Version::WITH_CLOSE];
    let mut seeds = Seeds::new();
    for (mode, offered) in (0..).zip(versions) {
        let (mut guest, mut said) = (GuestEnd::new(), Vec::new());
        guest.receive(&mut &offered.encode()[..], &mut said)?;
        let action = |key: &str| notify::Action {
            key: key.to_owned(),
            label: "Öffnen".to_owned(),
        };
        let notification = Notification {
            replaces: 3,
            summary: "<b>Mail</b>".to_owned(),
            body: "From ann\nto bob".to_owned(),
            actions: vec![action("default"), action("app.open")],
            urgency: Some(Urgency::Critical),
            timeout: -1,
            resident: true,
            transient: false,
            silent: true,
        };
        let sequence = 1;
        let show = notify::Request::Show {
            sequence,
            notification,
        };
        guest.send(&show, &mut said);
        guest.send(&notify::Request::Close { id: 3 }, &mut said);
        seeds.push(("notifications", stream(mode, &said)));
    }
    Ok(seeds)
}
