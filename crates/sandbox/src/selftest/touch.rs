//! What attacks and their harmless twins do with the kernel: raw calls, forks, sockets and files. Runs
//! only in an attacker, a process with one thread of its own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::scene::{Bait, MEMORY, MEMORY_BYTES, VOICE};
use crate::native::exit_with;

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Makes a system call with numbers for arguments.
pub(super) fn call(number: i64, arguments: &[i64]) -> io::Result<i64> {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: the callers give numbers, or addresses of values that outlive the call.
    let result = unsafe {
        libc::syscall(
            number,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// The same for one call whose result does not matter.
pub(super) fn made(number: i64, arguments: &[i64]) -> io::Result<()> {
    call(number, arguments).map(drop)
}

/// The address of a value, as a system call takes it.
pub(super) fn address<T: ?Sized>(value: &T) -> i64 {
    let pointer = std::ptr::from_ref(value).cast::<u8>();
    i64::try_from(pointer.addr()).unwrap_or(0)
}

/// The address of a place that the kernel writes to.
pub(super) fn place<T: ?Sized>(value: &mut T) -> i64 {
    let pointer = std::ptr::from_mut(value).cast::<u8>();
    i64::try_from(pointer.addr()).unwrap_or(0)
}

/// Starts a child by `clone` with these flags; the child ends at once.
pub(super) fn clone(flags: i32) -> io::Result<()> {
    let child = call(libc::SYS_clone, &[i64::from(flags | libc::SIGCHLD)])?;
    if child == 0 {
        exit_with(0);
    }
    reap(child)
}

fn reap(child: i64) -> io::Result<()> {
    wait_status(i32::try_from(child).map_err(io::Error::other)?).map(drop)
}

/// Waits for a child and tells how it ended, as the kernel writes it.
pub(super) fn wait_status(child: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the status is a valid place to write to.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status)
}

/// Forks. The number of the child; none in the child itself.
pub(super) fn fork_with_number() -> io::Result<Option<i32>> {
    // SAFETY: an attacker has one thread.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        child if child > 0 => Ok(Some(child)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forks. `true` in the child.
pub(super) fn fork() -> io::Result<bool> {
    Ok(fork_with_number()?.is_none())
}

pub(super) fn read(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.read(&mut [0; 64]).map(drop)
}

pub(super) fn list(path: impl AsRef<Path>) -> io::Result<()> {
    fs::read_dir(path).map(drop)
}

/// Writes to a file that exists.
pub(super) fn overwrite(path: impl AsRef<Path>) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(b"x")
}

/// Makes a file in each of these folders; succeeds if one can be made.
pub(super) fn create_in(folders: &[&Path]) -> io::Result<()> {
    let mut last = io::Error::from_raw_os_error(libc::ENOENT);
    for folder in folders {
        match fs::write(folder.join("crusades-selftest"), "x") {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Writes where the payload may: its folder, or the null device where it has none.
pub(super) fn write_at_home(bait: &Bait) -> io::Result<()> {
    if bait.namespaces {
        fs::write("file", "contents")
    } else {
        overwrite("/dev/null")
    }
}

/// Stores until there is no more room. Succeeds if there is far more than was given.
pub(super) fn store_without_end() -> io::Result<()> {
    let mut file = File::create("bomb")?;
    for _ in 0..64 {
        file.write_all(&[1; 1 << 20])?;
    }
    Ok(())
}

/// Makes files until there is no more room. Succeeds if there are far more than were given.
pub(super) fn make_files_without_end() -> io::Result<()> {
    for number in 0..200_000 {
        File::create(format!("{number}"))?;
    }
    Ok(())
}

pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    let arguments = [family, kind, protocol].map(i64::from);
    let descriptor = call(libc::SYS_socket, &arguments)?;
    made(libc::SYS_close, &[descriptor])
}

pub(super) fn socket_pair(family: i32) -> io::Result<()> {
    let mut pair = [0i32; 2];
    let arguments = [
        i64::from(family),
        i64::from(libc::SOCK_STREAM),
        0,
        place(&mut pair),
    ];
    made(libc::SYS_socketpair, &arguments)
}

pub(super) fn connect_to_port(bait: &Bait) -> io::Result<()> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], bait.port));
    TcpStream::connect_timeout(&address, CONNECT_PATIENCE).map(drop)
}

pub(super) fn connect_to_abstract_socket(bait: &Bait) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(&bait.abstract_socket)?;
    UnixStream::connect_addr(&address).map(drop)
}

pub(super) fn connect_to_named_socket(bait: &Bait) -> io::Result<()> {
    UnixStream::connect(&bait.named_socket).map(drop)
}

/// Uses the payload's own network: its loopback, or a pair of sockets where it has none.
pub(super) fn talk_to_oneself(bait: &Bait) -> io::Result<()> {
    if !bait.namespaces {
        return socket_pair(libc::AF_UNIX);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    TcpStream::connect_timeout(&listener.local_addr()?, CONNECT_PATIENCE).map(drop)
}

/// Asks the kernel by netlink to take the loopback interface down.
pub(super) fn take_loopback_down() -> io::Result<()> {
    const LOOPBACK: u32 = 1;
    const UP: u32 = 1;
    let arguments = [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE].map(i64::from);
    let descriptor = call(libc::SYS_socket, &arguments)?;
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let mut route = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    let mut message = Vec::new();
    message.extend(32u32.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(
        u16::try_from(flags)
            .map_err(io::Error::other)?
            .to_ne_bytes(),
    );
    // Sequence and sender; then the family and kind of the interface; its number, flags and mask.
    for number in [1u32, 0, 0, LOOPBACK, 0, UP] {
        message.extend(number.to_ne_bytes());
    }
    // The header is 16 bytes long and the description of the interface as many.
    route.write_all(&message)?;
    let mut answer = [0; 256];
    let count = route.read(&mut answer)?;
    let code = answer[..count]
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// Runs a program and succeeds if it does.
pub(super) fn run(program: &Path, argument: &Path) -> io::Result<()> {
    let status = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

/// Looks for a descriptor that was not given.
pub(super) fn find_descriptor(first: i32) -> io::Result<()> {
    for number in first..4096 {
        if made(libc::SYS_fcntl, &[number.into(), libc::F_GETFD.into()]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBADF))
}

/// Tells the host that one more process is ready.
pub(super) fn tell() -> io::Result<()> {
    made(libc::SYS_write, &[VOICE.into(), address(&1u8), 1])
}

/// Does nothing for ever.
pub(super) fn wait_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// How many processes [`hide`] leaves behind.
pub(super) const HIDDEN: usize = 3;

/// Leaves processes behind that are hard to find and to end: in sessions of their own, orphaned,
/// deaf to every signal that can be ignored, and stopped.
pub(super) fn hide() -> io::Result<()> {
    for signal in 1..32 {
        // SAFETY: ignoring a signal installs no handler; some numbers refuse.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let (mut hidden, told) = io::pipe()?;
    let ready = || tell().and_then(|()| (&told).write_all(b"x"));
    // Twice forked, in a session of its own.
    if fork()? {
        made(libc::SYS_setsid, &[])?;
        if fork()? {
            made(libc::SYS_setsid, &[])?;
            ready()?;
            wait_for_ever();
        }
        exit_with(0);
    }
    // Stopped.
    if fork()? {
        ready()?;
        let own = i64::from(std::process::id());
        made(libc::SYS_kill, &[own, libc::SIGSTOP.into()])?;
        wait_for_ever();
    }
    // A leader of a group that never rests.
    if fork()? {
        made(libc::SYS_setpgid, &[0, 0])?;
        ready()?;
        loop {
            std::hint::spin_loop();
        }
    }
    hidden.read_exact(&mut [0; HIDDEN])
}

/// How many processes [`keep_writing`] makes.
pub(super) const WRITERS: usize = 2;

/// Changes the shared memory without end, from two processes.
pub(super) fn keep_writing() -> io::Result<()> {
    let second = fork()?;
    let mapped = call(
        libc::SYS_mmap,
        &[
            0,
            i64::try_from(MEMORY_BYTES).map_err(io::Error::other)?,
            (libc::PROT_READ | libc::PROT_WRITE).into(),
            libc::MAP_SHARED.into(),
            MEMORY.into(),
        ],
    )?;
    let offset = usize::from(second) * size_of::<u64>();
    let start = usize::try_from(mapped).map_err(io::Error::other)?;
    let place = std::ptr::with_exposed_provenance_mut::<u64>(start + offset);
    tell()?;
    let mut count = 0u64;
    loop {
        count = count.wrapping_add(1);
        // SAFETY: the mapping is large enough, aligned to a page, and never unmapped.
        unsafe { place.write_volatile(count) };
    }
}

/// A pipe that something can be read from.
pub(super) fn full_pipe() -> io::Result<(OwnedFd, i64)> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(b"x")?;
    let number = reader.as_raw_fd().into();
    Ok((reader.into(), number))
}

/// Asks how much a pipe holds.
pub(super) fn pipe_is_readable(_: &Bait) -> io::Result<()> {
    let (_pipe, number) = full_pipe()?;
    let mut count = 0i32;
    made(
        libc::SYS_ioctl,
        &[number, libc::FIONREAD.cast_signed(), place(&mut count)],
    )
}

/// Prints for ever.
pub(super) fn print_without_end() -> io::Result<()> {
    let mut output = io::stdout();
    loop {
        output.write_all(&[b'x'; 4096])?;
    }
}

/// Asks for every capability.
pub(super) fn raise_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let everything = [u32::MAX; 6];
    made(libc::SYS_capset, &[address(&header), address(&everything)])
}

/// Makes a call of 32-bit programs from a 64-bit one.
pub(super) fn call_of_another_architecture() -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        const GETPID: i32 = 20;
        let result: i32;
        // SAFETY: the call takes no arguments and touches no memory.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") GETPID => result, options(nostack));
        }
        match result {
            0.. => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err(io::ErrorKind::Unsupported.into())
}
