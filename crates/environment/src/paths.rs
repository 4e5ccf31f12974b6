//! What of the host's files a sandbox must show, read-only, for an interpreter to run.
//!
//! Names no folder that only happens to lie above a needed one: a link in a person's home is shown by
//! itself, not with the home.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::report::EnvironmentReport;

/// Where a Linux system keeps its loader, its libraries and the programs that Python may call.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

/// Tells the loader of library folders that are not built into it; a driver's are often only there.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// Links followed before a path is taken to run in a circle, as in Linux.
const MOST_LINKS: usize = 40;

/// The paths to show, each a folder or, where nothing around it is needed, a single file or link. Each
/// is to be shown at the path that it has on the host. They are sorted, they exist, and none lies
/// below another.
pub(crate) fn read_only_paths(python: &Path, report: &EnvironmentReport) -> Vec<PathBuf> {
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let library_folders = report
        .libraries
        .iter()
        .filter_map(|library| Some(library.parent()?.to_owned()));
    let mut wanted: BTreeSet<PathBuf> = system
        .chain(report.folders.iter().cloned())
        .chain([report.prefix.clone(), report.base_prefix.clone()])
        .chain(library_folders)
        .collect();
    wanted.insert(PathBuf::from(LOADER_CACHE));
    wanted.extend([python, &report.executable, &report.real_executable].map(Path::to_owned));

    let links: Vec<PathBuf> = wanted.iter().flat_map(|path| followed(path)).collect();
    wanted.extend(links);
    wanted.retain(|path| path.parent().is_some() && path.exists());
    without_nested(wanted)
}

/// Every link that is followed on the way to what `path` leads to, and that itself, without links.
fn followed(path: &Path) -> Vec<PathBuf> {
    let mut passed = Vec::new();
    let mut reached = PathBuf::new();
    let mut ahead: Vec<PathBuf> = components_reversed(path);
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            reached.pop();
            continue;
        }
        let next = reached.join(&part);
        match fs::read_link(&next) {
            Ok(target) if passed.len() < MOST_LINKS => {
                passed.push(next);
                if target.is_absolute() {
                    reached = PathBuf::new();
                }
                ahead.extend(components_reversed(&target));
            }
            _ => reached = next,
        }
    }
    passed.push(reached);
    passed
}

fn components_reversed(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<PathBuf> = parts.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

/// The sorted set puts a folder before all that lies below it.
fn without_nested(paths: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.iter().any(|above| path.starts_with(above)) {
            kept.push(path);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::python::PythonVersion;
    use crate::report::CudaReport;

    /// An installation below a private home, a link to its folder, a link to that in another folder, and
    /// a virtual environment whose interpreter is a link to the last one.
    fn chained(root: &Path) -> EnvironmentReport {
        let base = root.join("home/.versions/3.12.1");
        let venv = root.join("data/venv");
        for folder in [
            base.join("bin"),
            base.join("lib"),
            venv.join("bin"),
            root.join("home/bin"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(base.join("bin/python3.12"), "").unwrap();
        fs::write(root.join("home/secret"), "").unwrap();
        symlink("python3.12", base.join("bin/python3")).unwrap();
        symlink("3.12.1", root.join("home/.versions/3.12")).unwrap();
        symlink("../.versions/3.12/bin/python3", root.join("home/bin/py")).unwrap();
        symlink(root.join("home/bin/py"), venv.join("bin/python")).unwrap();
        EnvironmentReport {
            python_version: PythonVersion::new(3, 12, 1),
            executable: venv.join("bin/python"),
            real_executable: base.join("bin/python3.12"),
            prefix: venv.clone(),
            base_prefix: base.clone(),
            torch: String::new(),
            transformers: String::new(),
            safetensors: String::new(),
            numpy: String::new(),
            cuda: CudaReport::default(),
            cpu_count: 1,
            torch_threads: 1,
            folders: vec![base.join("lib"), venv.join("lib")],
            search_path: Vec::new(),
            libraries: Vec::new(),
        }
    }

    #[test]
    fn each_link_on_the_way_to_the_interpreter_is_shown_and_what_lies_beside_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let report = chained(&root);
        let paths = read_only_paths(&report.executable, &report);
        let shown = |path: &str| paths.iter().any(|shown| root.join(path).starts_with(shown));
        for needed in [
            "data/venv/bin/python",
            "home/bin/py",
            "home/.versions/3.12/bin/python3",
            "home/.versions/3.12.1/bin/python3.12",
            "home/.versions/3.12.1/lib",
        ] {
            assert!(shown(needed), "{needed} in {paths:?}");
        }
        for private in ["home/secret", "home/bin", "home", "data"] {
            assert!(!shown(private), "{private} in {paths:?}");
        }
    }

    #[test]
    fn no_path_lies_below_another_and_each_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let mut report = chained(&root);
        report.folders.push(PathBuf::from("/"));
        report.folders.push(root.join("nowhere"));
        let paths = read_only_paths(&report.executable, &report);
        for (index, path) in paths.iter().enumerate() {
            assert!(path.exists(), "{path:?}");
            assert_ne!(path, Path::new("/"));
            let others = paths
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            assert!(
                others
                    .into_iter()
                    .all(|(_, other)| !path.starts_with(other)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_library_brings_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let mut report = chained(&root);
        fs::create_dir_all(root.join("driver")).unwrap();
        fs::write(root.join("driver/libdriver.so.1"), "").unwrap();
        assert!(!read_only_paths(&report.executable, &report).contains(&root.join("driver")));
        report.libraries.push(root.join("driver/libdriver.so.1"));
        assert!(read_only_paths(&report.executable, &report).contains(&root.join("driver")));
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("two", folder.path().join("one")).unwrap();
        symlink("one", folder.path().join("two")).unwrap();
        assert!(followed(&folder.path().join("one")).len() <= MOST_LINKS + 1);
    }
}
