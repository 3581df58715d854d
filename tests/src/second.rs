//! A second executor beside the one of a cell.

use std::process::{Child, Command, Stdio};

use crate::cell::{Cell, free_ports, programs};

/// A second executor, with its own instance name and port; ends when it is dropped.
pub struct Second(Child);

impl Second {
    /// Starts one with the settings of the cell's own.
    ///
    /// # Panics
    /// The cell's own does not run, or the second cannot be started.
    #[must_use]
    pub fn start(cell: &Cell) -> Self {
        let pid = cell.description()["services"]["cdb_execution"]["pid"].as_u64().expect("a running executor");
        let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
        let variables = environment.split(|byte| *byte == 0).filter_map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let log = std::fs::File::create(cell.file().with_file_name("logs").join("second.log")).expect("a log");
        let child = Command::new(programs().join("cdb_execution"))
            .env_clear()
            .envs(variables)
            .env("CDB_INSTANCE", "2")
            .env("HTTP_LISTEN", format!("127.0.0.1:{}", free_ports(1)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("cdb_execution can be started");
        Self(child)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
