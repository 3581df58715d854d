//! A task that ends, errs or panics ends the process; SIGTERM and SIGINT ask for a drain.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Says when the process is asked to end.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Whether the end was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the end is asked for.
    pub async fn asked(&mut self) {
        // The sender lives as long as the process; its loss means the end as well.
        let _ended = self.0.wait_for(|is_asked| *is_asked).await;
    }
}

/// The tasks of one process.
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    asked: watch::Sender<bool>,
    signals: io::Result<[Signal; 2]>,
}

impl Default for Tasks {
    fn default() -> Self {
        // Heard from here on: the first process of a container has no default for a signal, it would just not end.
        let signals = signal(SignalKind::terminate()).and_then(|first| Ok([first, signal(SignalKind::interrupt())?]));
        Self { set: JoinSet::new(), asked: watch::Sender::new(false), signals }
    }
}

impl Tasks {
    /// What tasks listen to.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        Shutdown(self.asked.subscribe())
    }

    /// Starts a task. It may end with `Ok` only after the end was asked for.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// Runs until a signal asks for the end and every task has drained, or until a task fails.
    ///
    /// # Errors
    /// The first task that failed, panicked, or ended unasked.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let [mut terminate, mut interrupt] = self.signals.context("listening for signals")?;
        loop {
            tokio::select! {
                _ = terminate.recv() => { self.asked.send_replace(true); }
                _ = interrupt.recv() => { self.asked.send_replace(true); }
                ended = self.set.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok((_, Ok(())))) if *self.asked.borrow() => {}
                    Some(Ok((name, Ok(())))) => anyhow::bail!("task {name} ended by itself"),
                    Some(Ok((name, Err(error)))) => return Err(error.context(format!("task {name} failed"))),
                    Some(Err(panic)) => anyhow::bail!("a task panicked: {panic}"),
                }
            }
        }
    }
}

/// Ends a service: what went wrong is said once, on standard error, without a backtrace that could show arguments.
#[must_use]
pub fn exit_code(service: &str, outcome: &anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{service}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
