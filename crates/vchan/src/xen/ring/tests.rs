use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::layout::{GrantRef, RingSizes};
use super::*;

/// Both ends of a channel in ordinary memory; counters begin at `start`.
fn ends_from(sizes: RingSizes, start: u32) -> (End, End, Region) {
    let orders = Orders::choose(sizes).unwrap();
    let (left, right) = orders.pages();
    let memory = Region::ordinary(1 + left + right);
    let described = Described {
        orders,
        grants: vec![GrantRef(1); left + right],
    };
    for counter in [0, 4, 8, 12] {
        memory.word(counter).store(start, Ordering::Relaxed);
    }
    let mut server = End::serve(memory.clone(), &described).unwrap();
    assert_eq!(server.state(), State::Waiting);
    let orders = Described::copy(&memory).unwrap().orders;
    let rings = memory.after_first_page();
    let mut client = End::attach(memory.clone(), Some(rings), orders).unwrap();
    for ring in [
        &mut client.receive,
        &mut client.send,
        &mut server.receive,
        &mut server.send,
    ] {
        ring.own = start;
    }
    (server, client, memory)
}

fn ends(sizes: RingSizes) -> (End, End, Region) {
    ends_from(sizes, 0)
}

fn write(end: &mut End, bytes: &[u8]) -> Moved {
    end.write(&[IoSlice::new(bytes)]).unwrap()
}

#[test]
fn bytes_pass_both_ways_in_every_kind_of_ring() {
    for sizes in [
        RingSizes {
            left: 1024,
            right: 2048,
        },
        RingSizes {
            left: 2048,
            right: 1024,
        },
        RingSizes {
            left: 128,
            right: 8192,
        },
        RingSizes {
            left: 8192,
            right: 128,
        },
        RingSizes::CONTROL,
        RingSizes::DATA,
        RingSizes::both(RingSizes::MAX),
    ] {
        let (mut server, mut client, _memory) = ends(sizes);
        let mut back = vec![0; 1 << 20];
        assert_eq!(write(&mut client, b"left").bytes, 4);
        assert_eq!(write(&mut server, b"right!").bytes, 6);
        assert_eq!(server.read(&mut back).unwrap().bytes, 4);
        assert_eq!(&back[..4], b"left");
        assert_eq!(client.read(&mut back).unwrap().bytes, 6);
        assert_eq!(&back[..6], b"right!");
        let many: Vec<u8> = (0..server.room() + 1).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(write(&mut server, &many).bytes, server.room());
        assert_eq!(write(&mut server, &many).bytes, 0);
        assert_eq!(client.read(&mut back).unwrap().bytes, server.room());
        assert_eq!(back[..server.room()], many[..server.room()]);
    }
}

#[test]
fn the_last_bytes_can_be_read_after_the_peer_left() {
    let (mut server, mut client, _memory) = ends(RingSizes::DATA);
    let _ = write(&mut client, b"last");
    client.close();
    assert_eq!(server.state(), State::Disconnected);
    let mut back = [0; 9];
    assert_eq!(server.read(&mut back).unwrap().bytes, 4);
    server.close();
    assert_eq!(client.state(), State::Disconnected);
}

#[test]
fn a_live_byte_that_cannot_be_is_a_peer_that_left() {
    let (server, client, memory) = ends(RingSizes::DATA);
    assert_eq!(client.state(), State::Connected);
    for byte in [0, 2, 3, 255] {
        memory.byte(SERVER_LIVE).store(byte, Ordering::Relaxed);
        assert_eq!(client.state(), State::Disconnected, "{byte}");
    }
    for byte in [0, 3, 255] {
        memory.byte(CLIENT_LIVE).store(byte, Ordering::Relaxed);
        assert_eq!(server.state(), State::Disconnected, "{byte}");
    }
}

#[test]
fn a_domain_that_died_left_though_its_byte_says_that_it_lives() {
    let (mut server, mut client, _memory) = ends(RingSizes::DATA);
    let _ = write(&mut client, b"last");
    server.peer_died();
    assert_eq!(server.state(), State::Disconnected);
    assert_eq!(server.read(&mut [0; 9]).unwrap().bytes, 4);
}

#[test]
fn a_page_is_joined_by_one_client_and_only_while_its_server_lives() {
    let (server, client, memory) = ends(RingSizes { left: 0, right: 0 });
    let orders = Described::copy(&memory).unwrap().orders;
    let attach = || End::attach(memory.clone(), None, orders).map(|end| end.side());
    assert_eq!(attach(), Err(AttachError::Used));
    client.close();
    assert_eq!(attach(), Err(AttachError::Used));
    server.close();
    assert_eq!(attach(), Err(AttachError::NoServer));
    let large = Orders::choose(RingSizes::DATA).unwrap();
    let short = End::attach(memory.clone(), None, large).map(|end| end.side());
    assert_eq!(short, Err(AttachError::Short));
    let few = End::attach(memory.clone(), Some(Region::ordinary(31)), large);
    assert_eq!(few.map(|end| end.side()), Err(AttachError::Short));
}

#[test]
fn signals_come_to_who_asked_and_once() {
    let (mut server, mut client, _memory) = ends(RingSizes::DATA);
    // Both ends begin as readers who sleep.
    assert!(write(&mut server, b"x").signal);
    assert!(!write(&mut server, b"x").signal);
    assert!(write(&mut client, b"x").signal);
    let mut back = [0; 1];
    assert!(!client.read(&mut back).unwrap().signal);
    server.ask(Event::Consumed);
    assert!(client.read(&mut back).unwrap().signal);
    assert!(!write(&mut client, b"x").signal);
    server.ask(Event::Written);
    assert!(write(&mut client, b"x").signal);
}

#[test]
fn a_counter_one_past_the_ring_breaks_it_for_good() {
    for (offset, reads) in [(LEFT.produced, true), (RIGHT.consumed, false)] {
        let (mut server, _client, memory) = ends(RingSizes::DATA);
        let at = |counter: u32| memory.word(offset).store(counter, Ordering::Relaxed);
        let mut back = vec![0; 1 << 20];
        at(if reads { 65536 } else { 0 });
        if reads {
            assert_eq!(server.read(&mut back).unwrap().bytes, 65536);
            at(65536 + 65537);
            assert!(server.read(&mut back).is_err());
        } else {
            at(1);
            assert!(server.write(&[IoSlice::new(b"x")]).is_err());
        }
        assert_eq!(server.state(), State::Disconnected);
        assert_eq!(memory.byte(SERVER_LIVE).load(Ordering::Relaxed), GONE);
        at(0);
        assert!(server.read(&mut back).is_err());
        assert!(server.write(&[IoSlice::new(b"x")]).is_err());
    }
}

#[test]
fn geometry_that_changes_later_changes_nothing() {
    let (mut server, mut client, memory) = ends(RingSizes::DATA);
    memory.short(16).store(10, Ordering::Relaxed);
    memory.short(18).store(99, Ordering::Relaxed);
    for grant in 0..32 {
        memory.word(24 + 4 * grant).store(0, Ordering::Relaxed);
    }
    let many = vec![7; 65536];
    assert_eq!(write(&mut client, &many).bytes, 65536);
    let mut back = vec![0; 65536];
    assert_eq!(server.read(&mut back).unwrap().bytes, 65536);
    assert_eq!(back, many);
}

proptest! {
    /// Against a queue of bytes, from counters that wrap around.
    #[test]
    fn a_ring_is_a_queue_of_bytes(
        before in 0_u32..100_000,
        small in any::<bool>(),
        steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_usize..5000), 1..200),
    ) {
        let sizes = if small { RingSizes { left: 0, right: 0 } } else { RingSizes::CONTROL };
        let (mut server, mut client, _memory) = ends_from(sizes, 0_u32.wrapping_sub(before));
        let mut models = [VecDeque::new(), VecDeque::new()];
        let mut next = 0_u8;
        for (by_server, writes, len) in steps {
            let end = if by_server { &mut server } else { &mut client };
            if writes {
                let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                let (a, b) = bytes.split_at(len / 3);
                let moved = end.write(&[IoSlice::new(a), IoSlice::new(b)]).unwrap();
                let model = &mut models[usize::from(by_server)];
                prop_assert_eq!(moved.bytes, len.min(end.room() - model.len()));
                model.extend(&bytes[..moved.bytes]);
            } else {
                let mut bytes = vec![0; len];
                let moved = end.read(&mut bytes).unwrap();
                let model = &mut models[usize::from(!by_server)];
                prop_assert_eq!(moved.bytes, len.min(model.len()));
                let expected: Vec<u8> = model.drain(..moved.bytes).collect();
                prop_assert_eq!(&bytes[..moved.bytes], &expected[..]);
            }
        }
    }
}

/// An event channel of one process.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Panics where a signal was lost.
    fn wait(&self) {
        let rung = self.rung.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (mut rung, timeout) = self
            .changed
            .wait_timeout_while(rung, patience, |rung| !*rung)
            .unwrap();
        assert!(!timeout.timed_out(), "nobody signalled");
        *rung = false;
    }
}

/// A cheap row of numbers.
struct Row(u64);

impl Row {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
}

fn send_all(end: &mut End, total: usize, own: &Bell, peer: &Bell, seed: u64) {
    let mut row = Row(seed);
    let mut sent = 0;
    while sent < total {
        let len = (row.next() % 9000 + 1).min((total - sent) as u64) as usize;
        let bytes: Vec<u8> = (sent..sent + len).map(|n| (n % 251) as u8).collect();
        let mut moved = write(end, &bytes);
        if moved.bytes == 0 {
            end.ask(Event::Consumed);
            moved = write(end, &bytes);
        }
        if moved.signal {
            peer.ring();
        }
        if moved.bytes == 0 {
            own.wait();
        }
        sent += moved.bytes;
    }
}

fn receive_all(end: &mut End, total: usize, own: &Bell, peer: &Bell, seed: u64) {
    let mut row = Row(seed);
    let mut received = 0;
    let mut buffer = vec![0; 9000];
    while received < total {
        let len = (row.next() % 9000 + 1) as usize;
        let mut moved = end.read(&mut buffer[..len]).unwrap();
        if moved.bytes == 0 {
            end.ask(Event::Written);
            moved = end.read(&mut buffer[..len]).unwrap();
        }
        if moved.signal {
            peer.ring();
        }
        if moved.bytes == 0 {
            own.wait();
        }
        for (n, byte) in buffer[..moved.bytes].iter().enumerate() {
            assert_eq!(*byte, ((received + n) % 251) as u8, "byte {}", received + n);
        }
        received += moved.bytes;
    }
}

#[test]
fn two_threads_lose_neither_bytes_nor_signals() {
    for sizes in [
        RingSizes { left: 0, right: 0 },
        RingSizes::CONTROL,
        RingSizes::DATA,
    ] {
        let (mut server, mut client, _memory) = ends_from(sizes, u32::MAX - 70_000);
        let (to_server, to_client) = (Bell::default(), Bell::default());
        std::thread::scope(|scope| {
            scope.spawn(|| send_all(&mut client, 3_000_000, &to_client, &to_server, 1));
            receive_all(&mut server, 3_000_000, &to_server, &to_client, 2);
        });
    }
}

/// A peer that writes whatever it likes wherever it likes, at any moment.
fn nonsense(memory: &Region, over: &AtomicBool, seed: u64) {
    let mut row = Row(seed);
    while !over.load(Ordering::Relaxed) {
        let value = row.next();
        // Often just a little off, which is where checks go wrong.
        let near = memory
            .word((value % 4) as usize * 4)
            .load(Ordering::Relaxed);
        let wild = match value % 5 {
            0 => value as u32,
            1 => near.wrapping_add(65537),
            2 => near.wrapping_sub(1),
            _ => near.wrapping_add((value % 4096) as u32),
        };
        match row.next() % 8 {
            0..=3 => memory
                .word((value % 4) as usize * 4)
                .store(wild, Ordering::Relaxed),
            4 => memory
                .byte(16 + (value % 8) as usize)
                .store(wild as u8, Ordering::Relaxed),
            5 => memory.write(PAGE + (value % 65536) as usize, &value.to_le_bytes()),
            _ => memory
                .word(24 + (value % 32) as usize * 4)
                .store(wild, Ordering::Relaxed),
        }
    }
}

#[test]
fn a_peer_that_writes_nonsense_at_any_moment_breaks_its_channel_and_nothing_else() {
    let end = Instant::now() + Duration::from_secs(2);
    let (mut rounds, mut broken) = (0_u64, 0_u64);
    while Instant::now() < end || broken == 0 {
        let (mut server, mut client, memory) = ends(RingSizes::DATA);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| nonsense(&memory, &over, rounds));
            let mut row = Row(rounds);
            let mut buffer = vec![0xEE; 70_000];
            for _ in 0..400 {
                let us = if row.next().is_multiple_of(2) {
                    &mut server
                } else {
                    &mut client
                };
                let len = (row.next() % 69_000) as usize;
                let moved = match row.next() % 3 {
                    0 => us.write(&[IoSlice::new(&buffer[..len])]),
                    1 => us.read(&mut buffer[..len]),
                    _ => {
                        us.ask(Event::Written);
                        let _ = us.state();
                        continue;
                    }
                };
                match moved {
                    Ok(moved) => assert!(moved.bytes <= len.min(65536)),
                    Err(_) => {
                        broken += 1;
                        assert_eq!(us.state(), State::Disconnected);
                        assert!(us.read(&mut buffer).is_err());
                    }
                }
                // Nothing is ever written behind what was asked for.
                assert!(buffer[69_000..].iter().all(|&byte| byte == 0xEE));
            }
            over.store(true, Ordering::Relaxed);
        });
        rounds += 1;
    }
}
