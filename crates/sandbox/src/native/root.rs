//! The payload's file system: a small tmpfs with read-only views of the host's system folders and of
//! what the caller mounts, and one bounded writable tmpfs for all that the payload stores. Nothing
//! is written to a file system of the host.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::error::{During, Fault};
use crate::native::identity::INSIDE;
use crate::policy::FilePolicy;
use crate::request::{EmbeddedFile, Mount};

/// Room on the root for folders, links and the file of users.
const ROOT_BYTES: u64 = 1 << 20;

/// Where the new root is put together, covering the host's folder in this mount namespace only.
const ASSEMBLY: &str = "/tmp";

/// A view of a part of the host's file system, not yet attached anywhere.
#[derive(Debug)]
pub(crate) struct View {
    target: PathBuf,
    tree: OwnedFd,
}

/// A symbolic link of the host's root to be made again.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    target: PathBuf,
}

/// Everything of the host that the payload will see.
#[derive(Debug)]
pub(crate) struct Views {
    views: Vec<View>,
    links: Vec<Link>,
    /// Where programs may be read and executed.
    pub(crate) readable: Vec<PathBuf>,
}

impl Views {
    /// Takes read-only views of the system and of `mounts`. A privileged supervisor does it before it
    /// makes the namespaces, and so reaches folders of any owner; an ordinary user's init does it
    /// inside, with the rights of that user.
    pub(crate) fn take(files: &FilePolicy, mounts: &[Mount]) -> Result<Self, Fault> {
        let mut taken = Self {
            views: Vec::new(),
            links: Vec::new(),
            readable: Vec::new(),
        };
        for path in &files.system {
            let Ok(kind) = path.symlink_metadata() else {
                continue;
            };
            if kind.is_symlink() {
                let target =
                    std::fs::read_link(path).during(|| format!("read link {}", path.display()))?;
                taken.links.push(Link {
                    path: path.clone(),
                    target,
                });
            } else {
                taken.view(path, path, MountAttrFlags::MOUNT_ATTR_NODEV)?;
            }
            taken.readable.push(path.clone());
        }
        for path in &files.devices {
            taken.view(path, path, MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        }
        for mount in mounts {
            taken.view(
                &mount.source,
                &mount.target,
                MountAttrFlags::MOUNT_ATTR_NODEV,
            )?;
            taken.readable.push(mount.target.clone());
        }
        Ok(taken)
    }

    fn view(
        &mut self,
        source: &Path,
        target: &Path,
        attributes: MountAttrFlags,
    ) -> Result<(), Fault> {
        let tree = rustix::mount::open_tree(
            rustix::fs::CWD,
            source,
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE,
        )
        .during(|| format!("take a view of {}", source.display()))?;
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
        set_attributes(tree.as_fd(), read_only | attributes, Depth::Recursive)
            .during(|| format!("make the view of {} read-only", source.display()))?;
        self.views.push(View {
            target: target.to_owned(),
            tree,
        });
        Ok(())
    }

    /// Builds the new root in this mount namespace and makes it the only one.
    pub(crate) fn enter(
        self,
        files: &FilePolicy,
        embedded: &[EmbeddedFile],
        storage_bytes: u64,
    ) -> Result<(), Fault> {
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .during(|| "make all mounts private")?;
        let root = NewRoot::create(embedded)?;
        for link in &self.links {
            root.link(&link.path, &link.target)?;
        }
        let users = format!(
            "nobody:x:{INSIDE}:{INSIDE}:nobody:{}:/usr/sbin/nologin\n",
            files.home.display()
        );
        root.file(Path::new("/etc/passwd"), users.as_bytes())?;
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            root.link(&Path::new("/dev").join(name), Path::new(target))?;
        }
        let processes = new_file_system("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        root.attach(processes.as_fd(), Path::new("/proc"), FileType::Directory)?;
        root.attach_storage(files, storage_bytes)?;
        for view in &self.views {
            let status = rustix::fs::fstat(&view.tree)
                .during(|| format!("look at the source of {}", view.target.display()))?;
            let kind = FileType::from_raw_mode(status.st_mode);
            root.attach(view.tree.as_fd(), &view.target, kind)?;
        }
        for file in embedded {
            root.file(&file.target, &file.contents)?;
        }
        root.become_root()
    }
}

/// The tmpfs that becomes the root.
struct NewRoot {
    base: OwnedFd,
}

impl NewRoot {
    fn create(embedded: &[EmbeddedFile]) -> Result<Self, Fault> {
        let contents: u64 = embedded.iter().map(|file| file.contents.len() as u64).sum();
        // A page more for each file, because the last one is rarely full.
        let size = ROOT_BYTES + contents + embedded.len() as u64 * 4096;
        let base = new_file_system(
            "tmpfs",
            &[("size", &size.to_string()), ("mode", "0755")],
            MountAttrFlags::MOUNT_ATTR_NODEV,
        )?;
        rustix::mount::move_mount(
            &base,
            "",
            rustix::fs::CWD,
            ASSEMBLY,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .during(|| format!("mount the new root on {ASSEMBLY}"))?;
        Ok(Self { base })
    }

    /// Opens `path` within the new root; links that lead out of it lead back to its top.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat2(
            &self.base,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// Opens a folder, making it and its parents where they are missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut prefix = PathBuf::from("/");
        let mut here = self.open(&prefix, OFlags::PATH | OFlags::DIRECTORY)?;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            prefix.push(name);
            here = self.open(&prefix, OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(here)
    }

    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        self.folder(path.parent().unwrap_or(Path::new("/")))
    }

    fn link(&self, path: &Path, target: &Path) -> Result<(), Fault> {
        let make = || -> io::Result<()> {
            let parent = self.parent(path)?;
            Ok(rustix::fs::symlinkat(
                target,
                parent,
                path.file_name().unwrap_or_default(),
            )?)
        };
        make().during(|| format!("make the link {} in the new root", path.display()))
    }

    fn file(&self, path: &Path, contents: &[u8]) -> Result<(), Fault> {
        let make = || -> io::Result<()> {
            let file = rustix::fs::openat(
                self.parent(path)?,
                path.file_name().unwrap_or_default(),
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o444),
            )?;
            File::from(file).write_all(contents)
        };
        make().during(|| format!("write {} in the new root", path.display()))
    }

    /// Attaches a tree at a path, which is made where it is missing.
    fn attach(&self, tree: BorrowedFd<'_>, path: &Path, kind: FileType) -> Result<(), Fault> {
        let attach = || -> io::Result<()> {
            let place = if kind == FileType::Directory {
                self.folder(path)?
            } else {
                let name = path.file_name().unwrap_or_default();
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let parent = self.parent(path)?;
                let made = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o444));
                let place = self.open(path, OFlags::PATH);
                // What exists already need not be writable to be covered.
                if place.is_err() {
                    made?;
                }
                place?
            };
            Ok(rustix::mount::move_mount(
                tree,
                "",
                place,
                "",
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
            )?)
        };
        attach().during(|| format!("attach {} in the new root", path.display()))
    }

    /// One tmpfs for everything that the payload may write, seen at several places.
    fn attach_storage(&self, files: &FilePolicy, bytes: u64) -> Result<(), Fault> {
        let storage = new_file_system(
            "tmpfs",
            &[
                ("size", &bytes.to_string()),
                ("nr_inodes", &files.most_files.to_string()),
                ("mode", "0755"),
            ],
            MountAttrFlags::MOUNT_ATTR_NODEV,
        )?;
        // Parts of a tree can be taken only while it is attached.
        let hidden = Path::new("/storage");
        self.attach(storage.as_fd(), hidden, FileType::Directory)?;
        for (index, folder) in files.writable.iter().enumerate() {
            let (path, name) = (&folder.path, index.to_string());
            let part = || -> io::Result<OwnedFd> {
                rustix::fs::mkdirat(&storage, &name, Mode::from_raw_mode(0o700))?;
                // Apart from the umask.
                rustix::fs::chmodat(
                    &storage,
                    &name,
                    Mode::from_raw_mode(0o1777),
                    AtFlags::empty(),
                )?;
                Ok(rustix::mount::open_tree(
                    &storage,
                    &name,
                    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
                )?)
            };
            let part = part().during(|| format!("make the writable folder {}", path.display()))?;
            self.attach(part.as_fd(), path, FileType::Directory)?;
        }
        rustix::mount::unmount(
            format!("{ASSEMBLY}{}", hidden.display()),
            UnmountFlags::DETACH,
        )
        .during(|| "detach the top of the storage")?;
        rustix::fs::unlinkat(&self.base, "storage", AtFlags::REMOVEDIR)
            .during(|| "remove the mount point of the storage")
    }

    fn become_root(self) -> Result<(), Fault> {
        rustix::process::fchdir(&self.base).during(|| "enter the new root")?;
        rustix::process::pivot_root(".", ".").during(|| "pivot to the new root")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).during(|| "detach the host's root")?;
        rustix::process::chdir("/").during(|| "enter the new root")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV;
        set_attributes(self.base.as_fd(), attributes, Depth::One)
            .during(|| "make the new root read-only")
    }
}

fn new_file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Fault> {
    let make = || -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
        rustix::mount::fsconfig_create(&context)?;
        Ok(rustix::mount::fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes | MountAttrFlags::MOUNT_ATTR_NOSUID,
        )?)
    };
    make().during(|| format!("make a new {kind} file system"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    One,
    Recursive,
}

fn set_attributes(
    tree: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    depth: Depth,
) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        // What the host mounts or unmounts later must not show in the sandbox.
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a literal that ends in NUL, and `change` has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
