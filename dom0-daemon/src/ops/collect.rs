//! Collection: removes generations, images and volumes that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{GcReport, GcRequest, Operations, OperationsError};
use crate::generation::{self, GenerationInfo, KEEP_DEFAULT};
use crate::observe::Observed;
use crate::storage::{ImageDigest, VolumeId};

impl Operations {
    /// Removes generations, images and (if asked) volumes that nobody needs. The current and the
    /// booted generation stay, as do the newest few; images stay while a kept generation, a running
    /// qube or a root that a qube keeps uses them.
    pub async fn gc(&self, request: &GcRequest) -> Result<GcReport, OperationsError> {
        let _changing = self.begin_changing()?;
        let list = generation::list(&self.database).await?;
        let observed = self.observe().await?;
        let mut report = GcReport::default();
        report.generations = if request.generations.is_empty() {
            old(
                &list,
                request.keep.unwrap_or(KEEP_DEFAULT),
                &mut report.kept,
            )
        } else {
            chosen(&list, &request.generations)?
        };
        let used = self
            .used_images(&list, &report.generations, &observed)
            .await?;
        let unused: Vec<_> = (self.env.storage.images().await?.into_iter())
            .filter(|image| image.source != bulkhead_model::qube::TemplateSource::Host)
            .filter(|image| match used.get(&image.digest) {
                None => true,
                Some(Some(qube)) => {
                    report
                        .kept
                        .push(format!("image {}: {qube} runs on it", image.digest.short()));
                    false
                }
                Some(None) => false,
            })
            .collect();
        report.images = unused
            .iter()
            .map(|image| (image.digest.clone(), image.size.0))
            .collect();
        report.freed = unused.iter().map(|image| image.size.0).sum();
        let mut volumes: Vec<VolumeId> = Vec::new();
        let mut retired = Vec::new();
        if request.orphan_volumes {
            let orphans = crate::status::differences(&observed).orphans;
            volumes.extend(orphans.into_iter().map(|volume| volume.id));
            volumes.retain(|volume| match observed.machine.running.get(&volume.qube) {
                Some(running) if running.spec.volumes.contains_key(&volume.volume) => {
                    report
                        .kept
                        .push(format!("volume {volume}: {} runs on it", volume.qube));
                    false
                }
                _ => true,
            });
            retired = self.env.storage.retired_volumes().await?;
        }
        report.volumes = volumes
            .iter()
            .chain(retired.iter().map(|(id, _)| id))
            .map(ToString::to_string)
            .collect();
        if request.dry_run {
            return Ok(report);
        }
        // Generations first: one that is gone needs no image, one that stays must keep its own.
        generation::remove(&self.database, report.generations.clone()).await?;
        for image in unused {
            self.env.storage.remove_image(&image.digest).await?;
        }
        for volume in volumes {
            self.env.storage.retire_volume(&volume, "gc").await?;
            self.env.storage.purge_volume(&volume, "gc").await?;
        }
        for (volume, tag) in retired {
            self.env.storage.purge_volume(&volume, &tag).await?;
        }
        Ok(report)
    }

    /// Images that stay, each with the qube that runs on it where nothing else needs it.
    async fn used_images(
        &self,
        list: &[GenerationInfo],
        going: &[u64],
        observed: &Observed,
    ) -> Result<BTreeMap<ImageDigest, Option<String>>, OperationsError> {
        let mut used: BTreeMap<ImageDigest, Option<String>> = BTreeMap::new();
        for (name, running) in &observed.machine.running {
            if let Some(image) = &running.image {
                used.insert(image.clone(), Some(name.to_string()));
            }
        }
        let below = self.env.storage.images_below().await?;
        used.extend(below.into_iter().map(|digest| (digest, None)));
        for info in list.iter().filter(|info| !going.contains(&info.number)) {
            let (_, _, lock) = self.stored(info.number).await?;
            used.extend(lock.images().into_values().map(|digest| (digest, None)));
        }
        Ok(used)
    }
}

fn old(list: &[GenerationInfo], keep: u32, kept: &mut Vec<String>) -> Vec<u64> {
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let old = list.iter().rev().skip(keep);
    let mut going: Vec<u64> = old
        .filter(|info| match in_use(info) {
            Some(why) => {
                kept.push(format!("generation {}: {why}", info.number));
                false
            }
            None => true,
        })
        .map(|info| info.number)
        .collect();
    going.reverse();
    going
}

fn chosen(list: &[GenerationInfo], numbers: &[u64]) -> Result<Vec<u64>, OperationsError> {
    for number in numbers {
        let info = list.iter().find(|info| info.number == *number);
        let info = info.ok_or(OperationsError::NoSuchGeneration(*number))?;
        if let Some(why) = in_use(info) {
            return Err(OperationsError::GenerationInUse {
                number: *number,
                why,
            });
        }
    }
    let unique: BTreeSet<u64> = numbers.iter().copied().collect();
    Ok(unique.into_iter().collect())
}

fn in_use(info: &GenerationInfo) -> Option<&'static str> {
    match info {
        GenerationInfo { current: true, .. } => Some("it is in force"),
        GenerationInfo { booted: true, .. } => Some("this boot of the machine came up with it"),
        _ => None,
    }
}
