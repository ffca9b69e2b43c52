//! Signals, on a thread of their own.

use std::io;

use bulkhead_sandbox::spawn::{hold_child_signal, let_child_signal};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;

/// A signal that means something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop.
    Stop,
    /// A process wants its standard input for both directions. Its id, where the kernel told.
    Switch(Option<i32>),
    /// A child has ended.
    Child,
}

/// Calls `act` for every signal from now on. `children` says whether ends of children matter.
pub(crate) fn watch(
    children: bool,
    mut act: impl FnMut(Signal) + Send + 'static,
) -> io::Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    if children {
        wanted.push(SIGCHLD);
        // A call's thread is about to tell the end of the very child, and would be interrupted.
        hold_child_signal()?;
    }
    let mut signals = SignalsInfo::<WithOrigin>::new(wanted)?;
    let thread = std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 * 1024);
    thread.spawn(move || {
        if children && let Err(e) = let_child_signal() {
            crate::report::log("signals", &e);
        }
        for origin in &mut signals {
            act(match origin.signal {
                SIGUSR1 => Signal::Switch(origin.process.map(|process| process.pid)),
                SIGCHLD => Signal::Child,
                _ => Signal::Stop,
            });
        }
    })?;
    Ok(())
}

/// Calls `act` for `SIGUSR1`; all other signals do what they do by themselves.
pub(crate) fn watch_switch(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1])?;
    let thread = std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 * 1024);
    thread.spawn(move || {
        for _ in &mut signals {
            act();
        }
    })?;
    Ok(())
}
