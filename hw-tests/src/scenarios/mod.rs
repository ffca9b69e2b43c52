//! All scenarios, by what they are about.

use bulkhead_hw_tests::scenario::Scenario;

mod asked;
mod calls;
mod chain;
mod crash;
mod daemon;
mod desktop;
mod devices;
mod disposable;
mod guest;
mod harness;
mod hcl;
mod hostile;
mod hvm;
mod kernel;
mod live;
mod measure;
mod memory;
mod network;
mod own_root;
mod packages;
mod pci;
mod rebuild;
mod running;
mod stock;
mod template_qube;
mod traces;
mod transfer;
mod unikernel;
mod vchan;
mod windows;
mod xen;
mod xl;

/// Every scenario there is.
pub(crate) fn all() -> impl Iterator<Item = Scenario> {
    [
        asked::SCENARIOS,
        calls::SCENARIOS,
        chain::SCENARIOS,
        crash::SCENARIOS,
        daemon::SCENARIOS,
        desktop::SCENARIOS,
        devices::SCENARIOS,
        disposable::SCENARIOS,
        guest::SCENARIOS,
        harness::SCENARIOS,
        hcl::SCENARIOS,
        hostile::SCENARIOS,
        hvm::SCENARIOS,
        kernel::SCENARIOS,
        live::SCENARIOS,
        memory::SCENARIOS,
        measure::SCENARIOS,
        network::SCENARIOS,
        own_root::SCENARIOS,
        packages::SCENARIOS,
        pci::SCENARIOS,
        rebuild::SCENARIOS,
        stock::SCENARIOS,
        template_qube::SCENARIOS,
        transfer::SCENARIOS,
        unikernel::SCENARIOS,
        vchan::SCENARIOS,
        windows::SCENARIOS,
        xen::SCENARIOS,
        xl::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
