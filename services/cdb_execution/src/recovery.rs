//! What an earlier process left behind: read from the audit trail first, because it is written before anything is
//! sent or published, then from Redis. Claims without a final state, audited or not, are settled before anything new
//! leaves; reports that were recorded and not published are published.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use cdb_core::audit::Record;
use cdb_core::audit::story::SUBMITTED;
use cdb_core::command::Command;
use cdb_core::gate::Claim;
use cdb_core::ids::{ClOrdId, Symbol};
use cdb_core::lifecycle::TrackedOrder;
use cdb_core::order::{NewOrder, Side};
use cdb_core::report::{AssetBalance, Execution, ExecutionReport, Fill, Finding};
use cdb_core::verdict::{ApprovedOrder, VerdictKey, Verified};
use cdb_io::bus::{Pages, keys};
use cdb_io::{audit_files, clock};
use redis::AsyncCommands as _;
use serde::Deserialize;

use crate::book::Book;
use crate::gatekeeper::Settlement;
use crate::leading::verified;
use crate::reconcile;

/// Ended orders this young are kept in the book, for fills that are still unknown, ms.
const RECENT_MS: i64 = 24 * 3_600_000;

/// An order that the audit trail knows.
struct Known {
    order: TrackedOrder,
    claim: Claim,
}

/// What the audit trails of all instances say.
#[derive(Default)]
struct Trails {
    orders: BTreeMap<ClOrdId, Known>,
    reports: Vec<ExecutionReport>,
    findings: BTreeSet<String>,
    /// Time of the first record.
    born_at: Option<String>,
    problems: Vec<String>,
}

#[derive(Deserialize)]
struct SubmittedResult {
    claim: Claim,
}

impl Trails {
    fn take(&mut self, record: &Record<'_>) {
        let result = record.result.map(|raw| raw.get()).unwrap_or("null");
        if self.born_at.as_ref().is_none_or(|born_at| *born_at > record.timestamp) {
            self.born_at = Some(record.timestamp.clone());
        }
        if record.event_type == "FINDING"
            && let Ok(finding) = serde_json::from_str::<Finding>(result)
        {
            self.findings.extend(finding.order_id);
        }
        if record.event_type == SUBMITTED {
            let order = record.order.map(|raw| Command::parse(raw.get().as_bytes()));
            let claim = serde_json::from_str::<SubmittedResult>(result);
            match (order, claim) {
                (Some(Ok(Command::New(order))), Ok(SubmittedResult { claim })) => {
                    let id = order.cl_ord_id.clone();
                    self.orders.insert(id, Known { order: TrackedOrder::new(order), claim });
                }
                _ => self.problems.push(format!("record {} cannot be read", record.seq)),
            }
        } else if record.event_type.starts_with("ORDER_") {
            match serde_json::from_str::<ExecutionReport>(result) {
                Ok(report) => self.reports.push(report),
                Err(_) => self.problems.push(format!("record {} cannot be read", record.seq)),
            }
        }
    }

    /// Moves every order by its reports, in the order of their times: after a change of the sending instance one
    /// order's reports stand in two trails.
    fn settle(&mut self) {
        self.reports.sort_by_key(|report| report.ts);
        for report in &self.reports {
            if let Some(known) = self.orders.get_mut(&report.cl_ord_id) {
                known.order.restore(report);
            }
        }
    }
}

/// An order whose outcome is to be found out.
pub struct Unsettled {
    /// Its ClOrdID; the order is in the book.
    pub cl_ord_id: ClOrdId,
    /// Its claim, when it is not known whether the order exists.
    pub doubt: Option<Claim>,
}

/// What recovery brings.
pub struct Recovered {
    /// Orders that must be settled before anything new leaves.
    pub unsettled: Vec<Unsettled>,
    /// What reconciliation goes on from.
    pub known: reconcile::Known,
    /// The account as it was last published.
    pub baseline: Option<Vec<AssetBalance>>,
}

/// Rebuilds the book.
///
/// # Errors
/// A trail or Redis cannot be read.
pub async fn recover(
    book: &Book,
    audit_dir: &Path,
    approved: &[ApprovedOrder],
    verdict_key: &VerdictKey,
) -> anyhow::Result<Recovered> {
    let dir = audit_dir.to_owned();
    // Reading may take long; the lease is renewed meanwhile.
    let trails = tokio::task::spawn_blocking(move || read_trails(&dir)).await??;
    anyhow::ensure!(trails.problems.is_empty(), "the audit trail has unreadable orders: {:?}", trails.problems);
    let baseline = publish_missing(book, &trails.reports).await?;
    for report in trails.reports.iter().filter(|report| report.ord_status.is_final()) {
        // Refused before it was ever submitted: its verdict, delivered once more, must not send it.
        book.mark_submitted(report.cl_ord_id.clone());
    }
    let mut redis = book.gatekeeper().redis();
    let known = reconcile::Known {
        born_at: trails.born_at.clone().unwrap_or_default().into(),
        found: Arc::new(Mutex::new(trails.findings.clone())),
    };
    let recent = clock::now().plus_ms(-RECENT_MS);
    let mut unsettled = Vec::new();
    let mut known_ids = BTreeSet::new();
    for (id, Known { order, claim }) in trails.orders {
        book.mark_submitted(id.clone());
        known_ids.insert(id.clone());
        if order.is_settled() {
            if claim.granted_at > recent {
                book.remember_ended(order);
            }
            continue;
        }
        restore_claim(&mut redis, &id, &claim).await?;
        let is_doubtful = order.order_id.is_none();
        book.track(order);
        unsettled.push(Unsettled { cl_ord_id: id, doubt: is_doubtful.then_some(claim) });
    }
    let open: BTreeSet<String> = redis.smembers(keys::OPEN_CLAIMS).await?;
    for id in open.iter().filter_map(|id| ClOrdId::parse(id)) {
        if known_ids.contains(&id) {
            if book.find(&id).is_none() {
                // Final in the trail, open in Redis: the last step of the earlier process is missing.
                book.gatekeeper().settle(Settlement { is_final: Some(&id), ..Settlement::default() }).await?;
            }
            continue;
        }
        let json: Option<String> = redis.get(format!("{}{id}", keys::CLAIM)).await?;
        let claim = json.and_then(|json| serde_json::from_str::<Claim>(&json).ok());
        let pending = approved.iter().find(|approved| approved.order().cl_ord_id == id).map(|one| one.order().clone());
        // Without a record here: granted and never recorded, or recorded on another host whose trail is not here.
        let order = match pending {
            Some(order) => Some(order),
            None => order_in_verdicts(&mut redis, &id, verdict_key).await?,
        };
        match (claim, order) {
            (Some(claim), Some(order)) => {
                book.mark_submitted(id.clone());
                book.track(TrackedOrder::new(order));
                unsettled.push(Unsettled { cl_ord_id: id, doubt: Some(claim) });
            }
            _ => anyhow::bail!("the claim of {id} is open, and neither the audit trail nor a verdict knows its order"),
        }
    }
    Ok(Recovered { unsettled, known, baseline })
}

/// Reads the chains of every instance, and refuses broken ones.
fn read_trails(audit_dir: &Path) -> anyhow::Result<Trails> {
    let mut trails = Trails::default();
    for item in std::fs::read_dir(audit_dir).with_context(|| format!("reading AUDIT_DIR {}", audit_dir.display()))? {
        let path = item?.path();
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cdb_execution"));
        if !is_ours || !path.is_dir() {
            continue;
        }
        let verifier = audit_files::verify_dir(&path, |record| trails.take(record))?;
        if let Some(fault) = verifier.faults().first() {
            anyhow::bail!("{}: {} line {}: {}", path.display(), fault.file, fault.line, fault.text);
        }
    }
    trails.settle();
    Ok(trails)
}

/// Publishes reports that were recorded and are not on the stream; the account as it was last published. The fills
/// after it are recalled.
async fn publish_missing(book: &Book, reports: &[ExecutionReport]) -> anyhow::Result<Option<Vec<AssetBalance>>> {
    let mut redis = book.gatekeeper().redis();
    let mut published = BTreeSet::new();
    let (mut baseline, mut fills) = (None, Vec::new());
    let mut pages = Pages::of(keys::EXECUTIONS);
    while let Some(entries) = pages.next(&mut redis).await? {
        for entry in &entries {
            match Execution::parse(entry.json()) {
                Ok(Execution::ExecutionReport(report)) => {
                    fills.extend(fill_of(&report));
                    published.insert((report.cl_ord_id, report.exec_id));
                }
                Ok(Execution::AccountSnapshot(snapshot)) => {
                    baseline = Some(snapshot.balances);
                    fills.clear();
                }
                Ok(Execution::Finding(_)) | Err(_) => {}
            }
        }
    }
    let missing =
        reports.iter().filter(|report| !published.contains(&(report.cl_ord_id.clone(), report.exec_id.clone())));
    let missing: Vec<&ExecutionReport> = missing.collect();
    fills.extend(missing.iter().filter_map(|report| fill_of(report)));
    book.recall_fills(fills);
    let messages: Vec<String> =
        missing.into_iter().map(|report| Execution::ExecutionReport(Box::new(report.clone())).to_json()).collect();
    if !messages.is_empty() {
        tracing::warn!(count = messages.len(), "publishing reports that an earlier process had only recorded");
        book.gatekeeper().publish(messages).await?;
    }
    Ok(baseline)
}

fn fill_of(report: &ExecutionReport) -> Option<(Symbol, Side, Fill)> {
    Some((report.symbol.clone(), report.side, report.fill.clone()?))
}

/// The order of a claim out of the genuine verdicts that are still on the stream.
async fn order_in_verdicts(
    redis: &mut redis::aio::ConnectionManager,
    id: &ClOrdId,
    verdict_key: &VerdictKey,
) -> anyhow::Result<Option<NewOrder>> {
    let mut pages = Pages::of(keys::VERDICTS);
    while let Some(entries) = pages.next(redis).await? {
        for entry in &entries {
            match verified(entry, verdict_key) {
                Ok(Verified::Approved(approved)) if &approved.order().cl_ord_id == id => {
                    return Ok(Some(approved.order().clone()));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(None)
}

/// Puts a claim back that a rolled-back Redis has forgotten.
async fn restore_claim(redis: &mut redis::aio::ConnectionManager, id: &ClOrdId, claim: &Claim) -> anyhow::Result<()> {
    let json = serde_json::to_string(claim)?;
    let mut pipeline = redis::pipe();
    pipeline.set_nx(format!("{}{id}", keys::CLAIM), json).ignore().sadd(keys::OPEN_CLAIMS, id.as_str()).ignore();
    let () = pipeline.query_async(redis).await?;
    Ok(())
}
