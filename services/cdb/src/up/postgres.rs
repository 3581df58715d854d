//! A private PostgreSQL cluster for the ledger: its own data, a socket only, never the system's. PostgreSQL refuses to
//! run as root, so root hands it to the user `postgres`, or `nobody` where there is none.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cdb_core::secret::Secret;
use cdb_io::secret_file;
use rustix::process::Signal;
use tokio::process::Command;

use super::files::{random_hex, write_new};
use super::process::Plan;
use crate::cell::Postgres;
use crate::outcome::{CONFIGURATION, FAILURE, Result, WithCode as _, end};

/// The directory of PostgreSQL's programs: the newest of the distribution's, or on PATH.
pub fn find_bin() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let item = item.ok()?;
            let version = item.file_name().to_str()?.parse().ok()?;
            Some((version, item.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin).or_else(|| {
        let initdb = super::on_path("initdb")?;
        initdb.parent().map(Path::to_owned)
    })
}

const ROLES: &str = include_str!("../../../../deploy/postgres/roles.psql");
/// The file in the cell's directory that names the cluster's directory.
const HOME_FILE: &str = "postgres-home";
/// How the name of a cluster's directory begins.
const HOME_PREFIX: &str = "/tmp/cdb-";

/// Where the cluster is. The socket's path must be short, and the data must be reachable for the user that runs it,
/// so both lie outside the cell's directory, under a name that only the cell's own file knows: a cell whose directory
/// was removed never finds the ledger of the one before.
pub fn describe(dir: &Path, port: u16, password_file: PathBuf) -> Result<Postgres> {
    let file = dir.join(HOME_FILE);
    if !file.exists() {
        write_new(&file, &format!("{HOME_PREFIX}{}", &random_hex()?[..12]))?;
    }
    let host = fs::read_to_string(&file).code(CONFIGURATION)?;
    let (user, database) = ("cdb".to_owned(), "cdb".to_owned());
    Ok(Postgres { host, port, user, database, password_file: Some(password_file), pid: None })
}

fn data_dir(postgres: &Postgres) -> PathBuf {
    Path::new(&postgres.host).join("data")
}

/// Removes the data of an earlier demo.
pub fn remove_data(dir: &Path) {
    // It may never have come so far, or be gone already.
    let home = fs::read_to_string(dir.join(HOME_FILE)).unwrap_or_default();
    if home.starts_with(HOME_PREFIX) {
        let _gone = fs::remove_dir_all(home);
    }
}

/// The user that runs it, when this process is root.
fn runner() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").code(CONFIGURATION)?;
    let ids_of = |wanted: &str| {
        passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&wanted))
                .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    let ids = ids_of("postgres").or_else(|| ids_of("nobody"));
    ids.map(Some).ok_or_else(|| end(CONFIGURATION, "there is no user `postgres` or `nobody` to run PostgreSQL as"))
}

/// Makes the cluster where it is missing; how it is started.
pub fn plan(bin: &Path, postgres: &Postgres, log: PathBuf) -> Result<Plan> {
    let user = runner()?;
    let home = Path::new(&postgres.host);
    fs::create_dir_all(home).code(CONFIGURATION)?;
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(home, Some(uid), Some(gid)).code(CONFIGURATION)?;
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).code(CONFIGURATION)?;
    let owner = fs::metadata(home).code(CONFIGURATION)?.uid();
    let expected = user.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
    if owner != expected {
        return Err(end(CONFIGURATION, format!("{} belongs to another user", home.display())));
    }
    let data = data_dir(postgres);
    if !data.join("PG_VERSION").exists() {
        init(bin, postgres, &data, user)?;
    }
    // SIGINT is PostgreSQL's fast shutdown: open connections are cut, data is flushed.
    Ok(Plan::new("postgres", &bin.join("postgres"), log)
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(home)
        .arg("-p")
        .arg(postgres.port.to_string())
        .arg("-c")
        .arg("listen_addresses=")
        .run_as(user)
        .stop_with(Signal::INT)
        .in_dir(home.to_owned()))
}

/// Makes the cluster, whose owner needs the password from then on.
fn init(bin: &Path, postgres: &Postgres, data: &Path, user: Option<(u32, u32)>) -> Result {
    let home = Path::new(&postgres.host);
    let handed_over = home.join("password");
    // It may have been left by a start that was cut off.
    let _gone = fs::remove_file(&handed_over);
    write_new(&handed_over, password(postgres)?.expose())?;
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(&handed_over, Some(uid), Some(gid)).code(CONFIGURATION)?;
    }
    let mut initdb = std::process::Command::new(bin.join("initdb"));
    initdb.arg("-D").arg(data).args(["-U", &postgres.user, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale"]);
    initdb.arg("--pwfile").arg(&handed_over).current_dir(home).env("HOME", home);
    if let Some((uid, gid)) = user {
        use std::os::unix::process::CommandExt as _;
        initdb.uid(uid).gid(gid);
    }
    let made = initdb.output();
    fs::remove_file(&handed_over).code(CONFIGURATION)?;
    let made = made.code(CONFIGURATION)?;
    if made.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(end(FAILURE, format!("initdb failed:\n{text}")))
}

fn password(postgres: &Postgres) -> Result<Secret> {
    let file = postgres.password_file.as_ref();
    let file = file.ok_or_else(|| end(CONFIGURATION, "the cell's file names no password of the ledger"))?;
    secret_file::read(file).code(CONFIGURATION)
}

fn client(bin: &Path, program: &str, postgres: &Postgres) -> Command {
    let mut command = Command::new(bin.join(program));
    command.args(["-h", &postgres.host, "-p", &postgres.port.to_string(), "-U", &postgres.user]);
    command.kill_on_drop(true);
    command
}

/// Whether it takes connections.
pub async fn is_ready(bin: &Path, postgres: &Postgres) -> bool {
    let output = client(bin, "pg_isready", postgres).output().await;
    output.is_ok_and(|output| output.status.success())
}

/// Makes the ledger's database where it is missing.
pub async fn create_database(bin: &Path, postgres: &Postgres) -> Result {
    let mut createdb = client(bin, "createdb", postgres);
    createdb.arg(&postgres.database);
    let (is_done, text) = with_password(postgres, createdb).await?;
    if is_done || text.contains("already exists") {
        Ok(())
    } else {
        Err(end(FAILURE, format!("the ledger's database cannot be made: {text}")))
    }
}

/// Makes the ledger's roles, the same as a compose cell has.
pub async fn make_roles(bin: &Path, postgres: &Postgres, secrets: &Path) -> Result {
    let script = secrets.with_file_name("roles.psql");
    fs::write(&script, ROLES).code(CONFIGURATION)?;
    let mut psql = client(bin, "psql", postgres);
    psql.args(["--no-psqlrc", "--quiet", "--dbname", &postgres.database, "--file"]).arg(&script);
    psql.env("CDB_SECRETS", secrets);
    match with_password(postgres, psql).await? {
        (true, _) => Ok(()),
        (false, text) => Err(end(FAILURE, format!("the ledger's roles cannot be made: {text}"))),
    }
}

/// Runs a client as the superuser; whether it succeeded, and what it said of errors.
async fn with_password(postgres: &Postgres, mut command: Command) -> Result<(bool, String)> {
    // Not by the environment, which others may read, and never by an argument.
    let escaped = password(postgres)?.expose().replace('\\', "\\\\").replace(':', "\\:");
    let pass_file = postgres.password_file.as_ref().map(|file| file.with_extension("pgpass")).unwrap_or_default();
    let _gone = fs::remove_file(&pass_file);
    write_new(&pass_file, &format!("*:*:*:*:{escaped}\n"))?;
    let output = command.env("PGPASSFILE", &pass_file).arg("--no-password").output().await;
    fs::remove_file(&pass_file).code(CONFIGURATION)?;
    let output = output.code(FAILURE)?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_its_ledger_and_a_new_cell_in_the_same_place_has_a_new_one() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("cell");
        fs::create_dir(&dir).unwrap();
        let first = describe(&dir, 1, PathBuf::new()).unwrap().host;
        assert!(first.starts_with(HOME_PREFIX) && first.len() > HOME_PREFIX.len());
        assert_eq!(describe(&dir, 1, PathBuf::new()).unwrap().host, first);
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert_ne!(describe(&dir, 1, PathBuf::new()).unwrap().host, first);
    }
}
