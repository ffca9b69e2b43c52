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
    for (folder, expect) in [("", 2), (".retired", 0), (".revisions", 0)] {
        let left = fs::read_dir(dir.path().join("state/volumes").join(folder)).unwrap();
        assert_eq!(left.count(), expect, "{folder}");
    }
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

/// A folder as `Image(…)` names it, with a file system of 4 MiB that is called `label`.
fn real_disk(dir: &Path, label: &str) -> TemplateSource {
    let source = disk(dir, "");
    let at = dir.join("disk/root.ext4");
    let mut make = Command::new("/usr/sbin/mke2fs");
    make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-L", label])
        .arg(&at)
        .arg("4M");
    assert!(make.status().unwrap().success());
    fs::write(dir.join("disk/vmlinuz"), label).unwrap();
    source
}

/// What `dumpe2fs` says of the file system on a disk.
fn dump(disk: &Path) -> String {
    let mut dump = Command::new("/usr/sbin/dumpe2fs");
    let said = dump.arg("-h").arg(disk).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

#[tokio::test]
async fn a_root_that_is_kept_begins_as_the_image_and_goes_its_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = real_disk(dir.path(), "one");
    let one = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let volume = id("work:root");
    let made = storage.create_volume(&volume, Mib(9)).await.unwrap();
    // What a crash left before the root had begun counts for nothing.
    fs::write(made.path.with_file_name(".new-root.img"), "half").unwrap();
    fs::create_dir(made.path.with_file_name(".new-root.boot")).unwrap();
    let own = storage.own_root(&volume, &one.digest, None).await.unwrap();
    let ImageRoot::Disk(own) = own else {
        panic!("{own:?}")
    };
    let meta = fs::metadata(&made.path).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o777), (9 << 20, 0o600));
    let shown = dump(&made.path);
    assert!(shown.contains("one") && shown.contains("has_journal"));
    assert_eq!(own.disk.as_ref(), Some(&made.path));

    // Another image changes neither the root nor the kernel that fits it.
    real_disk(dir.path(), "two");
    let two = storage.renew_image(&source, &|_| {}).await.unwrap();
    for tag in ["7", "8"] {
        let now = storage.own_root(&volume, &two.digest, None).await.unwrap();
        assert_eq!(now, ImageRoot::Disk(own.clone()));
        assert!(dump(&made.path).contains("one"));
        let kernel = fs::read(own.kernel.as_ref().unwrap()).unwrap();
        assert_eq!(kernel, b"one");
        storage.retire_volume(&volume, tag).await.unwrap();
        storage.restore_volume(&volume, tag).await.unwrap();
    }

    // One that was destroyed begins anew.
    storage.retire_volume(&volume, "9").await.unwrap();
    storage.purge_volume(&volume, "9").await.unwrap();
    storage.create_volume(&volume, Mib(9)).await.unwrap();
    let now = storage.own_root(&volume, &two.digest, None).await.unwrap();
    assert_eq!(now, ImageRoot::Disk(own));
    assert!(dump(&made.path).contains("two"));
}

#[tokio::test]
async fn a_root_that_the_image_does_not_fit_is_refused_and_stays_blank() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = real_disk(dir.path(), "one");
    let image = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let volume = id("work:root");
    let made = storage.create_volume(&volume, Mib(3)).await.unwrap();
    let error = storage
        .own_root(&volume, &image.digest, None)
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @"volume `work:root` has 3 MiB, and the disk of its template takes 4 MiB: give it at least that `size`");
    assert_eq!(fs::metadata(&made.path).unwrap().blocks(), 0);
    // With the size that it asks for it begins.
    storage.resize_volume(&volume, Mib(4)).await.unwrap();
    storage
        .own_root(&volume, &image.digest, None)
        .await
        .unwrap();
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

#[tokio::test]
async fn a_root_is_published_as_a_disk_with_its_kernel_and_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = real_disk(dir.path(), "one");
    let image = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let (root, app) = (id("tools:root"), QubeName::new("app").unwrap());
    let made = storage.create_volume(&root, Mib(9)).await.unwrap();
    assert_eq!(storage.publish_root(&root).await.unwrap(), None);
    assert_eq!(storage.template_root(&root, &app).await.unwrap(), None);
    storage.own_root(&root, &image.digest, None).await.unwrap();
    assert_eq!(storage.template_root(&root, &app).await.unwrap(), None);
    let write = |text: &[u8]| {
        use std::os::unix::fs::FileExt;
        let disk = fs::File::options().write(true).open(&made.path).unwrap();
        disk.write_all_at(text, 8 << 20).unwrap();
    };
    let read = |disk: &Path| fs::read(disk).unwrap()[8 << 20..][..3].to_vec();
    for (number, text) in (1..).zip([b"one", b"two"]) {
        write(text);
        let published = storage.publish_root(&root).await.unwrap().unwrap();
        assert_eq!(published.number, number);
    }
    write(b"lost");
    let newest = storage.template_root(&root, &app).await.unwrap();
    let Some((held, ImageRoot::Disk(disk))) = newest else {
        panic!("{newest:?}")
    };
    let path = disk.disk.as_ref().unwrap();
    assert_eq!((held.number, read(path).as_slice()), (2, &b"two"[..]));
    assert!(
        fs::metadata(path).unwrap().blocks() * 512 < 8 << 20,
        "it is not sparse"
    );
    assert_eq!(fs::read(disk.kernel.unwrap()).unwrap(), b"one");
    assert_eq!(disk.initrd, None);

    let back = storage.revert_root(&root, Some(1)).await.unwrap();
    assert_eq!((back.to.number, back.now.number), (1, 3));
    assert_eq!(read(&made.path), b"one");
    let keep = BTreeMap::from([(root.qube.clone(), 0)]);
    storage.prune_revisions(&keep).await.unwrap();
    let numbers = async || {
        let list = storage.revisions().await.unwrap().remove(&root.qube);
        let list = list.unwrap_or_default();
        list.iter().map(|info| info.id.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [2, 3]);
    let error = storage.revert_root(&root, Some(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "the root of `tools` has no revision 1");
    // A root of its own that begins as this one is a copy.
    let alone = id("alone:root");
    let copy = storage.create_volume(&alone, Mib(9)).await.unwrap();
    storage
        .own_root(&alone, &image.digest, Some(&root))
        .await
        .unwrap();
    assert_eq!(read(&copy.path), b"one");
    storage.release_revision(&app);
    storage.prune_revisions(&keep).await.unwrap();
    assert_eq!(numbers().await, [3]);

    storage.retire_volume(&root, "7").await.unwrap();
    storage.purge_volume(&root, "7").await.unwrap();
    let left = fs::read_dir(dir.path().join("state/volumes/.revisions")).unwrap();
    assert_eq!(left.count(), 0);
}
