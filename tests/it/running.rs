//! `cdb up`: what is wrong is said clearly, and no half-started cell is left behind.

use std::net::TcpListener;
use std::process::{Command, Output};

use cdb_tests::cell::{Cell, free_ports, programs, remove_ledger};

fn up(arguments: &[&str]) -> Output {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Command::new(programs().join("cdb")).current_dir(root).arg("up").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_second_cell_in_the_same_directory_is_refused_and_the_first_lives_on() {
    let cell = Cell::start().await;
    let dir = cell.file().parent().unwrap().to_str().unwrap().to_owned();
    let second = up(&["--dir", &dir, "--ports", &free_ports(8).to_string()]);
    assert_eq!(second.status.code(), Some(3));
    assert!(text(&second).contains("already runs"), "{}", text(&second));
    assert_eq!(cell.status().await["may_trade"], true);
}

#[tokio::test]
async fn when_cdb_up_is_killed_outright_its_children_end_as_well() {
    let cell = Cell::start().await;
    let port = u16::try_from(cell.description()["redis"]["port"].as_u64().unwrap()).unwrap();
    cell.kill_up();
    cell.until("Redis is gone", async || TcpListener::bind(("127.0.0.1", port)).is_ok()).await;
    let risk = cell.description()["services"]["cdb_risk"]["pid"].as_u64().unwrap();
    cell.until("risk is gone", async || !std::path::Path::new(&format!("/proc/{risk}")).exists()).await;
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let base = free_ports(8);
    let _taken = TcpListener::bind(("127.0.0.1", base + 3)).unwrap();
    let output = up(&["--dir", dir.path().join("cell").to_str().unwrap(), "--ports", &base.to_string()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains(&format!("port {} is in use", base + 3)), "{}", text(&output));
    assert!(TcpListener::bind(("127.0.0.1", base)).is_ok(), "Redis must not have been started");
}

#[test]
fn contradictory_limits_stop_the_start_with_every_fault_at_once_and_leave_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("settings.env");
    std::fs::write(&settings, "MAX_ORDER_SIZE_USD=5000\nMAX_DAILY_ORDER=5\nMAX_POSITION_PCT=10\n").unwrap();
    let base = free_ports(8);
    let output = up(&[
        "--dir",
        dir.path().join("cell").to_str().unwrap(),
        "--ports",
        &base.to_string(),
        "--env-file",
        settings.to_str().unwrap(),
    ]);
    remove_ledger(dir.path());
    assert_ne!(output.status.code(), Some(0));
    let text = text(&output);
    for expected in ["MAX_ORDER_SIZE_USD", "did you mean MAX_DAILY_ORDERS", "MAX_POSITION_PCT"] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(TcpListener::bind(("127.0.0.1", base)).is_ok(), "nothing must be left running");
}
