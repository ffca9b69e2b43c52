//! An agent that asks for calls without end, or that says what no agent may say.

use std::io::{self, IoSlice, Read, Write};

use anyhow::{Result, ensure};
use bulkhead_vchan::Channel;
use bulkhead_vchan::channel::Wants;
use bulkhead_vchan::xen::XenChannel;
use bulkhead_wire::qrexec::control::AgentLink;
use bulkhead_wire::qrexec::trigger::Trigger;
use bulkhead_wire::qrexec::{Ident, Version};

use crate::Task;
use crate::actions::{Blocking, wait};
use crate::meet::meet;

/// Bytes that are moved at a time.
const CHUNK: usize = 64 * 1024;

/// What is asked for; no rule is about it.
const SERVICE: &str = "test.Flood";

/// Requests that are told apart.
const SLOTS: u32 = 1000;

/// Asks for calls as fast as they are taken, and hears the answers without a look at them.
pub(crate) fn calls(task: &Task) -> Result<()> {
    let (mut channel, _store) = meet(task)?;
    let version = greet(&mut channel)?;
    let mut calls = Vec::new();
    for slot in 0..SLOTS {
        let mut request = Trigger::ask("", "vault", SERVICE);
        request.ident = Ident::for_slot(slot);
        calls.extend(request.encode(version)?);
    }
    let (mut rest, mut answers) = (calls.as_slice(), vec![0; CHUNK]);
    loop {
        let heard = some(channel.read(&mut answers))?;
        if heard == Some(0) {
            return Ok(());
        }
        let said = some(channel.write(&[IoSlice::new(rest)]))?;
        rest = rest.get(said.unwrap_or_default()..).unwrap_or_default();
        if rest.is_empty() {
            rest = &calls;
        }
        if (heard, said) == (None, None) {
            let wants = Wants {
                read: true,
                write: true,
            };
            wait(&mut channel, wants)?;
        }
    }
}

/// Greets as an agent does, and then says one thing over and over that means nothing.
pub(crate) fn babble(task: &Task) -> Result<()> {
    let (mut channel, _store) = meet(task)?;
    greet(&mut channel)?;
    let nothing = vec![0xff; CHUNK];
    loop {
        Blocking(&mut channel).write_all(&nothing)?;
    }
}

fn greet(channel: &mut XenChannel) -> Result<Version> {
    let (mut link, hello) = AgentLink::start();
    let mut channel = Blocking(channel);
    channel.write_all(&hello)?;
    loop {
        if let Some(version) = link.version() {
            println!("greeted");
            return Ok(version);
        }
        let mut byte = [0];
        ensure!(channel.read(&mut byte)? > 0, "dom0 does not want to talk");
        link.push(&mut byte.as_slice())?;
    }
}

/// How much was moved; none if nothing can be now.
fn some(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}
