//! Who is subscribed to what, and what goes wrong on the way to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cdb_mexc_proto::PushDataV3ApiWrapper;
use prost::Message as _;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::channel::Channel;
use crate::event::Event;
use crate::exchange::Exchange;
use crate::faults::Faults;
use crate::listen_key::ListenKeys;
use crate::state::Switches;

/// Frames that may wait for one connection; with one more it is closed as too slow.
const QUEUE_MAX: usize = 10_000;
/// Connections a listen key opens.
const CONNECTIONS_PER_KEY: usize = 5;
/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 30;
/// A field that no schema names: number 999, varint 1.
const UNKNOWN_FIELD: [u8; 3] = [0xB8, 0x3E, 0x01];

/// A frame and when it is to leave.
pub type Outgoing = (Instant, Vec<u8>);

/// All connections.
#[derive(Default)]
pub struct Hub {
    /// What opens user streams.
    pub keys: ListenKeys,
    connections: BTreeMap<u64, Connection>,
    opened: u64,
}

struct Connection {
    listen_key: Option<String>,
    channels: BTreeSet<Channel>,
    frames: mpsc::Sender<Outgoing>,
    /// A frame that the next one overtakes.
    held: Option<Outgoing>,
    sent: u64,
}

/// One connection as the admin interface shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionReport {
    /// Number.
    pub id: u64,
    /// Whether it was opened with a listen key.
    pub is_private: bool,
    /// What it is subscribed to.
    pub channels: Vec<String>,
    /// Frames sent.
    pub frames: u64,
}

impl Hub {
    /// Takes a connection in; `None` when its listen key opens nothing, or nothing more.
    pub fn open(&mut self, listen_key: Option<String>, now: i64) -> Option<(u64, mpsc::Receiver<Outgoing>)> {
        if let Some(key) = &listen_key {
            let used = self.connections.values().filter(|one| one.listen_key.as_ref() == Some(key)).count();
            if !self.keys.is_live(key, now) || used >= CONNECTIONS_PER_KEY {
                return None;
            }
        }
        self.opened += 1;
        let (frames, receiver) = mpsc::channel(QUEUE_MAX);
        let connection = Connection { listen_key, channels: BTreeSet::new(), frames, held: None, sent: 0 };
        self.connections.insert(self.opened, connection);
        Some((self.opened, receiver))
    }

    /// Forgets a connection.
    pub fn close(&mut self, id: u64) {
        self.connections.remove(&id);
    }

    /// Closes every connection whose listen key is meant.
    pub fn close_where(&mut self, is_meant: impl Fn(Option<&str>) -> bool) {
        self.connections.retain(|_, connection| !is_meant(connection.listen_key.as_deref()));
    }

    /// Subscribes; `false` when the channel cannot be had here.
    pub fn subscribe(&mut self, id: u64, channel: Channel) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let is_refused = (channel.is_private() && connection.listen_key.is_none())
            || (connection.channels.len() >= SUBSCRIPTIONS_MAX && !connection.channels.contains(&channel));
        if !is_refused {
            connection.channels.insert(channel);
        }
        !is_refused
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: u64, channel: &Channel) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.channels.remove(channel);
        }
    }

    /// Whether a connection is subscribed to anything.
    #[must_use]
    pub fn has_subscription(&self, id: u64) -> bool {
        self.connections.get(&id).is_some_and(|connection| !connection.channels.is_empty())
    }

    /// Every connection.
    #[must_use]
    pub fn report(&self) -> Vec<ConnectionReport> {
        let report = |(id, connection): (&u64, &Connection)| ConnectionReport {
            id: *id,
            is_private: connection.listen_key.is_some(),
            channels: connection.channels.iter().map(|channel| channel.name.clone()).collect(),
            frames: connection.sent,
        };
        self.connections.iter().map(report).collect()
    }

    /// Tells everyone who is subscribed of an event, as the switches allow.
    pub fn tell(&mut self, event: &Event, exchange: &Exchange, switches: &Switches, faults: &mut Faults, now: i64) {
        let Self { keys, connections, .. } = self;
        if switches.lapsed_key_closes {
            connections.retain(|_, connection| connection.listen_key.as_ref().is_none_or(|key| keys.is_live(key, now)));
        }
        connections.retain(|_, connection| {
            let is_live = connection.listen_key.as_ref().is_some_and(|key| keys.is_live(key, now));
            if event.is_private() && (switches.stream_is_silent || !is_live) {
                return true;
            }
            let frames: Vec<PushDataV3ApiWrapper> =
                connection.channels.iter().filter_map(|channel| channel.frame(event, exchange, now)).collect();
            // A receiver that is full or gone ends the connection.
            frames.iter().all(|frame| connection.send(frame, switches, faults))
        });
    }
}

impl Connection {
    fn send(&mut self, frame: &PushDataV3ApiWrapper, switches: &Switches, faults: &mut Faults) -> bool {
        let mut bytes = frame.encode_to_vec();
        if switches.extra_fields {
            bytes.extend_from_slice(&UNKNOWN_FIELD);
        }
        if faults.strikes(switches.stream_drop_per_mille) {
            return true;
        }
        let due = Instant::now() + Duration::from_millis(switches.stream_delay_ms);
        let mut sending = Vec::new();
        if faults.strikes(switches.stream_broken_per_mille) {
            sending.push((due, bytes[..bytes.len() / 2].to_vec()));
        }
        if faults.strikes(switches.stream_duplicate_per_mille) {
            sending.push((due, bytes.clone()));
        }
        if self.held.is_none() && faults.strikes(switches.stream_reorder_per_mille) {
            self.held = Some((due, bytes));
        } else {
            sending.push((due, bytes));
            sending.extend(self.held.take());
        }
        self.sent += u64::try_from(sending.len()).unwrap_or_default();
        sending.into_iter().all(|outgoing| self.frames.try_send(outgoing).is_ok())
    }
}
