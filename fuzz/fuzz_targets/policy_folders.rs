//! Policy files in folders: no text, directive or nesting makes the reader panic or run away, and
//! what it reads prints as what parses to the same.
#![no_main]

use std::path::Path;

use bulkhead_model::qube::PolicyText;
use bulkhead_policy::{Engine, Layout, MemoryFolders};
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 8] = [
    "etc/10-a.policy",
    "run/20-b.policy",
    "etc/include/a",
    "etc/include/b.policy",
    "run/include/a",
    "compat/s.A+x",
    "compat/s.A",
    "compat/include/a",
];

fuzz_target!(|data: &[u8]| {
    let root = Path::new("/p");
    let mut folders = MemoryFolders::default();
    for folder in ["run", "etc", "compat"] {
        assert!(folders.add_folder(root.join(folder)));
    }
    // A NUL ends a file: it is in no other way of interest.
    for (path, text) in FILES.iter().zip(data.split(|byte| *byte == 0)) {
        assert!(folders.add(root.join(path), text));
    }
    match Engine::read(&folders, &Layout::under(root)) {
        Ok(engine) => {
            let texts: Vec<PolicyText> = (engine.rules().iter())
                .map(|rule| PolicyText {
                    origin: rule.origin.file.to_string(),
                    first_line: rule.origin.line,
                    text: rule.to_string(),
                })
                .collect();
            let again = Engine::parse(&texts).expect("what was printed parses");
            assert_eq!(again.rules(), engine.rules());
        }
        Err(errors) => {
            for error in &errors {
                assert!(!error.remedy().is_empty() && !error.to_string().is_empty());
            }
            assert!(!errors.is_empty());
        }
    }
});
