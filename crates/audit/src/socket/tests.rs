use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;

use daypass_base::SystemClock;
use daypass_base::sim::SimClock;

use super::*;
use crate::link::LinkWriter;
use crate::sink::{Fault, Writer as _};

fn writer(network: Network, address: &str, patience: Duration) -> LinkWriter<Peer> {
    LinkWriter::new(Peer { network, address: address.to_owned() }, patience, Arc::new(SystemClock::new()))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn lines_go_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut writer = writer(Network::Tcp, &listener.local_addr().unwrap().to_string(), SECOND);
    writer.append(b"one\ntwo\n").unwrap();
    writer.append(b"three\n").unwrap();
    let (stream, _) = listener.accept().unwrap();
    drop(writer);
    assert_eq!(std::io::read_to_string(stream).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn over_udp_each_line_is_a_message_and_one_too_long_fails_alone() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut writer = writer(Network::Udp, &socket.local_addr().unwrap().to_string(), SECOND);
    writer.append(b"one\ntwo\n").unwrap();
    let mut bytes = [0; 16];
    for expected in ["one\n", "two\n"] {
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], expected.as_bytes());
    }
    let mut long = vec![b'x'; 70_000];
    long.push(b'\n');
    let batch = [b"short\n".as_slice(), &long, b"last\n"].concat();
    let unwritten = writer.append(&batch).unwrap_err();
    assert_eq!((unwritten.written, unwritten.fault), (6, Fault::Line));
}

#[test]
fn lines_go_over_unix_sockets_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let (stream_path, datagram_path) = (folder.path().join("s"), folder.path().join("d"));
    let listener = UnixListener::bind(&stream_path).unwrap();
    writer(Network::Unix, &stream_path.display().to_string(), SECOND).append(b"one\n").unwrap();
    assert_eq!(std::io::read_to_string(listener.accept().unwrap().0).unwrap(), "one\n");
    let socket = UnixDatagram::bind(&datagram_path).unwrap();
    writer(Network::UnixDatagram, &datagram_path.display().to_string(), SECOND).append(b"one\n").unwrap();
    let mut bytes = [0; 16];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 4);
}

/// Appends until the peer's and the kernel's buffers are full, which is when a hundred lines in a row are refused. Returns how many lines
/// went, and the first refusal.
fn fill(writer: &mut LinkWriter<Peer>, line: &[u8]) -> (usize, crate::sink::Unwritten) {
    let (mut went, mut refused, mut first) = (0, 0, None);
    for _ in 0..100_000 {
        match writer.append(line) {
            Ok(()) => (went, refused) = (went + 1, 0),
            Err(unwritten) => {
                first.get_or_insert(unwritten);
                refused += 1;
            }
        }
        if refused == 100 {
            return (went, first.unwrap());
        }
    }
    panic!("the buffers have no end");
}

#[test]
fn a_peer_that_does_not_read_costs_its_patience_once_and_gets_every_line_whole_when_it_reads_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut writer = writer(Network::Tcp, &listener.local_addr().unwrap().to_string(), Duration::from_millis(50));
    let line = [vec![b'x'; 2000], vec![b'\n']].concat();
    let clock = SystemClock::new();
    let (full, unwritten) = fill(&mut writer, &line);
    assert_eq!((unwritten.source.kind(), unwritten.fault), (ErrorKind::TimedOut, Fault::Hopeless));
    assert!(unwritten.source.to_string().contains("has not read for 50ms"), "{}", unwritten.source);
    let spent = daypass_base::Clock::elapsed(&clock);
    assert!(spent < 3 * SECOND, "each of a hundred waited: {spent:?}");

    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream).lines();
    // Each line read makes room; soon the writer may go on, on the same connection.
    let mut read = 0;
    while writer.append(b"again\n").is_err() {
        assert_eq!(lines.next().unwrap().unwrap().len(), 2000);
        read += 1;
        assert!(read < full, "there is room, and still nothing goes");
    }
    drop(writer);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.last().unwrap(), "again");
    assert!(rest.iter().rev().skip(1).all(|line| line.len() == 2000), "a line was cut");
    // Lines that were cut are finished, though their requests were refused; none that was taken is lost.
    assert!(read + rest.len() > full, "{read} and {} of {full}", rest.len());
}

#[test]
fn a_broken_connection_is_made_anew_at_growing_intervals() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clock = SimClock::default();
    let peer = Peer { network: Network::Tcp, address: address.to_string() };
    let mut writer = LinkWriter::new(peer, SECOND, Arc::new(clock.clone()));
    writer.append(b"one\n").unwrap();
    // The peer goes and comes back: seen before the next line, which is not lost.
    drop(listener.accept().unwrap());
    writer.append(b"two\n").unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"two\n");

    drop((stream, listener));
    let refused = writer.append(b"lost\n").unwrap_err();
    assert!(refused.source.to_string().contains("no connection to"), "{}", refused.source);
    let listener = TcpListener::bind(address).unwrap();
    assert!(writer.append(b"too early\n").is_err(), "it waits before it tries again");
    clock.advance(SECOND);
    writer.append(b"back\n").unwrap();
    drop(writer);
    assert_eq!(std::io::read_to_string(listener.accept().unwrap().0).unwrap(), "back\n");
}

#[test]
fn an_operator_need_not_wait_for_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let clock = Arc::new(SimClock::default());
    let mut writer = LinkWriter::new(Peer { network: Network::Unix, address: path.display().to_string() }, SECOND, clock);
    assert!(writer.append(b"lost\n").is_err());
    let _listener = UnixListener::bind(&path).unwrap();
    assert!(writer.append(b"lost\n").is_err());
    writer.reopen().unwrap();
    writer.append(b"there\n").unwrap();
}

#[test]
fn networks_are_named_as_go_names_them() {
    assert_eq!(
        ["tcp", "udp6", "unix", "unixgram"].map(Network::parse),
        [Network::Tcp, Network::Udp, Network::Unix, Network::UnixDatagram].map(Some)
    );
    assert_eq!(Network::parse("carrier pigeon"), None);
}
