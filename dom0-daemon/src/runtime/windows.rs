//! Whose windows are shown, and what their proxies say.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use bulkhead_model::qube::{Description, Label, Qube};
use bulkhead_wire::proxy::FromProxy;

use super::lifecycle::Places;
use super::{Inner, Run, Runtime};
use crate::clipboard::{Pressed, Takes};
use crate::notifications::NotificationOffer;
use crate::relays::printable;
use crate::windows::{Display, DisplayError, DisplayOffer, Windows, WindowsEvents, WindowsSpec};

/// Numbers of the labels that Qubes has; others come behind them.
const LABELS: [&str; 8] = [
    "red", "orange", "yellow", "green", "gray", "blue", "purple", "black",
];

/// Options of proxies, by the features that set them; that of pictures is ours. Source: wire page on
/// windows, section 9.
const OPTIONS: [(&str, &str); 4] = [
    ("gui-max-clipboard-size", "--clipboard-max"),
    ("gui-max-clipboard-picture-size", "--picture-max"),
    ("gui-secure-copy-sequence", "--copy-keys"),
    ("gui-secure-paste-sequence", "--paste-keys"),
];

/// Whether dom0 shows the windows of `qube`: where its feature `gui` says so, or else its
/// template's.
pub(super) fn shows_windows(qube: &Qube, description: Option<&Description>) -> bool {
    let said = feature(qube, description, "gui");
    let on = said.is_some_and(|value| !matches!(value, "" | "0"));
    on && qube.guivm.is_none()
}

/// A feature of `qube`, or else of its template.
pub(super) fn feature<'a>(
    qube: &'a Qube,
    description: Option<&'a Description>,
    name: &str,
) -> Option<&'a str> {
    let of_template = || {
        let template = description?.qubes.get(qube.template.as_ref()?)?;
        template.features.get(name)
    };
    qube.features
        .get(name)
        .or_else(of_template)
        .map(String::as_str)
}

/// What the frames of a qube look like and how it may be used, as options.
fn options(qube: &Qube, description: Option<&Description>) -> Vec<String> {
    let mut options = Vec::new();
    let mut say = |option: &str, value: String| options.extend([option.to_owned(), value]);
    let labels = description.map(|d| &d.labels);
    let label = labels.and_then(|labels| labels.get(&qube.label));
    say("--color", color(label));
    let known = LABELS.iter().position(|name| *name == qube.label);
    let number = known.or_else(|| {
        let own = labels?
            .keys()
            .filter(|name| !LABELS.contains(&name.as_str()));
        Some(LABELS.len() + own.into_iter().position(|name| *name == qube.label)?)
    });
    say("--label", number.map_or(0, |number| number + 1).to_string());
    for (feature, option) in OPTIONS {
        if let Some(value) = qube.features.get(feature).filter(|value| !value.is_empty()) {
            say(option, value.clone());
        }
    }
    options
}

/// Six hexadecimal digits; black where there is no such label any more.
fn color(label: Option<&Label>) -> String {
    let color = label.map_or("0x000000", |label| label.color.as_str());
    color.trim_start_matches("0x").to_owned()
}

/// The ear of one life of a qube.
#[derive(Debug)]
struct Ear {
    inner: Weak<Inner>,
    run: Weak<Run>,
}

impl WindowsEvents for Ear {
    fn message(
        &self,
        display: &Arc<Display>,
        message: FromProxy,
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let (Some(inner), Some(run)) = (self.inner.upgrade(), self.run.upgrade()) else {
            return Ok(());
        };
        let pressed = |time| Pressed {
            time,
            display: Arc::downgrade(display),
        };
        match message {
            FromProxy::Ready { confinement } => {
                let confinement = printable(&confinement);
                tracing::debug!(qube = %run.name, confinement, "its windows can be shown");
            }
            FromProxy::AgentConnected { version, pictures } => {
                let (major, minor) = version;
                if let Some(windows) = run.windows.get() {
                    windows.set_takes(Takes::of_agent(version, pictures));
                }
                tracing::info!(qube = %run.name, version = format!("{major}.{minor}"), "shows windows");
            }
            FromProxy::CopyAsked { time } => return inner.clipboard_asked(pressed(time)),
            FromProxy::Copied { length, what, time } => {
                return inner.clipboard_copied(&run, pressed(time), (length, what), fds);
            }
            FromProxy::NotCopied { time, why } => {
                return inner.clipboard_not_copied(&run, pressed(time), why);
            }
            FromProxy::Monitors(layout) => {
                if let Some(windows) = run.windows.get() {
                    windows.set_layout(layout);
                }
            }
            FromProxy::PasteAsked { time } => return inner.clipboard_paste(&run, pressed(time)),
            FromProxy::Pasted { number } => inner.clipboard_pasted(&run, number),
            FromProxy::NotPasted { number, why } => {
                inner.clipboard_not_pasted(&run, number, why);
            }
        }
        Ok(())
    }

    fn ended(&self) {
        if let (Some(inner), Some(run)) = (self.inner.upgrade(), self.run.upgrade()) {
            inner.clipboard_unanswered(&run);
        }
    }
}

impl Inner {
    /// Shows the windows of `qube`, which runs as `run`, from now on.
    pub(super) fn show_windows(&self, run: &Arc<Run>, qube: &Qube) {
        let Some(program) = self.config.gui.clone() else {
            return;
        };
        let description = self.state().description().cloned();
        let description = description.as_deref();
        if !shows_windows(qube, description) {
            return;
        }
        let spec = WindowsSpec {
            program,
            qube: run.name.to_string(),
            domid: run.domid.0,
            options: options(qube, description),
            place: Arc::clone(&run.place),
            sockets: Places::new(&self.config.runtime_dir, &run.name).vchan(),
            displays: self.displays.watch(),
        };
        let ear = Ear {
            inner: self.own.clone(),
            run: Arc::downgrade(run),
        };
        let windows = Windows::new();
        // Nobody else sets it.
        let _ = run.windows.set(Arc::clone(&windows));
        if super::monitors::is_told(qube, description) {
            let layouts = windows.layouts();
            let (inner, run) = (self.own.clone(), Arc::downgrade(run));
            tokio::spawn(super::monitors::tell(inner, run, layouts));
        }
        windows.begin(spec, Arc::new(ear));
    }
}

impl Runtime {
    /// A session shows notifications until what is returned is dropped.
    pub fn offer_notifications(&self) -> NotificationOffer {
        self.inner.notifications.offer()
    }

    /// Shows windows on the display `name`, which the Xauthority file of these bytes opens, until
    /// what is returned is dropped.
    ///
    /// # Errors
    /// [`DisplayError`].
    pub fn offer_display(
        &self,
        name: &str,
        authority: &[u8],
    ) -> Result<DisplayOffer, DisplayError> {
        let display = Display::new(name, authority)?;
        Ok(self.inner.displays.offer(display))
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_model::name::QubeName;
    use bulkhead_model::qube::QubeKind;

    use super::*;

    fn qube(name: &str, gui: Option<&str>) -> Qube {
        let mut qube = Qube::new(QubeName::new(name).unwrap(), QubeKind::App, "blue");
        let features = gui.map(|value| ("gui".to_owned(), value.to_owned()));
        qube.features = features.into_iter().collect();
        qube
    }

    #[test]
    fn windows_are_shown_where_the_qube_or_else_its_template_says_so() {
        let mut description = Description::default();
        let template = qube("debian", Some("1"));
        description
            .qubes
            .insert(template.name.clone(), Arc::new(template));
        for (own, template, shown) in [
            (None, false, false),
            (Some("1"), false, true),
            (None, true, true),
            (Some(""), true, false),
            (Some("0"), true, false),
        ] {
            let mut qube = qube("work", own);
            qube.template = template.then(|| QubeName::new("debian").unwrap());
            assert_eq!(shows_windows(&qube, Some(&description)), shown, "{own:?}");
            qube.guivm = Some(QubeName::new("sys-gui").unwrap());
            assert!(!shows_windows(&qube, Some(&description)));
        }
    }

    #[test]
    fn frames_have_the_labels_color_and_number_and_keys_are_those_of_the_features() {
        let mut description = Description::default();
        for (name, color) in [("blue", "0x3465a4"), ("mine", "0x00cc00"), ("own", "0x0")] {
            let label = Label {
                name: name.to_owned(),
                color: color.to_owned(),
                icon: String::new(),
            };
            description.labels.insert(name.to_owned(), label);
        }
        let mut work = qube("work", None);
        let said = |qube: &Qube| options(qube, Some(&description)).join(" ");
        assert_eq!(said(&work), "--color 3465a4 --label 6");
        work.label = "mine".to_owned();
        work.features = OPTIONS
            .iter()
            .map(|(feature, _)| ((*feature).to_owned(), "5".to_owned()))
            .collect();
        assert_eq!(
            said(&work),
            "--color 00cc00 --label 9 --clipboard-max 5 --picture-max 5 --copy-keys 5 --paste-keys 5"
        );
        work.label = "gone".to_owned();
        assert!(said(&work).starts_with("--color 000000 --label 0"));
    }
}
