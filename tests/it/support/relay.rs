//! A relay between the gateway and something it depends on over TCP, which fails as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a relay behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relaying {
    /// Everything passes.
    Pass,
    /// Everything passes this much later.
    Slow(Duration),
    /// Nothing passes, and no connection ends.
    Hang,
    /// Connections end, and new ones with them.
    Refuse,
    /// The next message with this word ends its connection, and does not arrive.
    LoseMessage(&'static str),
    /// The next message with this word arrives, and its connection ends before the answer.
    LoseAnswer(&'static str),
}

/// A running relay; it ends with the test's runtime.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    how: Arc<watch::Sender<Relaying>>,
    lost: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts a relay to an address.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Self {
            address,
            target: Arc::new(Mutex::new(target)),
            how: Arc::new(watch::Sender::new(Relaying::Pass)),
            lost: Arc::default(),
        };
        let accepting = relay.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().connect(client));
            }
        });
        relay
    }

    /// Behaves so from now on, on connections that are open too.
    pub fn will(&self, how: Relaying) {
        self.how.send_replace(how);
    }

    /// Leads new connections elsewhere from now on, as an address that moves to another machine.
    #[allow(dead_code, reason = "for tests/fleet")]
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    /// Messages and answers that were lost as told.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Acquire)
    }

    async fn connect(self, client: TcpStream) {
        let mut how = self.how.subscribe();
        if how.wait_for(|how| *how != Relaying::Hang).await.is_err() {
            return;
        }
        if *how.borrow() == Relaying::Refuse {
            return;
        }
        let target = *self.target.lock().unwrap();
        let Ok(server) = TcpStream::connect(target).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let mute = AtomicBool::new(false);
        // Whichever way ends first takes the other with it.
        tokio::select! {
            () = self.pump(from_client, to_server, &mute) => {}
            () = self.pump(from_server, to_client, &mute) => {}
            _ = how.wait_for(|how| *how == Relaying::Refuse) => {}
        }
    }

    /// Passes on what comes; `mute` is set when the next thing that comes is an answer to be lost.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mute: &AtomicBool) {
        let mut how = self.how.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..count];
            let holds = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
            let Ok(now) = how.wait_for(|how| *how != Relaying::Hang).await.map(|how| *how) else { return };
            if mute.load(Ordering::Acquire) {
                return self.lose();
            }
            match now {
                Relaying::Slow(delay) => tokio::time::sleep(delay).await,
                Relaying::LoseMessage(word) if holds(word) => return self.lose(),
                Relaying::LoseAnswer(word) if holds(word) => mute.store(true, Ordering::Release),
                _ => {}
            }
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    fn lose(&self) {
        self.how.send_replace(Relaying::Pass);
        self.lost.fetch_add(1, Ordering::AcqRel);
    }
}
