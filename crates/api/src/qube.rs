//! Qubes as clients see them.

use serde::{Deserialize, Serialize};
use zbus::Type;

/// The state of a qube. Travels as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
#[serde(rename_all = "snake_case")]
#[zbus(signature = "s")]
pub enum QubeState {
    /// Not running.
    Stopped,
    /// Being made; its agent has not said hello yet.
    Starting,
    /// Running, its agent connected.
    Running,
    /// Frozen.
    Paused,
    /// Asked to stop.
    Stopping,
    /// Stopped without having been asked to.
    Failed,
    /// On another machine, which alone knows.
    Remote,
}

impl QubeState {
    /// The name that travels and that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Remote => "remote",
        }
    }

    /// Whether it has a domain on this machine now, in whatever condition.
    pub fn has_domain(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Stopping => true,
            Self::Stopped | Self::Failed | Self::Remote => false,
        }
    }
}

/// One line of `bulkhead ls`. An empty text stands for "none".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct QubeRow {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: QubeState,
    /// Its kind: `app`, `template`, `standalone`, `disposable_template`, `named_disposable`,
    /// `disposable` for one that was made for a single use, or `remote`.
    pub kind: String,
    /// Name of its label.
    pub label: String,
    /// The label's colour, `0xRRGGBB`.
    pub color: String,
    /// Template its root comes from.
    pub template: String,
    /// Qube that provides its network.
    pub netvm: String,
    /// Memory it may use now, in MiB; 0 when it does not run.
    pub memory: u64,
    /// Domain id; 0 when it does not run.
    pub domid: u32,
}

/// Everything about one qube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QubeInfo {
    /// What `ls` shows.
    #[serde(flatten)]
    pub row: QubeRow,
    /// Its UUID while it runs or has volumes.
    pub uuid: Option<String>,
    /// Seconds since the epoch at which it started.
    pub started: Option<u64>,
    /// Whether what runs was made from another version of its description.
    pub restart_needed: bool,
    /// Negotiated qrexec version; none before the agent has connected.
    pub agent_version: Option<u32>,
    /// Properties of its description that change nothing on this machine.
    #[serde(default)]
    pub without_effect: Vec<String>,
    /// What it starts from, if that is the root of a template qube.
    #[serde(default)]
    pub template_root: Option<TemplateRoot>,
    /// What its own root was at clean stops, if others start from it; oldest first.
    #[serde(default)]
    pub revisions: Vec<Revision>,
    /// Its resolved description.
    pub declared: serde_json::Value,
}

/// What a qube starts from that is based on a template qube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRoot {
    /// The template qube.
    pub template: String,
    /// Number of the revision of its root that the qube runs on; none where it does not run, or
    /// started before there was one.
    pub revision: Option<u64>,
    /// Number of the newest, which the next start uses; none before the template qube has stopped
    /// for the first time: the image is used then.
    pub newest: Option<u64>,
    /// Whether it runs on another than the newest: a restart brings that.
    pub outdated: bool,
}

/// What became of a root that went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// Whose root.
    pub qube: String,
    /// The revision that it is as again.
    pub to: u64,
    /// The number that this has by now.
    pub revision: u64,
}

/// What a root was at one clean stop of its qube.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number, from 1.
    pub number: u64,
    /// Seconds since the epoch at which it was made.
    pub made: u64,
}
