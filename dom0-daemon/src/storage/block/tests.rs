use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use bulkhead_model::name::QubeName;

use super::*;

fn open(dir: &Path) -> BlockStorage {
    let config = Config {
        state_dir: dir.join("state"),
        cache_dir: dir.join("cache"),
        mmdebstrap: dir.join("mmdebstrap"),
    };
    BlockStorage::open(&config).unwrap()
}

fn id(text: &str) -> VolumeId {
    let (qube, volume) = text.split_once(':').unwrap();
    VolumeId {
        qube: QubeName::new(qube).unwrap(),
        volume: volume.into(),
    }
}

/// A folder as `Image(…)` names it.
fn disk(dir: &Path, content: &str) -> TemplateSource {
    let folder = dir.join("disk");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("root.ext4"), content).unwrap();
    fs::write(folder.join("vmlinuz"), "kernel").unwrap();
    TemplateSource::Image(folder.to_str().unwrap().to_owned())
}

async fn root(storage: &BlockStorage, image: &ImageInfo) -> super::super::DiskRoot {
    match storage.image_root(&image.digest).await.unwrap() {
        ImageRoot::Disk(disk) => disk,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_volume_is_a_sparse_disk_of_its_size_that_grows() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let volume = id("work:private");
    let made = storage.create_volume(&volume, Mib(2048)).await.unwrap();
    assert!(made.enforced);
    let meta = fs::metadata(&made.path).unwrap();
    assert_eq!(
        (meta.len(), meta.blocks(), meta.mode() & 0o777),
        (2 << 30, 0, 0o600)
    );
    fs::write(&made.path, "kept").unwrap();
    // Made once more it is left as it is.
    storage.create_volume(&volume, Mib(1)).await.unwrap();
    let grown = storage.resize_volume(&volume, Mib(3)).await.unwrap();
    assert_eq!(
        (grown.size, fs::metadata(&grown.path).unwrap().len()),
        (Mib(3), 3 << 20)
    );
    assert!(fs::read(&grown.path).unwrap().starts_with(b"kept"));
    assert_eq!(storage.volumes().await.unwrap(), [grown]);
}

#[tokio::test]
async fn a_volume_is_set_aside_brought_back_and_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let volume = id("work:private");
    let path = storage.create_volume(&volume, Mib(1)).await.unwrap().path;
    fs::write(&path, "kept").unwrap();
    for _ in 0..2 {
        storage.retire_volume(&volume, "7").await.unwrap();
    }
    assert!(storage.volumes().await.unwrap().is_empty());
    assert_eq!(
        storage.retired_volumes().await.unwrap(),
        [(volume.clone(), "7".into())]
    );
    for _ in 0..2 {
        storage.restore_volume(&volume, "7").await.unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"kept");
    storage.retire_volume(&volume, "8").await.unwrap();
    for _ in 0..2 {
        storage.purge_volume(&volume, "8").await.unwrap();
    }
    assert!(storage.retired_volumes().await.unwrap().is_empty());
    // Nothing is left of either place.
    let left = fs::read_dir(dir.path().join("state/volumes")).unwrap();
    assert_eq!(
        left.map(|e| e.unwrap().file_name()).collect::<Vec<_>>(),
        [".retired"]
    );
}

#[tokio::test]
async fn a_size_beyond_all_disks_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let volume = id("work:private");
    for size in [u64::MAX, u64::MAX >> 20] {
        storage.create_volume(&volume, Mib(size)).await.unwrap_err();
    }
    assert!(!dir.path().join("state/volumes/work").exists());
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = open(dir.path())
        .create_volume(&id("work:private"), Mib(1))
        .await
        .unwrap()
        .path;
    let half = path.with_file_name(".new-more");
    fs::write(&half, "half").unwrap();
    let storage = open(dir.path());
    assert!(!half.exists());
    assert_eq!(storage.volumes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for name in ["../x", "a/b", "", ".hidden", "a.img"] {
        let id = VolumeId {
            volume: name.into(),
            ..id("work:x")
        };
        let error = storage.create_volume(&id, Mib(1)).await.unwrap_err();
        assert!(matches!(error, StorageError::BadVolumeName(_)), "{name}");
    }
}

#[tokio::test]
async fn a_disk_is_taken_under_the_digest_of_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = disk(dir.path(), "one");
    let one = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let again = storage.renew_image(&source, &|_| {}).await.unwrap();
    assert_eq!(one, again);
    disk(dir.path(), "two");
    // What is locked and there is not made again; what is asked for anew is.
    let locked = storage
        .ensure_image(&source, Some(&one.digest), &|_| {})
        .await
        .unwrap();
    assert_eq!(locked, one);
    let two = storage.renew_image(&source, &|_| {}).await.unwrap();
    assert_ne!(one.digest, two.digest);
    assert_eq!(
        fs::read(root(&storage, &one).await.disk.unwrap()).unwrap(),
        b"one"
    );
    let root = root(&storage, &two).await;
    assert_eq!(fs::read(root.disk.unwrap()).unwrap(), b"two");
    assert_eq!((root.kernel.is_some(), root.initrd), (true, None));
    // An unpacked kernel does as well.
    let folder = dir.path().join("disk");
    fs::rename(folder.join("vmlinuz"), folder.join("vmlinux")).unwrap();
    let three = storage.renew_image(&source, &|_| {}).await.unwrap();
    let kernel = self::root(&storage, &three).await.kernel.unwrap();
    assert_eq!(fs::read(kernel).unwrap(), b"kernel");
    assert_eq!(storage.images().await.unwrap().len(), 3);
    storage.remove_image(&one.digest).await.unwrap();
    assert!(storage.image_root(&one.digest).await.is_err());
}

#[tokio::test]
async fn a_tree_gets_a_disk_that_follows_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for folder in ["usr/bin", "etc", "boot"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("etc/hostname"), "guest\n").unwrap();
    fs::write(tree.join("boot/vmlinuz-6.1"), "kernel").unwrap();
    let source = TemplateSource::Folder(tree.to_str().unwrap().to_owned());
    let storage = open(dir.path());
    let image = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let root = root(&storage, &image).await;
    assert_eq!(fs::read(root.kernel.unwrap()).unwrap(), b"kernel");
    let mut show = Command::new("/usr/sbin/debugfs");
    let shown = show
        .args(["-R", "cat /etc/hostname"])
        .arg(root.disk.as_ref().unwrap())
        .output()
        .unwrap();
    assert_eq!(shown.stdout, b"guest\n");
    let check = Command::new("/usr/sbin/e2fsck")
        .args(["-fn"])
        .arg(root.disk.as_ref().unwrap())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    assert!(
        fs::metadata(root.disk.as_ref().unwrap()).unwrap().blocks() * 512 < 256 << 20,
        "it is not sparse"
    );
}

#[tokio::test]
async fn sources_that_are_no_disk_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let image = |path: &Path| TemplateSource::Image(path.to_str().unwrap().to_owned());
    let mut said = Vec::new();
    for source in [
        TemplateSource::Host,
        image(&empty),
        image(Path::new("/no/such")),
    ] {
        let error = storage
            .ensure_image(&source, None, &|_| {})
            .await
            .unwrap_err();
        said.push(
            error
                .to_string()
                .replace(dir.path().to_str().unwrap(), "DIR"),
        );
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    a template with `source: Host` cannot be used here: a qube on Xen boots a disk of its own; use `Debian(…)` or `Image(…)`
    template folder `DIR/empty` holds no image: it has neither `root.ext4` nor a kernel (`vmlinuz`, `vmlinux`)
    template folder `/no/such` does not exist
    ");
    let left = fs::read_dir(dir.path().join("state/templates")).unwrap();
    assert_eq!(left.count(), 0);
}
