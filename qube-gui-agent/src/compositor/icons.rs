//! Which icon each window has: what its application gives it, or else what the application's entry
//! names.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bulkhead_wire::causes::chain;
use bulkhead_wire::gui::WindowId;
use bulkhead_wire::icons::Icon;
use smithay::backend::allocator::Fourcc;
use smithay::backend::renderer::pixman::{PixmanError, PixmanRenderer};
use smithay::backend::renderer::{ExportMem, ImportMemWl};
use smithay::reexports::calloop::channel::{Event, sync_channel};
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel::XdgToplevel;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::Rectangle;
use smithay::wayland::compositor::with_states;
use smithay::wayland::shell::xdg::XdgToplevelSurfaceData;
use smithay::wayland::shm::with_buffer_contents;
use smithay::wayland::xdg_toplevel_icon::{ToplevelIconCachedState, XdgToplevelIconHandler};
use smithay::xwayland::X11Surface;

use super::Agent;
use super::views::Role;
use crate::icons::x::{self, XIcon};
use crate::icons::{Board, Source, pixels};
use crate::model::WINDOWS_MAX;

/// Windows of X of which an icon is kept; some have one and are never shown.
const X_ICONS_MAX: usize = 2 * WINDOWS_MAX;

/// Icons of X that wait for us.
const X_NEWS: usize = 16;

/// What is known of icons.
#[derive(Debug)]
pub(super) struct Icons {
    pub(super) board: Board,
    /// Of windows of X, by their numbers there.
    of_x: BTreeMap<u32, Arc<Icon>>,
    /// Toplevels that have another icon with their next commit.
    pending: Vec<WlSurface>,
}

impl Icons {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            board: Board::start()?,
            of_x: BTreeMap::new(),
            pending: Vec::new(),
        })
    }

    /// A surface is no more.
    pub(super) fn forget(&mut self, surface: &WlSurface) {
        self.pending.retain(|other| other != surface);
    }

    /// The X server is no more.
    pub(super) fn forget_x(&mut self) {
        self.of_x.clear();
    }
}

impl Agent {
    /// Says which icon a window has.
    pub(super) fn tell_icon(&mut self, id: WindowId) {
        let Some(view) = self.views.get(&id) else {
            return;
        };
        let source = match &view.role {
            Role::Toplevel(_) => {
                let surface = view.surface.clone();
                self.toplevel_icon(&surface)
            }
            Role::X11(window) => self.x_icon(window),
            Role::Popup(_) | Role::InputMethod(_) => None,
        };
        match source {
            Some(source) => self.icons.board.set(id, source),
            None => self.icons.board.remove(id),
        }
    }

    /// A toplevel has committed what it said.
    pub(super) fn icon_committed(&mut self, surface: &WlSurface) {
        if self.icons.pending.contains(surface) {
            self.icons.forget(surface);
            if let Some(id) = self.window_of(surface) {
                self.tell_icon(id);
            }
        }
    }

    fn toplevel_icon(&mut self, surface: &WlSurface) -> Option<Source> {
        let (name, buffers, application) = with_states(surface, |states| {
            let mut cached = states.cached_state.get::<ToplevelIconCachedState>();
            let current = cached.current();
            let name = current.icon_name().map(str::to_owned);
            let data = states.data_map.get::<XdgToplevelSurfaceData>();
            let data = data.and_then(|data| data.lock().ok());
            let application = data.and_then(|data| data.app_id.clone());
            (name, current.buffers().to_vec(), application)
        });
        let pixels = self.icon_of_buffers(&buffers);
        let given = pixels.map(Source::Pixels).or(name.map(Source::Named));
        given.or(application.map(|id| Source::Application(vec![id])))
    }

    fn icon_of_buffers(&mut self, buffers: &[(WlBuffer, i32)]) -> Option<Arc<Icon>> {
        let size = |(buffer, _): &(WlBuffer, i32)| {
            let size = with_buffer_contents(buffer, |_, _, data| (data.width, data.height));
            // One that is not there any more has no size.
            let (width, height) = size.unwrap_or_default();
            let number = |side: i32| u32::try_from(side).unwrap_or_default();
            (number(width), number(height))
        };
        let sizes: Vec<(u32, u32)> = buffers.iter().map(size).collect();
        let at = pixels::best(sizes.iter().copied())?;
        let ((buffer, _), size) = (buffers.get(at)?, *sizes.get(at)?);
        match read(&mut self.renderer, buffer, size) {
            Ok(icon) => icon.map(Arc::new),
            Err(error) => {
                tracing::debug!("an icon cannot be read: {}", chain(&error));
                None
            }
        }
    }

    fn x_icon(&self, window: &X11Surface) -> Option<Source> {
        let given = self.icons.of_x.get(&window.window_id());
        if let Some(icon) = given {
            return Some(Source::Pixels(Arc::clone(icon)));
        }
        let ids = [window.instance(), window.class()];
        let ids = ids.into_iter().flat_map(|id| [id.to_lowercase(), id]);
        let ids: Vec<String> = ids.filter(|id| !id.is_empty()).collect();
        (!ids.is_empty()).then_some(Source::Application(ids))
    }

    /// Hears of icons of an X server from now on.
    pub(super) fn watch_x_icons(&self, display: u32) {
        let (tell, told) = sync_channel(X_NEWS);
        let inserted = self.events.insert_source(told, |event, (), agent| {
            if let Event::Msg(news) = event {
                agent.x_icon_said(news);
            }
        });
        if let Err(error) = inserted {
            tracing::error!("icons of X are not heard of: {}", error.error);
            return;
        }
        std::thread::spawn(move || {
            if let Err(error) = x::watch(display, &tell) {
                tracing::debug!("icons of X end: {}", chain(&error));
            }
        });
    }

    fn x_icon_said(&mut self, news: XIcon) {
        let number = match news {
            XIcon::Is(number, Some(icon)) => {
                let of_x = &mut self.icons.of_x;
                if of_x.len() < X_ICONS_MAX || of_x.contains_key(&number) {
                    of_x.insert(number, Arc::from(icon));
                }
                number
            }
            XIcon::Is(number, None) | XIcon::Gone(number) => {
                self.icons.of_x.remove(&number);
                number
            }
        };
        if let Some(id) = self.x_view_by_number(number) {
            self.tell_icon(id);
        }
    }
}

/// What is in a buffer.
fn read(
    renderer: &mut PixmanRenderer,
    buffer: &WlBuffer,
    (width, height): (u32, u32),
) -> Result<Option<Icon>, PixmanError> {
    let texture = renderer.import_shm_buffer(buffer, None, &[])?;
    let size = (width.cast_signed(), height.cast_signed());
    let region = Rectangle::from_size(size.into());
    let copied = renderer.copy_texture(&texture, region, Fourcc::Argb8888)?;
    Ok(pixels::of_buffer(
        width,
        height,
        renderer.map_texture(&copied)?,
    ))
}

impl XdgToplevelIconHandler for Agent {
    fn set_icon(&mut self, _toplevel: XdgToplevel, surface: WlSurface) {
        self.icons.forget(&surface);
        self.icons.pending.push(surface);
    }
}

smithay::delegate_xdg_toplevel_icon!(Agent);
