//! A hypervisor whose domains lose the first request to stop, as one does that still boots.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bulkhead_model::qube::Memory;
use bulkheadd::hypervisor::embedded::Embedded;
use bulkheadd::hypervisor::{
    DomId, DomainEvent, DomainInfo, DomainSpec, HostReport, Hypervisor, HypervisorError,
};
use tokio::sync::broadcast;

#[derive(Debug)]
pub(crate) struct Forgetful {
    below: Embedded,
    asked: AtomicU32,
}

impl Forgetful {
    pub(crate) fn new(below: Embedded) -> Self {
        let asked = AtomicU32::new(0);
        Self { below, asked }
    }

    /// How often a domain was asked to stop.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Hypervisor for Forgetful {
    async fn shutdown(&self, domid: DomId) -> Result<(), HypervisorError> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => self.below.shutdown(domid).await,
        }
    }

    fn name(&self) -> &'static str {
        self.below.name()
    }
    async fn probe(&self) -> Result<HostReport, HypervisorError> {
        self.below.probe().await
    }
    async fn create(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.below.create(spec).await
    }
    async fn pause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.below.pause(domid).await
    }
    async fn unpause(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.below.unpause(domid).await
    }
    async fn destroy(&self, domid: DomId) -> Result<(), HypervisorError> {
        self.below.destroy(domid).await
    }
    async fn set_memory(&self, domid: DomId, memory: Memory) -> Result<(), HypervisorError> {
        self.below.set_memory(domid, memory).await
    }
    async fn set_vcpus(&self, domid: DomId, vcpus: u32) -> Result<(), HypervisorError> {
        self.below.set_vcpus(domid, vcpus).await
    }
    async fn set_cpu_weight(&self, domid: DomId, weight: u32) -> Result<(), HypervisorError> {
        self.below.set_cpu_weight(domid, weight).await
    }
    async fn set_netvm(&self, domid: DomId, netvm: Option<DomId>) -> Result<(), HypervisorError> {
        self.below.set_netvm(domid, netvm).await
    }
    fn connects_networks(&self) -> bool {
        self.below.connects_networks()
    }
    fn can_set_memory(&self) -> bool {
        self.below.can_set_memory()
    }
    fn can_set_cpu_weight(&self) -> bool {
        self.below.can_set_cpu_weight()
    }
    fn can_set_vcpus(&self) -> bool {
        self.below.can_set_vcpus()
    }
    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError> {
        self.below.list().await
    }
    fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.below.subscribe()
    }
}
