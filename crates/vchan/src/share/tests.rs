use std::fs::File;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::channel::Channel;
use crate::files::FILES_MAX;
use crate::guard::link_socket;
use crate::id::Port;
use crate::socket::{SocketChannel, SocketDir};
use crate::transport::Transport;
use crate::xen::Rings;

/// An owner's end and a peer's, which expects memory.
fn pair() -> (AnyChannel, AnyChannel) {
    let flags = SocketFlags::CLOEXEC;
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let channel = |socket| AnyChannel::from(SocketChannel::new(socket).unwrap());
    let mut peer = channel(b);
    peer.expect_memory();
    (channel(a), peer)
}

fn say(channel: &mut AnyChannel, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = channel.write(&[IoSlice::new(rest)]).unwrap();
        rest = &rest[n..];
    }
}

/// Reads `len` bytes, with a buffer that would hold more.
fn hear(channel: &mut AnyChannel, len: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < len {
        let mut buffer = [0; 4096];
        match channel.read(&mut buffer) {
            Ok(0) => panic!("the end"),
            Ok(n) => heard.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let patience = Timespec::try_from(Duration::from_secs(60)).unwrap();
                let mut fds = [PollFd::from_borrowed_fd(channel.fd(), PollFlags::IN)];
                assert_eq!(poll(&mut fds, Some(&patience)), Ok(1));
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(heard.len(), len);
    heard
}

fn map(peer: &mut AnyChannel, references: &[u32], len: usize) -> Result<PeerMemory, MapError> {
    Viewer::Files.map(peer, references, len)
}

/// Sends one byte with `file`, of which the peer then maps as many pages as there are references.
#[track_caller]
fn refused(file: OwnedFd, references: &[u32]) -> MapError {
    let (AnyChannel::Socket(mut owner), mut peer) = pair() else {
        panic!("no sockets");
    };
    owner.send_file(0, file).unwrap();
    owner.write(&[IoSlice::new(b"x")]).unwrap();
    hear(&mut peer, 1);
    map(&mut peer, references, 1).unwrap_err()
}

#[test]
fn what_the_owner_writes_is_what_the_peer_reads() {
    let (mut owner, mut peer) = pair();
    let memory = Sharer::Files.make(3).unwrap();
    memory.write(PAGE - 2, b"over the edge").unwrap();
    let references = owner.offer(&memory, 0).unwrap();
    assert_eq!(references, [0, 1, 2]);
    say(&mut owner, b"a message");
    hear(&mut peer, 9);
    let seen = map(&mut peer, &references, 3 * PAGE).unwrap();
    let mut back = [0; 13];
    seen.read(PAGE - 2, &mut back).unwrap();
    assert_eq!(&back, b"over the edge");
    // What is written later is seen too, and also when the owner's own mapping is gone.
    memory.write(0, b"later").unwrap();
    drop(memory);
    seen.read(0, &mut back[..5]).unwrap();
    assert_eq!(&back[..5], b"later");
}

#[test]
fn each_file_comes_with_its_message_however_bytes_are_cut() {
    let (mut owner, mut peer) = pair();
    let memories: Vec<SharedMemory> = (1..=20).map(|n| Sharer::Files.make(n).unwrap()).collect();
    // Message n has n bytes. All are queued before any is written.
    let mut queued = Vec::new();
    for (n, memory) in memories.iter().enumerate() {
        memory.write(0, &[n as u8]).unwrap();
        let references = owner.offer(memory, queued.len()).unwrap();
        assert_eq!(references.len(), n + 1);
        queued.extend(vec![n as u8; n + 1]);
    }
    say(&mut owner, &queued);
    for (n, memory) in memories.iter().enumerate() {
        assert_eq!(hear(&mut peer, n + 1), vec![n as u8; n + 1]);
        let references: Vec<u32> = (0..=n as u32).collect();
        let seen = map(&mut peer, &references, memory.len()).unwrap();
        let mut first = [99];
        seen.read(0, &mut first).unwrap();
        assert_eq!(first, [n as u8]);
    }
}

#[test]
fn a_socket_with_two_names_passes_files() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (qube, port) = (DomId::new(42).unwrap(), Port::new(6000));
    let transport =
        |dir: &tempfile::TempDir, own| Transport::Sockets(SocketDir::new(dir.path(), own));
    let (in_qube, in_dom0) = (transport(&near, qube), transport(&far, DomId::DOM0));
    let listener = in_qube.listen(DomId::DOM0, port, Rings::CONTROL).unwrap();
    let folder = |dir: &tempfile::TempDir| File::open(dir.path()).unwrap();
    link_socket(folder(&near), folder(&far), "vchan.42.0.6000.sock").unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let mut peer = in_dom0.connect(qube, port, soon).unwrap();
    let mut owner = listener.accept(Some(soon)).unwrap();
    peer.expect_memory();
    let memory = in_qube.sharer(DomId::DOM0).unwrap().make(1).unwrap();
    memory.write(7, b"through").unwrap();
    let references = owner.offer(&memory, 0).unwrap();
    say(&mut owner, b"x");
    hear(&mut peer, 1);
    let viewer = in_dom0.viewer(qube).unwrap();
    let seen = viewer.map(&mut peer, &references, PAGE).unwrap();
    let mut back = [0; 7];
    seen.read(7, &mut back).unwrap();
    assert_eq!(&back, b"through");
}

#[test]
fn no_byte_outside_is_reached() {
    let (mut owner, mut peer) = pair();
    let memory = Sharer::Files.make(2).unwrap();
    let references = owner.offer(&memory, 0).unwrap();
    say(&mut owner, b"x");
    hear(&mut peer, 1);
    // Less was asked for than there is.
    let seen = map(&mut peer, &references, PAGE + 10).unwrap();
    assert_eq!((memory.len(), seen.len()), (2 * PAGE, PAGE + 10));
    memory.write(2 * PAGE - 1, &[1]).unwrap();
    seen.read(PAGE + 9, &mut [0]).unwrap();
    seen.read(PAGE + 10, &mut []).unwrap();
    for (offset, len) in [(2 * PAGE - 1, 2), (2 * PAGE, 1), (usize::MAX, 2)] {
        let outside = OutsideError {
            offset,
            len,
            all: 2 * PAGE,
        };
        assert_eq!(memory.write(offset, &vec![0; len]), Err(outside));
    }
    for (offset, len) in [(PAGE + 9, 2), (PAGE + 10, 1), (usize::MAX, 2)] {
        assert!(seen.read(offset, &mut vec![0; len]).is_err(), "{offset}");
    }
}

#[test]
fn a_file_that_may_shrink_is_refused() {
    let some_of_them = [
        SealFlags::empty(),
        SealFlags::SHRINK,
        SealFlags::GROW | SealFlags::SEAL,
        SealFlags::SHRINK | SealFlags::GROW,
    ];
    for seals in some_of_them {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("x", flags).unwrap();
        rustix::fs::ftruncate(&file, PAGE as u64).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        assert!(
            matches!(refused(file, &[0]), MapError::NotSealed),
            "{seals:?}"
        );
    }
    let ordinary = tempfile::tempfile().unwrap();
    ordinary.set_len(PAGE as u64).unwrap();
    assert!(matches!(
        refused(ordinary.into(), &[0]),
        MapError::NotSealed
    ));
    let (socket, _) = io::pipe().unwrap();
    assert!(matches!(refused(socket.into(), &[0]), MapError::NotSealed));
}

#[test]
fn a_file_of_other_pages_is_refused() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    // Needs no such page to be there before it is mapped. A kernel without them has none to refuse.
    if let Ok(file) = rustix::fs::memfd_create("x", flags) {
        rustix::fs::ftruncate(&file, 2 << 20).unwrap();
        rustix::fs::fcntl_add_seals(&file, SEALS).unwrap();
        assert!(matches!(refused(file, &[0]), MapError::NotSealed));
    }
}

#[test]
fn a_file_that_is_too_short_is_refused() {
    for (bytes, pages) in [(0, 1), (PAGE - 1, 1), (2 * PAGE - 1, 2)] {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("x", flags).unwrap();
        rustix::fs::ftruncate(&file, bytes as u64).unwrap();
        rustix::fs::fcntl_add_seals(&file, SEALS).unwrap();
        let references: Vec<u32> = (0..pages).collect();
        let error = refused(file, &references);
        assert!(matches!(error, MapError::Short { .. }), "{error}");
    }
}

#[test]
fn references_that_are_not_the_files_pages_are_refused() {
    for references in [&[1][..], &[1, 0], &[0, 2], &[0, 0]] {
        let memory = Sharer::Files.make(2).unwrap();
        let Shared::File(file) = memory.shared else {
            panic!("no file");
        };
        assert!(matches!(refused(file, references), MapError::Order));
    }
}

#[test]
fn a_message_without_a_file_is_refused_and_the_next_has_its_own() {
    let (mut owner, mut peer) = pair();
    let memory = Sharer::Files.make(1).unwrap();
    say(&mut owner, b"without");
    hear(&mut peer, 7);
    assert!(matches!(map(&mut peer, &[0], 1), Err(MapError::NoFile)));
    owner.offer(&memory, 0).unwrap();
    say(&mut owner, b"x");
    hear(&mut peer, 1);
    // Sizes that cannot be take it with them.
    assert!(matches!(
        map(&mut peer, &[0], PAGE + 1),
        Err(MapError::Pages { .. })
    ));
    assert!(matches!(map(&mut peer, &[0], 1), Err(MapError::NoFile)));
}

#[test]
fn files_that_no_message_names_end_the_channel() {
    let (mut owner, mut peer) = pair();
    let memory = Sharer::Files.make(1).unwrap();
    for n in 0..FILES_MAX {
        owner.offer(&memory, n).unwrap();
    }
    say(&mut owner, &[0; FILES_MAX]);
    hear(&mut peer, FILES_MAX);
    owner.offer(&memory, 0).unwrap();
    say(&mut owner, b"x");
    for _ in 0..2 {
        let error = peer.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "more files than messages");
    }
    assert!(matches!(map(&mut peer, &[0], 1), Err(MapError::NoFile)));
}

#[test]
fn more_files_at_once_than_may_wait_end_the_channel() {
    let (mut owner, mut peer) = pair();
    let memory = Sharer::Files.make(1).unwrap();
    let Shared::File(file) = &memory.shared else {
        panic!("no file");
    };
    let files = [file.as_fd(); FILES_MAX + 8];
    let mut space =
        [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX + 8))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&files)));
    let flags = rustix::net::SendFlags::NOSIGNAL;
    rustix::net::sendmsg(owner.fd(), &[IoSlice::new(b"x")], &mut control, flags).unwrap();
    let error = peer.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    say(&mut owner, b"more");
    assert!(peer.read(&mut [0; 9]).is_err());
}

#[test]
fn who_expects_nothing_gets_bytes_alone() {
    let (mut peer, mut owner) = pair();
    let memory = Sharer::Files.make(1).unwrap();
    for _ in 0..=FILES_MAX {
        owner.offer(&memory, 0).unwrap();
        say(&mut owner, b"x");
    }
    assert_eq!(hear(&mut peer, FILES_MAX + 1), [b'x'; FILES_MAX + 1]);
    assert!(matches!(map(&mut peer, &[0], 1), Err(MapError::NoFile)));
    drop(owner);
    assert_eq!(peer.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn the_end_is_the_end_also_for_who_expects_files() {
    let (mut owner, mut peer) = pair();
    let error = peer.read(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    say(&mut owner, b"last");
    // It leaves without reading this.
    say(&mut peer, b"unread");
    drop(owner);
    assert_eq!(peer.read(&mut [0; 9]).unwrap(), 4);
    assert_eq!(peer.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn no_more_pages_are_made_than_a_window_has() {
    for none in [0, SHARED_PAGES_MAX + 1] {
        let error = Sharer::Files.make(none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    // Nothing of it is touched, so it costs nothing.
    let most = Sharer::Files.make(SHARED_PAGES_MAX).unwrap();
    let (mut owner, mut peer) = pair();
    let references = owner.offer(&most, 0).unwrap();
    say(&mut owner, b"x");
    hear(&mut peer, 1);
    let more: Vec<u32> = (0..=SHARED_PAGES_MAX as u32).collect();
    assert!(matches!(
        map(&mut peer, &more, 1),
        Err(MapError::Pages { .. })
    ));
    owner.offer(&most, 0).unwrap();
    say(&mut owner, b"x");
    hear(&mut peer, 1);
    let seen = map(&mut peer, &references, most.len()).unwrap();
    most.write(most.len() - 1, &[7]).unwrap();
    let mut last = [0];
    seen.read(most.len() - 1, &mut last).unwrap();
    assert_eq!(last, [7]);
}

#[test]
fn devices_that_are_none_share_nothing() {
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let peer = DomId::new(7).unwrap();
    let sharer = Sharer::Grants(AllocDevice::adopt(file()), peer);
    assert!(sharer.make(1).is_err());
    let viewer = Viewer::Grants(GrantDevice::adopt(file()), peer);
    let (_, mut channel) = pair();
    let error = viewer.map(&mut channel, &[1], 1).unwrap_err();
    assert!(matches!(error, MapError::Map(_)), "{error}");
}

/// As granted memory is: chunks of 2 pages, and a shorter one.
fn chunks(len: usize) -> Chunks {
    let regions = vec![
        Region::ordinary(2),
        Region::ordinary(2),
        Region::ordinary(1),
    ];
    Chunks::new(regions, len)
}

fn granted(memory: Chunks) -> SharedMemory {
    SharedMemory {
        memory,
        shared: Shared::Grants(Vec::new()),
    }
}

#[test]
fn pixels_are_copied_whole_and_inside() {
    let seen = PeerMemory(chunks(5 * PAGE));
    let to = granted(chunks(5 * PAGE));
    for (offset, at, len) in [
        (2, 0, 4),
        (0, 2, 4),
        (0, 0, 2),
        (5 * PAGE, 0, 4),
        (0, 5 * PAGE, 4),
    ] {
        assert!(seen.copy_to(offset, &to, at, len).is_err());
    }
    seen.copy_to(5 * PAGE - 4, &to, 0, 4).unwrap();
}

proptest! {
    #[test]
    fn pixels_are_copied_over_chunks(from in 0..2 * PAGE, to in 0..2 * PAGE, len in 0..3 * PAGE) {
        let [from, to, len] = [from, to, len].map(|n| n / 4 * 4);
        let theirs = chunks(5 * PAGE);
        let bytes: Vec<u8> = (0..5 * PAGE).map(|n| (n % 251) as u8).collect();
        let owner = granted(Chunks::new(theirs.regions.clone(), theirs.len));
        owner.write(0, &bytes).unwrap();
        let ours = chunks(5 * PAGE);
        let back = PeerMemory(Chunks::new(ours.regions.clone(), ours.len));
        PeerMemory(theirs).copy_to(from, &granted(ours), to, len).unwrap();
        let mut all = vec![0; 5 * PAGE];
        back.read(0, &mut all).unwrap();
        let mut expected = vec![0; 5 * PAGE];
        expected[to..to + len].copy_from_slice(&bytes[from..from + len]);
        prop_assert!(all == expected);
    }

    #[test]
    fn chunks_are_one_memory(
        offset in 0_usize..7 * PAGE,
        bytes in proptest::collection::vec(any::<u8>(), 0..3 * PAGE),
    ) {
        let len = 5 * PAGE - 9;
        let all = chunks(len);
        let memory = granted(Chunks::new(all.regions.clone(), len));
        let seen = PeerMemory(all);
        let mut back = vec![0; bytes.len()];
        let inside = offset + bytes.len() <= len;
        prop_assert_eq!(memory.write(offset, &bytes).is_ok(), inside);
        prop_assert_eq!(seen.read(offset, &mut back).is_ok(), inside);
        if inside {
            prop_assert_eq!(&back, &bytes);
            let mut all = vec![0; len];
            seen.read(0, &mut all).unwrap();
            prop_assert_eq!(&all[offset..offset + bytes.len()], &bytes[..]);
            prop_assert_eq!(all.iter().filter(|b| **b != 0).count(), bytes.iter().filter(|b| **b != 0).count());
        }
    }
}
