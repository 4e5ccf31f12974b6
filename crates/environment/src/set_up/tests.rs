//! Set-ups of a package of one file that is made here, by the machine's own Python.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;
use crate::environment::{Absence, Origin};
use crate::interpreters_for_tests::{real_python, script};
use crate::requirements::hex_sha256;

/// A lock that names one package, whose wheel is in `shelf` once [`Shop::stock`] has put it there.
struct Shop {
    folder: tempfile::TempDir,
    requirements: Requirements,
    wheel: Vec<u8>,
}

const WHEEL: &str = "tiny-1.0-py3-none-any.whl";

const MAKE_WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name, text in {
        "tiny.py": "__version__ = '1.0'\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\n"
        "tiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n",
    }.items():
        wheel.writestr(name, text)
"#;

impl Shop {
    fn new() -> Self {
        Self::selling(&["tiny"])
    }

    fn selling(modules: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WHEEL);
        let made = Command::new(real_python())
            .args(["-I", "-c", MAKE_WHEEL])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let wheel = fs::read(&path).unwrap();
        let shelf = folder.path().join("shelf");
        fs::create_dir(&shelf).unwrap();
        let hash = hex_sha256(&[&wheel]);
        let lock = format!(
            "--no-index\n--find-links {}\ntiny==1.0 --hash=sha256:{hash}\n",
            shelf.display()
        );
        let targets: Vec<String> = (10..=14)
            .flat_map(|minor| MACHINES.map(|machine| format!("3.{minor}/{machine}")))
            .collect();
        let downloads = format!("tiny\t1.0\t{}\t{}\n", wheel.len(), targets.join(","));
        let requirements = Requirements {
            lock: lock.into(),
            downloads: downloads.into(),
            modules: modules.to_vec(),
        };
        Self {
            folder,
            requirements,
            wheel,
        }
    }

    fn stock(self) -> Self {
        self.put(&self.wheel);
        self
    }

    fn put(&self, wheel: &[u8]) {
        fs::write(self.folder.path().join("shelf").join(WHEEL), wheel).unwrap();
    }

    fn home(&self) -> EnvironmentHome {
        EnvironmentHome::at(self.folder.path().join("home")).unwrap()
    }

    fn set_up(&self, options: &SetupOptions) -> (Result<Environment, SetupError>, Vec<SetupEvent>) {
        let mut events = Vec::new();
        let made = set_up(&self.home(), &self.requirements, options, &mut |event| {
            events.push(event)
        });
        (made, events)
    }

    fn locate(&self) -> Located {
        Environment::locate_made(&self.home(), &self.requirements)
    }

    fn layout(&self) -> Layout {
        let version = python::inspect(&real_python()).unwrap().version;
        self.home().layout(&self.requirements, version)
    }
}

fn by_pip() -> SetupOptions {
    SetupOptions {
        installer: InstallerChoice::Pip,
        ..SetupOptions::from_variables()
    }
}

fn started(events: &[SetupEvent]) -> Vec<SetupPhase> {
    let phase = |event: &SetupEvent| match event {
        SetupEvent::Started(phase) => Some(*phase),
        _ => None,
    };
    events.iter().filter_map(phase).collect()
}

const WHOLE: [SetupPhase; 3] = [
    SetupPhase::CreateVenv,
    SetupPhase::Install,
    SetupPhase::Check,
];
const REPEATED: [SetupPhase; 4] = [
    SetupPhase::Clear,
    SetupPhase::CreateVenv,
    SetupPhase::Install,
    SetupPhase::Check,
];

#[test]
fn a_set_up_is_planned_first_and_complete_at_the_end_and_the_second_does_nothing() {
    let shop = Shop::new().stock();
    assert!(matches!(
        shop.locate(),
        Located::Absent(Absence::NeverMade { .. })
    ));

    let (made, events) = shop.set_up(&by_pip());
    let environment = made.unwrap();
    let SetupEvent::Planned(plan) = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert_eq!(plan.downloads[0].package, "tiny");
    assert_eq!(
        plan.download_bytes,
        u64::try_from(shop.wheel.len()).unwrap()
    );
    assert_eq!(started(&events), WHOLE);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, SetupEvent::Progress { bytes, .. } if *bytes > 0))
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, SetupEvent::Output(line) if line.contains("tiny")))
    );
    assert_eq!(
        environment.origin(),
        &Origin::Made {
            folder: shop.layout().folder
        }
    );
    assert!(!shop.layout().downloads().exists());

    let Located::Ready(found) = shop.locate() else {
        panic!("{:?}", shop.locate())
    };
    assert_eq!(found.python(), environment.python());
    let (again, events) = shop.set_up(&by_pip());
    assert_eq!(again.unwrap().python(), environment.python());
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn uv_makes_the_same_environment_as_pip() {
    if Installer::find_uv(&SetupOptions::from_variables().search_path).is_none() {
        println!("skipped: uv is not on PATH");
        return;
    }
    let shop = Shop::new().stock();
    let (made, events) = shop.set_up(&SetupOptions {
        installer: InstallerChoice::Uv,
        ..SetupOptions::from_variables()
    });
    made.unwrap();
    assert_eq!(started(&events), WHOLE);
    assert!(matches!(shop.locate(), Located::Ready(_)));
}

#[test]
fn a_wheel_that_is_not_the_locked_one_is_refused_and_with_the_right_one_the_set_up_begins_again() {
    let shop = Shop::new();
    let mut changed = shop.wheel.clone();
    changed.push(0);
    shop.put(&changed);
    let (made, _) = shop.set_up(&by_pip());
    let fault = made.unwrap_err();
    let SetupError::Installer {
        phase: SetupPhase::Install,
        source: ChildError::Failed { tail, .. },
        ..
    } = &fault
    else {
        panic!("{fault}")
    };
    assert!(tail.iter().any(|line| line.contains("tiny")), "{tail:?}");
    assert!(matches!(
        shop.locate(),
        Located::Absent(Absence::Unfinished { .. })
    ));

    let shop = shop.stock();
    let abandoned = shop.layout().scratch().join("abandoned");
    fs::write(&abandoned, "half a wheel").unwrap();
    let (made, events) = shop.set_up(&by_pip());
    made.unwrap();
    assert_eq!(started(&events), REPEATED);
    assert!(!abandoned.exists());
}

#[test]
fn an_environment_whose_modules_do_not_import_is_not_complete() {
    let shop = Shop::selling(&["tiny", "torch"]).stock();
    let (made, _) = shop.set_up(&by_pip());
    let fault = made.unwrap_err();
    let SetupError::Check(ProbeError::Lacks { faults, .. }) = &fault else {
        panic!("{fault}")
    };
    assert_eq!(faults[0].module, "torch");
    assert!(matches!(
        shop.locate(),
        Located::Absent(Absence::Unfinished { .. })
    ));
}

#[test]
fn a_complete_environment_that_lost_something_is_broken_with_the_reason_and_is_made_anew() {
    let shop = Shop::new().stock();
    shop.set_up(&by_pip()).0.unwrap();
    let layout = shop.layout();
    let series = python::inspect(&real_python()).unwrap().version.series();
    let note = format!("lib/python{series}/site-packages/tiny-1.0.dist-info");
    let aside = shop.folder.path().join("aside");
    let needed = [
        (layout.venv().join(note), "it has no tiny 1.0"),
        (layout.python(), "is gone"),
    ];
    for (path, reason) in needed {
        fs::rename(&path, &aside).unwrap();
        assert!(broken_because(&shop).contains(reason));
        fs::rename(&aside, &path).unwrap();
        assert!(matches!(shop.locate(), Located::Ready(_)));
    }
    fs::write(layout.marker(), "{").unwrap();
    assert!(broken_because(&shop).contains("damaged"));
    let (made, events) = shop.set_up(&by_pip());
    made.unwrap();
    assert_eq!(started(&events), REPEATED);
}

fn broken_because(shop: &Shop) -> String {
    match shop.locate() {
        Located::Absent(Absence::Broken { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_set_ups_at_once_one_waits_and_both_end_with_one_environment() {
    let shop = Shop::new().stock();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| shop.set_up(&by_pip())));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let pythons: Vec<_> = outcomes
        .iter()
        .map(|(made, _)| made.as_ref().unwrap().python().to_owned())
        .collect();
    assert_eq!(pythons[0], pythons[1]);
    let worked: Vec<_> = outcomes
        .iter()
        .filter(|(_, events)| !started(events).is_empty())
        .collect();
    assert_eq!(worked.len(), 1);
    let waited = |events: &[SetupEvent]| {
        events.iter().any(|event| {
            matches!(event, SetupEvent::Waiting { holder, .. } if *holder == Some(std::process::id()))
        })
    };
    assert_eq!(
        outcomes.iter().filter(|(_, events)| waited(events)).count(),
        1
    );
}

#[test]
fn a_base_python_that_is_too_old_or_without_venv_is_refused_by_name() {
    let shop = Shop::new().stock();
    let old = script(&shop.folder.path().join("old"), "3, 9, 18", true, "exit 1");
    let (made, events) = shop.set_up(&SetupOptions {
        base_python: Some(old),
        ..by_pip()
    });
    assert!(matches!(
        made,
        Err(SetupError::UnfitPython {
            source: InterpreterFault::TooOld(_),
            ..
        })
    ));
    assert!(events.is_empty());

    let bare = script(
        &shop.folder.path().join("bare"),
        "3, 11, 2",
        false,
        "exit 1",
    );
    let (made, _) = shop.set_up(&SetupOptions {
        base_python: Some(bare),
        ..by_pip()
    });
    assert!(matches!(
        made,
        Err(SetupError::UnfitPython {
            source: InterpreterFault::NoVenv(_),
            ..
        })
    ));
}

#[test]
fn without_python_or_uv_the_set_up_says_where_it_looked() {
    let shop = Shop::new().stock();
    let empty = shop.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let nowhere = SetupOptions {
        search_path: empty.clone().into(),
        ..SetupOptions::default()
    };
    assert!(matches!(
        shop.set_up(&nowhere).0,
        Err(SetupError::NoPython { .. })
    ));
    let uv = SetupOptions {
        installer: InstallerChoice::Uv,
        ..nowhere.clone()
    };
    assert!(matches!(shop.set_up(&uv).0, Err(SetupError::NoUv)));

    script(&empty.join("python3"), "3, 8, 18", true, "exit 1");
    let fault = shop.set_up(&nowhere).0.unwrap_err().to_string();
    assert!(
        fault.contains("empty/python3: it is Python 3.8.18"),
        "{fault}"
    );
}

#[test]
fn too_little_space_is_told_before_anything_is_written() {
    let shop = Shop::new().stock();
    let mut requirements = shop.requirements.clone();
    let size = format!("\t{}\t", shop.wheel.len());
    requirements.downloads = requirements
        .downloads
        .replace(&size, "\t900000000000000000\t")
        .into();
    let made = set_up(&shop.home(), &requirements, &by_pip(), &mut |_| {});
    let fault = made.unwrap_err();
    assert!(matches!(fault, SetupError::DiskFull { .. }), "{fault}");
    assert!(fault.to_string().contains("CRUSADES_ENV_DIR"), "{fault}");
    assert!(!shop.layout().folder.exists());
}

/// Names the shop's folder to [`the_set_up_that_is_killed`] when that is run as another process.
const KILLED_IN: &str = "CRUSADES_TEST_KILLED_SET_UP_IN";

#[test]
#[ignore = "not a test by itself: the process that the next test kills"]
fn the_set_up_that_is_killed() {
    let Some(folder) = std::env::var_os(KILLED_IN) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let requirements = Requirements {
        lock: fs::read_to_string(folder.join("lock")).unwrap().into(),
        downloads: "".into(),
        modules: Vec::new(),
    };
    let home = EnvironmentHome::at(folder.join("home")).unwrap();
    let options = SetupOptions {
        base_python: Some(folder.join("slow")),
        ..by_pip()
    };
    set_up(&home, &requirements, &options, &mut |_| {}).unwrap_err();
}

#[test]
fn a_killed_set_up_leaves_no_process_and_the_next_one_completes() {
    let shop = Shop::new().stock();
    let folder = shop.folder.path();
    let version = python::inspect(&real_python())
        .unwrap()
        .version
        .to_string()
        .replace('.', ", ");
    let pid_file = folder.join("pid");
    let sleep = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60",
        pid_file.display()
    );
    script(&folder.join("slow"), &version, true, &sleep);
    fs::write(folder.join("lock"), shop.requirements.lock.as_bytes()).unwrap();

    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "set_up::tests::the_set_up_that_is_killed",
        ])
        .env(KILLED_IN, folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !pid_file.exists() {
        assert!(Instant::now() < deadline, "the set-up did not begin");
        thread::sleep(Duration::from_millis(20));
    }
    let installer = fs::read_to_string(&pid_file).unwrap();
    let stat = format!("/proc/{}/stat", installer.trim());
    assert!(Path::new(&stat).exists());
    assert!(matches!(
        shop.locate(),
        Located::Absent(Absence::Unfinished { .. })
    ));

    victim.kill().unwrap();
    assert_eq!(victim.wait().unwrap().signal(), Some(9));
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(
            Instant::now() < deadline,
            "the installer outlived the set-up"
        );
        thread::sleep(Duration::from_millis(10));
    }

    let chosen = SetupOptions {
        base_python: Some(real_python()),
        ..by_pip()
    };
    let (made, events) = shop.set_up(&chosen);
    made.unwrap();
    assert_eq!(started(&events), REPEATED);
}
