//! What windows cost: from a change in a qube to the screen, an animation, and doing nothing. The
//! programs that ship, on a display of the benchmark's own, with an application in the benchmark's
//! process. Then what of it is the proxy's alone. `cargo xtask bench gui`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed bench has no result"
)]
#![allow(dead_code, reason = "tests use more of these")]

use std::time::{Duration, Instant};

use bulkhead_gui::frame::{BORDER, STRIP};
use bulkhead_wire::gui::AgentMessage;
use bulkhead_wire::gui::geometry::{Part, Size};

#[path = "../../tests/gui/agent.rs"]
mod agent;
mod application;
mod process;
mod qube;
#[path = "../../tests/gui/screen.rs"]
mod screen;
#[path = "../../tests/gui/session.rs"]
mod session;

use agent::fill;
use application::Application;
use qube::Qube;
use screen::Screen;
use session::Session;

/// The window, and what of it changes.
const WHOLE: (u32, u32) = (1920, 1080);
const CHANGE: (u32, u32) = (200, 200);

/// Changes of which the middle one is told, after some that are not.
const CHANGES: u32 = 300;
const WARM: u32 = 50;
/// Between two changes: longer than from one picture to the next, as between two keys.
const BETWEEN: Duration = Duration::from_millis(20);

/// How long the animation and the rest take.
const ANIMATION: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(3);

fn main() {
    let session = Session::start_with(WHOLE.0 + 100, WHOLE.1 + 100);
    let screen = Screen::of(&session);
    let whole = Size::near(WHOLE.0, WHOLE.1);
    chain(&session, &screen, whole);
    proxy_alone(&session, &screen, whole);
}

/// An application, the agent of its qube, and the proxy.
fn chain(session: &Session, screen: &Screen, whole: Size) {
    let qube = Qube::start(session, "personal");
    let mut application = Application::start(&qube.socket(), whole);
    let (x, y, width, height) = screen.area(screen.must_have(1)[0]);
    let framed = (WHOLE.0 + 2 * BORDER, WHOLE.1 + STRIP + BORDER);
    assert_eq!(
        (width, height),
        framed,
        "the window is as large as it wants"
    );
    let inside = (x + BORDER.cast_signed(), y + STRIP.cast_signed());
    let damage = changes(screen, last(inside), |color| {
        application.wait();
        std::thread::sleep(BETWEEN);
        application.fill(changed(), color);
        let start = Instant::now();
        application.show(changed());
        start
    });
    println!("figure damage_p50 {:.3} ms", damage.p50);
    println!("figure damage_p99 {:.3} ms", damage.p99);
    animation(&qube, &mut application, whole);
    rest(&qube);
}

/// The proxy with an agent in this process.
fn proxy_alone(session: &Session, screen: &Screen, whole: Size) {
    let (proxy, mut agent) = session.qube("work", 0xcc00);
    println!(
        "figure gui_resident {:.2} MiB",
        process::resident(proxy.id())
    );
    let memory = agent.window(1, (50, 50), whole, |_, _| 0);
    agent.sync();
    let part = changed();
    let damage = changes(screen, last((50, 50)), |color| {
        fill(agent.memory(memory), whole, part, |_, _| color);
        let start = Instant::now();
        agent.say(1, AgentMessage::Damage(part));
        start
    });
    println!("figure proxy_p50 {:.3} ms", damage.p50);
    println!("figure proxy_p99 {:.3} ms", damage.p99);
}

/// What changes.
fn changed() -> Part {
    Part {
        x: 700,
        y: 500,
        size: Size::near(CHANGE.0, CHANGE.1),
    }
}

/// The last pixel that changes of a window that is here.
fn last((x, y): (i32, i32)) -> (i32, i32) {
    let Part {
        x: right, y: below, ..
    } = changed();
    let (right, below) = (right + CHANGE.0 - 1, below + CHANGE.1 - 1);
    (x + right.cast_signed(), y + below.cast_signed())
}

/// Milliseconds.
struct Took {
    p50: f64,
    p99: f64,
}

/// From what `change` says to a screen that has its colour at this place, the last of the change.
fn changes(screen: &Screen, (x, y): (i32, i32), mut change: impl FnMut(u32) -> Instant) -> Took {
    let mut took = Vec::new();
    for color in 1..=WARM + CHANGES {
        let start = change(color);
        while screen.picture(x, y, 1, 1).pixels != [color] {}
        took.push(start.elapsed());
    }
    let took = &mut took[WARM as usize..];
    took.sort();
    let ms = |at: u32| took[at as usize].as_secs_f64() * 1000.0;
    Took {
        p50: ms(CHANGES / 2),
        p99: ms(CHANGES * 99 / 100),
    }
}

/// Every pixel of a window, as often as the agent wants a picture.
fn animation(qube: &Qube, application: &mut Application, whole: Size) {
    application.wait();
    let mut pictures = 0;
    let processors = || qube.processes().map(process::processor);
    let (start, before) = (Instant::now(), processors());
    while start.elapsed() < ANIMATION {
        // A row of each picture is drawn: what drawing all of it costs is the application's business.
        let row = Part {
            x: 0,
            y: pictures % whole.height(),
            size: Size::near(whole.width(), 1),
        };
        application.fill(row, pictures);
        application.show(Part::all(whole));
        application.wait();
        pictures += 1;
    }
    let took = start.elapsed().as_secs_f64();
    let now = processors();
    let shares: [f64; 2] = std::array::from_fn(|n| (now[n] - before[n]) / took * 100.0);
    println!("figure pictures {:.1} /s", f64::from(pictures) / took);
    println!("figure animation_processor {:.1} %", shares[0] + shares[1]);
    println!("figure animation_proxy {:.1} %", shares[1]);
}

/// How often an agent and a proxy wake that have nothing to do.
fn rest(qube: &Qube) {
    // The last picture has still to be taken from one to the other.
    std::thread::sleep(Duration::from_millis(500));
    let wakes = || qube.processes().map(process::waits).iter().sum::<u64>();
    let before = wakes();
    std::thread::sleep(REST);
    println!("figure idle_wakes {} wakes", wakes() - before);
}
