//! Peers that break every rule.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead_vchan::xen::Offer;
use bulkhead_vchan::xen::device::{AllocDevice, EventDevice, GrantDevice};
use bulkhead_vchan::xen::layout::Described;
use bulkhead_vchan::xen::memory::{PAGE, Region};
use bulkhead_vchan::xen::store::{self, Store};

use crate::Task;
use crate::meet::PATIENCE;

/// How long nonsense is written.
const LASTS: Duration = Duration::from_secs(3);

/// Where the shared page has what is attacked.
const COUNTERS: [usize; 4] = [0, 4, 8, 12];
const ORDERS: usize = 16;
const CLIENT_LIVE: usize = 20;
const SERVER_LIVE: usize = 21;

/// Joins as a client should, behaves for `number` bytes, then writes whatever it likes.
pub(crate) fn nonsense(task: &Task) -> Result<()> {
    let mut store = Store::open()?;
    let mut seeker = store::seek(&mut store, task.peer, task.port)?;
    let offer = seeker
        .next(&mut store, Instant::now() + PATIENCE)?
        .context("nothing is offered")?;
    let memory = GrantDevice::open()?;
    let events = EventDevice::open()?.bind(task.peer, offer.port)?;
    let page = memory.map(task.peer, &[offer.page])?;
    let described = Described::copy(&page)?;
    let rings = memory.map(task.peer, &described.grants)?;
    page.byte(CLIENT_LIVE).store(1, Ordering::SeqCst);
    // Bytes that are fine: the victim is awake and reading.
    rings.write(0, b"well");
    page.word(COUNTERS[1]).store(4, Ordering::SeqCst);
    events.signal()?;
    std::thread::sleep(Duration::from_millis(200));
    println!("nonsense");
    let end = Instant::now() + LASTS;
    let mut row = 88_172_645_463_325_252_u64;
    while Instant::now() < end {
        for _ in 0..1000 {
            disturb(&page, &rings, &mut row);
        }
        events.signal()?;
    }
    ensure!(
        page.byte(SERVER_LIVE).load(Ordering::SeqCst) != 1 || row != 0,
        "no nonsense"
    );
    Ok(())
}

fn disturb(page: &Region, rings: &Region, row: &mut u64) {
    *row ^= *row << 13;
    *row ^= *row >> 7;
    *row ^= *row << 17;
    let [a, b, c, d, ..] = row.to_le_bytes();
    let wild = u32::from_le_bytes([a, b, c, d]);
    let at = usize::from(a % 4) * 4;
    match b % 5 {
        0 => page.word(at).store(wild, Ordering::SeqCst),
        1 => drop(page.word(at).fetch_add(wild % 70_000, Ordering::SeqCst)),
        2 => page
            .byte(ORDERS + usize::from(c % 4))
            .store(d, Ordering::SeqCst),
        3 => page
            .byte(22 + usize::from(c % 2))
            .store(3, Ordering::SeqCst),
        _ => rings.write(wild as usize % (rings.len() - 8), &row.to_le_bytes()),
    }
}

/// Offers pages that describe no channel, `number` says how, and stays.
pub(crate) fn bogus(task: &Task) -> Result<()> {
    let mut store = Store::open()?;
    let memory = AllocDevice::open()?;
    let events = EventDevice::open()?.offer(task.peer)?;
    let (page, grants) = memory.share(task.peer, 1)?;
    let offer = Offer {
        page: *grants.first().context("nothing is shared")?,
        port: events.port(),
    };
    page.byte(SERVER_LIVE).store(1, Ordering::SeqCst);
    page.byte(CLIENT_LIVE).store(2, Ordering::SeqCst);
    let (left, right) = match task.number {
        // Rings that cannot be.
        0 => (99, 99),
        // Rings that can be, of pages that are not granted.
        _ => (16, 16),
    };
    page.short(ORDERS).store(left, Ordering::SeqCst);
    page.short(ORDERS + 2).store(right, Ordering::SeqCst);
    for offset in (24..PAGE).step_by(4) {
        page.word(offset).store(0x000F_F000, Ordering::SeqCst);
    }
    let _published = store::publish(&mut store, task.peer, task.port, offer)?;
    println!("published");
    loop {
        std::thread::park();
    }
}
