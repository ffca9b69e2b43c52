//! What the runtime knows, in memory: the answer to every question that must be instant.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bulkhead_api::qube::{QubeRow, QubeState, Revision, TemplateRoot};
use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Qube, QubeKind};
use bulkhead_policy::{Engine, QubeView, SystemView};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::lifecycle::Command;
use crate::hypervisor::{DomId, Hypervisor, ROOT_VOLUME};
use crate::lock::template_qube_of;
use crate::machine::{Declared, Stopped};
use crate::relays::{Place, Relay};
use crate::storage::{ImageDigest, RevisionId, RevisionInfo};
use crate::windows::Windows;

/// Longest chain from a qube to the template its root comes from: disposable, its disposable
/// template, that one's template.
const TEMPLATE_CHAIN_MAX: usize = 4;

/// Whether a qube's agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Nobody waits for one: it may come nevertheless.
    NotExpected,
    /// Not yet, or not any more.
    Absent,
    /// It speaks this protocol version.
    Connected(u32),
    /// Its domain is gone.
    Gone,
}

/// How long a qube is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Life {
    /// As long as it is declared.
    Declared,
    /// A disposable, until it stops.
    Disposable,
    /// A disposable, until its one call or command is over.
    OfACall,
}

impl Life {
    pub(crate) fn is_disposable(self) -> bool {
        self != Self::Declared
    }

    pub(crate) fn is_of_a_call(self) -> bool {
        self == Self::OfACall
    }
}

/// One life of a qube, from start to end.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: QubeName,
    pub(crate) domid: DomId,
    pub(crate) uuid: Uuid,
    pub(crate) image: Option<ImageDigest>,
    /// What of its template qube's root it runs on; none where its root is the image, or its own.
    pub(crate) revision: Option<RevisionId>,
    pub(crate) life: Life,
    /// Seconds since the epoch.
    pub(crate) started: u64,
    pub(crate) default_user: String,
    pub(crate) place: Arc<Place>,
    pub(crate) relay: std::sync::OnceLock<Arc<Relay>>,
    /// Not set where it has none.
    pub(crate) windows: std::sync::OnceLock<Arc<Windows>>,
    pub(crate) agent: watch::Sender<Agent>,
    /// Counts its relays: what an earlier one asked cannot be answered any more.
    pub(crate) epoch: AtomicU64,
}

impl Run {
    pub(crate) fn is_gone(&self) -> bool {
        *self.agent.borrow() == Agent::Gone
    }

    pub(crate) fn expects_no_agent(&self) -> bool {
        *self.agent.borrow() == Agent::NotExpected
    }

    /// Whether nothing of it is still to come.
    pub(crate) fn is_up(&self) -> bool {
        matches!(
            *self.agent.borrow(),
            Agent::Connected(_) | Agent::NotExpected
        )
    }
}

/// One qube that runs or has run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) mailbox: mpsc::Sender<Command>,
    pub(crate) state: QubeState,
    pub(crate) run: Option<Arc<Run>>,
    /// What runs, with every live change; meaningful while `run` is there.
    pub(crate) spec: Option<Qube>,
    /// The domain that is its network now.
    pub(crate) netvm: Option<DomId>,
    pub(crate) paused: bool,
    pub(crate) stopped: Option<Stopped>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) declared: Option<Declared>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) view: Arc<SystemView>,
    pub(crate) qubes: BTreeMap<QubeName, Entry>,
    pub(crate) domains: HashMap<u32, Arc<Run>>,
    pub(crate) uuids: BTreeMap<QubeName, Uuid>,
    /// Of each qube's own root, oldest first.
    pub(crate) revisions: BTreeMap<QubeName, Vec<RevisionInfo>>,
    hypervisor: Arc<dyn Hypervisor>,
}

fn empty_view() -> SystemView {
    SystemView::new([]).expect("dom0 alone cannot be there twice")
}

impl State {
    /// Who runs dom0's services where neither rule nor service says.
    pub(crate) fn service_user(&self) -> Option<String> {
        self.description()?.dom0.service_user.clone()
    }

    pub(crate) fn new(uuids: BTreeMap<QubeName, Uuid>, hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self {
            declared: None,
            // Until a policy has been read, nothing is allowed.
            engine: Arc::new(Engine::broken(Vec::new())),
            view: Arc::new(empty_view()),
            qubes: BTreeMap::new(),
            domains: HashMap::new(),
            uuids,
            revisions: BTreeMap::new(),
            hypervisor,
        }
    }

    pub(crate) fn description(&self) -> Option<&Arc<Description>> {
        self.declared.as_ref().map(|d| &d.description)
    }

    /// A qube as it is declared now.
    pub(crate) fn declared_qube(&self, name: &QubeName) -> Option<&Qube> {
        self.description()?.qubes.get(name).map(|qube| &**qube)
    }

    pub(crate) fn run(&self, name: &QubeName) -> Option<&Arc<Run>> {
        self.qubes.get(name)?.run.as_ref()
    }

    /// Others that run and have their network from `name`.
    pub(crate) fn running_clients(&self, name: &QubeName) -> Vec<QubeName> {
        let running = self.qubes.values().filter(|entry| entry.run.is_some());
        let specs = running.filter_map(|entry| entry.spec.as_ref());
        let clients = specs.filter(|spec| spec.netvm.as_ref() == Some(name) && spec.name != *name);
        clients.map(|spec| spec.name.clone()).collect()
    }

    /// The image that a qube's root is made of.
    pub(crate) fn image_of(&self, qube: &Qube) -> Option<ImageDigest> {
        let declared = self.declared.as_ref()?;
        let mut template = qube.template.clone().unwrap_or_else(|| qube.name.clone());
        for _ in 0..TEMPLATE_CHAIN_MAX {
            if let Some(image) = declared.images.get(&template) {
                return Some(image.clone());
            }
            template = declared
                .description
                .qubes
                .get(&template)?
                .template
                .clone()?;
        }
        None
    }

    /// The newest revision of each root that qubes start from.
    pub(crate) fn newest_revisions(&self) -> BTreeMap<QubeName, RevisionId> {
        let roots = self.revisions.iter();
        roots
            .filter_map(|(qube, list)| Some((qube.clone(), list.last()?.id)))
            .collect()
    }

    /// The template qube whose root a qube starts from, and its newest revision.
    fn template_qube(&self, qube: &Qube) -> Option<(&QubeName, Option<RevisionId>)> {
        if qube.volumes.contains_key(ROOT_VOLUME) {
            return None;
        }
        let template = template_qube_of(self.description()?, qube)?;
        let newest = self.revisions.get(template).and_then(|list| list.last());
        Some((template, newest.map(|newest| newest.id)))
    }

    /// Whether a qube would have another root if it started now.
    pub(crate) fn root_differs(&self, run: &Run, declared: &Qube) -> bool {
        match self.template_qube(declared) {
            Some((_, Some(newest))) => run.revision != Some(newest),
            // A root that is kept has begun, and is its own from then on.
            _ if declared.volumes.contains_key(ROOT_VOLUME) => false,
            _ => run.image != self.image_of(declared),
        }
    }

    /// What people are told about that.
    pub(crate) fn template_root(
        &self,
        run: Option<&Arc<Run>>,
        declared: &Qube,
    ) -> Option<TemplateRoot> {
        let (template, newest) = self.template_qube(declared)?;
        let runs_on = run.and_then(|run| run.revision);
        // A number of another root would say nothing here.
        let of_this = runs_on.filter(|id| newest.is_none_or(|newest| newest.root == id.root));
        Some(TemplateRoot {
            template: template.to_string(),
            revision: of_this.map(|id| id.number),
            newest: newest.map(|newest| newest.number),
            outdated: run.is_some() && newest.is_some() && runs_on != newest,
        })
    }

    /// What a template qube's root was at its clean stops.
    pub(crate) fn revisions_of(&self, qube: &Qube) -> Vec<Revision> {
        let list = self.revisions.get(&qube.name).into_iter().flatten();
        let list = list.filter(|_| qube.kind == QubeKind::Template);
        list.map(|info| Revision {
            number: info.id.number,
            made: info.made,
        })
        .collect()
    }

    /// Makes the policy's view of the machine anew. A view that cannot be made knows dom0 alone,
    /// so that every call is refused.
    pub(crate) fn rebuild_view(&mut self) {
        let mut specs: BTreeMap<&QubeName, &Qube> = BTreeMap::new();
        for entry in self.qubes.values() {
            if let Some(spec) = entry.spec.as_ref().filter(|_| entry.run.is_some()) {
                specs.insert(&spec.name, spec);
            }
        }
        if let Some(description) = self.description() {
            // Tags and the like are those declared, not those it was started with.
            specs.extend((description.qubes.iter()).map(|(name, qube)| (name, &**qube)));
        }
        let mut views: Vec<QubeView> = specs
            .iter()
            .filter_map(|(name, qube)| {
                let run = self.run(name);
                let uuid = run
                    .map(|r| r.uuid)
                    .or_else(|| self.uuids.get(*name).copied())?;
                Some(QubeView::declared(qube, uuid, run.is_some()))
            })
            .collect();
        let remotes = self.description().into_iter().flat_map(|d| &d.remotes);
        views.extend(remotes.filter_map(|(name, remote)| {
            let uuid = self.uuids.get(name).copied()?;
            Some(QubeView::remote(remote, uuid))
        }));
        match SystemView::new(views) {
            Ok(view) => self.view = Arc::new(view),
            Err(error) => {
                tracing::error!(%error, "policy cannot see the machine, so it refuses every call");
                self.view = Arc::new(empty_view());
            }
        }
    }

    /// One line of the list; none for a name that is neither declared nor running.
    pub(crate) fn row(&self, name: &QubeName) -> Option<QubeRow> {
        let entry = self.qubes.get(name);
        let running = entry.and_then(|e| e.spec.as_ref().filter(|_| e.run.is_some()));
        let Some(qube) = running.or_else(|| self.declared_qube(name)) else {
            return self.remote_row(name);
        };
        let run = entry.and_then(|e| e.run.as_ref());
        let state = entry.map_or(QubeState::Stopped, |e| e.state);
        let text = |name: &Option<QubeName>| name.as_ref().map(ToString::to_string);
        Some(QubeRow {
            name: name.to_string(),
            state,
            kind: if run.is_some_and(|r| r.life.is_disposable()) {
                "disposable".to_owned()
            } else {
                kind_name(qube.kind).to_owned()
            },
            label: qube.label.clone(),
            color: self.color(&qube.label),
            template: text(&qube.template).unwrap_or_default(),
            netvm: text(&qube.netvm).unwrap_or_default(),
            memory: run.map_or(0, |_| self.hypervisor.may_use(qube.memory).0),
            domid: run.map_or(0, |r| r.domid.0),
        })
    }

    /// The line of a qube of another machine.
    fn remote_row(&self, name: &QubeName) -> Option<QubeRow> {
        let remote = self.description()?.remotes.get(name)?;
        Some(QubeRow {
            name: name.to_string(),
            state: QubeState::Remote,
            kind: "remote".to_owned(),
            label: remote.label.clone(),
            color: self.color(&remote.label),
            template: String::new(),
            netvm: String::new(),
            memory: 0,
            domid: 0,
        })
    }

    /// The colour of a label; empty if it is not declared.
    fn color(&self, label: &str) -> String {
        let label = self.description().and_then(|d| d.labels.get(label));
        label.map(|label| label.color.clone()).unwrap_or_default()
    }

    /// All lines, by name.
    pub(crate) fn rows(&self) -> Vec<QubeRow> {
        let mut names: Vec<&QubeName> = self.qubes.keys().collect();
        if let Some(description) = self.description() {
            names.extend(description.qubes.keys().chain(description.remotes.keys()));
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| self.row(name))
            .collect()
    }
}

fn kind_name(kind: QubeKind) -> &'static str {
    match kind {
        QubeKind::App => "app",
        QubeKind::Template => "template",
        QubeKind::Standalone => "standalone",
        QubeKind::DisposableTemplate => "disposable_template",
        QubeKind::NamedDisposable => "named_disposable",
    }
}
