//! A plain byte relay: the least any proxy in this position must do. One thread, one epoll, one buffer, no protocol.
//!
//! `bench relay UPSTREAM_PORT` prints `listening on ADDRESS` to standard error and runs until it is killed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// As much as one read takes.
const BUFFER: usize = 64 * 1024;
const LISTENER: u64 = u64::MAX;

/// One client with its connection to the server; side 0 is the client.
struct Pair {
    sides: [TcpStream; 2],
    /// What could not be written to a side yet; while there is any, the other side is not read.
    pending: [Vec<u8>; 2],
    /// Which sides will send no more.
    finished: [bool; 2],
}

/// The relay's `main`.
pub(crate) fn main() -> ExitCode {
    let port: u16 = std::env::args().nth(2).and_then(|port| port.parse().ok()).expect("relay UPSTREAM_PORT");
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.set_nonblocking(true).expect("non-blocking");
    eprintln!("listening on {}", listener.local_addr().expect("bound"));
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).expect("epoll_ctl");
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => panic!("epoll_wait: {error}"),
        };
        for event in &events[..ready] {
            if event.data() == LISTENER {
                accept(&listener, port, &epoll, &mut pairs);
                continue;
            }
            let token = usize::try_from(event.data()).expect("our own token");
            let (index, side) = (token / 2, token % 2);
            let Some(pair) = pairs.get_mut(index).and_then(Option::as_mut) else { continue };
            if !serve(pair, side, event.events(), &epoll, token, &mut buffer) {
                // Dropping the sockets takes them out of the epoll set.
                pairs[index] = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, port: u16, epoll: &Epoll, pairs: &mut Vec<Option<Pair>>) {
    while let Ok((client, _)) = listener.accept() {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        let index = pairs.iter().position(Option::is_none).unwrap_or(pairs.len());
        let sides = [client, server];
        for (side, socket) in sides.iter().enumerate() {
            socket.set_nodelay(true).expect("TCP_NODELAY");
            socket.set_nonblocking(true).expect("non-blocking");
            let token = (index * 2 + side) as u64;
            epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token)).expect("epoll_ctl");
        }
        let pair = Some(Pair { sides, pending: [Vec::new(), Vec::new()], finished: [false; 2] });
        if index == pairs.len() { pairs.push(pair) } else { pairs[index] = pair }
    }
}

/// Moves what it can; `false` when the connection is over.
fn serve(pair: &mut Pair, side: usize, flags: EpollFlags, epoll: &Epoll, token: usize, buffer: &mut [u8]) -> bool {
    let other = 1 - side;
    if flags.contains(EpollFlags::EPOLLOUT) {
        let pending = std::mem::take(&mut pair.pending[side]);
        match (&pair.sides[side]).write(&pending) {
            Ok(written) => pair.pending[side] = pending[written..].to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => pair.pending[side] = pending,
            Err(_) => return false,
        }
        if pair.pending[side].is_empty() {
            watch(epoll, &pair.sides[side], token, EpollFlags::EPOLLIN);
            if !pair.finished[other] {
                watch(epoll, &pair.sides[other], token ^ 1, EpollFlags::EPOLLIN);
            }
        }
        return true;
    }
    match (&pair.sides[side]).read(buffer) {
        Ok(0) => {
            pair.finished[side] = true;
            let _ = pair.sides[other].shutdown(Shutdown::Write);
            watch(epoll, &pair.sides[side], token, EpollFlags::empty());
            !pair.finished[other]
        }
        Ok(read) => {
            let written = match (&pair.sides[other]).write(&buffer[..read]) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return false,
            };
            if written < read {
                pair.pending[other] = buffer[written..read].to_vec();
                watch(epoll, &pair.sides[side], token, EpollFlags::empty());
                watch(epoll, &pair.sides[other], token ^ 1, EpollFlags::EPOLLOUT);
            }
            true
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn watch(epoll: &Epoll, socket: &TcpStream, token: usize, flags: EpollFlags) {
    epoll.modify(socket, &mut EpollEvent::new(flags, token as u64)).expect("epoll_ctl");
}
