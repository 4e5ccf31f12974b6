//! A short form of the fuzz targets that runs everywhere: the fixtures, cut and spliced by bytes
//! and by tokens from a fixed seed, must get a report in bounded time, and what remains of them
//! without `__main__` blocks must parse and hold no further block.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crusades_scan::{Policy, ScanOptions, scan};
use ruff_python_parser::parse_module;

/// Small files are scanned in milliseconds; a busy machine and an unoptimised build need more.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });

const MUTANTS: usize = if cfg!(debug_assertions) {
    4_000
} else {
    20_000
};

/// Pieces that lead the scanner and the removal of blocks into their corners.
const PIECES: [&str; 34] = [
    "if __name__ == '__main__':\n    x = 1\n",
    "if '__main__' == __name__: pass\nelse: y = 2\n",
    "elif __name__ != \"__main__\":\n",
    "__name__",
    "'__main__'",
    "if (__name__ == '__main__' and\n    f(\n)): pass\n",
    "not (__name__ in ('__main__',))",
    "else:\n",
    "\n    ",
    "\n\t",
    "\r",
    "\r\n",
    "\\\n",
    ";",
    ":",
    "(",
    ")",
    "[",
    "{",
    "}",
    "'''",
    "\"",
    "f'{",
    "}'",
    "lambda x: ",
    "await ",
    ":=",
    "*",
    "import torch.os as t\n",
    "global __name__\n",
    "def f(a=1, *b, **c):\n ",
    "class C[T]:\n ",
    "é",
    "\u{2028}",
];

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }
}

/// Every fixture, in the order of its path.
fn corpus() -> io::Result<Vec<Vec<u8>>> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
    let mut paths = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                pending.push(entry?.path());
            }
        } else {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// The end of the token that stands at `start`: a word, or one other byte.
fn token_end(text: &[u8], start: usize) -> usize {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = text
        .iter()
        .skip(start)
        .take_while(|byte| is_word(byte))
        .count();
    (start + length.max(1)).min(text.len())
}

fn mutate(random: &mut Random, text: &mut Vec<u8>, other: &[u8]) {
    let start = random.below(text.len() + 1);
    match random.below(7) {
        0 => {
            if let Some(byte) = text.get_mut(start) {
                *byte = u8::try_from(random.below(256)).unwrap_or(0);
            }
        }
        1 => {
            let end = token_end(text, start.min(text.len()));
            text.drain(start.min(end)..end);
        }
        2 => {
            let piece = PIECES[random.below(PIECES.len())];
            text.splice(start..start, piece.bytes());
        }
        3 => {
            let end = (start + random.below(60)).min(text.len());
            let copied = text[start..end].to_vec();
            let place = random.below(text.len() + 1);
            text.splice(place..place, copied);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let to = (from + random.below(200)).min(other.len());
            text.splice(start..start, other[from..to].iter().copied());
        }
        5 => {
            let end = token_end(text, start.min(text.len()));
            let from = random.below(other.len());
            let to = token_end(other, from);
            text.splice(start.min(end)..end, other[from..to].iter().copied());
        }
        _ => text.truncate(start),
    }
}

fn check(source: &[u8], policy: &Policy) -> bool {
    let shown = || String::from_utf8_lossy(source).into_owned();
    let options = ScanOptions::default();
    let started = Instant::now();
    let report = scan(source, policy, &options);
    let took = started.elapsed();
    assert!(took < LIMIT, "took {took:?}:\n{}", shown());
    for finding in &report.findings {
        // A panic of the scanner is reported by this rule.
        assert_ne!(finding.rule.as_str(), "CRU006", "{}", shown());
        assert!(finding.line >= 1 && finding.column >= 1);
    }
    let Some(runnable) = report.runnable_source else {
        return false;
    };
    let original = String::from_utf8_lossy(source);
    let original = original.strip_prefix('\u{feff}').unwrap_or(&original);
    assert_eq!(
        runnable.chars().count(),
        original.chars().count(),
        "{}",
        shown()
    );
    assert!(parse_module(&runnable).is_ok(), "{}", shown());
    if runnable != original {
        let again = scan(runnable.as_bytes(), policy, &options);
        assert_eq!(
            again.runnable_source.as_ref(),
            Some(&runnable),
            "{}",
            shown()
        );
        return true;
    }
    false
}

#[test]
fn spliced_fixtures_get_a_report_and_what_remains_has_no_guard() {
    let policy = Policy::builtin();
    let corpus = corpus().unwrap();
    let mut random = Random(2026);
    let mut removed = 0_usize;
    for text in &corpus {
        removed += usize::from(check(text, &policy));
    }
    for _ in 0..MUTANTS {
        let mut text = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())];
        if random.below(3) == 0 {
            // Blocks are removed at the level of the module only, so that they go at a line's start.
            let piece = PIECES[random.below(2)].as_bytes();
            let line = text
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            text.splice(line..line, piece.iter().copied());
        }
        for _ in 0..=random.below(4) {
            mutate(&mut random, &mut text, other);
        }
        removed += usize::from(check(&text, &policy));
    }
    println!("{MUTANTS} mutants, blocks removed from {removed}");
    assert!(
        removed > MUTANTS / 100,
        "{removed} mutants had a block removed"
    );
}
