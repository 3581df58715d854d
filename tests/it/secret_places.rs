//! Secrets on their way into the services: passwords of any form open Redis and PostgreSQL (FL-RD-17), no service
//! leaves an image of its memory, and a service with a bad secret does not start.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cdb_tests::cell::{Cell, WIDE, programs};
use cdb_tests::orders;

/// Every character that means something in an address, a shell, an ACL line or a password file.
const AWKWARD: &str = r#"a@b:c/d?e=f&g#h%25i+j\k'l"m`n$o{p}q|r~s*t!u,v;w<x>y(z)[0]^_-."#;
const SERVICES: [&str; 3] = ["cdb_risk", "cdb_execution", "cdb_monitor"];

fn write_secret(cell: &Path, name: &str, text: &str) {
    fs::write(cell.join("secrets").join(name), text).unwrap();
}

#[tokio::test]
async fn passwords_with_the_characters_of_addresses_open_redis_and_postgresql() {
    let users = ["operator", "cdb_risk", "cdb_execution", "cdb_monitor"];
    let cell = Cell::start_prepared(WIDE, &["--balance", "USDT=1000000"], |cell| {
        for (user, end) in users.iter().zip(["", "\n", "\r\n", "\n"]) {
            write_secret(cell, &format!("redis_{user}"), &format!("{user}{AWKWARD}{end}"));
        }
        write_secret(cell, "postgres_password", &format!("{AWKWARD}\n"));
    })
    .await;
    let id = "awkward-1";
    cell.put(&orders::market_buy(id, "0.001").to_string()).await;
    cell.until("the ledger has the fill", async || {
        let output = cell.cdb(&["--json", "orders"]);
        String::from_utf8_lossy(&output.stdout).contains(id)
    })
    .await;
    // The passwords were asked for: another one opens nothing.
    let description = cell.description();
    let port = description["redis"]["port"].as_u64().unwrap();
    let client = redis::Client::open(format!("redis://cdb_risk:wrong@127.0.0.1:{port}/")).unwrap();
    let refused = client.get_multiplexed_async_connection().await.err().map(|error| error.kind());
    assert_eq!(refused, Some(redis::ErrorKind::AuthenticationFailed));
    let host = description["postgres"]["host"].as_str().unwrap();
    let postgres_port = description["postgres"]["port"].to_string();
    let output = Command::new("psql")
        .args(["-h", host, "-p", &postgres_port, "-U", "cdb", "-d", "cdb", "-w", "-c", "SELECT 1"])
        .env("PGPASSWORD", "wrong")
        .output()
        .expect("psql");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("authentication failed"));
}

#[tokio::test]
async fn no_service_can_leave_an_image_of_its_memory() {
    let cell = Cell::start().await;
    for service in SERVICES {
        let pid = cell.description()["services"][service]["pid"].as_u64().unwrap();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let fields: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(fields[4..6], ["0", "0"], "{service}: {core}");
        // The kernel gives the files of a process that must not be dumped to root.
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}/mem")).unwrap());
        assert_eq!(owner, 0, "{service}");
        if !rustix::process::geteuid().is_root() {
            assert!(fs::read(format!("/proc/{pid}/environ")).is_err(), "{service}");
        }
    }
}

/// Runs cdb_execution with good settings but for the API key, which is where `variables` say.
fn start_execution(dir: &Path, variables: &[(&str, &str)]) -> Output {
    let secret = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let mut command = Command::new(programs().join("cdb_execution"));
    command
        .env_clear()
        .env("MEXC_BASE_URL", "http://127.0.0.1:1")
        .env("AUDIT_DIR", dir.join("audit"))
        .env("VERDICT_KEY_FILE", secret("verdict_key", &"v".repeat(64)))
        .env("MEXC_API_SECRET_FILE", secret("api_secret", "tests-only-secret-A1b2C3d4"))
        .envs(variables.iter().copied());
    command.output().expect("cdb_execution must be built")
}

#[test]
fn a_service_with_a_bad_secret_does_not_start_and_says_which_fl_se_05_and_13() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let bad: [(&str, &[u8], u32, &str); 5] = [
        ("empty", b"", 0o600, "is empty"),
        ("two-lines", b"mxTESTONLY0000000001\nmxTESTONLY0000000002\n", 0o600, "more than one line"),
        ("placeholder", b"new_key\n", 0o600, "placeholder"),
        ("world-writable", b"mxTESTONLY0000000001", 0o666, "writable by everybody"),
        ("cr-inside", b"mxTESTONLY\r0000000001", 0o600, "U+000D"),
    ];
    let mut cases: Vec<(PathBuf, &str)> = Vec::new();
    for (name, bytes, mode, expected) in bad {
        fs::write(path(name), bytes).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        cases.push((path(name), expected));
    }
    fs::create_dir(path("directory")).unwrap();
    std::os::unix::fs::symlink(path("nothing"), path("dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    cases.extend([
        (path("directory"), "is a directory"),
        (path("missing"), "does not exist"),
        (path("dangling"), "link to nothing"),
        (path("fifo"), "not a regular file"),
    ]);
    let refused = |variables: &[(&str, &str)]| {
        let output = start_execution(dir.path(), variables);
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(text.contains("MEXC_API_KEY"), "{text}");
        for part in ["TESTONLY", "tests-only", "vvvv", "mxOLDKEY"] {
            assert!(!text.contains(part), "{text}");
        }
        text
    };
    for (file, expected) in &cases {
        let file = file.to_str().unwrap();
        let text = refused(&[("MEXC_API_KEY_FILE", file)]);
        assert!(text.contains(expected) && text.contains(file), "{text}");
    }
    assert!(refused(&[]).contains("set nowhere"));
    assert!(refused(&[("TRADING_MODE", "live"), ("MEXC_API_KEY", "mxOLDKEY")]).contains("use a file"));
    let missing = path("missing");
    assert!(
        refused(&[("MEXC_API_KEY_FILE", missing.to_str().unwrap()), ("MEXC_API_KEY", "mxOLDKEY")]).contains("as well")
    );
}
