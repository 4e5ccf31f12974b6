//! File descriptors that travel with a message over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The most descriptors that Linux carries with one message (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 253;

/// Sends all of `bytes`, with copies of `descriptors` attached to the first of them.
///
/// # Errors
///
/// `InvalidInput` if there is no byte to attach them to, or if there are more than
/// [`MOST_DESCRIPTORS`]; otherwise what the socket answers.
pub fn send_with_descriptors(
    socket: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors need at least one byte to travel with",
        ));
    }
    if descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{} descriptors do not fit in one message",
                descriptors.len()
            ),
        ));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(descriptors.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("the control message is too small"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    let mut socket = socket;
    socket.write_all(&bytes[sent..])
}

/// Receives up to `buffer.len()` bytes and the descriptors that travel with them.
pub(crate) fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::{MOST_DESCRIPTORS, receive_with_descriptors, send_with_descriptors};
    use std::fs::File;
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_bytes() {
        let (here, there) = UnixStream::pair().expect("socket pair");
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        send_with_descriptors(&here, b"hello", &[writer.as_fd()]).expect("send");
        drop(writer);
        let mut buffer = [0; 16];
        let (count, descriptors) = receive_with_descriptors(&there, &mut buffer).expect("receive");
        assert_eq!(&buffer[..count], b"hello");
        let [received] = <[_; 1]>::try_from(descriptors).expect("one descriptor");
        std::io::Write::write_all(&mut File::from(received), b"through").expect("write");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn a_message_longer_than_the_socket_buffer_arrives_whole() {
        let (here, mut there) = UnixStream::pair().expect("socket pair");
        let bytes = vec![7u8; 3 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            there.read_to_end(&mut all).map(|_| all)
        });
        send_with_descriptors(&here, &bytes, &[]).expect("send");
        drop(here);
        assert_eq!(reader.join().expect("join").expect("read"), bytes);
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let (here, _there) = UnixStream::pair().expect("socket pair");
        let empty = send_with_descriptors(&here, b"", &[here.as_fd()]);
        assert_eq!(
            empty.map_err(|error| error.kind()),
            Err(ErrorKind::InvalidInput)
        );
        let many = vec![here.as_fd(); MOST_DESCRIPTORS + 1];
        let many = send_with_descriptors(&here, b"x", &many);
        assert_eq!(
            many.map_err(|error| error.kind()),
            Err(ErrorKind::InvalidInput)
        );
    }
}
