//! Moves bytes of one session after startup: for now, both ways and unjudged, so that the phases before it can be tested.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::AsyncWriteExt;

use super::shared::Worker;
use super::signal::SessionSignal;
use super::stream::{Peer, Stream};
use crate::hold::SessionId;
use crate::wire::startup::StartupPacket;

/// A client whose startup packet has been read and checked.
#[derive(Debug)]
pub struct Opened {
    /// Its name in this process.
    pub session: SessionId,
    /// The client's leg.
    pub client: Stream,
    /// What the client sent behind its startup packet.
    pub leftover: Vec<u8>,
    /// The startup packet; the driver sends its bytes to the backend first.
    pub startup: StartupPacket,
    /// The client uses TLS.
    pub client_tls: bool,
    /// Where the client is.
    pub peer: Peer,
    /// Authentication has to be over by then.
    pub deadline: Instant,
    /// What cancel and drain ask of the session.
    pub signal: Arc<SessionSignal>,
}

/// Runs the session until one side ends it.
///
/// # Cancellation safety
/// Dropping the future closes both connections.
pub async fn run(opened: Opened, backend: Stream, _backend_tls: bool, _worker: &Rc<Worker>) {
    let (mut client, mut backend) = (opened.client, backend);
    let quit = std::future::poll_fn(|cx| {
        if opened.signal.poll(cx).drain {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    });
    let relay = async {
        backend.write_all(opened.startup.bytes()).await?;
        backend.write_all(&opened.leftover).await?;
        tokio::io::copy_bidirectional(&mut client, &mut backend).await
    };
    tokio::select! {
        _ = relay => {}
        () = quit => {}
    }
}
