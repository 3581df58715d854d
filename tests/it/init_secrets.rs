//! `scripts/init-secrets`: what it writes is usable as it is, private, never overwritten unasked, and never shown.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cdb_io::secret_file;
use cdb_tests::redis_server::RedisServer;

fn run(dir: &Path, options: &[&str], input: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/init-secrets");
    let mut command = Command::new(script);
    command.arg("--dir").arg(dir).args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("scripts/init-secrets");
    // It may have ended without reading.
    let _unread = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its output")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>, u32)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap(), mode)
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn its_files_open_a_real_redis_and_are_private_and_kept_and_never_shown() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("secrets");
    let first = run(&dir, &["--stdin"], "mxTESTONLY0000000001\ntests-only-secret-A1b2C3d4\r\n");
    assert!(first.status.success(), "{}", said(&first));
    let files = contents(&dir);
    for name in
        ["mexc_api_key", "mexc_api_secret", "verdict_key", "postgres_password", "users.acl", "redis_exporter.json"]
    {
        assert!(dir.join(name).is_file(), "{name}: {}", said(&first));
    }
    for (name, bytes, mode) in &files {
        assert_eq!(*mode, 0o600, "{name}");
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!said(&first).contains(text.trim_end()), "{name} is shown");
        if !name.contains('.') {
            let secret = secret_file::read(&dir.join(name)).unwrap_or_else(|error| panic!("{error}"));
            assert!(said(&first).contains(&secret.fingerprint()), "{name}");
        }
    }
    assert_eq!(fs::read(dir.join("mexc_api_secret")).unwrap(), b"tests-only-secret-A1b2C3d4");

    let redis = RedisServer::start_with_users(&dir.join("users.acl")).await;
    for user in ["operator", "strategy", "cdb_risk", "cdb_execution", "cdb_monitor"] {
        let password = secret_file::read(&dir.join(format!("redis_{user}"))).unwrap_or_else(|error| panic!("{error}"));
        redis.bus_as(user, password).await.unwrap_or_else(|error| panic!("{user}: {error:#}"));
    }
    let of_another = secret_file::read(&dir.join("redis_strategy")).unwrap_or_else(|error| panic!("{error}"));
    assert!(redis.bus_as("operator", of_another).await.is_err());

    let again = run(&dir, &["--stdin"], "another\npair\n");
    assert!(again.status.success(), "{}", said(&again));
    assert_eq!(contents(&dir), files, "a second run changed something");
    let forced = run(&dir, &["--force", "--paper"], "");
    assert!(forced.status.success(), "{}", said(&forced));
    for ((name, old, _), (same, new, mode)) in files.iter().zip(contents(&dir)) {
        assert_eq!((name, mode), (&same, 0o600));
        assert_ne!(old, &new, "--force left {name}");
    }
}

#[test]
fn what_is_no_key_pair_writes_none_of_it() {
    let cases = [
        ("one line", "mxTESTONLY0000000001\n", "ended"),
        ("a placeholder", "mxTESTONLY0000000001\nNEW_SECRET\n", "placeholder"),
        ("a blank inside", "mxTEST ONLY\ntests-only-secret\n", "blank"),
        ("the same twice", "mxTESTONLY0000000001\nmxTESTONLY0000000001\n", "same"),
        ("nothing", "", "ended"),
        ("an empty line", "\n\n", "empty"),
    ];
    for (name, input, expected) in cases {
        let parent = tempfile::tempdir().unwrap();
        let output = run(parent.path(), &["--stdin"], input);
        assert!(!output.status.success(), "{name}");
        assert!(said(&output).contains(expected), "{name}: {}", said(&output));
        assert!(!said(&output).contains("TESTONLY"), "{name}: {}", said(&output));
        for half in ["mexc_api_key", "mexc_api_secret"] {
            assert!(!parent.path().join(half).exists(), "{name} left {half}");
        }
    }
}

#[test]
fn one_secret_is_set_by_name_and_not_twice() {
    let parent = tempfile::tempdir().unwrap();
    let set = || run(parent.path(), &["--set", "slack_webhook_url"], "https://hooks.example/MARK?a=b&c\n");
    assert!(set().status.success());
    assert_eq!(contents(parent.path()).len(), 1);
    let again = set();
    assert!(!again.status.success());
    assert!(said(&again).contains("--force") && !said(&again).contains("MARK"), "{}", said(&again));
}

#[test]
fn without_a_terminal_and_without_a_choice_it_does_not_guess_a_key_pair() {
    let parent = tempfile::tempdir().unwrap();
    let output = run(parent.path(), &[], "x\ny\n");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!parent.path().join("mexc_api_key").exists());
}

#[test]
fn a_place_from_which_it_could_be_committed_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let init = Command::new("git").args(["init", "-q"]).current_dir(parent.path()).status().expect("git");
    assert!(init.success());
    let dir = parent.path().join("open");
    let refused = run(&dir, &["--paper"], "");
    assert!(!refused.status.success() && said(&refused).contains("committed"), "{}", said(&refused));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    fs::write(parent.path().join(".gitignore"), "/open/*\n").unwrap();
    assert!(run(&dir, &["--paper"], "").status.success());
}
