//! One end of a ring, while the other writes anything anywhere: nothing is touched that was not
//! asked for, and a channel that broke stays broken.
#![no_main]

use std::io::IoSlice;
use std::sync::atomic::Ordering;

use bulkhead_vchan::xen::layout::{Described, GrantRef, Orders, RingSizes};
use bulkhead_vchan::xen::memory::{PAGE, Region};
use bulkhead_vchan::xen::ring::{End, Event, State};
use libfuzzer_sys::fuzz_target;

/// Behind what is asked for.
const UNTOUCHED: u8 = 0xEE;

/// Sizes of each kind of ring.
const SIZES: [RingSizes; 4] = [
    RingSizes {
        left: 1024,
        right: 2048,
    },
    RingSizes {
        left: 2048,
        right: 4096,
    },
    RingSizes::CONTROL,
    RingSizes::DATA,
];

struct Victim {
    end: End,
    largest: usize,
    broken: bool,
}

impl Victim {
    fn step(&mut self, memory: &Region, op: u8, a: u16, b: u32) {
        let mut buffer = vec![UNTOUCHED; 70_000];
        let len = usize::from(a).min(buffer.len() - 1);
        let done = match op % 7 {
            0 => {
                return memory
                    .word(usize::from(a % 4) * 4)
                    .store(b, Ordering::SeqCst);
            }
            1 => {
                // Near what is there, where checks go wrong.
                let near = memory.word(usize::from(a % 4) * 4);
                near.fetch_add(b % 70_000, Ordering::SeqCst);
                return;
            }
            2 => {
                let [value, ..] = b.to_le_bytes();
                return memory
                    .byte(usize::from(a) % PAGE)
                    .store(value, Ordering::SeqCst);
            }
            3 => {
                let offset = usize::from(a) % (memory.len() - 4);
                return memory.write(offset, &b.to_le_bytes());
            }
            4 => {
                self.end.ask(Event::Consumed);
                assert!(!self.broken || self.end.state() == State::Disconnected);
                return;
            }
            5 => self.end.read(&mut buffer[..len]),
            _ => self.end.write(&[
                IoSlice::new(&buffer[..len / 3]),
                IoSlice::new(&buffer[len / 3..len]),
            ]),
        };
        match done {
            Ok(moved) => {
                assert!(!self.broken, "a broken channel goes on");
                assert!(moved.bytes <= len && moved.bytes <= self.largest);
                assert!(buffer[len..].iter().all(|&byte| byte == UNTOUCHED));
            }
            Err(_) => self.broken = true,
        }
    }
}

/// A page of anything: refused, or joined with exactly the pages that it names.
fn join(data: &[u8]) {
    let page = Region::ordinary(1);
    page.write(0, data.get(..PAGE).unwrap_or(data));
    let Ok(described) = Described::copy(&page) else {
        return;
    };
    let sizes = described.orders.sizes();
    assert!(sizes.left <= RingSizes::MAX && sizes.right <= RingSizes::MAX);
    let (left, right) = described.orders.pages();
    assert_eq!(described.grants.len(), left + right);
    if left + right <= 64 {
        let rings = Region::ordinary(left + right);
        page.byte(20).store(2, Ordering::SeqCst);
        page.byte(21).store(1, Ordering::SeqCst);
        let mut end = End::attach(page, Some(rings), described.orders).expect("all is there");
        let _ = end.read(&mut [0; 5000]);
        let _ = end.write(&[IoSlice::new(&[7; 5000])]);
    }
}

fuzz_target!(|data: &[u8]| {
    join(data);
    let Some((&kind, steps)) = data.split_first() else {
        return;
    };
    let sizes = SIZES[usize::from(kind) % SIZES.len()];
    let orders = Orders::choose(sizes).expect("they can be");
    let (left, right) = orders.pages();
    let memory = Region::ordinary(1 + left + right);
    let grants = vec![GrantRef(3); left + right];
    let described = Described { orders, grants };
    let server = End::serve(memory.clone(), &described).expect("enough memory");
    let end = if kind & 0x80 == 0 {
        server
    } else {
        End::attach(memory.clone(), Some(memory.after_first_page()), orders).expect("fresh")
    };
    let largest = sizes.left.max(sizes.right).max(4096);
    let mut victim = Victim {
        end,
        largest,
        broken: false,
    };
    for step in steps.chunks_exact(7).take(200) {
        let a = u16::from_le_bytes([step[1], step[2]]);
        let b = u32::from_le_bytes([step[3], step[4], step[5], step[6]]);
        victim.step(&memory, step[0], a, b);
    }
});
