//! Every verdict on the stream, decided again from what was recorded (`cdb_core::second_opinion`).

use anyhow::Context as _;
use cdb_core::ids::EntryId;
use cdb_core::report::Execution;
use cdb_core::second_opinion::{Reviewed, SecondOpinion};
use redis::aio::ConnectionManager;
use redis::streams::StreamRangeReply;
use serde::Deserialize;

use crate::bus::{self, Bus, Entry, Pages, keys};

/// One verdict, looked at again, or why it cannot be read.
pub type Looked = (EntryId, Result<Reviewed, String>);

/// A second look at the verdicts from the stream's beginning on.
pub struct Review {
    redis: ConnectionManager,
    second: SecondOpinion,
    verdicts: Pages,
    executions: Pages,
}

impl Review {
    /// From the beginning: what was approved before decides what may be approved later.
    #[must_use]
    pub fn of(bus: &Bus) -> Self {
        Self {
            redis: bus.commands(),
            second: SecondOpinion::default(),
            verdicts: Pages::of(keys::VERDICTS),
            executions: Pages::of(keys::EXECUTIONS),
        }
    }

    /// The next page of verdicts; `None` when all have been looked at, until there are more.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Looked>>> {
        let Some(verdicts) = self.verdicts.next(&mut self.redis).await? else { return Ok(None) };
        let originals = self.originals(&verdicts).await?;
        // Whatever these verdicts knew of was on the stream before them.
        while let Some(executions) = self.executions.next(&mut self.redis).await? {
            for entry in executions {
                // The desk that decides loses its state over one that cannot be read, and says so in its inputs.
                if let Ok(execution) = Execution::parse(entry.json()) {
                    self.second.on_execution(entry.id, execution);
                }
            }
        }
        let mut looked = Vec::with_capacity(verdicts.len());
        for (verdict, original) in verdicts.into_iter().zip(originals) {
            match self.second.on_verdict(verdict.json(), original.as_ref().and_then(|entry| entry.field("json"))) {
                Ok(None) => {}
                Ok(Some(reviewed)) => looked.push((verdict.id, Ok(reviewed))),
                Err(problem) => looked.push((verdict.id, Err(problem))),
            }
        }
        Ok(Some(looked))
    }

    /// The entries of `cdb:orders` that the verdicts answer, where they are still kept.
    async fn originals(&mut self, verdicts: &[Entry]) -> anyhow::Result<Vec<Option<Entry>>> {
        #[derive(Deserialize)]
        struct Answers {
            entry: EntryId,
        }
        let mut pipeline = redis::pipe();
        for verdict in verdicts {
            let answers = serde_json::from_slice::<Answers>(verdict.json()).map(|answers| answers.entry);
            // An unreadable verdict asks for an entry that cannot be.
            let entry = answers.map_or_else(|_| "0-0".to_owned(), |entry| entry.to_string());
            pipeline.cmd("XRANGE").arg(keys::ORDERS).arg(&entry).arg(&entry);
        }
        let replies: Vec<StreamRangeReply> =
            pipeline.query_async(&mut self.redis).await.context("reading the orders that were decided")?;
        Ok(replies.into_iter().map(|reply| reply.ids.into_iter().next().and_then(bus::entry)).collect())
    }
}
