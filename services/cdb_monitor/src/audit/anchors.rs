//! Checkpoints in the ledger: what the audit files' host cannot take back.

use cdb_core::checkpoint::{self, Checkpoint, CheckpointKey};

use crate::ledger::{Ledger, time};

/// Notes of one chain that are looked at; more than one is needed only where somebody put a forged one there.
const NOTES: i64 = 50;

impl Ledger {
    /// Anchors a checkpoint; one that is there already stays.
    ///
    /// # Errors
    /// The database failed.
    pub async fn anchor(&self, checkpoint: &Checkpoint, note: &str) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO checkpoints (origin, size, head, note, signed_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
            checkpoint.origin,
            i64::try_from(checkpoint.size).unwrap_or(i64::MAX),
            hex::encode(checkpoint.head),
            note,
            time(checkpoint.at)
        )
        .execute(&self.pool)
        .await
        .map(|_| ())
    }

    /// The newest genuine anchor of every chain that this key has signed for.
    ///
    /// # Errors
    /// The database failed.
    pub async fn newest_anchors(&self, key: &CheckpointKey) -> Result<Vec<Checkpoint>, sqlx::Error> {
        let origins = sqlx::query_scalar!(r#"SELECT DISTINCT origin AS "origin!" FROM checkpoints"#)
            .fetch_all(&self.pool)
            .await?;
        let mut anchors = Vec::new();
        for origin in origins {
            let notes = sqlx::query_scalar!(
                "SELECT note FROM checkpoints WHERE origin = $1 ORDER BY size DESC, signed_at DESC LIMIT $2",
                origin,
                NOTES
            )
            .fetch_all(&self.pool)
            .await?;
            let genuine = notes.iter().filter_map(|note| checkpoint::verify(note, key.public()).ok());
            anchors.extend(genuine.filter(|anchor| anchor.origin == origin).take(1));
        }
        Ok(anchors)
    }

    /// Alerts of the audit trail that an earlier process raised.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open_audit_alerts(&self) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar!(
            r#"SELECT alert AS "alert!" FROM open_alerts WHERE service = 'cdb_monitor' AND alert LIKE 'audit\_%'"#
        )
        .fetch_all(&self.pool)
        .await
    }
}
