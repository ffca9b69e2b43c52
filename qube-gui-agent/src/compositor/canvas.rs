//! A window's picture: the tree of its surfaces, put together in memory.

use bulkhead_vchan::share::{OutsideError, SharedMemory, Sharer};
use bulkhead_wire::gui::geometry::{Part, Size};
use bulkhead_wire::gui::{PAGE_LEN, PIXEL_LEN};
use smithay::backend::allocator::Fourcc;
use smithay::backend::renderer::damage::{Error as DamageError, OutputDamageTracker};
use smithay::backend::renderer::element::Kind;
use smithay::backend::renderer::element::surface::{
    WaylandSurfaceRenderElement, render_elements_from_surface_tree,
};
use smithay::backend::renderer::pixman::{PixmanError, PixmanRenderer};
use smithay::backend::renderer::{Bind, Color32F, ExportMem, Offscreen};
use smithay::reexports::pixman::Image;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Buffer, Logical, Physical, Point, Rectangle, Scale, Transform};
use thiserror::Error;

/// Pixels are 32 bits of which 8 mean nothing; windows have no holes.
const FORMAT: Fourcc = Fourcc::Xrgb8888;

/// Behind whatever is not painted, or not wholly opaque.
const BACKGROUND: Color32F = Color32F::BLACK;

#[derive(Debug, Error)]
pub(super) enum PaintError {
    #[error("a picture cannot be made")]
    Image(#[source] PixmanError),
    #[error("a picture cannot be painted")]
    Paint(#[source] DamageError<PixmanError>),
    #[error("a picture cannot be read")]
    Read(#[source] PixmanError),
    #[error("a picture does not fit its memory")]
    Outside(#[from] OutsideError),
    #[error("{0} pages cannot be shared")]
    Share(usize, #[source] std::io::Error),
}

/// The picture of one window at one size.
#[derive(Debug)]
pub(super) struct Canvas {
    image: Image<'static, 'static>,
    tracker: OutputDamageTracker,
    size: Size,
    scale: crate::scale::Scale,
    /// Whether the image holds a picture that damage can be counted from.
    painted: bool,
}

/// Memory for a picture of `size`, which is not empty.
pub(super) fn share(sharer: &Sharer, size: Size) -> Result<SharedMemory, PaintError> {
    let pages = size.bytes().div_ceil(PAGE_LEN);
    sharer
        .make(pages)
        .map_err(|source| PaintError::Share(pages, source))
}

impl Canvas {
    /// For a picture of so many pixels, with so many in a unit of the application.
    pub(super) fn new(
        renderer: &mut PixmanRenderer,
        size: Size,
        scale: crate::scale::Scale,
    ) -> Result<Self, PaintError> {
        let (width, height) = (size.width().cast_signed(), size.height().cast_signed());
        let image = renderer
            .create_buffer(FORMAT, (width, height).into())
            .map_err(PaintError::Image)?;
        let drawn = Scale::from(scale.pixels());
        Ok(Self {
            image,
            tracker: OutputDamageTracker::new((width, height), drawn, Transform::Normal),
            size,
            scale,
            painted: false,
        })
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    pub(super) fn scale(&self) -> crate::scale::Scale {
        self.scale
    }

    /// Paints what has changed of the tree below `surface`, whose point `origin` is the upper left
    /// corner of the picture (in pixels), and copies it to `memory`; says where. All of it the first time.
    pub(super) fn paint(
        &mut self,
        renderer: &mut PixmanRenderer,
        surface: &WlSurface,
        origin: Point<i32, Logical>,
        memory: &SharedMemory,
    ) -> Result<Vec<Part>, PaintError> {
        let at: Point<i32, Physical> = (-origin.x, -origin.y).into();
        let scale = self.scale.pixels();
        let elements: Vec<WaylandSurfaceRenderElement<PixmanRenderer>> =
            render_elements_from_surface_tree(renderer, surface, at, scale, 1.0, Kind::Unspecified);
        let age = usize::from(self.painted);
        let mut target = renderer.bind(&mut self.image).map_err(PaintError::Image)?;
        let painted = self
            .tracker
            .render_output(renderer, &mut target, age, &elements, BACKGROUND)
            .map_err(PaintError::Paint)?;
        self.painted = true;
        let mut parts = Vec::new();
        for damaged in painted.damage.into_iter().flatten() {
            let Some(part) = part_of(*damaged).and_then(|part| part.within(self.size)) else {
                continue;
            };
            let region = region_of(part);
            let mapping = renderer
                .copy_framebuffer(&target, region, FORMAT)
                .map_err(PaintError::Read)?;
            let pixels = renderer.map_texture(&mapping).map_err(PaintError::Read)?;
            copy(pixels, part, self.size, memory)?;
            parts.push(part);
        }
        Ok(parts)
    }
}

/// Copies the rows of a part of a picture to where they are in all of it.
fn copy(pixels: &[u8], part: Part, whole: Size, memory: &SharedMemory) -> Result<(), OutsideError> {
    let row = part.size.width() as usize * PIXEL_LEN;
    let stride = whole.width() as usize * PIXEL_LEN;
    let first = part.y as usize * stride + part.x as usize * PIXEL_LEN;
    if row == stride {
        return memory.write(first, pixels);
    }
    for (n, row) in pixels.chunks_exact(row).enumerate() {
        memory.write(first + n * stride, row)?;
    }
    Ok(())
}

/// None where it begins before the picture; the damage of a picture does not.
fn part_of(rectangle: Rectangle<i32, Physical>) -> Option<Part> {
    let number = |n: i32| u32::try_from(n).ok();
    Some(Part {
        x: number(rectangle.loc.x)?,
        y: number(rectangle.loc.y)?,
        size: Size::near(number(rectangle.size.w)?, number(rectangle.size.h)?),
    })
}

fn region_of(part: Part) -> Rectangle<i32, Buffer> {
    let (x, y) = (part.x.cast_signed(), part.y.cast_signed());
    let size = part.size;
    let (width, height) = (size.width().cast_signed(), size.height().cast_signed());
    Rectangle::new((x, y).into(), (width, height).into())
}
