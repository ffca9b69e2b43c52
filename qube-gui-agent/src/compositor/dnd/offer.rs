//! Offers what is dragged to the application of Wayland that the pointer is over.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use smithay::reexports::wayland_server::backend::protocol::Message;
use smithay::reexports::wayland_server::backend::{ClientId, Handle, ObjectData, ObjectId};
use smithay::reexports::wayland_server::protocol::wl_data_device::WlDataDevice;
use smithay::reexports::wayland_server::protocol::wl_data_device_manager::DndAction;
use smithay::reexports::wayland_server::protocol::wl_data_offer::{Error, Request, WlDataOffer};
use smithay::reexports::wayland_server::protocol::wl_data_source::{
    EVT_ACTION_SINCE, EVT_DND_DROP_PERFORMED_SINCE, EVT_DND_FINISHED_SINCE, WlDataSource,
};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, DisplayHandle, Resource, WEnum};
use smithay::utils::{IsAlive, SERIAL_COUNTER};

use super::negotiation::{ACTIONS_SINCE, Broken, End, Negotiation};
use crate::compositor::Agent;
use crate::xdnd::{Command, Number};

/// Who drags.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Giver {
    Wayland(WlDataSource),
    /// An application of X, which visits us so.
    X(Number),
}

impl Giver {
    /// What the target would take, and how.
    fn tell_answer(&self, agent: &Agent, kind: Option<String>, action: Option<DndAction>) {
        match self {
            Self::Wayland(source) => source.target(kind),
            Self::X(visit) => agent.dnd.tell(Command::Answer {
                visit: *visit,
                action,
            }),
        }
    }

    /// The action that is chosen.
    pub(super) fn tell_action(&self, action: DndAction) {
        if let Self::Wayland(source) = self
            && source.version() >= EVT_ACTION_SINCE
        {
            source.action(action);
        }
    }

    pub(super) fn tell_dropped(&self) {
        if let Self::Wayland(source) = self
            && source.version() >= EVT_DND_DROP_PERFORMED_SINCE
        {
            source.dnd_drop_performed();
        }
    }

    /// What came of it in the end.
    pub(super) fn tell_end(&self, agent: &Agent, end: End) {
        tracing::debug!("what was dragged is dropped: {end:?}");
        match (self, end) {
            (Self::Wayland(source), End::Taken(_)) => {
                if source.version() >= EVT_DND_FINISHED_SINCE {
                    source.dnd_finished();
                }
            }
            (Self::Wayland(source), End::NotTaken) => {
                if source.version() >= ACTIONS_SINCE {
                    source.cancelled();
                }
            }
            (Self::X(visit), end) => {
                let action = match end {
                    End::Taken(action) => Some(action),
                    End::NotTaken => None,
                };
                let visit = *visit;
                agent.dnd.tell(Command::Finish { visit, action });
            }
        }
    }
}

/// What is offered, by one object for each data device that an application has.
#[derive(Debug)]
pub(super) struct Offer {
    giver: Giver,
    kinds: Vec<String>,
    negotiation: Mutex<Negotiation>,
    /// The kind that is accepted.
    accepted: Mutex<Option<String>>,
}

impl Offer {
    fn negotiate<T>(&self, with: impl FnOnce(&mut Negotiation) -> T) -> T {
        let negotiation = self.negotiation.lock();
        with(&mut negotiation.unwrap_or_else(PoisonError::into_inner))
    }

    fn tell_answer(&self, agent: &Agent) {
        let would = self.negotiate(|negotiation| negotiation.would());
        let accepted = self.accepted.lock();
        let kind = accepted.unwrap_or_else(PoisonError::into_inner).clone();
        self.giver.tell_answer(agent, kind, would);
    }

    fn request(
        &self,
        agent: &mut Agent,
        offer: &WlDataOffer,
        request: Request,
    ) -> Result<(), Broken> {
        match request {
            Request::Accept { mime_type, .. } => {
                let kind = mime_type.filter(|kind| self.kinds.contains(kind));
                self.negotiate(|negotiation| negotiation.accept(kind.is_some()));
                let accepted = self.accepted.lock();
                *accepted.unwrap_or_else(PoisonError::into_inner) = kind;
                if self.negotiate(|negotiation| negotiation.is_there()) {
                    self.tell_answer(agent);
                }
            }
            Request::Receive { mime_type, fd } => {
                let is_there = self.negotiate(|negotiation| negotiation.is_there());
                if is_there && self.kinds.contains(&mime_type) {
                    match &self.giver {
                        Giver::Wayland(source) if source.alive() => {
                            source.send(mime_type, fd.as_fd());
                        }
                        Giver::Wayland(_) => {}
                        Giver::X(visit) => agent.give_dragged_of_x(*visit, &mime_type, fd),
                    }
                }
            }
            Request::SetActions {
                dnd_actions,
                preferred_action,
            } => {
                let (WEnum::Value(wanted), WEnum::Value(preferred)) =
                    (dnd_actions, preferred_action)
                else {
                    return Err(Broken {
                        error: Error::InvalidActionMask,
                        why: "there are no such actions",
                    });
                };
                let chosen = self.negotiate(|negotiation| negotiation.want(wanted, preferred))?;
                if let Some(action) = chosen {
                    tracing::debug!("what is dragged can be dropped: {action:?}");
                    offer.action(action);
                    self.giver.tell_action(action);
                    self.tell_answer(agent);
                }
            }
            Request::Finish => {
                let end = self.negotiate(Negotiation::finish)?;
                self.giver.tell_end(agent, end);
            }
            // What comes of `destroy` comes of a client that ends, too.
            _ => {}
        }
        Ok(())
    }
}

impl ObjectData<Agent> for Offer {
    fn request(
        self: Arc<Self>,
        handle: &Handle,
        agent: &mut Agent,
        _client: ClientId,
        message: Message<ObjectId, OwnedFd>,
    ) -> Option<Arc<dyn ObjectData<Agent>>> {
        let display = DisplayHandle::from(handle.clone());
        if let Ok((offer, request)) = WlDataOffer::parse_request(&display, message)
            && let Err(Broken { error, why }) = Offer::request(&self, agent, &offer, request)
        {
            offer.post_error(error, why);
        }
        None
    }

    fn destroyed(
        self: Arc<Self>,
        _handle: &Handle,
        agent: &mut Agent,
        _client: ClientId,
        _object: ObjectId,
    ) {
        if let Some(end) = self.negotiate(Negotiation::destroy) {
            self.giver.tell_end(agent, end);
        }
    }
}

/// What is dragged is over a surface.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) surface: WlSurface,
    devices: Vec<WlDataDevice>,
    objects: Vec<WlDataOffer>,
    offer: Arc<Offer>,
}

/// The data devices of an application.
fn devices(display: &DisplayHandle, client: &Client) -> Vec<WlDataDevice> {
    let mut ids = Vec::new();
    let looked = display
        .backend_handle()
        .with_all_objects_for(client.id(), |id| {
            if id.interface().name == WlDataDevice::interface().name {
                ids.push(id);
            }
        });
    if let Err(error) = looked {
        // It has ended meanwhile.
        tracing::debug!("nothing is dragged over an application: {error}");
    }
    let all = ids.into_iter();
    all.filter_map(|id| WlDataDevice::from_id(display, id).ok())
        .collect()
}

impl Visit {
    /// Offers it to the application that has a surface; the pointer is there, in its own units.
    pub(super) fn enter(
        display: &DisplayHandle,
        surface: &WlSurface,
        (x, y): (f64, f64),
        giver: Giver,
        kinds: &[String],
    ) -> Option<Self> {
        let client = surface.client()?;
        let devices = devices(display, &client);
        let version = devices.iter().map(Resource::version).min()?;
        let offer = Arc::new(Offer {
            giver,
            kinds: kinds.to_vec(),
            negotiation: Mutex::new(Negotiation::new(version)),
            accepted: Mutex::new(None),
        });
        let serial = SERIAL_COUNTER.next_serial();
        let mut objects = Vec::new();
        for device in &devices {
            let data: Arc<dyn ObjectData<Agent>> = Arc::<Offer>::clone(&offer);
            let version = device.version();
            let made =
                client.create_resource_from_objdata::<WlDataOffer, Agent>(display, version, data);
            let Ok(object) = made else { continue };
            device.data_offer(&object);
            for kind in kinds {
                object.offer(kind.clone());
            }
            device.enter(serial.into(), surface, x, y, Some(&object));
            objects.push(object);
        }
        Some(Self {
            surface: surface.clone(),
            devices,
            objects,
            offer,
        })
    }

    /// What the source can do, and what it would like best.
    pub(super) fn can(&self, agent: &Agent, actions: DndAction, requested: DndAction) {
        let chosen = self.offer.negotiate(|it| it.offer(actions, requested));
        for object in &self.objects {
            if object.version() >= ACTIONS_SINCE {
                object.source_actions(actions);
                if let Some(action) = chosen {
                    object.action(action);
                }
            }
        }
        if let Some(action) = chosen {
            self.offer.giver.tell_action(action);
            self.offer.tell_answer(agent);
        }
    }

    pub(super) fn motion(&self, time: u32, (x, y): (f64, f64)) {
        for device in &self.devices {
            device.motion(time, x, y);
        }
    }

    /// The pointer, or the source, is gone.
    pub(super) fn leave(self, agent: &Agent) {
        self.offer.negotiate(Negotiation::leave);
        for device in &self.devices {
            device.leave();
        }
        self.offer.giver.tell_answer(agent, None, None);
    }

    /// It is dropped here; false where the application does not take it.
    pub(super) fn drop(self) -> bool {
        let is_taken = self.offer.negotiate(Negotiation::drop);
        for device in &self.devices {
            if is_taken {
                device.drop();
            }
            device.leave();
        }
        is_taken
    }
}
