//! Files made to crash, exhaust or stall the scanner: each gets a report in bounded time.

use std::time::{Duration, Instant};

use crusades_scan::{Policy, ScanOptions, ScanReport, scan};

/// The promise is one second; an unoptimised build on a busy machine is allowed more.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 1 });

#[track_caller]
fn scanned(what: &str, source: &[u8]) -> ScanReport {
    let started = Instant::now();
    let report = scan(source, &Policy::builtin(), &ScanOptions::default());
    let took = started.elapsed();
    println!(
        "{what}: {} bytes, {took:?}, {} findings",
        source.len(),
        report.findings.len()
    );
    assert!(took < LIMIT, "{what} took {took:?}");
    assert!(!report.accepted(), "{what} was accepted");
    for finding in &report.findings {
        assert_ne!(
            finding.rule.as_str(),
            "CRU006",
            "{what}: {}",
            finding.message
        );
        assert!(finding.line >= 1 && finding.column >= 1);
    }
    report
}

#[test]
fn nesting_without_bound_is_refused() {
    let n = 100_000;
    for (what, text) in [
        ("open parentheses", "(".repeat(n)),
        (
            "closed parentheses",
            format!("{}1{}", "(".repeat(n), ")".repeat(n)),
        ),
        ("not", format!("x = {}1", "not ".repeat(n))),
        ("minus", format!("x = {}1", "-".repeat(n))),
        ("attributes", format!("x = a{}", ".b".repeat(n))),
        ("calls", format!("x = a{}", "()".repeat(n))),
        ("subscripts", format!("x = a{}", "[0]".repeat(n))),
        ("sum", format!("x = 1{}", "+1".repeat(n))),
        ("power", format!("x = 1{}", "**1".repeat(n))),
        (
            "await",
            format!("async def f():\n x = {}1", "await ".repeat(70_000)),
        ),
        ("lambdas", format!("x = {}1", "lambda:".repeat(70_000))),
        (
            "lambdas with commas",
            format!("x = ({}1)", "lambda a,b:".repeat(40_000)),
        ),
        (
            "conditionals",
            format!("x = {}1", "1 if 1 else ".repeat(40_000)),
        ),
        ("one-line blocks", "if x:".repeat(n)),
        ("one-line blocks with commas", "if x,y:".repeat(60_000)),
        (
            "blocks in a bracket",
            format!("({}", "a b\nif x,y:".repeat(40_000)),
        ),
        (
            "f-strings",
            format!("x = {}1{}", "f'{".repeat(n), "}'".repeat(n)),
        ),
        (
            "format specs",
            format!("x = f'{}1{}'", "{x:".repeat(n), "}".repeat(n)),
        ),
        (
            "lists",
            format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)),
        ),
        ("dicts", "{0:".repeat(n)),
        (
            "decorated lambdas",
            format!("@{}1\ndef f(): pass", "lambda a,b:".repeat(40_000)),
        ),
        ("annotations", format!("x: {}1", "a[".repeat(n))),
        ("star", format!("f({}x)", "*".repeat(n))),
        ("chained assignment", format!("{}1", "a = ".repeat(n))),
        ("walrus", "(a:=".repeat(n)),
        (
            "match patterns",
            format!("match x:\n case {}", "[a,".repeat(n)),
        ),
        (
            "else if",
            format!("if x: pass\n{}", "elif x: pass\n".repeat(35_000)),
        ),
    ] {
        scanned(what, text.as_bytes());
    }
}

#[test]
fn deep_blocks_are_refused() {
    let mut text = String::new();
    for depth in 0..900 {
        text.push_str(&" ".repeat(depth));
        text.push_str("if x:\n");
    }
    text.push_str(&" ".repeat(900));
    text.push_str("pass\n");
    let report = scanned("indentation", text.as_bytes());
    assert_eq!(report.findings[0].rule.as_str(), "CRU005");
    assert_eq!(report.findings[0].line, 101);
}

#[test]
fn large_flat_files_are_scanned_in_time() {
    let fill = |unit: &str| unit.repeat(499_000 / unit.len());
    for (what, text) in [
        ("statements", fill("a = b\n")),
        ("copies", {
            let mut text = String::from("import torch\n");
            for i in (0..25_000).rev() {
                text.push_str(&format!("a{} = a{i}\n", i + 1));
            }
            text.push_str("a0 = torch.nn\n");
            text
        }),
        ("ring", {
            let mut text = String::from("import torch\na0 = torch.nn\n");
            for i in 0..20_000 {
                text.push_str(&format!("a{} = a{i}.x\n", (i + 1) % 10));
            }
            text
        }),
        (
            "calls of one function",
            format!("def f(a, b): return a\n{}", fill("f(f, b)\n")),
        ),
        ("functions calling each other", {
            let mut text = String::new();
            for i in 0..8_000 {
                text.push_str(&format!("def f{i}(a): return a(f{})\n", (i + 1) % 8000));
            }
            text
        }),
        (
            "attribute chains",
            fill(&format!("x{}\n", ".a".repeat(900))),
        ),
        (
            "torch chains",
            format!(
                "import torch\n{}",
                fill(&format!("torch{}\n", ".a".repeat(900)))
            ),
        ),
        ("call chains", fill(&format!("x{}\n", ".a()".repeat(400)))),
        ("sums", fill(&format!("x = 'a'{}\n", "+'a'".repeat(900)))),
        (
            "nested calls",
            fill(&format!("{}{}\n", "f(".repeat(90), ")".repeat(90))),
        ),
        (
            "nested lists",
            fill(&format!("x = {}{}\n", "[".repeat(90), "]".repeat(90))),
        ),
        ("one list", format!("x = [{}]", fill("os,"))),
        ("one string", format!("x = '{}'", fill("__dict__ "))),
        ("one line", fill("x=1;")),
        ("globals", format!("def f():\n global {}a", fill("aa, "))),
        ("many globals", {
            let mut text = String::from("def f():\n");
            for i in 0..30_000 {
                text.push_str(&format!(" global a{i}\n"));
            }
            text
        }),
        ("imports", fill("import os\n")),
        ("comments", fill("#\n")),
        ("blank", fill(" \n")),
        ("form feeds", fill("\x0c\n")),
        ("identifiers", fill("ä ")),
        ("one name", fill("a")),
        ("digits", format!("x = {}", fill("9"))),
        ("quotes", fill("'")),
        ("backslashes", fill("\\\n")),
        ("braces", fill("{}")),
        ("guards", fill("if __name__ == '__main__': x\n")),
        ("arguments", format!("f({})", fill("a,"))),
        ("keywords", format!("f({})", fill("**a,"))),
        ("unpacking", format!("{} = x", fill("a,"))),
        (
            "nonlocals",
            format!("def f():\n def g():\n{}", fill("  nonlocal x; x = 1\n")),
        ),
        (
            "containers holding each other",
            fill("a.append(b)\nb.append(a)\n"),
        ),
        ("self application", fill("f = lambda x: x(x)\nf(f)\n")),
        ("class bodies", fill("class C:\n x = C\n")),
    ] {
        scanned(what, text.as_bytes());
    }
}

#[test]
fn strange_bytes_get_a_clear_finding() {
    let rule_of =
        |what: &str, bytes: &[u8]| scanned(what, bytes).findings[0].rule.as_str().to_owned();
    assert_eq!(rule_of("NUL", b"x = 1\n\0\n"), "CRU003");
    assert_eq!(rule_of("latin-1", b"x = '\xe9'\n"), "CRU003");
    assert_eq!(rule_of("UTF-16", b"\xff\xfex\0"), "CRU003");
    assert_eq!(rule_of("coding", b"# coding: utf-7\nx = 1\n"), "CRU003");
    assert_eq!(rule_of("empty", b""), "CRU001");
    assert_eq!(rule_of("only a mark", b"\xef\xbb\xbf"), "CRU001");
    assert_eq!(rule_of("too large", &[b'#'; 500_001]), "CRU002");
    assert_eq!(
        rule_of("two marks", "\u{feff}\u{feff}x = 1".as_bytes()),
        "CRU003"
    );
    assert_eq!(rule_of("unclosed", b"def f("), "CRU004");
    assert_eq!(rule_of("a lone quote", b"'"), "CRU004");
    assert_eq!(rule_of("a lone backslash", b"\\"), "CRU004");
    assert_eq!(rule_of("bad escape", b"x = '\\N{no such name}'"), "CRU004");
    assert_eq!(rule_of("mixed tabs", b"if x:\n\ty\n        z\n"), "CRU004");
    assert_eq!(rule_of("percent command", b"%timeit 1\n"), "CRU004");
}

#[test]
fn a_report_says_how_many_findings_it_leaves_out() {
    let function = "def inner_steps(model, data_iterator, optimizer, num_steps, device):\n\tpass\n";
    let report = scanned(
        "many",
        format!("{function}{}", "import os\n".repeat(9_000)).as_bytes(),
    );
    assert_eq!(report.findings.len(), 201);
    let last = report.findings.last().unwrap();
    assert_eq!(last.message, "and 8800 more findings, not shown");
    assert_eq!((last.line, last.rule.as_str()), (203, "CRU201"));
    let report = scanned(
        "some",
        format!("{function}{}", "import os\n".repeat(200)).as_bytes(),
    );
    assert_eq!(report.findings.len(), 200);
    assert_eq!(report.findings[199].message, "import of `os`");
    // What decides on the error code is never left out.
    let text = format!("async {function}{}return\n", "import os\n".repeat(300));
    assert_eq!(
        scanned("both", text.as_bytes()).error_code(),
        Some("syntax_error")
    );
}

#[test]
fn harmless_oddities_are_accepted() {
    let function = "def inner_steps(model, data_iterator, optimizer, num_steps, device):\n\tpass\n";
    for (what, text) in [
        ("byte order mark", format!("\u{feff}{function}")),
        ("carriage returns", function.replace('\n', "\r\n")),
        ("lone carriage returns", function.replace('\n', "\r")),
        ("form feed", format!("\x0c\n{function}")),
        ("surrogate escape", format!("{function}x = '\\ud800'\n")),
        ("no final newline", function.trim_end().to_owned()),
        (
            "declared UTF-8",
            format!("# -*- coding: utf-8 -*-\n{function}"),
        ),
    ] {
        let report = scan(text.as_bytes(), &Policy::builtin(), &ScanOptions::default());
        assert!(report.accepted(), "{what}: {:?}", report.findings);
        assert!(report.runnable_source.is_some());
    }
}

#[test]
fn the_same_file_gives_the_same_report() {
    let source = "import os, sys\nimport torch as t\neval(t.os)\n";
    let first = scanned("twice", source.as_bytes());
    assert_eq!(first, scanned("twice", source.as_bytes()));
    let places: Vec<_> = first.findings.iter().map(|f| (f.line, f.column)).collect();
    assert!(places.is_sorted());
}
