//! Memory that the host shares with a payload: made, sized and sealed by the host, so that the payload
//! can neither shrink it under the host's feet nor grow it. No reference into memory that another
//! process may write is ever handed out; bytes are copied in and out.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// A mapping of a memory file, unmapped when dropped. Empty files have no mapping.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is an address range that belongs to the process, not to a thread, and all access
// goes through methods that copy by pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives no reference to the bytes unless they are sealed against writing.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, length: usize, protection: ProtFlags) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self {
                start: NonNull::dangling(),
                length,
            });
        }
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED | MapFlags::POPULATE,
                file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// The address of `range`, checked against the length.
    fn at(&self, range: &Range<usize>) -> io::Result<*mut u8> {
        if range.start > range.end || range.end > self.length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "bytes {}..{} of a shared memory of {} bytes",
                    range.start, range.end, self.length
                ),
            ));
        }
        // SAFETY: the offset was just checked to lie within the mapping or at its end.
        Ok(unsafe { self.start.as_ptr().add(range.start) })
    }

    fn copy_to(&self, offset: usize, destination: &mut [u8]) -> io::Result<()> {
        let range = offset..offset.saturating_add(destination.len());
        let source = self.at(&range)?;
        // SAFETY: the source range lies in the mapping, the destination is a distinct slice. Another
        // process may write meanwhile: then the bytes are any mixture, which is valid for `u8`.
        unsafe {
            std::ptr::copy_nonoverlapping(source, destination.as_mut_ptr(), destination.len())
        };
        Ok(())
    }

    fn write_at(&self, offset: usize, source: &[u8]) -> io::Result<()> {
        let range = offset..offset.saturating_add(source.len());
        let destination = self.at(&range)?;
        // SAFETY: the destination range lies in a mapping made with write permission, no reference
        // to which is ever given out; the source is a distinct slice.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), destination, source.len()) };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the range was mapped by `new` and no pointer into it outlives `self`. The only
            // failure, an invalid range, cannot happen.
            let _unmapped =
                unsafe { rustix::mm::munmap(self.start.as_ptr().cast::<c_void>(), self.length) };
        }
    }
}

fn create_file(name: &str, length: usize) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    if length > 0 {
        // Reserves every page, so that memory runs out here and not as SIGBUS at first touch.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length as u64)?;
    }
    Ok(file)
}

const FIXED_SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Shared memory of a fixed size that both the host and the payload may write.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    mapping: Mapping,
}

impl SharedMemory {
    /// Makes `length` zero bytes, all of them present, of a size that no one can change any more.
    /// `name` is seen in `/proc` only.
    ///
    /// # Errors
    ///
    /// What the kernel answers; `OutOfMemory` or `StorageFull` if there is not enough.
    pub fn create(name: &str, length: usize) -> io::Result<Self> {
        let file = create_file(name, length)?;
        rustix::fs::fcntl_add_seals(&file, FIXED_SIZE | SealFlags::SEAL)?;
        let mapping = Mapping::new(file.as_fd(), length, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self { file, mapping })
    }

    /// The size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.length
    }

    /// Whether the size is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `destination`. If the payload writes at the same time
    /// the copy may hold old and new bytes; freeze it first where that matters.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that range is not within the memory.
    pub fn copy_to(&self, offset: usize, destination: &mut [u8]) -> io::Result<()> {
        self.mapping.copy_to(offset, destination)
    }

    /// A copy of the bytes in `range`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that range is not within the memory.
    pub fn copy(&self, range: Range<usize>) -> io::Result<Vec<u8>> {
        self.mapping.at(&range)?;
        let mut bytes = vec![0; range.len()];
        self.mapping.copy_to(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// A copy of the whole memory.
    ///
    /// # Errors
    ///
    /// None today; the type leaves room for a mapping that can fail.
    pub fn snapshot(&self) -> io::Result<Vec<u8>> {
        self.copy(0..self.len())
    }

    /// Writes `source` at `offset`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that range is not within the memory.
    pub fn write_at(&mut self, offset: usize, source: &[u8]) -> io::Result<()> {
        self.mapping.write_at(offset, source)
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Shared memory that nobody, the host included, can change any more.
#[derive(Debug)]
pub struct SealedMemory {
    file: OwnedFd,
    mapping: Mapping,
}

impl SealedMemory {
    /// Makes a sealed copy of `bytes`.
    ///
    /// # Errors
    ///
    /// What the kernel answers.
    pub fn create(name: &str, bytes: &[u8]) -> io::Result<Self> {
        Self::create_with(name, bytes.len(), |memory| memory.write_at(0, bytes))
    }

    /// Makes `length` bytes that `fill` writes before they are sealed, so that large contents need no
    /// second copy in memory.
    ///
    /// # Errors
    ///
    /// What the kernel or `fill` answers.
    pub fn create_with(
        name: &str,
        length: usize,
        fill: impl FnOnce(&mut Filling<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = create_file(name, length)?;
        let writable = Mapping::new(file.as_fd(), length, ProtFlags::READ | ProtFlags::WRITE)?;
        fill(&mut Filling { mapping: &writable })?;
        // A writable mapping would forbid the seal.
        drop(writable);
        rustix::fs::fcntl_add_seals(&file, FIXED_SIZE | SealFlags::WRITE | SealFlags::SEAL)?;
        let mapping = Mapping::new(file.as_fd(), length, ProtFlags::READ)?;
        Ok(Self { file, mapping })
    }

    /// The memory as a descriptor alone, without the host's mapping.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.file
    }

    /// The bytes. Sound as a reference, because the seal forbids every write for ever.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `self`, and its bytes can no longer change.
        unsafe { std::slice::from_raw_parts(self.mapping.start.as_ptr(), self.mapping.length) }
    }
}

impl AsFd for SealedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Sealed memory while it is being written.
#[derive(Debug)]
pub struct Filling<'a> {
    mapping: &'a Mapping,
}

impl Filling<'_> {
    /// Writes `source` at `offset`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that range is not within the memory.
    pub fn write_at(&mut self, offset: usize, source: &[u8]) -> io::Result<()> {
        self.mapping.write_at(offset, source)
    }

    /// The bytes, for code that wants to write them in place; nobody else has them yet.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the file has not left this process, so this is the only mapping; `&mut self` keeps
        // every other access away while the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.start.as_ptr(), self.mapping.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::{SealedMemory, SharedMemory};
    use std::fs::File;
    use std::io::{ErrorKind, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn another_holder(memory: &impl AsFd) -> File {
        File::from(memory.as_fd().try_clone_to_owned().expect("duplicate"))
    }

    #[test]
    fn both_sides_see_what_the_other_writes() {
        let mut memory = SharedMemory::create("test", 10_000).expect("create");
        let other = another_holder(&memory);
        memory.write_at(9_990, b"0123456789").expect("write");
        let mut seen = [0; 10];
        other.read_exact_at(&mut seen, 9_990).expect("read");
        assert_eq!(&seen, b"0123456789");
        other.write_all_at(b"answer", 5).expect("write");
        assert_eq!(memory.copy(5..11).expect("copy"), b"answer");
        assert_eq!(memory.snapshot().expect("snapshot").len(), 10_000);
    }

    #[test]
    fn nobody_can_change_the_size() {
        let memory = SharedMemory::create("test", 4096).expect("create");
        let other = another_holder(&memory);
        assert!(other.set_len(4095).is_err());
        assert!(other.set_len(4097).is_err());
        assert!(other.write_all_at(b"x", 4096).is_err());
        other
            .write_all_at(b"x", 4095)
            .expect("the last byte can be written");
    }

    #[test]
    fn sealed_memory_cannot_be_written_by_anyone() {
        let memory = SealedMemory::create("test", b"the seed").expect("create");
        assert!(another_holder(&memory).write(b"x").is_err());
        assert!(another_holder(&memory).set_len(0).is_err());
        assert_eq!(memory.as_slice(), b"the seed");
    }

    #[test]
    fn sealed_memory_can_be_filled_in_place() {
        let memory = SealedMemory::create_with("test", 3, |filling| {
            filling.as_mut_slice().fill(b'a');
            filling.write_at(1, b"b")
        })
        .expect("create");
        assert_eq!(memory.as_slice(), b"aba");
    }

    #[test]
    fn ranges_outside_are_refused() {
        let mut memory = SharedMemory::create("test", 8).expect("create");
        memory.write_at(0, &[1; 8]).expect("the whole range");
        for (offset, length) in [(1, 8), (9, 0), (usize::MAX, 2)] {
            let written = memory.write_at(offset, &vec![0; length]);
            assert_eq!(
                written.map_err(|error| error.kind()),
                Err(ErrorKind::InvalidInput)
            );
        }
        assert!(memory.copy(4..9).is_err());
        assert_eq!(memory.snapshot().expect("snapshot"), [1; 8]);
    }

    #[test]
    fn empty_memory_is_a_memory() {
        let mut memory = SharedMemory::create("test", 0).expect("create");
        assert!(memory.is_empty());
        memory.write_at(0, b"").expect("write nothing");
        assert!(memory.snapshot().expect("snapshot").is_empty());
        assert!(another_holder(&memory).set_len(1).is_err());
        let sealed = SealedMemory::create("test", b"").expect("create");
        assert!(sealed.as_slice().is_empty());
    }
}
