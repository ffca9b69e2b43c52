//! The properties of a qube, as written in `qubes`, `profiles` and `defaults`.

use crate::decode::{Decode, Decoder, Located, Maybe, Size, Table, Whole, section};
use crate::name::QubeName;
use crate::qube::{QubeKind, RestartRule, VirtMode};
use crate::syntax::tree::{Node, Value};

/// Most virtual processors of a qube: what Xen gives a guest without further set-up.
pub(crate) const VCPUS_MAX: u32 = 128;

/// Greatest share of processor time: the most that Xen's scheduler knows.
pub(crate) const CPU_WEIGHT_MAX: u32 = 65_535;

/// Longest time that a shutdown may take, in seconds: an hour.
pub(crate) const SHUTDOWN_TIMEOUT_MAX: u32 = 3600;

/// Most revisions of a volume that are kept.
pub(crate) const REVISIONS_MAX: u32 = 100;

section! {
    /// Properties of a qube.
    pub(crate) struct QubeOptions as "Qube" {
        /// `App` (root from a template, private volume of its own), `Template` (others start
        /// from its root), `Standalone` (root and private volume of its own),
        /// `DisposableTemplate` (an app qube from which disposables are made) or
        /// `NamedDisposable` (keeps its name, and nothing else across a stop).
        kind: QubeKind = "App", "0.1";
        /// Sets of properties that this qube takes over, in order: later ones win over earlier
        /// ones, the qube's own values over all. Maps and lists are joined. Only in `qubes`.
        profiles: Vec<Located<String>> = "none", "0.1";
        /// Its label, by which a person sees how far it is trusted.
        label: String = "must be given", "0.1";
        /// Where its root comes from: a name in `templates`, or a qube of kind `Template`, whose
        /// root it is as that was when the qube last stopped in order. For a named disposable a qube of kind `DisposableTemplate`; for a qube of kind
        /// `Template` or `Standalone` the image that its own root starts as.
        template: QubeName = "must be given, but for a standalone qube with `virt_mode: Hvm`", "0.1";
        /// The qube that provides its network. `None` means no network. In `defaults` it does
        /// not count for qubes of kind `Template`.
        netvm: Maybe<QubeName> = "None", "0.1";
        /// Whether it may be another qube's `netvm`.
        provides_network: bool = "false", "0.1";
        /// Its memory.
        memory: MemoryOptions = "see inside", "0.1";
        /// Virtual processors. Can change while the qube runs, up to `maxvcpus`.
        vcpus: Whole<1, VCPUS_MAX> = "2", "0.1";
        /// As many as `vcpus` can become while the qube runs; `None` is no more than it starts with.
        /// On Xen a qube's kernel can take all of these into use by itself: this is the limit, and
        /// `vcpus` what the qube is told. `maxvcpus` of `xl.cfg`.
        maxvcpus: Maybe<Whole<1, VCPUS_MAX>> = "None", "0.1";
        /// Its share of processor time where qubes want more than there is, in proportion to
        /// theirs: one with 512 gets twice as much as one with 256, which dom0 has. It holds nobody
        /// back while there is enough. `cpu_weight` of `xl.cfg`; can change while the qube runs.
        cpu_weight: Whole<1, CPU_WEIGHT_MAX> = "256", "0.1";
        /// Whether it is started with the machine.
        autostart: bool = "false", "0.1";
        /// Persistent volumes: `private`, and `root` where a qube has a root of its own.
        /// Disposables that keep nothing have none.
        volumes: Table<String, VolumeOptions> = "`private` of 2 GiB; `root` of 10 GiB for kinds Template and Standalone", "0.1";
        /// Kernel that it boots: the name of one that is installed in dom0, a folder in
        /// `/var/lib/qubes/vm-kernels`. `None` means the template's own. The embedded hypervisor ignores it.
        kernel: Maybe<String> = "None", "0.1";
        /// Added to the kernel's command line.
        kernelopts: String = "empty", "0.1";
        /// How Xen virtualises it: `Pvh`, `Pv` or `Hvm`. The embedded hypervisor ignores it.
        virt_mode: VirtMode = "Pvh", "0.1";
        /// Devices that it has, as `class:backend:ident`, for example `block:dom0:sda` (for paths
        /// below `/dev`, with `_` for `/`) or `pci:dom0:00_14.0`. A qube with PCI devices needs `virt_mode` `Pv` or `Hvm`.
        devices: Vec<Located<String>> = "none", "0.1";
        /// Features, by name. `true` is `1` and `false` is empty, as in `qvm-features`; `None`
        /// takes one back that a profile or `defaults` sets.
        features: Table<String, Maybe<FeatureValue>> = "none", "0.1";
        /// Services in the qube, on or off, by name. `None` takes one back.
        services: Table<String, Maybe<bool>> = "none", "0.1";
        /// Tags, for policy and assertions.
        tags: Vec<Located<String>> = "none", "0.1";
        /// The disposable template from which disposables that this qube asks for are made.
        default_dispvm: Maybe<QubeName> = "None", "0.1";
        /// When it is started again after it stopped: `Never`, `OnFailure` (it died) or `Always`
        /// (however it stopped, unless a person stopped it).
        restart: RestartRule = "Never", "0.1";
        /// User that commands in it run as.
        default_user: String = "user", "0.1";
        /// The qube that plays its sound; it must have `provides_audio`.
        audiovm: Maybe<QubeName> = "None", "0.1";
        /// The qube that shows its windows; it must have `provides_gui`. `None` means dom0.
        guivm: Maybe<QubeName> = "None", "0.1";
        /// The disposable template from which a disposable that manages this qube is made; it
        /// must have `provides_management`.
        management_dispvm: Maybe<QubeName> = "None", "0.1";
        /// Seconds that a shutdown may take before the qube is killed.
        shutdown_timeout: Whole<1, SHUTDOWN_TIMEOUT_MAX> = "60", "0.1";
        /// Whether it may be another qube's `audiovm`.
        provides_audio: bool = "false", "0.1";
        /// Whether it may be another qube's `guivm`.
        provides_gui: bool = "false", "0.1";
        /// Whether it may be another qube's `management_dispvm`.
        provides_management: bool = "false", "0.1";
    }
}

section! {
    /// Memory.
    pub(crate) struct MemoryOptions as "Memory" {
        /// Memory at start: a number of MiB, or a text such as `"2 GiB"`.
        initial: Size = "400 MiB", "0.1";
        /// Memory at most while it runs. `None` means that it keeps what it started with.
        maximum: Maybe<Size> = "4000 MiB, or `initial` where that is more", "0.1";
    }
}

section! {
    /// A persistent volume.
    pub(crate) struct VolumeOptions as "Volume" {
        /// Its size. A volume can grow while it is in use; it never shrinks.
        size: Size = "as above", "0.1";
        /// How many earlier revisions are kept. `root` of a qube of kind `Template` has some; with
        /// another volume it has no effect yet.
        revisions_to_keep: Whole<0, REVISIONS_MAX> = "1", "0.1";
    }
}

/// The value of a feature: text, or a boolean as its usual text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeatureValue(pub(crate) String);

impl Decode for FeatureValue {
    fn type_name() -> String {
        "text, true or false".to_owned()
    }

    fn decode(node: &Node<'_>, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(true) => Some(Self("1".to_owned())),
            Value::Bool(false) => Some(Self(String::new())),
            _ => String::decode(node, decoder).map(Self),
        }
    }
}
