//! A real container engine for tests, and an image made of this machine's own files: no registry is ever
//! asked. Tests are skipped, with the reason printed, where there is no engine; where one was
//! promised (`CRUSADES_REQUIRE_DOCKER=1`) that is a failure.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes the absence of an engine a failure.
const REQUIRE_DOCKER: &str = "CRUSADES_REQUIRE_DOCKER";

/// Programs of this machine that the image has.
const PROGRAMS: [&str; 17] = [
    "sh", "cat", "cp", "cut", "env", "head", "id", "ls", "mkdir", "rm", "setsid", "sleep", "sort",
    "true", "wc", "yes", "grep",
];

/// The name of the images; they stay on the engine for the next run.
const REPOSITORY: &str = "crusades-sandbox-test";

/// The tag of an image with programs; `None`, after saying so, where there is no engine.
pub(crate) fn image() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        if let Err(reason) = connect() {
            let required = std::env::var_os(REQUIRE_DOCKER).is_some();
            assert!(!required, "there is no engine: {reason}");
            println!("skipped: there is no container engine: {reason}");
            return None;
        }
        Some(image_of_this_machine())
    };
    FOUND.get_or_init(find).as_deref()
}

/// The engine's socket.
pub(crate) fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    match host.strip_prefix("unix://") {
        Some(path) => path.into(),
        None => "/var/run/docker.sock".into(),
    }
}

fn connect() -> Result<UnixStream, String> {
    let path = socket();
    UnixStream::connect(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Asks the engine in the plainest way there is, apart from the code that is tested. Returns the status and
/// the body.
fn ask(request: &str, body: &[u8]) -> (u16, String) {
    let mut engine = connect().expect("an engine");
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.0\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
    );
    engine.write_all(head.as_bytes()).expect("ask the engine");
    engine.write_all(body).expect("ask the engine");
    let mut answer = Vec::new();
    engine.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.unwrap_or_default())
}

/// How many containers there are of sandboxes of a host process, running or not.
pub(crate) fn containers_of(host: u32) -> usize {
    let filters = format!("%7B%22label%22%3A%5B%22crusades.host.pid%3D{host}%22%5D%7D");
    let (status, body) = ask(
        &format!("GET /containers/json?all=1&filters={filters}"),
        &[],
    );
    assert_eq!(status, 200, "{body}");
    let all: serde_json::Value = serde_json::from_str(&body).expect("a list");
    all.as_array().expect("a list").len()
}

/// How many run folders there are of sandboxes of a host process, in this process's temporary folder.
pub(crate) fn run_folders_of(host: u32) -> usize {
    let prefix = format!("crusades-run-{host}-");
    let entries = fs::read_dir(std::env::temp_dir()).expect("list");
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

/// Makes an image of the files below `root`, with these changes (lines of a Dockerfile). Returns its id.
pub(crate) fn import(root: &Path, tag: &str, changes: &[&str]) -> String {
    let archive = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-C"])
        .arg(root)
        .args(["-c", "."])
        .output()
        .expect("run tar");
    assert!(archive.status.success(), "{archive:?}");
    let changes: String = changes
        .iter()
        .map(|line| format!("&changes={}", line.replace(' ', "%20").replace('"', "%22")))
        .collect();
    let request = format!("POST /images/create?fromSrc=-&repo={REPOSITORY}&tag={tag}{changes}");
    let (status, body) = ask(&request, &archive.stdout);
    assert_eq!(status, 200, "{body}");
    let id = body.split('"').find(|text| text.starts_with("sha256:"));
    id.expect("an id").to_owned()
}

/// Removes an image.
pub(crate) fn remove_image(name: &str) {
    ask(&format!("DELETE /images/{name}?force=1"), &[]);
}

/// An image with a shell, made once for these very files.
fn image_of_this_machine() -> String {
    let files: BTreeSet<PathBuf> = PROGRAMS
        .iter()
        .filter_map(|name| {
            let mut places = ["/usr/bin", "/bin"]
                .iter()
                .map(|folder| Path::new(folder).join(name));
            places.find(|path| path.exists())
        })
        .flat_map(|program| with_libraries(&program))
        .collect();
    let mut hasher = DefaultHasher::new();
    include_str!("engine.rs").hash(&mut hasher);
    for file in &files {
        let metadata = file.metadata().expect("metadata");
        (file, metadata.len(), metadata.mtime()).hash(&mut hasher);
    }
    let tag = format!("{:016x}", hasher.finish());
    let name = format!("{REPOSITORY}:{tag}");
    if ask(&format!("GET /images/{name}/json"), &[]).0 != 200 {
        let root = tempfile::tempdir().expect("make a folder");
        symlink("usr/bin", root.path().join("bin")).expect("make a link");
        for file in &files {
            copy_into(root.path(), file);
        }
        // What a sandbox must not show: it is not the host's, but no one's business either.
        for folder in ["home/someone", "root", "etc"] {
            fs::create_dir_all(root.path().join(folder)).expect("make a folder");
        }
        // A folder that only its owner may write, where the sandbox has one of its own.
        fs::create_dir_all(root.path().join("scratch")).expect("make a folder");
        let shadow = root.path().join("etc/shadow");
        fs::write(&shadow, "nobody:!::::::\n").expect("write");
        super::open_to_all(&shadow, 0o640);
        import(root.path(), &tag, &[]);
    }
    name
}

/// A program and the libraries that it is linked with.
fn with_libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("run ldd");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    let libraries = words.map(PathBuf::from).filter(|path| path.exists());
    std::iter::once(program.to_owned())
        .chain(libraries)
        .collect()
}

/// Copies a file to where it is on this machine, with `/bin` and its kin as links into `/usr`.
fn copy_into(root: &Path, file: &Path) {
    let inside = file.strip_prefix("/").expect("an absolute path");
    let top = inside.iter().next().expect("a folder");
    let inside = if inside.starts_with("usr") {
        inside.to_owned()
    } else {
        fs::create_dir_all(root.join("usr").join(top)).expect("make a folder");
        let link = root.join(top);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("usr").join(top), link).expect("make a link");
        }
        Path::new("usr").join(inside)
    };
    let target = root.join(inside);
    fs::create_dir_all(target.parent().expect("a folder")).expect("make a folder");
    fs::copy(file, target).expect("copy a file");
}
