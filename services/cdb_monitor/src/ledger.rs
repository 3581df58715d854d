//! The streams' entries as rows. Every statement may be repeated without effect.

mod insert; // rows into tables
mod rebuild; // everything anew, out of streams and audit trail
mod rows; // entries as rows

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cdb_core::ids::EntryId;
use cdb_core::time::Timestamp;
use cdb_io::bus::Entry;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::RwLock;

use self::rows::Rows;
use crate::config::Config;

pub use self::rebuild::{Rebuilds, serve as serve_rebuilds};

/// Connections at most.
const CONNECTIONS_MAX: u32 = 4;
/// Longest wait for one.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// The ledger.
#[derive(Clone)]
pub struct Ledger {
    /// The pool, for views.
    pub pool: PgPool,
    /// As whom the schema is changed and the ledger rebuilt.
    owner: PgConnectOptions,
    /// Shared by those who write entries; alone with whoever rebuilds.
    turn: Arc<RwLock<()>>,
}

impl Ledger {
    /// A ledger that connects when it is first used: alerts go out while the database is away.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let postgres = &config.postgres;
        let of_role = |user: &str, password: Option<&cdb_core::secret::Secret>| {
            let options = PgConnectOptions::new()
                .host(&postgres.host)
                .port(postgres.port)
                .username(user)
                .database(&postgres.database)
                .application_name("cdb_monitor");
            match password {
                Some(password) => options.password(password.expose()),
                None => options,
            }
        };
        let writer = of_role(&postgres.user, postgres.password.as_ref());
        let owner = match &postgres.owner_password {
            Some(password) => of_role(&postgres.owner, Some(password)),
            None => writer.clone(),
        };
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_MAX)
            .connect_lazy_with(writer);
        Self { pool, owner, turn: Arc::default() }
    }

    /// One connection as the schema's owner.
    async fn as_owner(&self) -> anyhow::Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_MAX);
        options.connect_with(self.owner.clone()).await.context("connecting to the ledger as its owner")
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The database is unreachable, or a migration fails.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let owner = self.as_owner().await?;
        let migrated = sqlx::migrate!().run(&owner).await.context("migrating the ledger");
        owner.close().await;
        migrated
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        sqlx::query_scalar!("SELECT 1").fetch_one(&self.pool).await.map(|_| ())
    }

    /// The last entry of a stream that is in the ledger; `0` before the first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn cursor(&self, stream: &str) -> Result<String, sqlx::Error> {
        let entry = sqlx::query_scalar!("SELECT entry FROM cursors WHERE stream = $1", stream)
            .fetch_optional(&self.pool)
            .await?;
        Ok(entry.unwrap_or_else(|| "0".to_owned()))
    }

    /// Writes entries of a stream and moves its cursor, all or none. An entry that the database does not take is written
    /// as a dead letter, and the others as they are: one bad entry never blocks a stream.
    ///
    /// # Errors
    /// The database failed.
    pub async fn write(&self, stream: &str, entries: &[Entry]) -> Result<(), sqlx::Error> {
        let _turn = self.turn.read().await;
        let Some(last) = entries.last() else { return Ok(()) };
        match self.write_rows(stream, Rows::of(stream, entries), last).await {
            Err(error) if is_about_a_value(&error) => {}
            written => return written,
        }
        for entry in entries {
            match self.write_rows(stream, Rows::of(stream, std::slice::from_ref(entry)), entry).await {
                Err(error) if is_about_a_value(&error) => {
                    self.write_rows(stream, Rows::unreadable(stream, entry, &error.to_string()), entry).await?;
                }
                written => written?,
            }
        }
        Ok(())
    }

    /// Moves a cursor that goes with no rows.
    ///
    /// # Errors
    /// The database failed.
    pub async fn move_cursor(&self, name: &str, entry: &EntryId) -> Result<(), sqlx::Error> {
        place_cursor(&self.pool, name, entry.as_str()).await
    }

    async fn write_rows(&self, stream: &str, rows: Rows, last: &Entry) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        rows.insert(&mut transaction).await?;
        place_cursor(&mut *transaction, stream, last.id.as_str()).await?;
        transaction.commit().await
    }
}

async fn place_cursor(to: impl sqlx::PgExecutor<'_>, stream: &str, entry: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO cursors (stream, entry) VALUES ($1, $2)
         ON CONFLICT (stream) DO UPDATE SET entry = EXCLUDED.entry",
        stream,
        entry
    )
    .execute(to)
    .await
    .map(|_| ())
}

/// Whether the database refused what it was given (SQLSTATE classes 22 and 23), which trying again does not change.
fn is_about_a_value(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// As the database keeps it.
pub fn time(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.millis()).unwrap_or_default()
}
