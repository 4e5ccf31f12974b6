//! This program as something that runs in any image: its executable, its own dynamic loader and the
//! libraries that it has loaded. The image's libraries are never used for it, so that an image may
//! be of any age, of another C library, or empty.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{During, Fault};
use crate::request::Mount;

/// Where the parts of this program are in a container.
pub(crate) const PLACE: &str = "/.crusades";

/// The executable there.
const PROGRAM: &str = "/.crusades/program";

/// Its dynamic loader there.
const LOADER: &str = "/.crusades/loader";

/// The folder of its libraries there.
const LIBRARIES: &str = "/.crusades/lib";

/// This program, to be shown in a container.
#[derive(Debug)]
pub(crate) struct OwnProgram {
    /// What has to be there.
    pub(crate) files: Vec<Mount>,
    /// How it is started there, before its own arguments.
    pub(crate) command: &'static [&'static str],
}

impl OwnProgram {
    /// The running executable with what it has loaded.
    pub(crate) fn find() -> Result<Self, Fault> {
        let show = |source: &Path, target: PathBuf| -> Result<Mount, Fault> {
            let source = source
                .canonicalize()
                .during(|| format!("find {}, a part of this program", source.display()))?;
            Ok(Mount { source, target })
        };
        let mut files = vec![show(Path::new("/proc/self/exe"), PROGRAM.into())?];
        let loaded = loaded();
        for library in &loaded.libraries {
            let name = library.file_name().unwrap_or_default();
            files.push(show(library, Path::new(LIBRARIES).join(name))?);
        }
        if let Some(loader) = &loaded.loader {
            files.push(show(loader, LOADER.into())?);
        }
        Ok(Self {
            files,
            command: command(loaded.loader.is_some()),
        })
    }
}

/// How a program of this build is started in a container, before its own arguments.
pub(crate) fn own_command() -> &'static [&'static str] {
    command(loaded().loader.is_some())
}

fn command(has_loader: bool) -> &'static [&'static str] {
    if has_loader {
        &[
            LOADER,
            "--inhibit-cache",
            "--library-path",
            LIBRARIES,
            PROGRAM,
        ]
    } else {
        &[PROGRAM]
    }
}

/// What the running executable has loaded.
#[derive(Debug, Default)]
struct Loaded {
    /// None where it is linked statically.
    loader: Option<PathBuf>,
    libraries: Vec<PathBuf>,
}

fn loaded() -> Loaded {
    let mut found = Loaded::default();
    // SAFETY: the callback is given `found` and nothing else; it has returned when this call does.
    unsafe { libc::dl_iterate_phdr(Some(take), (&raw mut found).cast()) };
    found
}

/// Takes one loaded object. Its name is the one that it was looked for by, which a link to it may have.
unsafe extern "C" fn take(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    found: *mut c_void,
) -> c_int {
    // SAFETY: the C library gives a whole object with a name that ends in NUL, and `found` is what
    // the caller above has given, used by nobody else meanwhile.
    let (object, found) = unsafe { (&*object, &mut *found.cast::<Loaded>()) };
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(object.dlpi_name) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    // The executable itself has no name, and what the kernel gives has no path.
    if path.is_absolute() {
        // SAFETY: reads a number that the kernel gave to this process.
        let loader_address = unsafe { libc::getauxval(libc::AT_BASE) };
        if loader_address != 0 && loader_address == object.dlpi_addr {
            found.loader = Some(path.to_owned());
        } else {
            found.libraries.push(path.to_owned());
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::OwnProgram;

    #[test]
    fn this_program_is_found_with_its_loader_and_its_libraries() {
        let own = OwnProgram::find().expect("find");
        let executable = std::env::current_exe().expect("own path");
        assert_eq!(
            own.files[0].source,
            executable.canonicalize().expect("path")
        );
        assert!(own.files.iter().all(|file| file.source.is_file()));
        // A test is linked dynamically.
        let output = std::process::Command::new(&own.files.last().expect("loader").source)
            .arg("--list")
            .arg(&executable)
            .output()
            .expect("run the loader");
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in &own.files[1..own.files.len() - 1] {
            let name = library.target.file_name().expect("name").to_string_lossy();
            assert!(listed.contains(&*name), "{name} is not in {listed}");
        }
        assert_eq!(own.command.len(), 5);
    }
}
