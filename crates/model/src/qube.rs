//! A description after imports, profiles and defaults: every value present and checked.
//!
//! Names and meaning are those of the Qubes properties where such exist, so that the
//! compatibility layer renames and never translates.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::QubeName;

/// A size in mebibytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    /// The largest of MiB, GiB and TiB that says it without a fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIB: u64 = 1024;
        const TIB: u64 = 1024 * GIB;
        match self.0 {
            n if n >= TIB && n % TIB == 0 => write!(f, "{} TiB", n / TIB),
            n if n >= GIB && n % GIB == 0 => write!(f, "{} GiB", n / GIB),
            n => write!(f, "{n} MiB"),
        }
    }
}

/// What kind of qube this is; the Qubes class it corresponds to is in [`QubeKind::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QubeKind {
    /// Root from a template, private volume of its own.
    App,
    /// Root that other qubes start from.
    Template,
    /// Root and private volume of its own.
    Standalone,
    /// An app qube from which disposables are made.
    DisposableTemplate,
    /// A disposable that keeps its name: no volume survives a stop.
    NamedDisposable,
}

impl QubeKind {
    /// Every kind, in the order in which it is documented.
    pub const ALL: [Self; 5] = [
        Self::App,
        Self::Template,
        Self::Standalone,
        Self::DisposableTemplate,
        Self::NamedDisposable,
    ];

    /// The name as the description writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "App",
            Self::Template => "Template",
            Self::Standalone => "Standalone",
            Self::DisposableTemplate => "DisposableTemplate",
            Self::NamedDisposable => "NamedDisposable",
        }
    }

    /// The Qubes class name, as `qvm-ls` and policy `@type:` know it.
    pub fn class(self) -> &'static str {
        match self {
            Self::App | Self::DisposableTemplate => "AppVM",
            Self::Template => "TemplateVM",
            Self::Standalone => "StandaloneVM",
            Self::NamedDisposable => "DispVM",
        }
    }
}

/// How the domain is virtualised on Xen. The embedded hypervisor ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VirtMode {
    /// Hardware-virtualised without emulated devices.
    Pvh,
    /// Paravirtualised.
    Pv,
    /// Fully virtualised, with a device model.
    Hvm,
}

impl VirtMode {
    /// Every mode, in the order in which it is documented.
    pub const ALL: [Self; 3] = [Self::Pvh, Self::Pv, Self::Hvm];

    /// The name as the description writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pvh => "Pvh",
            Self::Pv => "Pv",
            Self::Hvm => "Hvm",
        }
    }
}

/// What happens when a qube stops without having been asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartRule {
    /// It stays stopped.
    Never,
    /// It is started again if it died (crash or kill from inside), with a growing delay.
    OnFailure,
    /// It is started again however it stopped, unless the person stopped it.
    Always,
}

impl RestartRule {
    /// Every rule, in the order in which it is documented.
    pub const ALL: [Self; 3] = [Self::Never, Self::OnFailure, Self::Always];

    /// The name as the description writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "Never",
            Self::OnFailure => "OnFailure",
            Self::Always => "Always",
        }
    }
}

/// Memory at start and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Memory {
    /// Given at start. Qubes: `memory`.
    pub initial: Mib,
    /// Upper bound while it runs. Qubes: `maxmem`.
    pub maximum: Mib,
}

/// A persistent volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Volume {
    /// Its size. Growing is live; shrinking is refused.
    pub size: Mib,
    /// How many earlier revisions are kept beside the newest.
    pub revisions_to_keep: u32,
}

/// A label: what the person sees a qube's trust by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Its name (`red`).
    pub name: String,
    /// `0xRRGGBB`.
    pub color: String,
    /// Icon name.
    pub icon: String,
}

/// Where a template's root comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateSource {
    /// This machine's own root, read-only (embedded backend only).
    Host,
    /// A Debian tree of this suite, built by mmdebstrap.
    Debian {
        /// Suite name, e.g. `bookworm`.
        suite: String,
        /// Packages beyond the minimal set.
        packages: Vec<String>,
    },
    /// A folder that already holds a root tree.
    Folder(String),
    /// A folder that holds a disk image of a root (`root.ext4`), its kernel (`vmlinuz`, or
    /// `vmlinux` unpacked) and perhaps an initrd (`initrd`); or a kernel alone, which is a unikernel.
    /// Xen only.
    Image(String),
}

/// A template image; qubes of kind `template` and app qubes refer to it by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its name; shares the name space of qubes.
    pub name: QubeName,
    /// Where its root comes from.
    pub source: TemplateSource,
    /// Its label.
    pub label: String,
}

/// One qube, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qube {
    /// Its name.
    pub name: QubeName,
    /// Its kind. Qubes: `klass`.
    pub kind: QubeKind,
    /// Name of its label.
    pub label: String,
    /// The template its root comes from.
    pub template: Option<QubeName>,
    /// The qube that provides its network.
    pub netvm: Option<QubeName>,
    /// Whether it may be another qube's netvm.
    pub provides_network: bool,
    /// Memory at start and at most.
    pub memory: Memory,
    /// Virtual processors.
    pub vcpus: u32,
    /// As many as it may come to have while it runs; none: no more than `vcpus`.
    #[serde(default)]
    pub maxvcpus: Option<u32>,
    /// Share of processor time in proportion to other qubes, from 1 to 65535.
    #[serde(default = "default_cpu_weight")]
    pub cpu_weight: u32,
    /// Started with the machine.
    pub autostart: bool,
    /// Persistent volumes by name (`private`).
    pub volumes: BTreeMap<String, Volume>,
    /// Kernel; none means the template's own.
    pub kernel: Option<String>,
    /// Kernel command line additions. Qubes: `kernelopts`.
    pub kernelopts: String,
    /// Virtualisation mode. Qubes: `virt_mode`.
    pub virt_mode: VirtMode,
    /// Devices assigned at start, as `class:backend:ident` (`pci:dom0:00_14.0`).
    pub devices: Vec<String>,
    /// Features, as in `qvm-features`.
    pub features: BTreeMap<String, String>,
    /// Services switched on or off, as in `qvm-service`.
    pub services: BTreeMap<String, bool>,
    /// Tags, as in `qvm-tags`.
    pub tags: BTreeSet<String>,
    /// Template for disposables that this qube asks for. Qubes: `default_dispvm`.
    pub default_dispvm: Option<QubeName>,
    /// What happens when it stops by itself.
    pub restart: RestartRule,
    /// User that commands run as. Qubes: `default_user`.
    pub default_user: String,
    /// Qube that plays its sound. Qubes: `audiovm`.
    pub audiovm: Option<QubeName>,
    /// Qube that shows its windows; none means dom0. Qubes: `guivm`.
    pub guivm: Option<QubeName>,
    /// Disposable template that manages it. Qubes: `management_dispvm`.
    pub management_dispvm: Option<QubeName>,
    /// Seconds a shutdown may take before it is killed. Qubes: `shutdown_timeout`.
    pub shutdown_timeout: u32,
    /// Whether it may be another qube's `audiovm`.
    pub provides_audio: bool,
    /// Whether it may be another qube's `guivm`.
    pub provides_gui: bool,
    /// Whether it may be another qube's `management_dispvm`.
    pub provides_management: bool,
}

/// Memory at start of a qube whose description says nothing, in MiB. Qubes: the same.
pub const DEFAULT_MEMORY_INITIAL: Mib = Mib(400);

/// Memory at most of a qube whose description says nothing, in MiB. Qubes: the same.
pub const DEFAULT_MEMORY_MAXIMUM: Mib = Mib(4000);

/// Virtual processors of a qube whose description says nothing. Qubes: the same.
pub const DEFAULT_VCPUS: u32 = 2;

/// Share of processor time of a qube whose description says nothing. Xen: the same.
pub const DEFAULT_CPU_WEIGHT: u32 = 256;

/// [`DEFAULT_CPU_WEIGHT`], for what was written down before this could be declared.
#[must_use]
pub fn default_cpu_weight() -> u32 {
    DEFAULT_CPU_WEIGHT
}

/// Seconds a shutdown may take when the description says nothing. Qubes: the same.
pub const DEFAULT_SHUTDOWN_TIMEOUT: u32 = 60;

/// User of commands when the description says nothing. Qubes: the same.
pub const DEFAULT_USER: &str = "user";

/// Size of the `private` volume when the description says nothing. Qubes: the same.
pub const DEFAULT_PRIVATE_SIZE: Mib = Mib(2048);

/// Size of the `root` volume of a qube that has one when the description says nothing. Qubes:
/// the same.
pub const DEFAULT_ROOT_SIZE: Mib = Mib(10 * 1024);

/// Revisions kept of a volume when the description says nothing. Qubes: the same.
pub const DEFAULT_REVISIONS_TO_KEEP: u32 = 1;

impl Qube {
    /// A qube of which nothing but its name, kind and label is said: the built-in defaults,
    /// without a `private` volume (see [`Volume::private_default`]).
    pub fn new(name: QubeName, kind: QubeKind, label: impl Into<String>) -> Self {
        Self {
            name,
            kind,
            label: label.into(),
            template: None,
            netvm: None,
            provides_network: false,
            memory: Memory {
                initial: DEFAULT_MEMORY_INITIAL,
                maximum: DEFAULT_MEMORY_MAXIMUM,
            },
            vcpus: DEFAULT_VCPUS,
            maxvcpus: None,
            cpu_weight: DEFAULT_CPU_WEIGHT,
            autostart: false,
            volumes: BTreeMap::new(),
            kernel: None,
            kernelopts: String::new(),
            virt_mode: VirtMode::Pvh,
            devices: Vec::new(),
            features: BTreeMap::new(),
            services: BTreeMap::new(),
            tags: BTreeSet::new(),
            default_dispvm: None,
            restart: RestartRule::Never,
            default_user: DEFAULT_USER.to_owned(),
            audiovm: None,
            guivm: None,
            management_dispvm: None,
            shutdown_timeout: DEFAULT_SHUTDOWN_TIMEOUT,
            provides_audio: false,
            provides_gui: false,
            provides_management: false,
        }
    }
}

impl Volume {
    /// The `private` volume of a qube whose description does not size it.
    pub fn private_default() -> Self {
        Self {
            size: DEFAULT_PRIVATE_SIZE,
            revisions_to_keep: DEFAULT_REVISIONS_TO_KEEP,
        }
    }
}

impl Description {
    /// The names of all qubes, remote ones too, in order.
    pub fn names(&self) -> Vec<QubeName> {
        let mut names: Vec<QubeName> =
            (self.qubes.keys().chain(self.remotes.keys()).cloned()).collect();
        names.sort();
        names
    }

    /// A qube, to be changed; whoever else holds it keeps it as it is.
    pub fn qube_mut(&mut self, name: &str) -> Option<&mut Qube> {
        self.qubes.get_mut(name).map(Arc::make_mut)
    }
}

/// A qube of another machine, which takes part in calls through one of this machine.
///
/// Source: wire page on policy, "RemoteVM destination".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its name here.
    pub name: QubeName,
    /// Its label.
    pub label: String,
    /// The qube through which it is reached, and the only one that may call in its name.
    pub relayvm: QubeName,
    /// The service in the relay that carries calls to it.
    pub transport_rpc: String,
    /// Its name on its own machine.
    pub remote_name: QubeName,
    /// Tags, matched by `@tag:` in policy.
    pub tags: BTreeSet<String>,
}

/// One policy source, in the order in which the description names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Name shown for it (`file:line` prefix): a path, or `system.ron` for inline rules.
    pub origin: String,
    /// Line of `origin` at which `text` starts, counted from 1.
    pub first_line: u32,
    /// Policy text, format 5.0.
    pub text: String,
}

/// Policy folders that are read while the machine runs, not when the description is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFolder {
    /// File of the description that names them.
    pub origin: String,
    /// Line of `origin`, counted from 1.
    pub line: u32,
    /// How many entries of [`Description::policy`] are tried before them.
    pub after: usize,
    /// Folders of `.policy` files; a file of an earlier one hides files of its name in later ones.
    pub folders: Vec<PathBuf>,
    /// Folder of the files that `!compat-4.0` reads.
    pub legacy: PathBuf,
    /// Paths are shown without this in front: the folder of the description.
    pub shown_from: PathBuf,
}

impl PolicyFolder {
    /// Whether both are read from the same folders, wherever they are named.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.folders == other.folders && self.legacy == other.legacy
    }
}

/// What dom0 does for qubes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dom0 {
    /// Who runs the services that qubes call there, where neither rule nor service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_user: Option<String>,
    /// Whether they are asked about pastes for which policy says `ask`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm_paste: bool,
}

impl Dom0 {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A whole machine, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Description {
    /// Labels by name.
    pub labels: BTreeMap<String, Label>,
    /// Templates by name.
    pub templates: BTreeMap<QubeName, Template>,
    /// Qubes by name.
    pub qubes: BTreeMap<QubeName, Arc<Qube>>,
    /// Qubes of other machines by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<QubeName, Remote>,
    /// What dom0 does for qubes.
    #[serde(default, skip_serializing_if = "Dom0::is_default")]
    pub dom0: Dom0,
    /// Call policy, in order.
    pub policy: Vec<PolicyText>,
    /// What policy must decide, in lines as `work -> vault qubes.Filecopy is ask`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_tests: Vec<PolicyText>,
    /// Call policy that is read live, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_folders: Vec<PolicyFolder>,
}
