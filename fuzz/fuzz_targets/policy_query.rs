//! What arrives on the policy's sockets: no bytes make a reader panic, and pieces make no difference.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use bulkhead_policy::{
    AdminRequest, FolderError, Layout, MemoryFolders, PolicyFolders, PolicyStore, RequestReader,
    read_evaluation,
};
use libfuzzer_sys::fuzz_target;

/// Files that only seem to change.
#[derive(Debug)]
struct Store(MemoryFolders);

impl PolicyFolders for Store {
    fn read(&self, path: &Path) -> Result<Arc<[u8]>, FolderError> {
        self.0.read(path)
    }

    fn files(&self, folder: &Path) -> Result<Vec<String>, FolderError> {
        self.0.files(folder)
    }
}

impl PolicyStore for Store {
    fn replace(&self, path: &Path, _: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().expect("a file is in a folder");
        assert!([Path::new("/p/etc"), Path::new("/p/etc/include")].contains(&folder));
        Ok(())
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.replace(path, b"")
    }

    fn is_in_place(&self, _: &Path) -> bool {
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    let (mut whole, mut pieces) = (RequestReader::default(), RequestReader::default());
    let done = whole.push(data);
    let (first, second) = data.split_at(usize::from(*cut).min(data.len()));
    let parts = pieces.push(first).and_then(|_| pieces.push(second));
    assert_eq!(done, parts);
    if done.is_ok() {
        assert_eq!(whole.finish(), pieces.finish());
    }
    let _ = read_evaluation("policy.EvalSimple", data);
    let mut folders = MemoryFolders::default();
    for folder in ["run", "etc/include", "compat"] {
        assert!(folders.add_folder(Path::new("/p").join(folder)));
    }
    assert!(folders.add("/p/etc/a.policy", *b"!include include/b\n"));
    assert!(folders.add("/p/etc/include/b", *b"a.B * * * deny\n"));
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default());
    let (Ok(service), Ok(argument)) = (text(), text()) else {
        return;
    };
    let request = AdminRequest {
        service,
        argument,
        payload: parts.next().unwrap_or_default(),
    };
    let _ = request.perform(&Layout::under(Path::new("/p")), &Store(folders));
});
