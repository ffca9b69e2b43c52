//! Disposables: made from a template of theirs, named by a number, gone when they stop.

use std::collections::BTreeMap;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Qube, QubeKind, RestartRule};
use uuid::Uuid;

use super::{Inner, Life, Runtime, RuntimeError};
use crate::machine::{MachineError, Reason};

impl Inner {
    /// Makes and starts a disposable from `base`; it is gone when it stops.
    pub(crate) async fn create_disposable(
        &self,
        base: &QubeName,
        life: Life,
        reason: Reason,
    ) -> Result<QubeName, RuntimeError> {
        let (template, image) = self
            .declared(base)
            .ok_or_else(|| MachineError::NoSuchQube(base.clone()))?;
        if template.kind != QubeKind::DisposableTemplate {
            return Err(RuntimeError::NotADisposableTemplate(base.clone()));
        }
        let name = self.reserve_disposable_name()?;
        let qube = Qube {
            name: name.clone(),
            kind: QubeKind::NamedDisposable,
            template: Some(base.clone()),
            autostart: false,
            volumes: BTreeMap::new(),
            restart: RestartRule::Never,
            ..template
        };
        if let Err(error) = self.start_as(qube, image, life, reason).await {
            let mut state = self.state();
            state.qubes.remove(&name);
            self.publish(&state, &name);
            return Err(error.into());
        }
        Ok(name)
    }

    /// A name that nothing has, taken at once so that nobody else gets it.
    fn reserve_disposable_name(&self) -> Result<QubeName, RuntimeError> {
        /// Numbers are at most four digits, as in Qubes.
        const NUMBERS: u32 = 10_000;
        /// Tries before giving up: with half of all numbers taken, one in a million fails.
        const TRIES: usize = 20;
        let mut state = self.state();
        for _ in 0..TRIES {
            let number = Uuid::new_v4().as_u128() % u128::from(NUMBERS);
            let Ok(name) = QubeName::new(format!("disp{number}")) else {
                continue;
            };
            let taken = state.qubes.contains_key(&name) || state.declared_qube(&name).is_some();
            if !taken {
                self.mailbox_in(&mut state, &name, None);
                return Ok(name);
            }
        }
        Err(RuntimeError::TooManyDisposables)
    }
}

impl Runtime {
    /// Makes a disposable that lives until it is stopped. Without a base, the only disposable
    /// template is it.
    ///
    /// # Errors
    /// Where there is no such template, or it cannot be started.
    pub async fn create_disposable(
        &self,
        base: Option<&QubeName>,
    ) -> Result<QubeName, RuntimeError> {
        let base = self.disposable_base(base)?;
        let name = self
            .inner
            .create_disposable(&base, Life::Disposable, Reason::Person)
            .await?;
        self.inner.wait_agent(&name).await?;
        Ok(name)
    }

    /// The disposable template named, or the only one.
    pub(crate) fn disposable_base(
        &self,
        base: Option<&QubeName>,
    ) -> Result<QubeName, RuntimeError> {
        if let Some(base) = base {
            return Ok(base.clone());
        }
        let state = self.inner.state();
        let description = state.description();
        let mut bases = description.into_iter().flat_map(|d| d.qubes.values());
        let mut bases = bases
            .by_ref()
            .filter(|q| q.kind == QubeKind::DisposableTemplate);
        match (bases.next(), bases.next()) {
            (Some(only), None) => Ok(only.name.clone()),
            _ => Err(RuntimeError::WhichDisposableTemplate),
        }
    }
}
