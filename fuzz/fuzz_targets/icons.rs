//! What a qube says of its windows' icons, as dom0 reads it: splits change nothing, no icon is larger
//! than may be, and the same said again is heard the same.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_wire::gui::WindowId;
use bulkhead_wire::icons::{ICON_SIDE_MAX, Icon, IconError, Reader, encode};
use libfuzzer_sys::fuzz_target;

type End = (Vec<(WindowId, Icon)>, Result<bool, IconError>);

fn run(data: &[u8], step: usize) -> End {
    let (mut reader, mut icons) = (Reader::new(), Vec::new());
    let ended = data.chunks(step).try_for_each(|mut part| {
        while let Some(icon) = reader.next(&mut part)? {
            icons.push(icon);
        }
        assert!(part.is_empty());
        Ok(())
    });
    (icons, ended.map(|()| reader.is_between_icons()))
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let (icons, ended) = run(rest, rest.len().max(1));
    assert_eq!((icons.clone(), ended), run(rest, step));
    let mut again = Vec::new();
    for (window, icon) in &icons {
        let size = icon.size();
        assert!(size.width() <= ICON_SIDE_MAX && size.height() <= ICON_SIDE_MAX);
        assert_eq!(icon.pixels().len(), size.bytes());
        encode(*window, icon, &mut again);
    }
    assert_eq!(run(&again, step), (icons, Ok(true)));
});
