//! Qubes with windows are told of the monitors that these are on, by `qubes.SetMonitorLayout`.

use std::sync::Weak;
use std::time::Duration;

use bulkhead_model::qube::{Description, Qube};
use bulkhead_wire::causes::chain;
use bulkhead_wire::monitors::Layout;
use bulkhead_wire::qrexec::EXIT_NOT_FOUND;
use tokio::sync::watch;

use super::windows::feature;
use super::{Inner, Run};

const SERVICE: &str = "qubes.SetMonitorLayout";

/// Keeps a qube from being told, as in Qubes.
const NOT_TOLD: &str = "no-monitor-layout";

/// Monitors change one by one: what is told is what there is after that. Between two calls there is
/// as much time.
const SETTLE: Duration = Duration::from_millis(500);

/// Whether `qube` is told of monitors.
pub(super) fn is_told(qube: &Qube, description: Option<&Description>) -> bool {
    feature(qube, description, NOT_TOLD).is_none_or(|value| matches!(value, "" | "0"))
}

/// Tells a qube of each layout, or of the newest where they come faster than it hears, until there will
/// be no more of them.
pub(super) async fn tell(
    inner: Weak<Inner>,
    run: Weak<Run>,
    mut layouts: watch::Receiver<Option<Layout>>,
) {
    while layouts.changed().await.is_ok() {
        tokio::time::sleep(SETTLE).await;
        let Some(layout) = layouts.borrow_and_update().clone() else {
            continue;
        };
        let (Some(inner), Some(run)) = (inner.upgrade(), run.upgrade()) else {
            return;
        };
        let qube = run.name.to_string();
        let told = inner.tell(&run, SERVICE, &layout.to_string()).await;
        // What ends meanwhile is not held up by this.
        drop((inner, run));
        let told = match told {
            Ok(telling) => telling.ended().await,
            Err(error) => {
                let error = chain(&error);
                tracing::info!(%qube, error, "it is not told of monitors");
                continue;
            }
        };
        match told {
            Ok(Some(status)) if status.success() => tracing::info!(%qube, "it is told of monitors"),
            Ok(Some(status)) if status.code() == Some(EXIT_NOT_FOUND.into()) => {
                tracing::debug!(%qube, "it does not want to know of monitors");
            }
            Ok(Some(status)) => tracing::info!(%qube, %status, "it cannot be told of monitors"),
            Ok(None) => tracing::info!(%qube, "it does not hear of monitors"),
            Err(error) => {
                tracing::warn!(%qube, %error, "nobody knows whether it heard of monitors")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bulkhead_model::name::QubeName;
    use bulkhead_model::qube::QubeKind;

    use super::*;

    #[test]
    fn a_qube_is_told_unless_it_or_else_its_template_says_not() {
        let qube = |name: &str, said: Option<&str>| {
            let mut qube = Qube::new(QubeName::new(name).unwrap(), QubeKind::App, "blue");
            let features = said.map(|value| (NOT_TOLD.to_owned(), value.to_owned()));
            qube.features = features.into_iter().collect();
            qube
        };
        let mut description = Description::default();
        let template = qube("debian", Some("1"));
        let name = template.name.clone();
        description.qubes.insert(name.clone(), Arc::new(template));
        for (own, template, told) in [
            (None, false, true),
            (Some("1"), false, false),
            (Some("0"), false, true),
            (None, true, false),
            (Some(""), true, true),
        ] {
            let mut qube = qube("work", own);
            qube.template = template.then(|| name.clone());
            assert_eq!(is_told(&qube, Some(&description)), told, "{own:?}");
        }
    }
}
