use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bulkhead_testing::write_program;

use super::super::failed;
use super::*;

fn open(dir: &Path) -> DirStorage {
    DirStorage::open(&config(dir)).unwrap()
}

fn config(dir: &Path) -> Config {
    Config {
        state_dir: dir.join("state"),
        cache_dir: dir.join("cache"),
        mmdebstrap: dir.join("mmdebstrap"),
    }
}

fn id(text: &str) -> VolumeId {
    let (qube, volume) = text.split_once(':').unwrap();
    VolumeId {
        qube: QubeName::new(qube).unwrap(),
        volume: volume.into(),
    }
}

fn template(dir: &Path, content: &str) -> TemplateSource {
    let tree = dir.join("tree");
    for folder in ["usr/bin", "etc", "dev"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::write(tree.join("usr/bin/tool"), content).unwrap();
    fs::set_permissions(tree.join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("dev/leftover"), "not imported").unwrap();
    if !tree.join("bin").exists() {
        std::os::unix::fs::symlink("usr/bin", tree.join("bin")).unwrap();
    }
    TemplateSource::Folder(tree.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn everything_may_be_done_twice_and_keeps_data() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let work = id("work:private");
    let made = storage.create_volume(&work, Mib(100)).await.unwrap();
    assert!(!made.enforced);
    fs::write(made.path.join("letter"), "dear").unwrap();
    assert_eq!(
        storage.create_volume(&work, Mib(5)).await.unwrap().size,
        Mib(100)
    );
    for _ in 0..2 {
        assert_eq!(
            storage.resize_volume(&work, Mib(200)).await.unwrap().size,
            Mib(200)
        );
    }
    for _ in 0..2 {
        storage.retire_volume(&work, "7").await.unwrap();
        assert!(storage.volumes().await.unwrap().is_empty());
        assert_eq!(
            storage.retired_volumes().await.unwrap(),
            [(work.clone(), "7".to_owned())]
        );
    }
    for _ in 0..2 {
        storage.restore_volume(&work, "7").await.unwrap();
        let found = storage.volume(&work).await.unwrap();
        assert_eq!(found.size, Mib(200));
        assert_eq!(
            fs::read_to_string(found.path.join("letter")).unwrap(),
            "dear"
        );
    }
    storage.retire_volume(&work, "8").await.unwrap();
    for _ in 0..2 {
        storage.purge_volume(&work, "8").await.unwrap();
        assert!(storage.retired_volumes().await.unwrap().is_empty());
    }
    assert!(matches!(
        storage.volume(&work).await,
        Err(StorageError::NoSuchVolume(_))
    ));
    // And nothing is left of it.
    assert_eq!(
        fs::read_dir(dir.path().join("state/volumes/.retired"))
            .unwrap()
            .count(),
        0
    );
    assert!(!dir.path().join("state/volumes/work").exists());
}

#[tokio::test]
async fn a_volume_that_a_qube_has_locked_is_destroyed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let work = id("work:private");
    let path = storage.create_volume(&work, Mib(1)).await.unwrap().path;
    fs::create_dir(path.join("secret")).unwrap();
    fs::write(path.join("secret/x"), "x").unwrap();
    fs::set_permissions(path.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    std::os::unix::fs::symlink(dir.path(), path.join("out")).unwrap();
    storage.retire_volume(&work, "1").await.unwrap();
    storage.purge_volume(&work, "1").await.unwrap();
    assert!(dir.path().join("state").exists(), "a link was followed");
}

#[tokio::test]
async fn volume_names_cannot_lead_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let longest = "v".repeat(crate::storage::VOLUME_NAME_MAX);
    assert!(
        storage
            .create_volume(&id(&format!("work:{longest}")), Mib(1))
            .await
            .is_ok()
    );
    for bad in ["", "..", "a/b", ".hidden", "a b", &format!("{longest}v")] {
        let bad = VolumeId {
            volume: bad.to_owned(),
            ..id("work:x")
        };
        let error = storage.create_volume(&bad, Mib(1)).await.unwrap_err();
        assert!(matches!(error, StorageError::BadVolumeName(_)), "{error}");
    }
}

#[tokio::test]
async fn an_image_is_named_after_its_content_and_outlives_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = template(dir.path(), "one");
    let first = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    assert_eq!(
        storage.ensure_image(&source, None, &|_| {}).await.unwrap(),
        first
    );
    template(dir.path(), "two");
    let second = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    assert_ne!(first.digest, second.digest);
    fs::remove_dir_all(dir.path().join("tree")).unwrap();
    let again = storage
        .ensure_image(&source, Some(&first.digest), &|_| {})
        .await
        .unwrap();
    assert_eq!(again.digest, first.digest);
    let ImageRoot::Folder(root) = storage.image_root(&first.digest).await.unwrap() else {
        panic!("an image from a folder is a folder");
    };
    assert_eq!(fs::read_to_string(root.join("bin/tool")).unwrap(), "one");
    assert_eq!(
        fs::metadata(root.join("usr/bin/tool"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o755
    );
    assert!(!root.join("dev/leftover").exists());
    assert_eq!(
        storage.images().await.unwrap().len(),
        3,
        "with the machine's own root"
    );
    storage.remove_image(&first.digest).await.unwrap();
    assert!(matches!(
        storage.image_root(&first.digest).await,
        Err(StorageError::NoSuchImage(_))
    ));
}

#[tokio::test]
async fn a_template_folder_that_vanished_or_is_no_root_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = TemplateSource::Folder(dir.path().join("gone").to_str().unwrap().to_owned());
    let error = storage
        .ensure_image(&source, None, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "template folder `{}` does not exist",
            dir.path().join("gone").display()
        )
    );
    fs::create_dir_all(dir.path().join("gone/usr")).unwrap();
    let error = storage
        .ensure_image(&source, None, &|_| {})
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is not a root tree: it has no `etc`"),
        "{error}"
    );
}

/// Stands in for mmdebstrap: counts its runs, and packs the tree into its last argument.
fn debootstrap(dir: &Path, first: &str) {
    let script = format!(
        "#!/bin/sh\n{first}\nd=$(dirname \"$0\")\necho run >> \"$d/runs\"\necho 'I: busy' >&2\n\
         for last; do :; done\nexec tar -C \"$d/tree\" -cf \"$last\" .\n"
    );
    let program = dir.join("mmdebstrap");
    write_program(&program, &script);
}

#[tokio::test]
async fn a_debian_image_is_built_once_from_the_same_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    template(dir.path(), "debian");
    debootstrap(dir.path(), "");
    let source = |packages: [&str; 2]| TemplateSource::Debian {
        suite: "trixie".into(),
        packages: packages.map(str::to_owned).to_vec(),
    };
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |line: &str| told.lock().unwrap().push(line.to_owned());
    let first = storage
        .ensure_image(&source(["a", "b"]), None, &progress)
        .await
        .unwrap();
    assert_eq!(*told.lock().unwrap(), ["busy", "unpacking"]);
    storage.remove_image(&first.digest).await.unwrap();
    let second = storage
        .ensure_image(&source(["b", "a"]), None, &|_| {})
        .await
        .unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(
        fs::read_to_string(dir.path().join("runs")).unwrap(),
        "run\n"
    );
    // An update is built from what the archive has now, and is what later builds start from.
    template(dir.path(), "debian, a week later");
    let later = storage
        .renew_image(&source(["a", "b"]), &|_| {})
        .await
        .unwrap();
    assert_ne!(first.digest, later.digest);
    let again = storage
        .ensure_image(&source(["a", "b"]), None, &|_| {})
        .await
        .unwrap();
    assert_eq!(again.digest, later.digest);
    assert_eq!(
        fs::read_to_string(dir.path().join("runs")).unwrap(),
        "run\nrun\n"
    );
}

#[tokio::test]
async fn two_builds_of_one_tree_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    template(dir.path(), "debian");
    debootstrap(dir.path(), "sleep 0.2");
    let source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: Vec::new(),
    };
    let (a, b) = tokio::join!(
        storage.ensure_image(&source, None, &|_| {}),
        storage.ensure_image(&source, None, &|_| {}),
    );
    assert_eq!(a.unwrap().digest, b.unwrap().digest);
    let runs = fs::read_to_string(dir.path().join("runs")).unwrap();
    assert_eq!(runs, "run\n");
}

#[tokio::test]
async fn a_build_that_nobody_waits_for_is_left_to_clean_up() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let script = "d=$(dirname \"$0\")\ntrap 'echo E: stopped >&2; rm \"$d/mess\"; exit 1' TERM\ntouch \"$d/mess\"\n\
                  while :; do sleep 0.01; done";
    debootstrap(dir.path(), script);
    let source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: Vec::new(),
    };
    let mess = dir.path().join("mess");
    let until = async |there: bool| {
        while mess.exists() != there {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        built = storage.ensure_image(&source, None, &|_| {}) => panic!("it cannot end: {built:?}"),
        () = until(true) => {}
    }
    let patience = std::time::Duration::from_secs(60);
    let cleaned = tokio::time::timeout(patience, until(false)).await;
    assert!(cleaned.is_ok(), "it was killed and not asked to end");
}

#[tokio::test]
async fn what_a_killed_daemon_had_built_so_far_goes_and_a_running_ones_stays() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    template(dir.path(), "debian");
    debootstrap(dir.path(), "");
    let cache = dir.path().join("cache/templates");
    fs::create_dir_all(&cache).unwrap();
    // No process has a number beyond the kernel's largest.
    for name in [
        "aa.4194305.partial",
        "aa.4194305.log",
        "bb.1.partial",
        "cc.tar",
    ] {
        fs::write(cache.join(name), "half").unwrap();
    }
    let source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: Vec::new(),
    };
    storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    assert!(!cache.join("aa.4194305.partial").exists());
    assert!(!cache.join("aa.4194305.log").exists());
    assert!(cache.join("bb.1.partial").exists() && cache.join("cc.tar").exists());
}

#[tokio::test]
async fn a_builder_that_is_not_installed_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let source = TemplateSource::Debian {
        suite: "trixie".into(),
        packages: Vec::new(),
    };
    let error = storage
        .ensure_image(&source, None, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`mmdebstrap` is not installed: on Debian, install the package `mmdebstrap`"
    );
}

#[tokio::test]
async fn a_build_that_fails_tells_what_it_said_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let program = dir.path().join("mmdebstrap");
    write_program(
        &program,
        "#!/bin/sh\necho 'E: no such suite' >&2\nexit 25\n",
    );
    let source = TemplateSource::Debian {
        suite: "nope".into(),
        packages: Vec::new(),
    };
    let error = storage
        .ensure_image(&source, None, &|_| {})
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`mmdebstrap` failed (exit status: 25): no such suite"
    );
    assert_eq!(
        fs::read_dir(dir.path().join("cache/templates"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        fs::read_dir(dir.path().join("state/templates"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let half = dir.path().join("state/templates/.new-1-0/root");
    fs::create_dir_all(&half).unwrap();
    // A size that was recorded for a volume that was never made.
    fs::create_dir_all(dir.path().join("state/volumes/work")).unwrap();
    fs::write(
        dir.path().join("state/volumes/work/.private.json"),
        r#"{"size":3}"#,
    )
    .unwrap();
    let storage = open(dir.path());
    assert!(!half.exists());
    assert!(storage.volumes().await.unwrap().is_empty());
    let made = storage
        .create_volume(&id("work:private"), Mib(9))
        .await
        .unwrap();
    assert_eq!(made.size, Mib(9));
}

#[test]
fn a_full_disk_is_told_as_such() {
    let error = failed(
        Path::new("/x"),
        "creating volume",
        std::io::Error::from_raw_os_error(28),
    );
    assert_eq!(
        error.to_string(),
        "no space left in `/x` while creating volume; free some on that disk, then try again"
    );
}

/// A storage in which the root of `tools` has begun, with that volume, and the image it began as.
async fn with_root(dir: &Path) -> (DirStorage, VolumeId, ImageDigest) {
    let storage = open(dir);
    let source = template(dir, "debian");
    let image = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let root = id("tools:root");
    storage.create_volume(&root, Mib(9)).await.unwrap();
    let own = storage.own_root(&root, &image.digest, None).await.unwrap();
    assert!(matches!(own, ImageRoot::Folder(_)), "{own:?}");
    (storage, root, image.digest)
}

/// Where the qube of the root writes to.
fn upper(dir: &Path) -> std::path::PathBuf {
    dir.join("state/volumes/tools/root/upper")
}

/// What a qube that is based on the one with the root finds in the file `f`.
async fn found(storage: &DirStorage, root: &VolumeId) -> String {
    let app = QubeName::new("app").unwrap();
    let newest = storage.template_root(root, &app).await.unwrap();
    storage.release_revision(&app);
    let Some((_, ImageRoot::Layer { tree, over })) = newest else {
        return "the image".to_owned();
    };
    assert!(matches!(*over, ImageRoot::Folder(_)));
    fs::read_to_string(tree.join("f")).unwrap()
}

fn wrote(dir: &Path, text: &str) {
    fs::create_dir_all(upper(dir)).unwrap();
    fs::write(upper(dir).join("f"), text).unwrap();
}

#[tokio::test]
async fn a_root_is_published_whole_wherever_the_daemon_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, root, _) = with_root(dir.path()).await;
    assert_eq!(found(&storage, &root).await, "the image");
    wrote(dir.path(), "one");
    let first = storage.publish_root(&root).await.unwrap().unwrap();
    assert_eq!((first.number, upper(dir.path()).exists()), (1, false));
    assert_eq!(found(&storage, &root).await, "one");
    let another = "f".repeat(64).parse().unwrap();
    let own = storage.own_root(&root, &another, None).await.unwrap();
    assert!(matches!(own, ImageRoot::Layer { .. }));
    let place = dir
        .path()
        .join("state/volumes/.revisions")
        .join(first.root.to_string());

    // Set aside, and no more: it was a clean stop.
    wrote(dir.path(), "two");
    fs::rename(upper(dir.path()), place.join(".sealing-2")).unwrap();
    fs::create_dir_all(place.join(".new-2/layer/half")).unwrap();
    let storage = open(dir.path());
    assert_eq!(found(&storage, &root).await, "two");
    // Published, and not cleared up: nothing is published twice, or written to again.
    fs::create_dir(place.join(".sealing-2")).unwrap();
    fs::hard_link(place.join("2/layer/f"), place.join(".sealing-2/f")).unwrap();
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(found(&storage, &root).await, "two");
    let list = &storage.revisions().await.unwrap()[&root.qube];
    assert_eq!(
        list.iter().map(|info| info.id.number).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(!place.join(".sealing-2").exists() && !upper(dir.path()).exists());
}

#[tokio::test]
async fn a_root_that_cannot_be_published_stays_as_it_is_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, root, _) = with_root(dir.path()).await;
    wrote(dir.path(), "one");
    storage.publish_root(&root).await.unwrap();
    wrote(dir.path(), "two");
    let mut deep = upper(dir.path());
    deep.extend(vec!["d"; 300]);
    fs::create_dir_all(&deep).unwrap();
    fs::set_permissions(upper(dir.path()), fs::Permissions::from_mode(0o500)).unwrap();
    let before = storage.warnings().await.unwrap();
    let error = storage.publish_root(&root).await.unwrap_err();
    assert!(error.to_string().contains(".sealing-2"), "{error}");
    assert_eq!(found(&storage, &root).await, "one");
    assert!(deep.exists());
    let told = storage.warnings().await.unwrap();
    let new: Vec<_> = told.iter().filter(|line| !before.contains(line)).collect();
    assert!(new[0].contains("The root of tools as it was"), "{new:?}");
    assert!(new[0].contains("nested more than 200 deep"), "{new:?}");
    fs::remove_dir_all(upper(dir.path()).join("d")).unwrap();
    storage.publish_root(&root).await.unwrap();
    assert_eq!(found(&storage, &root).await, "two");
    assert_eq!(storage.warnings().await.unwrap(), before);
}

#[tokio::test]
async fn a_root_keeps_its_image_and_a_new_one_under_its_name_has_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, root, image) = with_root(dir.path()).await;
    let below = storage.images_below().await.unwrap();
    assert!(below.len() == 1 && below.contains(&image), "{below:?}");
    let source = template(dir.path(), "another");
    let other = storage.ensure_image(&source, None, &|_| {}).await.unwrap();
    let of = storage.image_root(&image).await.unwrap();
    let own = storage.own_root(&root, &other.digest, None).await.unwrap();
    assert_eq!(own, of);
    wrote(dir.path(), "one");
    storage.resize_volume(&root, Mib(10)).await.unwrap();
    let first = storage.publish_root(&root).await.unwrap().unwrap();
    let app = QubeName::new("app").unwrap();
    storage.template_root(&root, &app).await.unwrap();
    storage.retire_volume(&root, "7").await.unwrap();
    assert_eq!(storage.images_below().await.unwrap().len(), 1);
    let none = BTreeMap::new();
    storage.prune_revisions(&none).await.unwrap();
    storage.restore_volume(&root, "7").await.unwrap();
    assert_eq!(found(&storage, &root).await, "one");

    storage.template_root(&root, &app).await.unwrap();
    storage.retire_volume(&root, "8").await.unwrap();
    storage.purge_volume(&root, "8").await.unwrap();
    storage.create_volume(&root, Mib(9)).await.unwrap();
    let layer = dir
        .path()
        .join("state/volumes/.revisions")
        .join(first.root.to_string());
    assert!(layer.exists(), "one runs on it");
    let own = storage.own_root(&root, &other.digest, None).await.unwrap();
    assert_eq!(own, storage.image_root(&other.digest).await.unwrap());
    storage.release_revision(&app);
    assert_eq!(found(&storage, &root).await, "the image");
    storage.prune_revisions(&none).await.unwrap();
    assert!(!layer.exists());
}
