//! The reader against what our end and that of Qubes write, and against what neither does.

use proptest::prelude::*;

use super::*;

/// What is made of a stream that comes in steps.
fn heard(stream: &[u8], step: usize) -> (Vec<(WindowId, Icon)>, Result<bool, IconError>) {
    let (mut reader, mut icons) = (Reader::new(), Vec::new());
    let ended = stream.chunks(step).try_for_each(|mut part| {
        while let Some(icon) = reader.next(&mut part)? {
            icons.push(icon);
        }
        assert!(part.is_empty());
        Ok(())
    });
    (icons, ended.map(|()| reader.is_between_icons()))
}

fn icon(width: u32, height: u32) -> Icon {
    let size = IconSize::new(width, height).unwrap();
    let pixels = (0..size.bytes()).map(|n| (n % 251) as u8).collect();
    Icon::new(size, pixels).unwrap()
}

#[track_caller]
fn error(stream: &[u8]) -> IconError {
    let (icons, ended) = heard(stream, stream.len());
    assert!(icons.is_empty());
    ended.unwrap_err()
}

#[test]
fn a_stream_is_what_qubes_has() {
    let mut stream = Vec::new();
    let pixels = vec![1, 2, 3, 4, 0xff, 0, b'\n', 0x80];
    let small = Icon::new(IconSize::new(2, 1).unwrap(), pixels).unwrap();
    encode(WindowId(0x0140_0007), &small, &mut stream);
    assert_eq!(stream, b"20971527\n2 1\n\x01\x02\x03\x04\xff\x00\n\x80");
    let (icons, ended) = heard(&stream, 1);
    assert_eq!(icons, [(WindowId(0x0140_0007), small)]);
    assert_eq!(ended, Ok(true));
}

#[test]
fn the_largest_icon_is_read_and_one_pixel_more_is_not() {
    for (width, height) in [(ICON_SIDE_MAX, ICON_SIDE_MAX), (ICON_SIDE_MAX, 1), (1, 1)] {
        let (mut stream, icon) = (Vec::new(), icon(width, height));
        encode(WindowId(u32::MAX), &icon, &mut stream);
        let (icons, ended) = heard(&stream, 64 * 1024);
        assert!(icons == [(WindowId(u32::MAX), icon)] && ended == Ok(true));
    }
    let more = ICON_SIDE_MAX + 1;
    for (width, height) in [(more, 1), (1, more), (0, 1), (1, 0), (0, 0)] {
        assert_eq!(IconSize::new(width, height), None);
        let stream = format!("1\n{width} {height}\n");
        assert_eq!(error(stream.as_bytes()), IconError::Sides(width, height));
    }
    // Its bytes would wrap to nothing.
    assert_eq!(error(b"1\n65536 65536\n"), IconError::LongLine);
    let size = IconSize::new(2, 2).unwrap();
    for bytes in [0, 15, 17] {
        assert_eq!(Icon::new(size, vec![0; bytes]), None);
    }
}

#[test]
fn lines_that_are_no_numbers_end_the_stream() {
    for window in [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x1",
        "1_0",
        "4294967296",
        "1\r",
    ] {
        let stream = format!("{window}\n1 1\n....");
        assert_eq!(error(stream.as_bytes()), IconError::Window, "{window:?}");
    }
    for size in [
        "", "1", "1 ", " 1", "-1 1", "1 -1", "1  1", "1 1 1", "1\t1", "1,1",
    ] {
        let stream = format!("1\n{size}\n....");
        assert_eq!(error(stream.as_bytes()), IconError::Size, "{size:?}");
    }
}

#[test]
fn a_line_is_as_long_as_the_largest_number_and_no_longer() {
    let longest = "0".repeat(LINE_MAX);
    let (icons, ended) = heard(format!("{longest}\n1 1\n....").as_bytes(), 3);
    assert_eq!((icons.len(), ended), (1, Ok(true)));
    // Without waiting for its end.
    for line in [format!("0{longest}"), format!("{longest}0\n")] {
        assert_eq!(error(line.as_bytes()), IconError::LongLine);
        assert_eq!(heard(line.as_bytes(), 1).1, Err(IconError::LongLine));
    }
}

#[test]
fn a_stream_that_failed_stays_so_and_keeps_nothing() {
    let mut reader = Reader::new();
    assert!(reader.next(&mut &b"x\n"[..]).is_err());
    let mut rest = &b"1\n1 1\n...."[..];
    assert_eq!(reader.next(&mut rest), Err(IconError::Failed));
    assert!(!reader.is_between_icons());
}

#[test]
fn a_cut_is_told_from_an_end_wherever_it_is() {
    let mut stream = Vec::new();
    encode(WindowId(12), &icon(3, 2), &mut stream);
    for length in 0..=stream.len() {
        let (icons, ended) = heard(&stream[..length], 7);
        let is_whole = length == stream.len();
        assert_eq!(icons.len(), usize::from(is_whole));
        assert_eq!(ended, Ok(is_whole || length == 0), "{length}");
    }
}

fn some_icon() -> impl Strategy<Value = (WindowId, Icon)> {
    let size = (1..20_u32, 1..20_u32);
    (any::<u32>(), size, any::<u8>()).prop_map(|(window, (width, height), first)| {
        let size = IconSize::new(width, height).unwrap();
        let byte = |n: usize| (n * 7 + usize::from(first)) as u8;
        let pixels = (0..size.bytes()).map(byte).collect();
        (WindowId(window), Icon::new(size, pixels).unwrap())
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_comes(
        icons in proptest::collection::vec(some_icon(), 0..5),
        step in 1..200_usize,
    ) {
        let mut stream = Vec::new();
        for (window, icon) in &icons {
            encode(*window, icon, &mut stream);
        }
        prop_assert_eq!(heard(&stream, step), (icons, Ok(true)));
    }

    #[test]
    fn whatever_comes_is_read_the_same_in_steps(
        stream in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..60),
        step in 1..20_usize,
    ) {
        prop_assert_eq!(heard(&stream, stream.len().max(1)), heard(&stream, step));
    }
}
