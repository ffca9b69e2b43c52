//! Holds the pointer while an application of Wayland drags: nobody else hears of it then.

use smithay::input::pointer::{
    AxisFrame, ButtonEvent, GestureHoldBeginEvent, GestureHoldEndEvent, GesturePinchBeginEvent,
    GesturePinchEndEvent, GesturePinchUpdateEvent, GestureSwipeBeginEvent, GestureSwipeEndEvent,
    GestureSwipeUpdateEvent, GrabStartData, MotionEvent, PointerGrab, PointerInnerHandle,
    RelativeMotionEvent,
};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point};

use crate::compositor::Agent;

type At = Option<(WlSurface, Point<f64, Logical>)>;
type Pointer<'a> = PointerInnerHandle<'a, Agent>;

/// Until no button is held.
#[derive(Debug)]
pub(super) struct DragGrab {
    pub(super) start: GrabStartData<Agent>,
}

impl PointerGrab<Agent> for DragGrab {
    fn motion(&mut self, agent: &mut Agent, pointer: &mut Pointer<'_>, _: At, event: &MotionEvent) {
        pointer.motion(agent, None, event);
    }

    fn relative_motion(
        &mut self,
        agent: &mut Agent,
        pointer: &mut Pointer<'_>,
        _: At,
        event: &RelativeMotionEvent,
    ) {
        pointer.relative_motion(agent, None, event);
    }

    fn button(&mut self, agent: &mut Agent, pointer: &mut Pointer<'_>, event: &ButtonEvent) {
        if pointer.current_pressed().is_empty() {
            pointer.unset_grab(self, agent, event.serial, event.time, true);
        }
    }

    fn axis(&mut self, agent: &mut Agent, pointer: &mut Pointer<'_>, details: AxisFrame) {
        pointer.axis(agent, details);
    }

    fn frame(&mut self, agent: &mut Agent, pointer: &mut Pointer<'_>) {
        pointer.frame(agent);
    }

    fn gesture_swipe_begin(
        &mut self,
        _: &mut Agent,
        _: &mut Pointer<'_>,
        _: &GestureSwipeBeginEvent,
    ) {
    }

    fn gesture_swipe_update(
        &mut self,
        _: &mut Agent,
        _: &mut Pointer<'_>,
        _: &GestureSwipeUpdateEvent,
    ) {
    }

    fn gesture_swipe_end(&mut self, _: &mut Agent, _: &mut Pointer<'_>, _: &GestureSwipeEndEvent) {}

    fn gesture_pinch_begin(
        &mut self,
        _: &mut Agent,
        _: &mut Pointer<'_>,
        _: &GesturePinchBeginEvent,
    ) {
    }

    fn gesture_pinch_update(
        &mut self,
        _: &mut Agent,
        _: &mut Pointer<'_>,
        _: &GesturePinchUpdateEvent,
    ) {
    }

    fn gesture_pinch_end(&mut self, _: &mut Agent, _: &mut Pointer<'_>, _: &GesturePinchEndEvent) {}

    fn gesture_hold_begin(
        &mut self,
        _: &mut Agent,
        _: &mut Pointer<'_>,
        _: &GestureHoldBeginEvent,
    ) {
    }

    fn gesture_hold_end(&mut self, _: &mut Agent, _: &mut Pointer<'_>, _: &GestureHoldEndEvent) {}

    fn start_data(&self) -> &GrabStartData<Agent> {
        &self.start
    }

    fn unset(&mut self, _: &mut Agent) {}
}
