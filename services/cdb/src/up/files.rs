//! The cell's secrets, its Redis ACL and configuration, and environment files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cdb_io::secret_file;
use sha2::{Digest as _, Sha256};

use super::ports::Ports;
use super::private;
use crate::outcome::{CONFIGURATION, Result, WithCode as _, end};

/// Users of the bus.
const REDIS_USERS: [&str; 6] = ["operator", "strategy", "cdb_risk", "cdb_execution", "cdb_monitor", "exporter"];
/// Secrets that are generated for a paper cell.
const OTHER_SECRETS: [&str; 11] = [
    "verdict_key",
    "checkpoint_key",
    "mexc_api_key",
    "mexc_api_secret",
    "stop_token",
    super::POSTGRES_ADMIN,
    "postgres_owner",
    "postgres_password",
    "postgres_grafana",
    "postgres_exporter",
    super::CONSOLE_TOKEN,
];

const ACL: &str = include_str!("../../../../deploy/redis/users.acl.template");
const REDIS_CONF: &str = include_str!("../../../../deploy/redis/redis.conf");

/// The cell's secrets, in files that their owner alone can read.
pub struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    /// Generates what is missing; what is there stays.
    pub fn prepare(dir: &Path) -> Result<Self> {
        let dir = dir.join("secrets");
        fs::create_dir_all(&dir).code(CONFIGURATION)?;
        // An earlier version had one role, the superuser.
        let (only, admin) = (dir.join("postgres_password"), dir.join(super::POSTGRES_ADMIN));
        if only.exists() && !dir.join("postgres_owner").exists() && !admin.exists() {
            fs::rename(only, admin).code(CONFIGURATION)?;
        }
        let names = REDIS_USERS.iter().map(|user| format!("redis_{user}"));
        for name in names.chain(OTHER_SECRETS.iter().map(|name| (*name).to_owned())) {
            let path = dir.join(name);
            if !path.exists() {
                write_new(&path, &random_hex()?)?;
            }
        }
        Ok(Self { dir })
    }

    /// The file of one secret.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The password file of each Redis user.
    pub fn redis_password_files(&self) -> BTreeMap<String, PathBuf> {
        REDIS_USERS.iter().map(|user| ((*user).to_owned(), self.dir.join(format!("redis_{user}")))).collect()
    }
}

/// Writes a file that is not there yet, readable by its owner alone.
pub fn write_new(path: &Path, text: &str) -> Result {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).code(CONFIGURATION)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).code(CONFIGURATION)
}

/// 32 random bytes as hex.
pub fn random_hex() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0_u8; 32];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).code(CONFIGURATION)?;
    Ok(hex::encode(bytes))
}

/// Writes Redis's configuration and the ACL with the hashes of the passwords.
pub fn write_redis(dir: &Path, ports: &Ports, secrets: &Secrets) -> Result {
    let redis_dir = dir.join("redis");
    let mut acl = ACL.to_owned();
    for (user, file) in secrets.redis_password_files() {
        let password = secret_file::read(&file).code(CONFIGURATION)?;
        let hash = hex::encode(Sha256::digest(password.expose().as_bytes()));
        acl = acl.replace(&format!("{{{user}}}"), &hash);
    }
    let acl_file = redis_dir.join("users.acl");
    fs::write(&acl_file, acl).code(CONFIGURATION)?;
    private(&acl_file)?;
    let (port, data, acl) = (ports.redis, redis_dir.display(), acl_file.display());
    let conf = format!("{REDIS_CONF}bind 127.0.0.1\nport {port}\ndir {data}\naclfile {acl}\n");
    fs::write(redis_dir.join("redis.conf"), conf).code(CONFIGURATION)
}

/// Reads `NAME=value` lines; blank lines and comments are skipped.
pub fn read_env(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).map_err(|error| end(CONFIGURATION, format!("{}: {error}", path.display())))?;
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(end(CONFIGURATION, format!("{} line {}: is not NAME=value", path.display(), index + 1)));
        };
        // A comment after the value needs a blank before it.
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches('"');
        variables.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(variables)
}
