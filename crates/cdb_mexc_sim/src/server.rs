//! Both interfaces on their ports.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;
use rust_decimal::Decimal;
use tokio::net::TcpListener;

use crate::auth::{Keys, Pair};
use crate::budget::Budget;
use crate::exchange::Exchange;
use crate::faults::Faults;
use crate::hub::Hub;
use crate::state::{Inner, Kept, Shared, Switches};
use crate::{admin, api, replay, rules, stream};

/// Largest body of a request to the exchange.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest body of a request to the admin interface: a fault may carry an answer of many megabytes.
const ADMIN_BYTES_MAX: usize = 64 << 20;

/// How a stand-in is set up.
#[derive(Clone)]
pub struct Setup {
    /// The exchange's port.
    pub listen: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
    /// API key.
    pub api_key: String,
    /// API secret.
    pub api_secret: String,
    /// Opening balances.
    pub balances: Vec<(String, Decimal)>,
    /// Files of recorded trades.
    pub replay: Vec<PathBuf>,
    /// For random faults.
    pub seed: u64,
    /// Where the books are kept over a restart.
    pub keep_in: Option<PathBuf>,
    /// No rate limit is enforced.
    pub is_unlimited: bool,
}

/// A stand-in whose ports are open.
pub struct Server {
    /// The exchange's address.
    pub address: SocketAddr,
    /// The admin address.
    pub admin_address: SocketAddr,
    shared: Arc<Shared>,
    listeners: (TcpListener, TcpListener),
    replays: Vec<(String, Vec<replay::Print>)>,
}

impl Server {
    /// Opens the ports and loads everything.
    ///
    /// # Errors
    /// A port is taken, or a file is not readable.
    pub async fn open(setup: Setup) -> anyhow::Result<Self> {
        let mut exchange = match &setup.keep_in {
            Some(path) if path.exists() => Kept::restore(path)?,
            Some(_) | None => {
                let mut exchange = Exchange::new(rules::listed());
                for (asset, amount) in &setup.balances {
                    exchange.account.add(asset, *amount);
                }
                exchange
            }
        };
        exchange.list(rules::listed());
        let mut replays = Vec::new();
        for path in &setup.replay {
            replays.push(replay::read(path)?);
        }
        let mut budget = Budget::default();
        if setup.is_unlimited {
            budget.unlimited();
        }
        let kept = setup.keep_in.map(|path| Kept::begin(path, &exchange)).transpose().context("keeping the books")?;
        let inner = Inner {
            exchange,
            keys: Keys { pairs: vec![Pair::new(setup.api_key, setup.api_secret, false)], ..Keys::default() },
            budget,
            faults: Faults::seeded(setup.seed),
            hub: Hub::default(),
            switches: Switches::default(),
            seen: VecDeque::new(),
            seen_from: 0,
            kept,
            opening: setup.balances,
        };
        let bind = async |address| TcpListener::bind(address).await.with_context(|| format!("listening on {address}"));
        let listeners = (bind(setup.listen).await?, bind(setup.admin).await?);
        Ok(Self {
            address: listeners.0.local_addr()?,
            admin_address: listeners.1.local_addr()?,
            shared: Arc::new(Shared::new(inner)),
            listeners,
            replays,
        })
    }

    /// Serves until it fails or is dropped.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn serve(self) -> anyhow::Result<()> {
        for (symbol, prints) in self.replays {
            tokio::spawn(replay::play(Arc::clone(&self.shared), symbol, prints));
        }
        let exchange = Router::new()
            .route("/ws", any(stream::upgrade))
            .fallback(api::handle)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(&self.shared));
        let admin = admin::routes(self.shared).layer(DefaultBodyLimit::max(ADMIN_BYTES_MAX));
        let (listener, admin_listener) = self.listeners;
        tokio::select! {
            ended = axum::serve(listener, exchange) => ended.context("serving the exchange"),
            ended = axum::serve(admin_listener, admin) => ended.context("serving the admin interface"),
        }
    }
}
