//! What a payload in a container can reach.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crusades_sandbox::selftest::{SelftestOptions, Verdict, make_every_call, run};
use crusades_sandbox::{Backend, EmbeddedFile, Mount, Policy, Surroundings, Tier};

use crate::support::calls::{require_declared, unrestricted};
use crate::support::{
    chain, end_of, eventually, launcher, open_folder, open_to_all, output, processes_with, start,
    write_open,
};
use crate::{image, python, shell};

/// The tiers of containers.
const TIERS: [Tier; 2] = [Tier::One, Tier::Two];

#[test]
fn every_attack_is_refused_and_its_harmless_twin_is_not() {
    let Some(settings) = image() else { return };
    for tier in TIERS {
        let mut options = SelftestOptions::new(tier);
        options.launcher = Some(launcher());
        options.backend = Backend::Docker(settings.clone());
        let results = run(&options, |result| {
            println!(
                "{:?} {} ({}): {} / {}",
                result.verdict, result.name, result.target, result.attempt, result.control
            );
        })
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let of = |verdict| results.iter().filter(|one| one.verdict == verdict).count();
        println!("{tier}: {} held", of(Verdict::Held));
        let bad: Vec<_> = results
            .iter()
            .filter(|one| matches!(one.verdict, Verdict::Broken | Verdict::Unproven))
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(of(Verdict::Held) > 100, "{} held", of(Verdict::Held));
    }
}

#[test]
fn behind_a_policy_without_system_calls_the_suite_sees_attacks_succeed() {
    let Some(settings) = image() else { return };
    for (only, expected) in [
        ("personality", Verdict::Broken),
        // Not by SIGSYS any more.
        ("ptrace", Verdict::Broken),
        // Another wall.
        ("read-host-file", Verdict::Held),
    ] {
        let mut options = SelftestOptions::new(Tier::One);
        options.launcher = Some(launcher());
        options.backend = Backend::Docker(settings.clone());
        options.policy = unrestricted();
        options.only = Some(only.into());
        let results = run(&options, |_| ()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].verdict, expected, "{results:?}");
    }
}

#[test]
fn every_system_call_there_is_meets_exactly_what_is_declared() {
    let Some(settings) = image() else { return };
    let make_calls = |policy: &Policy| {
        let mut options = SelftestOptions::new(Tier::One);
        options.launcher = Some(launcher());
        options.backend = Backend::Docker(settings.clone());
        options.policy = policy.clone();
        make_every_call(&options, Tier::One).unwrap_or_else(|error| panic!("{}", chain(&error)))
    };
    let policy = Policy::standard();
    let declared = policy.system_calls_in(Surroundings {
        namespaces: true,
        counted_memory: true,
    });
    require_declared(&declared, make_calls(&policy), &make_calls(&unrestricted()));
}

#[test]
fn the_kernel_itself_says_that_the_payload_has_no_privileges() {
    let Some(settings) = image() else { return };
    for tier in TIERS {
        let mark = format!("marked-{}-{}", tier.number(), std::process::id());
        let mut request = shell(&settings, &format!("sleep 1000; : {mark}"));
        request.force_tier = Some(tier);
        request.minimum_tier = tier;
        let sandbox = start(request);
        assert_eq!(sandbox.tier(), tier);
        assert_eq!(sandbox.tier_reasons().is_empty(), tier == Tier::One);
        // Until the shell's child has become another program.
        eventually("it sleeps", || processes_with(&mark).len() == 1);
        let pids = processes_with(&mark);
        for pid in [pids[0].to_string(), sandbox.pid().to_string()] {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
            for line in [
                "CapInh:\t0000000000000000",
                "CapPrm:\t0000000000000000",
                "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000",
                "CapAmb:\t0000000000000000",
                "NoNewPrivs:\t1",
                "Seccomp:\t2",
            ] {
                assert!(status.contains(line), "{line} is missing in {status}");
            }
            assert!(!status.contains("\nUid:\t0"), "{status}");
            assert!(!status.contains("\nGid:\t0"), "{status}");
            // The engine's filter, and the native ones behind it.
            let filters = status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp_filters:\t"));
            assert!(filters.is_none_or(|count| count != "1"), "{status}");
        }
        // None of the host's namespaces.
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            let theirs = of(&sandbox.pid().to_string());
            if rustix::process::geteuid().is_root() {
                assert!(theirs.is_some(), "{name}");
            }
            assert_ne!(theirs, of("self"), "{name}");
        }
    }
}

#[test]
fn files_environment_and_places_to_write_are_exactly_those_of_the_request() {
    let Some(settings) = image() else { return };
    let folder = open_folder();
    let (secret, shown) = (folder.path().join("secret"), folder.path().join("shown"));
    fs::create_dir(&shown).expect("make a folder");
    open_to_all(&shown, 0o755);
    write_open(&shown.join("file"), "contents\n");
    write_open(&secret, "secret");
    let script = r#"
        cat $1 2>/dev/null || echo hidden
        cat $2/file; (echo x > $2/file) 2>/dev/null || echo read-only
        cat /worker/main.py; (echo x > /worker/main.py) 2>/dev/null || echo read-only
        for p in / /usr /bin /etc /dev /proc /sys /opt /var /root /home /.crusades; do
            (echo x > $p/file) 2>/dev/null && echo wrote $p; done
        for p in . /scratch /tmp /dev/shm; do echo x > $p/file && echo wrote $p; done
        cp /bin/true /tmp/program && /tmp/program && echo compiled code runs
        for p in /home /root /sys/kernel; do ls $p >/dev/null 2>&1 && echo listed $p; done
        echo one > /dev/stdout; echo two > /dev/stderr
        cut -d: -f1,6 /etc/passwd
        env | grep -v '^PWD=\|^_=\|^OLDPWD=\|^SHLVL=' | sort
    "#;
    let mut request = shell(&settings, script);
    request.arguments.push("sh".into());
    for path in [&secret, &shown] {
        request.arguments.push(path.clone().into());
    }
    request
        .environment
        .push(("ONLY".into(), "this = that".into()));
    request.mounts.push(Mount::in_place(&shown));
    request.embedded.push(EmbeddedFile {
        target: "/worker/main.py".into(),
        contents: b"by value\n".to_vec(),
    });
    assert_eq!(
        output(request),
        "hidden\ncontents\nread-only\nby value\nread-only\n\
         wrote .\nwrote /scratch\nwrote /tmp\nwrote /dev/shm\n\
         compiled code runs\none\ntwo\nnobody:/tmp\nONLY=this = that\nPATH=/usr/bin:/bin\n"
    );
}

#[test]
fn given_descriptors_come_at_their_numbers_and_all_others_are_closed() {
    let Some(settings) = image() else { return };
    let script = "import os\n\
         def is_open(number):\n\
         \x20   try: os.fstat(number); return True\n\
         \x20   except OSError: return False\n\
         print([number for number in range(1000) if is_open(number)])\n\
         line = os.read(200, 100); os.write(200, b'got ' + line + os.read(3, 100) + os.read(9, 100))\n";
    let Some(mut request) = python(&settings, script) else {
        return;
    };
    let (mut ours, theirs) = UnixStream::pair().expect("socket pair");
    request.inherit.push((theirs.into(), 200));
    for (number, text) in [(9, "nine"), (3, "three")] {
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        writer.write_all(text.as_bytes()).expect("write");
        request.inherit.push((reader.into(), number));
    }
    let sandbox = start(request);
    ours.write_all(b"word").expect("write");
    let mut answer = String::new();
    ours.read_to_string(&mut answer).expect("read");
    assert_eq!(answer, "got wordthreenine");
    end_of(&sandbox);
    assert_eq!(sandbox.log().to_text(), "[0, 1, 2, 3, 9, 200]\n");
}
