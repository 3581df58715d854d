//! A process that holds secrets leaves no image of its memory behind (design §8): no core file, and no other process
//! of the same user that reads its memory or environment.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids dumps for this process and the ones that it starts; nothing can allow them again.
///
/// # Errors
/// The kernel refuses.
pub fn forbid() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("forbidding core dumps")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("forbidding dumps of memory")
}
