//! What remains without `__main__` blocks has the shape of the original, and scanning it again
//! finds no further block to remove.
#![no_main]

use crusades_scan::{Policy, ScanOptions, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let policy = Policy::builtin();
    let options = ScanOptions::default();
    let Some(runnable) = scan(source.as_bytes(), &policy, &options).runnable_source else {
        return;
    };
    let original = source.strip_prefix('\u{feff}').unwrap_or(source);
    assert_eq!(runnable.chars().count(), original.chars().count());
    let kept = |text: &str| text.matches(['\n', '\r']).count();
    assert_eq!(kept(&runnable), kept(original));
    let again = scan(runnable.as_bytes(), &policy, &options);
    assert_eq!(again.runnable_source.as_deref(), Some(runnable.as_str()));
    assert!(ruff_python_parser::parse_module(&runnable).is_ok());
});
