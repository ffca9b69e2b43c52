//! What windows cost: from a change in a qube to the screen, an animation, and doing nothing. The
//! program that ships, on a display of the benchmark's own. `cargo xtask bench gui`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed bench has no result"
)]
#![allow(dead_code, reason = "tests use more of these")]

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_wire::gui::AgentMessage;
use bulkhead_wire::gui::geometry::{Part, Size};

#[path = "../tests/gui/agent.rs"]
mod agent;
#[path = "../tests/gui/screen.rs"]
mod screen;
#[path = "../tests/gui/session.rs"]
mod session;

use agent::{Agent, fill};
use screen::Screen;
use session::{Proxy, Session};

/// The window, and what of it changes.
const WHOLE: (u32, u32) = (1920, 1080);
const CHANGE: (u32, u32) = (200, 200);

/// Changes of which the middle one is told, after some that are not.
const CHANGES: usize = 300;
const WARM: usize = 50;

/// How long the animation and the rest take.
const ANIMATION: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(3);

/// Pictures a second that are wanted.
const RATE: u32 = 60;

fn main() {
    let session = Session::start_with(WHOLE.0 + 100, WHOLE.1 + 100);
    let screen = Screen::of(&session);
    let (proxy, mut agent) = session.qube("work", 0xcc00);
    let before = resident(&proxy);
    let whole = Size::near(WHOLE.0, WHOLE.1);
    let memory = agent.window(1, (50, 50), whole, |_, _| 0);
    agent.sync();
    damage(&screen, &mut agent, memory, whole);
    animation(&proxy, &mut agent, memory, whole);
    rest(&proxy);
    println!("figure gui_resident {:.2} MiB", before);
}

/// From a change in shared memory to a screen that shows it.
fn damage(screen: &Screen, agent: &mut Agent, memory: usize, whole: Size) {
    let part = Part {
        x: 700,
        y: 500,
        size: Size::near(CHANGE.0, CHANGE.1),
    };
    // The last pixel of the change, on the screen.
    let (x, y) = (50 + 700 + 199, 50 + 500 + 199);
    let mut took = Vec::new();
    for n in 1..=WARM + CHANGES {
        let color = u32::try_from(n).expect("a color");
        fill(agent.memory(memory), whole, part, |_, _| color);
        let start = Instant::now();
        agent.say(1, AgentMessage::Damage(part));
        while screen.picture(x, y, 1, 1).pixels != [color] {}
        took.push(start.elapsed());
    }
    let took = &mut took[WARM..];
    took.sort();
    let ms = |at: usize| took[at].as_secs_f64() * 1000.0;
    println!("figure damage_p50 {:.3} ms", ms(CHANGES / 2));
    println!("figure damage_p99 {:.3} ms", ms(CHANGES * 99 / 100));
}

/// Every pixel of a window, as often as a display shows it.
fn animation(proxy: &Proxy, agent: &mut Agent, memory: usize, whole: Size) {
    let own = std::process::id();
    let (start, mut pictures) = (Instant::now(), 0);
    let before = (processor(proxy.id()), processor(own));
    while start.elapsed() < ANIMATION {
        let due = start + Duration::from_secs(1) * pictures / RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A row of each picture is drawn: what drawing all of it costs is the program's business.
        let row = Part {
            x: 0,
            y: pictures % whole.height(),
            size: Size::near(whole.width(), 1),
        };
        fill(agent.memory(memory), whole, row, |_, _| pictures);
        agent.say(1, AgentMessage::Damage(Part::all(whole)));
        pictures += 1;
        if pictures % RATE == 0 {
            agent.sync();
        }
    }
    agent.sync();
    let took = start.elapsed().as_secs_f64();
    let share = |before: f64, now: f64| (now - before) / took * 100.0;
    let proxys = share(before.0, processor(proxy.id()));
    let agents = share(before.1, processor(own));
    println!("figure pictures {:.1} /s", f64::from(pictures) / took);
    println!("figure animation_processor {:.1} %", proxys + agents);
    println!("figure animation_proxy {proxys:.1} %");
}

/// How often a proxy wakes that has nothing to do.
fn rest(proxy: &Proxy) {
    std::thread::sleep(Duration::from_millis(500));
    let before = switches(proxy);
    std::thread::sleep(REST);
    println!("figure idle_wakes {} wakes", switches(proxy) - before);
}

fn status(proxy: &Proxy, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id())).expect("a process");
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.expect("a field").split_whitespace().next();
    number.and_then(|n| n.parse().ok()).expect("a number")
}

fn switches(proxy: &Proxy) -> u64 {
    status(proxy, "voluntary_ctxt_switches")
}

/// MiB of memory, without that of windows.
fn resident(proxy: &Proxy) -> f64 {
    status(proxy, "VmRSS") as f64 / 1024.0
}

/// Seconds of processor that a process has taken.
fn processor(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> f64 {
        let field = fields.next().expect("a field");
        field.parse().expect("a number")
    };
    // A hundred a second, on every machine that there is.
    (ticks() + ticks()) / 100.0
}
