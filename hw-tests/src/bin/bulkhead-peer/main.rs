//! One end of a channel on Xen, for tests: in dom0 a program, in a guest the whole system.
//!
//! `bulkhead-peer serve:BYTES|join DOMAIN PORT ACTION [NUMBER]`, or what dom0 is to agents
//! ([`broker`]). As the first process of a guest it
//! does what dom0 writes into the guest's xenstore instead ([`system`]).

#![forbid(unsafe_code)]

mod actions;
mod broker;
mod flood;
mod hostile;
mod meet;
mod system;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bulkhead_vchan::xen::RingSizes;
use bulkhead_vchan::{DomId, Port};

/// What an end is told to do.
#[derive(Debug, Clone)]
struct Task {
    side: Side,
    peer: DomId,
    port: Port,
    action: String,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    /// Share rings of this size.
    Serve(RingSizes),
    Join,
}

impl Task {
    fn parse(words: &[String]) -> Result<Self> {
        let [side, peer, port, action, rest @ ..] = words else {
            bail!("serve:BYTES|join DOMAIN PORT ACTION [NUMBER]");
        };
        let side = match side.split_once(':') {
            Some(("serve", bytes)) => Side::Serve(RingSizes::both(bytes.parse()?)),
            None if side == "join" => Side::Join,
            _ => bail!("`{side}` is no side"),
        };
        Ok(Self {
            side,
            peer: peer.parse()?,
            port: Port::new(port.parse()?),
            action: action.clone(),
            number: match rest.first() {
                Some(number) => number.parse().context("the number is none")?,
                None => 0,
            },
        })
    }
}

fn run(words: &[String]) -> Result<()> {
    match words {
        [word] if word == "confined" => return meet::confined(),
        [word, guests @ ..] if word == "broker" => return broker::run(guests),
        _ => {}
    }
    let task = Task::parse(words)?;
    match task.action.as_str() {
        "nonsense" => hostile::nonsense(&task),
        "bogus" => hostile::bogus(&task),
        "flood" => flood::calls(&task),
        "babble" => flood::babble(&task),
        "hand-over" => meet::hand_over(&task),
        _ => actions::run(&task),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = if std::process::id() == 1 {
        system::run()
    } else {
        run(&words)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::flush(&mut io::stdout());
            eprintln!("{}: {error:?}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
