//! Memory that the server takes pixels from. There is as much as is needed to keep it busy and no
//! more, whatever qubes have: what does not fit waits as a rectangle.

use bulkhead_vchan::{SharedMemory, Sharer};
use bulkhead_wire::gui::PIXEL_LEN;
use bulkhead_wire::gui::geometry::{Part, WIDTH_MAX};
use x11rb::connection::{Connection, SequenceNumber};
use x11rb::protocol::shm::{ConnectionExt as _, Seg};
use x11rb::protocol::xproto::{Gcontext, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

use super::{DEPTH, Done, X11Failure, has_shared_memory};
use crate::display::Image;

/// While the server takes from one, the next is filled.
const BUFFERS: usize = 2;

/// Pages of each: 4 MiB, half of a window of 1920 by 1080.
const PAGES: usize = 1024;

/// Bytes of each.
const BUFFER_LEN: usize = PAGES * bulkhead_wire::gui::PAGE_LEN;

// The widest row fits.
const _: () = assert!(WIDTH_MAX as usize * PIXEL_LEN <= BUFFER_LEN);

#[derive(Debug)]
struct Buffer {
    segment: Seg,
    memory: SharedMemory,
    /// The request by which the server takes from it.
    taken: Option<SequenceNumber>,
}

#[derive(Debug)]
pub(super) struct Buffers([Buffer; BUFFERS]);

impl Buffers {
    pub(super) fn make(connection: &RustConnection) -> Done<Self> {
        if !has_shared_memory(connection)? {
            return Err(X11Failure::NoSharedMemory);
        }
        let make = || -> Done<Buffer> {
            let memory = Sharer::Files.make(PAGES).map_err(X11Failure::Memory)?;
            let file = memory.file().ok_or(X11Failure::NoSharedMemory)?;
            let file = file.try_clone_to_owned().map_err(X11Failure::Memory)?;
            let segment = connection.generate_id()?;
            connection.shm_attach_fd(segment, file, true)?.check()?;
            Ok(Buffer {
                segment,
                memory,
                taken: None,
            })
        };
        Ok(Self([make()?, make()?]))
    }

    /// The server has taken what was in it.
    pub(super) fn release(&mut self, segment: Seg) {
        let buffers = self.0.iter_mut();
        for buffer in buffers.filter(|buffer| buffer.segment == segment) {
            buffer.taken = None;
        }
    }

    /// The server refused a request; if it was to take from one, it will not.
    pub(super) fn refused(&mut self, request: SequenceNumber) {
        let buffers = self.0.iter_mut();
        for buffer in buffers.filter(|buffer| buffer.taken == Some(request)) {
            buffer.taken = None;
        }
    }

    /// Copies the first rows of a part to a window; says how many.
    pub(super) fn paint(
        &mut self,
        connection: &RustConnection,
        (window, gc): (Window, Gcontext),
        image: &Image,
        part: Part,
    ) -> Done<u32> {
        let Some(buffer) = self.0.iter_mut().find(|buffer| buffer.taken.is_none()) else {
            return Ok(0);
        };
        let row = part.size.width() as usize * PIXEL_LEN;
        let fit = u32::try_from(BUFFER_LEN / row.max(PIXEL_LEN)).unwrap_or(u32::MAX);
        let rows = part.size.height().min(fit);
        copy(image, part, rows, &buffer.memory)?;
        let [width, rows_short] = [part.size.width(), rows].map(short);
        let [x, y] = [part.x, part.y].map(|at| i16::try_from(at).unwrap_or(i16::MAX));
        let format = ImageFormat::Z_PIXMAP.into();
        let (whole, taken) = ((width, rows_short), (width, rows_short));
        let sent = connection.shm_put_image(
            window,
            gc,
            whole.0,
            whole.1,
            0,
            0,
            taken.0,
            taken.1,
            x,
            y,
            DEPTH,
            format,
            true,
            buffer.segment,
            0,
        )?;
        buffer.taken = Some(sent.sequence_number());
        Ok(rows)
    }
}

fn short(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Copies the first rows of a part, which is within the image, close together.
fn copy(image: &Image, part: Part, rows: u32, to: &SharedMemory) -> Done {
    let at = |x: u32, y: u32| (y as usize * image.size.width() as usize + x as usize) * PIXEL_LEN;
    let row = part.size.width() as usize * PIXEL_LEN;
    let is_whole = part.size.width() == image.size.width();
    if is_whole {
        let all = row * rows as usize;
        return Ok(image.memory.copy_to(at(0, part.y), to, 0, all)?);
    }
    for n in 0..rows {
        let from = at(part.x, part.y + n);
        image.memory.copy_to(from, to, n as usize * row, row)?;
    }
    Ok(())
}
