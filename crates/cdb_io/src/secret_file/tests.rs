//! The field cases FL-SE-01, 03, 05 and 07, and every kind of bad file.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

const KEY: &str = "mxTESTONLY0000000001";

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Environment::new(pairs.collect::<BTreeMap<_, _>>())
}

fn file(dir: &TempDir, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn text(result: Result<Secret, SecretError>) -> Result<String, String> {
    result.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
}

#[test]
fn line_ends_and_a_bom_fl_se_01_and_03() {
    let dir = tempfile::tempdir().unwrap();
    // Of two line ends the case would drop both. One line is one line here (design §8): the second is a second line.
    let good: [&[u8]; 4] = [
        b"mxTESTONLY0000000001\n",
        b"mxTESTONLY0000000001",
        b"mxTESTONLY0000000001\r\n",
        b"\xef\xbb\xbfmxTESTONLY0000000001\n",
    ];
    for bytes in good {
        assert_eq!(text(read(&file(&dir, "good", bytes, 0o600))), Ok(KEY.to_owned()), "{bytes:?}");
    }
    let bad: [(&[u8], &str); 4] = [
        (b"mxTESTONLY0000000001\n\n", "more than one line"),
        (b"mxTE\rSTONLY0000000001", "U+000D as character 5"),
        (b"mxTE\tSTONLY0000000001", "U+0009 as character 5"),
        ("mxTESTONLY0000000001é".as_bytes(), "U+00E9 as character 21"),
    ];
    for (bytes, expected) in bad {
        let message = text(read(&file(&dir, "bad", bytes, 0o600))).unwrap_err();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("mxTE") && !message.contains("STONLY"), "{message}");
    }
}

#[test]
fn each_bad_file_has_its_own_message_naming_the_file_and_never_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: [(&str, &[u8], u32, &str); 9] = [
        ("empty", b"", 0o600, "is empty"),
        ("only-a-line-end", b"\r\n", 0o600, "is empty"),
        ("two", b"marker1\nmarker2\n", 0o600, "more than one line"),
        ("blank", b"marker1 marker2\n", 0o600, "blank"),
        ("placeholder", b"new_key\n", 0o600, "placeholder"),
        ("open", b"marker1", 0o602, "writable by everybody"),
        ("huge", &[b'm'; 5_000], 0o600, "longer than"),
        ("binary", b"marker\xff\xfe", 0o600, "UTF-8"),
        ("utf-16", b"\xff\xfem\0a\0r\0", 0o600, "UTF-8"),
    ];
    let mut cases: Vec<(PathBuf, &str)> =
        bytes.iter().map(|(name, bytes, mode, expected)| (file(&dir, name, bytes, *mode), *expected)).collect();
    let other = |name: &str| dir.path().join(name);
    fs::create_dir(other("directory")).unwrap();
    symlink(other("nothing"), other("dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, other("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let _socket = UnixListener::bind(other("socket")).unwrap();
    cases.extend([
        (other("directory"), "is a directory"),
        (other("missing"), "does not exist"),
        (other("dangling"), "link to nothing"),
        (other("fifo"), "not a regular file"),
        (other("socket"), "not a regular file"),
    ]);
    for (path, expected) in &cases {
        let message = text(read(path)).unwrap_err();
        assert!(message.contains(expected) && message.contains(path.to_str().unwrap()), "{message}");
        assert!(!message.contains("marker"), "{message}");
    }
}

#[test]
fn no_bad_file_falls_back_to_the_environment_fl_se_05_and_07() {
    let dir = tempfile::tempdir().unwrap();
    let good = file(&dir, "good", KEY.as_bytes(), 0o600);
    let nowhere = dir.path().join("run-secrets");
    let in_mode = |pairs: &[(&str, &str)], mode| text(load_from(&environment(pairs), "MEXC_API_KEY", mode, &nowhere));
    fs::create_dir(dir.path().join("directory")).unwrap();
    symlink(dir.path().join("nothing"), dir.path().join("dangling")).unwrap();
    for mode in [Mode::Live, Mode::Validate, Mode::Paper] {
        for name in ["directory", "missing", "dangling", "good"] {
            let path = dir.path().join(name);
            let both = [("MEXC_API_KEY", "mxOLDKEY"), ("MEXC_API_KEY_FILE", path.to_str().unwrap())];
            let message = in_mode(&both, mode).unwrap_err();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
            assert!(!message.contains("mxOLDKEY") && !message.contains(KEY), "{message}");
        }
        assert!(in_mode(&[], mode).unwrap_err().contains("set nowhere"));
        assert_eq!(in_mode(&[("MEXC_API_KEY_FILE", good.to_str().unwrap())], mode), Ok(KEY.to_owned()));
    }
    let only_environment = [("MEXC_API_KEY", "mxFROMENV")];
    assert_eq!(in_mode(&only_environment, Mode::Paper), Ok("mxFROMENV".to_owned()));
    assert!(in_mode(&only_environment, Mode::Live).unwrap_err().contains("use a file"));
    assert!(in_mode(&[("MEXC_API_KEY", "new_key")], Mode::Paper).unwrap_err().contains("placeholder"));
    assert!(in_mode(&[("MEXC_API_KEY", "")], Mode::Paper).unwrap_err().contains("set nowhere"));
}

#[test]
fn what_is_mounted_is_found_by_its_name_and_not_passed_over_when_it_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let found = || text(load_from(&environment(&[]), "STOP_TOKEN", Mode::Live, dir.path()));
    assert!(found().unwrap_err().contains("set nowhere"));
    symlink(dir.path().join("nothing"), dir.path().join("stop_token")).unwrap();
    assert!(found().unwrap_err().contains("link to nothing"));
    fs::remove_file(dir.path().join("stop_token")).unwrap();
    fs::create_dir(dir.path().join("stop_token")).unwrap();
    assert!(found().unwrap_err().contains("is a directory"));
    fs::remove_dir(dir.path().join("stop_token")).unwrap();
    file(&dir, "stop_token", b"mounted-token\n", 0o444);
    assert_eq!(found(), Ok("mounted-token".to_owned()));
}
