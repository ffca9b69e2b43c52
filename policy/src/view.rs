//! What the engine knows of the machine: one snapshot, from which one call is decided.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::token::{DOM0, QubeRef, parse_uuid};

/// One qube as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QubeView {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity, which outlives a rename.
    pub uuid: Uuid,
    /// Qubes class (`AppVM`, `RemoteVM`, ...), matched by `@type:`.
    pub class: Arc<str>,
    /// Tags, matched by `@tag:`.
    pub tags: Vec<Arc<str>>,
    /// Whether it runs; only `autostart=no` rules ask.
    pub running: bool,
    /// Whether disposables may be made of it.
    pub template_for_dispvms: bool,
    /// Base of the disposables it asks for by `@dispvm`.
    pub default_dispvm: Option<Arc<str>>,
    /// Hidden from prompts (feature `internal`).
    pub internal: bool,
    /// Qube that shows prompts about its calls.
    pub guivm: Option<Arc<str>>,
    /// For a `RemoteVM`: the qube through which it is reached.
    pub relayvm: Option<Arc<str>>,
    /// For a `RemoteVM`: the service in the relay that carries calls.
    pub transport_rpc: Option<Arc<str>>,
}

impl QubeView {
    /// A halted qube with no tags, no disposables and no GUI domain.
    pub fn new(name: &str, uuid: Uuid, class: &str) -> Self {
        Self {
            name: name.into(),
            uuid,
            class: class.into(),
            tags: Vec::new(),
            running: false,
            template_for_dispvms: false,
            default_dispvm: None,
            internal: false,
            guivm: None,
            relayvm: None,
            transport_rpc: None,
        }
    }

    /// dom0 as it is when the caller says nothing about it.
    pub fn dom0() -> Self {
        Self {
            running: true,
            ..Self::new(DOM0, Uuid::nil(), "AdminVM")
        }
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| &**own == tag)
    }
}

/// Why a list of qubes is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemViewError {
    /// Two qubes of one name.
    #[error("two qubes are named `{0}`")]
    DuplicateName(Arc<str>),
    /// Two qubes of one UUID.
    #[error("qubes `{0}` and `{1}` have one uuid")]
    DuplicateUuid(Arc<str>, Arc<str>),
}

/// A qube in one [`SystemView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QubeIndex(usize);

impl QubeIndex {
    /// dom0 stands first in every view.
    pub(crate) const DOM0: Self = Self(0);

    pub(crate) fn is_dom0(self) -> bool {
        self == Self::DOM0
    }

    pub(crate) fn number(self) -> usize {
        self.0
    }
}

/// All qubes at one instant. dom0 is always among them.
///
/// Build a new one when the machine changes; a call is decided against exactly one.
#[derive(Debug, Clone)]
pub struct SystemView {
    qubes: Vec<QubeView>,
    default_dispvm: Vec<Option<QubeIndex>>,
    by_name: HashMap<Arc<str>, QubeIndex>,
    by_uuid: HashMap<Uuid, QubeIndex>,
}

impl SystemView {
    /// A snapshot of `qubes`. An entry named `dom0` replaces the one that is there anyway.
    pub fn new(qubes: impl IntoIterator<Item = QubeView>) -> Result<Self, SystemViewError> {
        let mut all = vec![QubeView::dom0()];
        let mut dom0_given = false;
        for qube in qubes {
            if &*qube.name != DOM0 {
                all.push(qube);
            } else if std::mem::replace(&mut dom0_given, true) {
                return Err(SystemViewError::DuplicateName(qube.name));
            } else if let Some(dom0) = all.first_mut() {
                *dom0 = QubeView {
                    uuid: Uuid::nil(),
                    running: true,
                    ..qube
                };
            }
        }
        let mut by_name = HashMap::with_capacity(all.len());
        let mut by_uuid = HashMap::with_capacity(all.len());
        for (number, qube) in all.iter().enumerate() {
            let index = QubeIndex(number);
            if by_name.insert(Arc::clone(&qube.name), index).is_some() {
                return Err(SystemViewError::DuplicateName(Arc::clone(&qube.name)));
            }
            if let Some(QubeIndex(other)) = by_uuid.insert(qube.uuid, index) {
                let other = all.get(other).map_or(&qube.name, |other| &other.name);
                return Err(SystemViewError::DuplicateUuid(
                    Arc::clone(other),
                    Arc::clone(&qube.name),
                ));
            }
        }
        let mut view = Self {
            qubes: all,
            default_dispvm: Vec::new(),
            by_name,
            by_uuid,
        };
        view.default_dispvm = view
            .qubes
            .iter()
            .map(|qube| view.find(qube.default_dispvm.as_deref()?))
            .collect();
        Ok(view)
    }

    /// The qubes, dom0 first.
    pub fn qubes(&self) -> &[QubeView] {
        &self.qubes
    }

    /// A qube by name or `uuid:` form.
    pub fn qube(&self, name: &str) -> Option<&QubeView> {
        self.find(name).map(|index| self.get(index))
    }

    /// Notes that a qube has started or stopped. False if there is no such qube.
    pub fn set_running(&mut self, name: &str, running: bool) -> bool {
        let found = self.find(name).filter(|index| !index.is_dom0());
        match found.and_then(|index| self.qubes.get_mut(index.0)) {
            Some(qube) => {
                qube.running = running;
                true
            }
            None => false,
        }
    }

    pub(crate) fn find(&self, word: &str) -> Option<QubeIndex> {
        let by_uuid = || {
            let uuid = parse_uuid(word.strip_prefix("uuid:")?)?;
            self.by_uuid.get(&uuid).copied()
        };
        self.by_name.get(word).copied().or_else(by_uuid)
    }

    pub(crate) fn find_ref(&self, qube: &QubeRef) -> Option<QubeIndex> {
        match qube {
            QubeRef::Name(name) => self.by_name.get(&**name).copied(),
            QubeRef::Uuid(uuid) => self.by_uuid.get(uuid).copied(),
        }
    }

    pub(crate) fn find_uuid(&self, uuid: Uuid) -> Option<QubeIndex> {
        self.by_uuid.get(&uuid).copied()
    }

    /// The qube at an index that this view gave out.
    pub(crate) fn get(&self, index: QubeIndex) -> &QubeView {
        self.qubes
            .get(index.0)
            .expect("an index comes from the view it is used with")
    }

    /// Whether this is the qube that a rule names, without a look-up.
    pub(crate) fn is(&self, index: QubeIndex, qube: &QubeRef) -> bool {
        let found = self.get(index);
        match qube {
            QubeRef::Name(name) => *found.name == **name,
            QubeRef::Uuid(uuid) => found.uuid == *uuid,
        }
    }

    /// The base of `@dispvm` for this caller: it exists and disposables may be made of it.
    pub(crate) fn disposable_base(&self, source: QubeIndex) -> Option<QubeIndex> {
        let base = (*self.default_dispvm.get(source.0)?)?;
        self.get(base).template_for_dispvms.then_some(base)
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = QubeIndex> + use<> {
        (0..self.qubes.len()).map(QubeIndex)
    }
}
