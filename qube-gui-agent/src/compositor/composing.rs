//! Input methods: programs of the qube that make text of keys for its other applications.
//!
//! `smithay` carries what they say to the text field that has the keyboard. Here is what it leaves
//! to others: where their popups are, and which keys they get. They get keys only while a field
//! wants text, and a key comes up where it went down. What `smithay` would count on without a look
//! is looked at here: that there is one input method at a time, values that it does not know, and
//! files that are shorter than said.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_wire::gui::geometry::{Place, Size};
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use smithay::backend::input::{KeyState, Keycode};
use smithay::input::keyboard::{KeyboardTarget, KeymapFile, xkb};
use smithay::reexports::wayland_protocols::wp::text_input::zv3::server::zwp_text_input_v3::{
    self, ZwpTextInputV3,
};
use smithay::reexports::wayland_protocols_misc::zwp_input_method_v2::server::zwp_input_method_keyboard_grab_v2::{
    self, ZwpInputMethodKeyboardGrabV2,
};
use smithay::reexports::wayland_protocols_misc::zwp_input_method_v2::server::zwp_input_method_manager_v2::{
    self, ZwpInputMethodManagerV2,
};
use smithay::reexports::wayland_protocols_misc::zwp_input_method_v2::server::zwp_input_method_v2::{
    self, ZwpInputMethodV2,
};
use smithay::reexports::wayland_protocols_misc::zwp_input_method_v2::server::zwp_input_popup_surface_v2::{
    self, ZwpInputPopupSurfaceV2,
};
use smithay::reexports::wayland_protocols_misc::zwp_virtual_keyboard_v1::server::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use smithay::reexports::wayland_protocols_misc::zwp_virtual_keyboard_v1::server::zwp_virtual_keyboard_v1::{
    self, ZwpVirtualKeyboardV1,
};
use smithay::reexports::wayland_protocols::wp::text_input::zv3::server::zwp_text_input_manager_v3::ZwpTextInputManagerV3;
use smithay::reexports::wayland_server::backend::ClientId;
use smithay::reexports::wayland_server::protocol::wl_keyboard::KeymapFormat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{
    Client, DataInit, Dispatch, DisplayHandle, delegate_dispatch, delegate_global_dispatch,
};
use smithay::utils::{Logical, Rectangle, SERIAL_COUNTER};
use smithay::wayland::input_method::{
    InputMethodHandler, InputMethodKeyboardUserData, InputMethodManagerGlobalData,
    InputMethodManagerState, InputMethodPopupSurfaceUserData, InputMethodUserData, PopupSurface,
};
use smithay::wayland::text_input::{TextInputManagerState, TextInputSeat, TextInputUserData};
use smithay::wayland::virtual_keyboard::{
    VirtualKeyboardManagerGlobalData, VirtualKeyboardManagerState, VirtualKeyboardUserData,
};

use super::views::{Role, has_buffer, point, window_size};
use super::{Agent, NO_REPEAT};

/// The longest keymap that a virtual keyboard may have, in bytes. Those of X have 70 KB.
const KEYMAP_MAX: usize = 1024 * 1024;

/// Objects of an input method that was told that there is another.
#[derive(Debug)]
struct Refused;

/// A grab of the keyboard that is ours to serve.
#[derive(Debug)]
struct Grab;

/// The input method, if there is one.
#[derive(Debug, Default)]
pub(super) struct Composing {
    has_method: bool,
    grab: Option<ZwpInputMethodKeyboardGrabV2>,
    /// Keys that went down to the grab and have not come up.
    held: BTreeSet<Keycode>,
    /// The popup that belongs to the text field with the keyboard.
    popup: Option<PopupSurface>,
    /// What the keys of the seat mean, once it was asked for.
    keymap: Option<KeymapFile>,
}

/// What the seat's keyboard means too: both are of the environment.
fn keymap() -> Option<KeymapFile> {
    let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
    let flags = xkb::KEYMAP_COMPILE_NO_FLAGS;
    let keymap = xkb::Keymap::new_from_names(&context, "", "", "", "", None, flags);
    keymap.as_ref().map(KeymapFile::new)
}

/// A copy that nobody else can make shorter while it is read.
fn own_keymap(file: impl AsFd, length: u32) -> io::Result<OwnedFd> {
    let said = usize::try_from(length).unwrap_or(usize::MAX);
    let is = usize::try_from(fstat(&file)?.st_size).unwrap_or_default();
    if said == 0 || said > KEYMAP_MAX || said > is {
        let said = format!("a keymap of {said} bytes in a file of {is}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
    }
    let mut bytes = vec![0; said];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(&file, rest, done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    let copy = memfd_create("keymap", MemfdFlags::CLOEXEC)?;
    io::Write::write_all(&mut std::fs::File::from(copy.try_clone()?), &bytes)?;
    Ok(copy)
}

/// Where a popup of that size is on a screen: below the text cursor, above it where there is no
/// room below, and never past an edge that it need not pass.
fn beside(cursor: Rectangle<i32, Logical>, size: Size, monitor: Rectangle<i32, Logical>) -> Place {
    let (width, height) = (size.width().cast_signed(), size.height().cast_signed());
    let (first, last) = (monitor.loc, monitor.loc + monitor.size);
    let (above, below) = (cursor.loc.y - height, cursor.loc.y + cursor.size.h);
    let y = if below + height > last.y && above >= first.y {
        above
    } else {
        below
    };
    let x = cursor.loc.x.min(last.x - width).max(first.x);
    Place::near(x, y.max(first.y))
}

impl Agent {
    /// Who makes text of keys now: a grab, while a field wants text.
    fn composer(&self) -> Option<&ZwpInputMethodKeyboardGrabV2> {
        let mut wanted = false;
        let text_input = self.seat.text_input();
        text_input.with_active_text_input(|_, _| wanted = true);
        self.composing.grab.as_ref().filter(|_| wanted)
    }

    /// The grab that a key goes to, if it does not go to the application.
    pub(super) fn composer_of(
        &mut self,
        code: Keycode,
        state: KeyState,
    ) -> Option<ZwpInputMethodKeyboardGrabV2> {
        match state {
            KeyState::Pressed => {
                let grab = self.composer()?.clone();
                self.composing.held.insert(code);
                Some(grab)
            }
            KeyState::Released => {
                let was_held = self.composing.held.remove(&code);
                self.composing.grab.clone().filter(|_| was_held)
            }
        }
    }

    /// Tells the application, and who makes its text, of the modifiers.
    pub(super) fn tell_modifiers(&mut self) {
        let Some(keyboard) = self.seat.get_keyboard() else {
            return;
        };
        let (focus, state) = (keyboard.current_focus(), keyboard.modifier_state());
        if let Some(focus) = focus {
            let serial = SERIAL_COUNTER.next_serial();
            let seat = self.seat.clone();
            KeyboardTarget::modifiers(&focus, &seat, self, state, serial);
        }
        self.tell_composer_modifiers();
    }

    /// The same for a change that the application was told of.
    pub(super) fn tell_composer_modifiers(&self) {
        let (Some(grab), Some(keyboard)) = (&self.composing.grab, self.seat.get_keyboard()) else {
            return;
        };
        let (serial, is) = (
            SERIAL_COUNTER.next_serial(),
            keyboard.modifier_state().serialized,
        );
        grab.modifiers(
            serial.into(),
            is.depressed,
            is.latched,
            is.locked,
            is.layout_effective,
        );
    }

    fn grabbed(&mut self, grab: ZwpInputMethodKeyboardGrabV2) {
        let (delay, rate) = NO_REPEAT;
        grab.repeat_info(rate, delay);
        if self.composing.keymap.is_none() {
            self.composing.keymap = keymap();
        }
        let told = self.composing.keymap.as_ref().map(|keymap| {
            keymap.with_fd(false, |file, length| {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                grab.keymap(KeymapFormat::XkbV1, file, length);
            })
        });
        match told {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!("an input method has no keymap: {error}"),
            None => tracing::warn!("an input method has no keymap"),
        }
        tracing::debug!("an input method wants keys");
        self.composing.held.clear();
        self.composing.grab = Some(grab);
        self.tell_composer_modifiers();
    }

    fn ungrabbed(&mut self) {
        self.composing.grab = None;
        self.composing.held.clear();
    }

    fn hide_input_popup(&mut self) {
        if let Some(popup) = self.composing.popup.take()
            && let Some(id) = self.window_of(popup.wl_surface())
        {
            self.hide(id);
        }
    }

    /// A commit of a surface that an input method has made a popup.
    pub(super) fn input_popup_committed(&mut self, surface: &WlSurface) {
        let popup = self.composing.popup.clone();
        let shown = popup.filter(|popup| popup.wl_surface() == surface && popup.alive());
        match shown {
            Some(popup) => self.committed(surface, Role::InputMethod(popup)),
            // Nobody shall wait for what is not shown.
            None => self.frame_done(surface),
        }
    }

    /// Where a popup of an input method is on the screen.
    pub(super) fn input_popup_place(&self, popup: &PopupSurface, size: Size) -> Place {
        let parent = popup.get_parent();
        let parent = parent.and_then(|parent| self.window_of(&parent.surface));
        let Some(id) = parent else {
            return Place::default();
        };
        let (Some(view), Some(look)) = (self.views.get(&id), self.windows.look(id)) else {
            return Place::default();
        };
        let mut cursor = view.scale.rectangle(popup.text_input_rectangle());
        cursor.loc += point(look.place) - view.picture().loc;
        let window = super::outputs::area(look.place, look.size);
        beside(cursor, size, self.outputs.around(window))
    }
}

impl InputMethodHandler for Agent {
    fn new_popup(&mut self, popup: PopupSurface) {
        let surface = popup.wl_surface().clone();
        self.composing.popup = Some(popup);
        if has_buffer(&surface) {
            self.input_popup_committed(&surface);
        }
    }

    fn dismiss_popup(&mut self, _popup: PopupSurface) {
        self.hide_input_popup();
    }

    fn popup_repositioned(&mut self, popup: PopupSurface) {
        let Some(id) = self.window_of(popup.wl_surface()) else {
            return;
        };
        if let Some(view) = self.views.get(&id) {
            let size = window_size(view.picture());
            let place = self.input_popup_place(&popup, size);
            self.windows.set_geometry(id, place, size);
        }
    }

    fn parent_geometry(&self, parent: &WlSurface) -> Rectangle<i32, Logical> {
        let view = self.window_of(parent).and_then(|id| self.views.get(&id));
        view.map(super::views::View::picture).unwrap_or_default()
    }
}

impl Dispatch<ZwpInputMethodManagerV2, ()> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        manager: &ZwpInputMethodManagerV2,
        request: zwp_input_method_manager_v2::Request,
        data: &(),
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            zwp_input_method_manager_v2::Request::GetInputMethod { input_method, .. }
                if agent.composing.has_method =>
            {
                tracing::info!("a second input method is refused");
                init.init(input_method, Refused).unavailable();
            }
            request => {
                if let zwp_input_method_manager_v2::Request::GetInputMethod { .. } = request {
                    agent.composing.has_method = true;
                }
                <InputMethodManagerState as Dispatch<_, _, Self>>::request(
                    agent, client, manager, request, data, display, init,
                );
            }
        }
    }
}

impl Dispatch<ZwpInputMethodV2, InputMethodUserData<Self>> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        method: &ZwpInputMethodV2,
        request: zwp_input_method_v2::Request,
        data: &InputMethodUserData<Self>,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            zwp_input_method_v2::Request::GrabKeyboard { keyboard } => {
                let grab = init.init(keyboard, Grab);
                agent.grabbed(grab);
            }
            request => <InputMethodManagerState as Dispatch<_, _, Self>>::request(
                agent, client, method, request, data, display, init,
            ),
        }
    }

    fn destroyed(
        agent: &mut Self,
        client: ClientId,
        method: &ZwpInputMethodV2,
        data: &InputMethodUserData<Self>,
    ) {
        <InputMethodManagerState as Dispatch<_, _, Self>>::destroyed(agent, client, method, data);
        agent.composing.has_method = false;
        agent.ungrabbed();
        agent.hide_input_popup();
    }
}

impl Dispatch<ZwpInputMethodKeyboardGrabV2, Grab> for Agent {
    fn request(
        _agent: &mut Self,
        _client: &Client,
        _grab: &ZwpInputMethodKeyboardGrabV2,
        _release: zwp_input_method_keyboard_grab_v2::Request,
        _data: &Grab,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
    }

    fn destroyed(
        agent: &mut Self,
        _client: ClientId,
        grab: &ZwpInputMethodKeyboardGrabV2,
        _data: &Grab,
    ) {
        if agent.composing.grab.as_ref() == Some(grab) {
            agent.ungrabbed();
        }
    }
}

impl Dispatch<ZwpInputPopupSurfaceV2, InputMethodPopupSurfaceUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        popup: &ZwpInputPopupSurfaceV2,
        request: zwp_input_popup_surface_v2::Request,
        data: &InputMethodPopupSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        <InputMethodManagerState as Dispatch<_, _, Self>>::request(
            agent, client, popup, request, data, display, init,
        );
    }

    fn destroyed(
        agent: &mut Self,
        client: ClientId,
        popup: &ZwpInputPopupSurfaceV2,
        data: &InputMethodPopupSurfaceUserData,
    ) {
        <InputMethodManagerState as Dispatch<_, _, Self>>::destroyed(agent, client, popup, data);
        let shown = &agent.composing.popup;
        if shown.as_ref().is_some_and(|popup| !popup.alive()) {
            agent.hide_input_popup();
        }
    }
}

impl Dispatch<ZwpInputMethodV2, Refused> for Agent {
    fn request(
        _agent: &mut Self,
        _client: &Client,
        _method: &ZwpInputMethodV2,
        request: zwp_input_method_v2::Request,
        _data: &Refused,
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            zwp_input_method_v2::Request::GetInputPopupSurface { id, .. } => {
                init.init(id, Refused);
            }
            zwp_input_method_v2::Request::GrabKeyboard { keyboard } => {
                init.init(keyboard, Refused);
            }
            _ => {}
        }
    }
}

impl Dispatch<ZwpInputPopupSurfaceV2, Refused> for Agent {
    fn request(
        _agent: &mut Self,
        _client: &Client,
        _popup: &ZwpInputPopupSurfaceV2,
        _request: zwp_input_popup_surface_v2::Request,
        _data: &Refused,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
    }
}

impl Dispatch<ZwpInputMethodKeyboardGrabV2, Refused> for Agent {
    fn request(
        _agent: &mut Self,
        _client: &Client,
        _grab: &ZwpInputMethodKeyboardGrabV2,
        _request: zwp_input_method_keyboard_grab_v2::Request,
        _data: &Refused,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
    }
}

impl Dispatch<ZwpTextInputV3, TextInputUserData> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        field: &ZwpTextInputV3,
        request: zwp_text_input_v3::Request,
        data: &TextInputUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let is_known = match &request {
            zwp_text_input_v3::Request::SetTextChangeCause { cause } => cause.into_result().is_ok(),
            zwp_text_input_v3::Request::SetContentType { hint, purpose } => {
                hint.into_result().is_ok() && purpose.into_result().is_ok()
            }
            _ => true,
        };
        // A hint that nobody here understands says nothing.
        if is_known {
            <TextInputManagerState as Dispatch<_, _, Self>>::request(
                agent, client, field, request, data, display, init,
            );
        }
    }

    fn destroyed(
        agent: &mut Self,
        client: ClientId,
        field: &ZwpTextInputV3,
        data: &TextInputUserData,
    ) {
        <TextInputManagerState as Dispatch<_, _, Self>>::destroyed(agent, client, field, data);
    }
}

impl Dispatch<ZwpVirtualKeyboardV1, VirtualKeyboardUserData<Self>> for Agent {
    fn request(
        agent: &mut Self,
        client: &Client,
        keyboard: &ZwpVirtualKeyboardV1,
        request: zwp_virtual_keyboard_v1::Request,
        data: &VirtualKeyboardUserData<Self>,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let request = match request {
            zwp_virtual_keyboard_v1::Request::Keymap { format, fd, size } => {
                match own_keymap(fd, size) {
                    Ok(fd) => zwp_virtual_keyboard_v1::Request::Keymap { format, fd, size },
                    Err(error) => {
                        tracing::warn!("the keymap of a virtual keyboard is not taken: {error}");
                        return;
                    }
                }
            }
            other => other,
        };
        <VirtualKeyboardManagerState as Dispatch<_, _, Self>>::request(
            agent, client, keyboard, request, data, display, init,
        );
    }

    fn destroyed(
        agent: &mut Self,
        client: ClientId,
        keyboard: &ZwpVirtualKeyboardV1,
        data: &VirtualKeyboardUserData<Self>,
    ) {
        <VirtualKeyboardManagerState as Dispatch<_, _, Self>>::destroyed(
            agent, client, keyboard, data,
        );
    }
}

delegate_global_dispatch!(Agent: [ZwpInputMethodManagerV2: InputMethodManagerGlobalData] => InputMethodManagerState);
// Asked for by `smithay`; the grabs that there are have our own data.
delegate_dispatch!(Agent: [ZwpInputMethodKeyboardGrabV2: InputMethodKeyboardUserData<Agent>] => InputMethodManagerState);
delegate_global_dispatch!(Agent: [ZwpTextInputManagerV3: ()] => TextInputManagerState);
delegate_dispatch!(Agent: [ZwpTextInputManagerV3: ()] => TextInputManagerState);
delegate_global_dispatch!(Agent: [ZwpVirtualKeyboardManagerV1: VirtualKeyboardManagerGlobalData] => VirtualKeyboardManagerState);
delegate_dispatch!(Agent: [ZwpVirtualKeyboardManagerV1: ()] => VirtualKeyboardManagerState);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popups_are_below_the_text_cursor_or_above_it() {
        let at = |x, y| {
            let cursor = Rectangle::new((x, y).into(), (2, 20).into());
            let monitor = Rectangle::from_size((1000, 700).into());
            let place = beside(cursor, Size::near(200, 100), monitor);
            let right = Rectangle::new((1000, 50).into(), monitor.size);
            let moved = Rectangle::new(cursor.loc + right.loc, cursor.size);
            let there = beside(moved, Size::near(200, 100), right);
            assert_eq!(there, Place::near(place.x() + 1000, place.y() + 50));
            (place.x(), place.y())
        };
        assert_eq!(at(50, 60), (50, 80));
        assert_eq!(at(50, 580), (50, 600));
        assert_eq!(at(50, 581), (50, 481));
        assert_eq!(at(900, 60), (800, 80));
        assert_eq!(at(-30, -90), (0, 0));
    }

    #[test]
    fn keymaps_are_as_long_as_their_files_say() {
        let file = |len: usize| {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, &vec![b'k'; len]).expect("bytes");
            file
        };
        let copied = |len: usize, said: usize| {
            let copy = own_keymap(file(len), u32::try_from(said).expect("a length"));
            copy.map(|copy| fstat(copy).expect("a file").st_size)
        };
        assert_eq!(copied(10, 10).expect("all"), 10);
        assert_eq!(copied(10, 9).expect("a part"), 9);
        assert_eq!(copied(KEYMAP_MAX, KEYMAP_MAX).expect("much"), 1024 * 1024);
        for (len, said) in [(10, 0), (0, 0), (10, 11), (KEYMAP_MAX + 1, KEYMAP_MAX + 1)] {
            let error = copied(len, said).expect_err("another length");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let (pipe, _writer) = io::pipe().expect("a pipe");
        assert!(own_keymap(pipe, 1).is_err());
    }
}
