use std::collections::BTreeSet;

use bulkhead_model::name::QubeName;
use bulkhead_model::qube::{Description, Mib, Qube, QubeKind, TemplateSource, Volume};
use proptest::prelude::*;

use crate::machine::{LiveProperty, Stopped};
use crate::observe::Observed;
use crate::plan::build::{Images, PlanOptions, Restarts, Shrink, Undeclared, plan};
use crate::plan::sim::*;
use crate::plan::{Action, Inverse, StepId};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What varies in one generated qube. `place` orders the netvm graph, so that it has no cycle.
#[derive(Debug, Clone)]
struct Variant {
    place: u8,
    netvm: Option<u8>,
    autostart: bool,
    vcpus: u32,
    kernelopts: bool,
    private: u64,
    data: bool,
    tag: bool,
}

fn variant() -> impl Strategy<Value = Variant> {
    (
        any::<u8>(),
        proptest::option::of(0..6_u8),
        any::<bool>(),
        1..3_u32,
        any::<bool>(),
        1..4_u64,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(place, netvm, autostart, vcpus, kernelopts, private, data, tag)| Variant {
                place,
                netvm,
                autostart,
                vcpus,
                kernelopts,
                private,
                data,
                tag,
            },
        )
}

fn description() -> impl Strategy<Value = Description> {
    let qubes = proptest::collection::vec(proptest::option::weighted(0.7, variant()), 6);
    (qubes, any::<bool>()).prop_map(|(variants, other)| {
        let mut description = desktop();
        description.qubes.clear();
        if other {
            description.templates.get_mut("host").unwrap().source =
                TemplateSource::Folder("/other".into());
        }
        for (text, variant) in NAMES.iter().zip(&variants) {
            let Some(variant) = variant else { continue };
            let mut qube = Qube::new(name(text), QubeKind::App, "red");
            qube.template = Some(name("host"));
            qube.autostart = variant.autostart;
            qube.vcpus = variant.vcpus;
            qube.kernelopts = if variant.kernelopts {
                "quiet".into()
            } else {
                String::new()
            };
            qube.tags.extend(variant.tag.then(|| "t".to_owned()));
            let volume = Volume {
                size: Mib(variant.private),
                revisions_to_keep: 0,
            };
            qube.volumes.insert("private".into(), volume.clone());
            if variant.data {
                qube.volumes.insert("data".into(), volume);
            }
            let netvm = variant.netvm.map(usize::from);
            qube.netvm = netvm.and_then(|index| {
                let other = variants[index].as_ref()?;
                (other.place < variant.place).then(|| name(NAMES[index]))
            });
            description.qubes.insert(qube.name.clone(), qube.into());
        }
        description
    })
}

fn options() -> impl Strategy<Value = PlanOptions> {
    (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.1)).prop_map(
        |(restart, keep, update)| PlanOptions {
            restarts: if restart {
                Restarts::Now
            } else {
                Restarts::Leave
            },
            undeclared: if keep {
                Undeclared::Keep
            } else {
                Undeclared::Destroy
            },
            shrink: Shrink::Keep,
            images: if update {
                Images::Update
            } else {
                Images::Locked
            },
        },
    )
}

/// A machine with `description` applied, then disturbed: qubes die, are stopped or lose a volume.
fn disturbed(description: &Description, died: &[u8], live: bool) -> Observed {
    let mut observed = applied(description);
    let names: Vec<QubeName> = description.qubes.keys().cloned().collect();
    for (what, name) in died.iter().zip(&names) {
        match what {
            0 | 1 if observed.machine.running.remove(name).is_some() => {
                let how = if *what == 0 {
                    Stopped::Died
                } else {
                    Stopped::ByPerson
                };
                observed.machine.stopped.insert(name.clone(), how);
            }
            2 => {
                observed.machine.running.remove(name);
                observed.volumes.remove(name);
            }
            3 => {
                if let Some(running) = observed.machine.running.get_mut(name) {
                    running.spec.vcpus = 9;
                }
            }
            _ => {}
        }
    }
    if !live {
        observed.machine.live = BTreeSet::from([LiveProperty::Vcpus]);
    }
    observed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_leads_where_it_says(
        before in description(),
        after in description(),
        died in proptest::collection::vec(0..8_u8, 6),
        live in any::<bool>(),
        options in options(),
    ) {
        let observed = disturbed(&before, &died, live);
        let Ok(plan) = plan(&after, &lock_of(&observed), &observed, options) else {
            // A running qube holds a volume that would have to go.
            prop_assert_eq!(options.restarts, Restarts::Leave);
            return Ok(());
        };
        // Every step stands after what it waits for; the destroying ones after the switch.
        let mut switched = false;
        for (place, step) in plan.steps.iter().enumerate() {
            prop_assert_eq!(step.id, StepId(u32::try_from(place).unwrap()));
            prop_assert!(step.after.iter().all(|id| *id < step.id));
            prop_assert_eq!(step.inverse == Inverse::Never, switched || step.action == Action::SwitchGeneration);
            switched |= step.action == Action::SwitchGeneration;
        }
        // The simulation itself asserts that no step finds something it does not expect.
        let mut sim = Sim::new(observed.clone(), &after);
        sim.run(&plan);
        let result = sim.observed;
        prop_assert_eq!(&*result.current.as_ref().unwrap().description, &after);
        for (qube, declared) in &after.qubes {
            for (volume, size) in &declared.volumes {
                prop_assert!(result.volume(qube, volume).unwrap().size >= size.size);
            }
            let stays_stopped = observed.machine.stopped.get(qube) == Some(&Stopped::ByPerson)
                && before.qubes.get(qube).is_some_and(|old| old.autostart);
            let running = result.machine.running.get(qube);
            prop_assert!(!declared.autostart || running.is_some() || stays_stopped);
            if let (Some(running), Restarts::Now) = (running, options.restarts) {
                let mut spec = running.spec.clone();
                spec.tags.clone_from(&declared.tags);
                spec.autostart = declared.autostart;
                spec.volumes.clone_from(&declared.volumes);
                prop_assert_eq!(&spec, &**declared);
            }
            let starts = plan.steps.iter().any(|step| {
                matches!(&step.action, Action::StartQube { spec, .. } if spec.name == *qube)
            });
            if let (true, Some(netvm)) = (starts, &declared.netvm) {
                prop_assert!(result.machine.running.contains_key(netvm));
            }
        }
        for qube in result.machine.running.keys() {
            prop_assert!(after.qubes.contains_key(qube));
        }
        // And there is nothing left to do.
        let again = super::super::build::plan(
            &after, &lock_of(&result), &result, PlanOptions { images: Images::Locked, ..options },
        ).unwrap();
        prop_assert!(again.is_empty(), "{:#?}", again);
    }

    #[test]
    fn undoing_every_step_restores_what_was(
        before in description(),
        after in description(),
        died in proptest::collection::vec(0..8_u8, 6),
        options in options(),
        part in 0..20_usize,
    ) {
        let observed = disturbed(&before, &died, true);
        let Ok(mut plan) = plan(&after, &lock_of(&observed), &observed, options) else {
            return Ok(());
        };
        plan.steps.retain(|step| step.inverse != Inverse::Never);
        plan.steps.truncate(part);
        let mut sim = Sim::new(observed.clone(), &after);
        sim.run(&plan);
        sim.undo(&plan);
        let mut result = sim.observed;
        // Images may stay, and who stopped a qube that was never running is not told.
        result.images.clone_from(&observed.images);
        result.machine.stopped.clone_from(&observed.machine.stopped);
        prop_assert_eq!(result, observed);
    }

    #[test]
    fn the_same_again_is_nothing(before in description()) {
        let observed = applied(&before);
        prop_assert!(planned(&before, &observed, PlanOptions::default()).is_empty());
    }
}
