//! One child: how it is started, whether it lives, how it ends.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::outcome::{CONFIGURATION, FAILURE, Result, WithCode as _, end};

/// Longest wait for a child to end in order.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// Restarts within [`RESTART_WINDOW`] before the cell gives up.
const RESTARTS_MAX: usize = 20;
/// See [`RESTARTS_MAX`].
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// How a child is started.
#[derive(Clone)]
pub struct Plan {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    user: Option<(u32, u32)>,
    stop_signal: Signal,
    working_dir: Option<PathBuf>,
}

impl Plan {
    /// A program with its log.
    pub fn new(name: &str, program: &Path, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            log,
            user: None,
            stop_signal: Signal::TERM,
            working_dir: None,
        }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// One more argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
    /// One more variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }
    /// Runs as this user and group.
    pub const fn run_as(mut self, user: Option<(u32, u32)>) -> Self {
        self.user = user;
        self
    }
    /// Ends by this signal.
    pub const fn stop_with(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }
    /// Runs in this directory.
    pub fn in_dir(mut self, dir: PathBuf) -> Self {
        self.working_dir = Some(dir);
        self
    }
}

/// A running child.
pub struct Child {
    plan: Plan,
    process: tokio::process::Child,
    restarts: VecDeque<Instant>,
}

impl Child {
    /// Starts it. It sees only the variables of its plan and where to find programs.
    pub fn spawn(plan: Plan) -> Result<Self> {
        let process = launch(&plan)?;
        Ok(Self { plan, process, restarts: VecDeque::new() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Fails when it has ended, with the end of its log.
    pub fn must_live(&mut self) -> Result {
        match self.process.try_wait().code(FAILURE)? {
            None => Ok(()),
            Some(status) => {
                let tail = log_tail(&self.plan.log);
                Err(end(FAILURE, format!("{} ended while starting ({status}):\n{tail}", self.plan.name)))
            }
        }
    }

    /// Starts it again when it has ended; whether it did.
    pub fn revive(&mut self) -> Result<bool> {
        let Some(status) = self.process.try_wait().code(FAILURE)? else { return Ok(false) };
        let now = Instant::now();
        self.restarts.push_back(now);
        self.restarts.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if self.restarts.len() > RESTARTS_MAX {
            let tail = log_tail(&self.plan.log);
            return Err(end(FAILURE, format!("{} ends again and again ({status}):\n{tail}", self.plan.name)));
        }
        eprintln!("{} ended ({status}); starting it again", self.plan.name);
        self.process = launch(&self.plan)?;
        Ok(true)
    }

    /// Ends it in order, by force when it does not end in time.
    pub async fn stop(mut self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _gone = kill_process(pid, self.plan.stop_signal);
        }
        if tokio::time::timeout(STOP_WAIT, self.process.wait()).await.is_err() {
            eprintln!("{} does not end; killing it", self.plan.name);
            let _gone = self.process.kill().await;
        }
    }
}

fn launch(plan: &Plan) -> Result<tokio::process::Child> {
    let log = OpenOptions::new().append(true).create(true).open(&plan.log).code(CONFIGURATION)?;
    // Where the system has the tool, a child also ends when this process is killed outright.
    let mut command = match super::on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.arg("--pdeathsig").arg(signal_name(plan.stop_signal)).arg("--").arg(&plan.program);
            command
        }
        None => Command::new(&plan.program),
    };
    command.args(&plan.arguments).env_clear().stdin(Stdio::null());
    for name in ["PATH", "LANG", "TZ", "RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(plan.variables.iter().map(|(name, value)| (name, value)));
    command.stdout(log.try_clone().code(CONFIGURATION)?).stderr(log);
    // A group of its own: Ctrl-C reaches this process alone, which then stops its children in order.
    command.process_group(0).kill_on_drop(true);
    if let Some((uid, gid)) = plan.user {
        command.uid(uid).gid(gid);
    }
    if let Some(dir) = &plan.working_dir {
        command.current_dir(dir);
    }
    let started = command.spawn();
    started.map_err(|error| end(CONFIGURATION, format!("{} cannot be started: {error}", plan.program.display())))
}

/// As `setpriv` wants it.
const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        _ => "TERM",
    }
}

/// The last lines of a log.
fn log_tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
