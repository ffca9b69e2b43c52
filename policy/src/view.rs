//! What the engine knows of the machine: one snapshot, from which one call is decided.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Qube, QubeKind, Remote};
use hashbrown::HashMap;
use uuid::Uuid;

use crate::request::REMOTE_CLASS;
use crate::token::{DOM0, QubeRef};

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

    /// A qube as it is declared.
    pub fn declared(qube: &Qube, uuid: Uuid, running: bool) -> Self {
        let shared = |name: &Option<QubeName>| name.as_ref().map(|name| name.as_str().into());
        let tags = qube.tags.iter().map(|tag| tag.as_str().into());
        Self {
            tags: tags.collect(),
            running,
            template_for_dispvms: qube.kind == QubeKind::DisposableTemplate,
            default_dispvm: shared(&qube.default_dispvm),
            internal: (qube.features.get("internal")).is_some_and(|value| !value.is_empty()),
            guivm: shared(&qube.guivm),
            ..Self::new(qube.name.as_str(), uuid, qube.kind.class())
        }
    }

    /// A qube of another machine. Whether it runs there is not known here.
    pub fn remote(remote: &Remote, uuid: Uuid) -> Self {
        let tags = remote.tags.iter().map(|tag| tag.as_str().into());
        Self {
            tags: tags.collect(),
            relayvm: Some(remote.relayvm.as_str().into()),
            transport_rpc: Some(remote.transport_rpc.as_str().into()),
            ..Self::new(remote.name.as_str(), uuid, REMOTE_CLASS)
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
pub(crate) struct QubeIndex(u32);

impl QubeIndex {
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

/// What a qube's entry says of the base of its disposables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnBase<'a> {
    None,
    /// A word that no qube can have.
    Malformed,
    /// The word, and the qube of that name if there is one.
    Is(&'a str, Option<QubeIndex>),
}

/// Whether a caller that is in no list may still be judged by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strangers {
    Refused,
    Judged,
}

/// Numbers views, so that what was worked out for one is never used for another.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// All qubes at one instant.
///
/// Build a new one when the machine changes; a call is decided against exactly one.
#[derive(Debug, Clone)]
pub struct SystemView {
    number: u64,
    qubes: Vec<QubeView>,
    /// `uuid:` and the UUID, of each qube.
    uuid_words: Vec<Arc<str>>,
    default_dispvm: Vec<Option<QubeIndex>>,
    dom0: Option<QubeIndex>,
    strangers: Strangers,
    /// By name and by `uuid:` word.
    by_word: HashMap<Arc<str>, QubeIndex>,
    by_uuid: HashMap<Uuid, QubeIndex>,
}

impl SystemView {
    /// A snapshot of `qubes` and dom0. An entry named `dom0` replaces the one that is there anyway.
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
        Self::of(all, Strangers::Refused)
    }

    /// A snapshot of exactly `qubes`, for judging policy away from its machine: dom0 is there only
    /// if it is listed, and a caller that is not listed is judged by its name, not refused.
    pub fn exactly(qubes: Vec<QubeView>) -> Result<Self, SystemViewError> {
        Self::of(qubes, Strangers::Judged)
    }

    fn of(qubes: Vec<QubeView>, strangers: Strangers) -> Result<Self, SystemViewError> {
        let mut by_word = HashMap::with_capacity(2 * qubes.len());
        let mut by_uuid = HashMap::with_capacity(qubes.len());
        let mut uuid_words: Vec<Arc<str>> = Vec::with_capacity(qubes.len());
        for (index, qube) in (0..).map(QubeIndex).zip(&qubes) {
            if by_word.insert(Arc::clone(&qube.name), index).is_some() {
                return Err(SystemViewError::DuplicateName(Arc::clone(&qube.name)));
            }
            if let Some(other) = by_uuid.insert(qube.uuid, index) {
                let other: QubeIndex = other;
                let other = qubes
                    .get(other.number())
                    .map_or(&qube.name, |other| &other.name);
                return Err(SystemViewError::DuplicateUuid(
                    Arc::clone(other),
                    Arc::clone(&qube.name),
                ));
            }
            let word: Arc<str> = format!("uuid:{}", qube.uuid).into();
            by_word.insert(Arc::clone(&word), index);
            uuid_words.push(word);
        }
        let default_dispvm = qubes
            .iter()
            .map(|qube| by_word.get(qube.default_dispvm.as_deref()?).copied())
            .collect();
        Ok(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            dom0: by_word.get(DOM0).copied(),
            qubes,
            uuid_words,
            default_dispvm,
            strangers,
            by_word,
            by_uuid,
        })
    }

    /// Makes the qube `name` known as `uuid:TEXT` too, for lists whose UUIDs are no UUIDs. False if
    /// there is no such qube.
    pub fn also_known_as(&mut self, name: &str, text: &str) -> bool {
        let Some(index) = self.find(name) else {
            return false;
        };
        let word: Arc<str> = format!("uuid:{text}").into();
        self.by_word.insert(Arc::clone(&word), index);
        if let Some(own) = self.uuid_words.get_mut(index.number()) {
            *own = word;
        }
        true
    }

    /// The qubes.
    pub fn qubes(&self) -> &[QubeView] {
        &self.qubes
    }

    /// A qube by name or `uuid:` form.
    pub fn qube(&self, name: &str) -> Option<&QubeView> {
        self.find(name).map(|index| self.get(index))
    }

    /// Notes that a qube has started or stopped. False if there is no such qube.
    pub fn set_running(&mut self, name: &str, running: bool) -> bool {
        let found = self.find(name).filter(|index| Some(*index) != self.dom0);
        match found.and_then(|index| self.qubes.get_mut(index.number())) {
            Some(qube) => {
                qube.running = running;
                true
            }
            None => false,
        }
    }

    /// What this view has that no other has; which qubes run is not part of it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn judges_strangers(&self) -> bool {
        self.strangers == Strangers::Judged
    }

    pub(crate) fn dom0(&self) -> Option<QubeIndex> {
        self.dom0
    }

    pub(crate) fn find(&self, word: &str) -> Option<QubeIndex> {
        self.by_word.get(word).copied()
    }

    pub(crate) fn find_ref(&self, qube: &QubeRef) -> Option<QubeIndex> {
        self.find(qube.as_str())
    }

    pub(crate) fn find_uuid(&self, uuid: Uuid) -> Option<QubeIndex> {
        self.by_uuid.get(&uuid).copied()
    }

    /// The qube at an index that this view gave out.
    pub(crate) fn get(&self, index: QubeIndex) -> &QubeView {
        self.qubes
            .get(index.number())
            .expect("an index comes from the view it is used with")
    }

    /// `uuid:` and the UUID of a qube.
    pub(crate) fn uuid_word(&self, index: QubeIndex) -> &str {
        self.uuid_words.get(index.number()).map_or("", |word| word)
    }

    /// The base of `@dispvm` for a caller.
    pub(crate) fn own_base(&self, source: QubeIndex) -> OwnBase<'_> {
        let found = self.default_dispvm.get(source.number()).copied().flatten();
        match self.get(source).default_dispvm.as_deref() {
            None => OwnBase::None,
            Some(word) if word.is_empty() || word.starts_with('@') => OwnBase::Malformed,
            Some(word) => OwnBase::Is(word, found),
        }
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = QubeIndex> + use<> {
        (0..u32::try_from(self.qubes.len()).unwrap_or(u32::MAX)).map(QubeIndex)
    }
}
