use super::*;

#[test]
fn both_readers_find_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["a.ron", "b.ron", ".hidden.ron", "c.txt", "sub/d.ron"];
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let mut memory = MemoryReader::default();
    for name in names {
        std::fs::write(dir.path().join(name), name).unwrap();
        memory.insert(dir.path().join(name), name);
    }
    for (pattern, expected) in [
        ("*.ron", vec!["a.ron", "b.ron"]),
        ("**/*.ron", vec!["a.ron", "b.ron", "sub/d.ron"]),
        (".*.ron", vec![]),
        ("sub/?.ron", vec!["sub/d.ron"]),
        ("none/*.ron", vec![]),
    ] {
        let expected: Vec<_> = expected.iter().map(|name| dir.path().join(name)).collect();
        assert_eq!(
            memory.glob(dir.path(), pattern).unwrap(),
            expected,
            "{pattern}"
        );
        assert_eq!(
            DiskReader.glob(dir.path(), pattern).unwrap(),
            expected,
            "{pattern}"
        );
    }
    let path = dir.path().join("a.ron");
    assert_eq!(memory.read(&path).unwrap(), DiskReader.read(&path).unwrap());
}

#[test]
fn a_folder_with_brackets_in_its_name_is_taken_literally() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a[b]*");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("x.ron"), "()").unwrap();
    assert_eq!(DiskReader.glob(&odd, "*.ron").unwrap(), [odd.join("x.ron")]);
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("bytes"), b"abc\xff").unwrap();
    let text = |name: &str| {
        let error = DiskReader.read(&path(name)).unwrap_err().to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(text("gone"), "`gone` does not exist");
    assert_eq!(text("bytes"), "`bytes` is not UTF-8 text: byte 3 is wrong");
    let folder = DiskReader.read(dir.path()).unwrap_err();
    assert!(matches!(folder, SourceError::NotAFile(_)));
    let device = DiskReader.read(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(device, SourceError::NotAFile(_)));
}

#[test]
fn a_file_of_the_longest_length_is_read_and_one_byte_more_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long");
    std::fs::write(&path, vec![b' '; FILE_BYTES_MAX]).unwrap();
    assert_eq!(DiskReader.read(&path).unwrap().len(), FILE_BYTES_MAX);
    std::fs::write(&path, vec![b' '; FILE_BYTES_MAX + 1]).unwrap();
    let error = DiskReader.read(&path).unwrap_err();
    assert!(matches!(error, SourceError::TooLong(_)));
    let memory = MemoryReader::new([(&path, vec![b' '; FILE_BYTES_MAX + 1])]);
    assert!(matches!(memory.read(&path), Err(SourceError::TooLong(_))));
}

#[test]
fn a_bad_pattern_is_an_error_of_both() {
    let folder = Path::new("x");
    for pattern in ["a[", "***"] {
        for reader in [&DiskReader as &dyn SourceReader, &MemoryReader::default()] {
            let error = reader.glob(folder, pattern).unwrap_err();
            assert!(matches!(error, SourceError::BadPattern { .. }), "{error}");
        }
    }
}
