//! Running a cell: everything of its own, on its own ports, in its own directory; started in order, watched, restarted
//! when it dies, and stopped in order. Nothing of the system's is touched.

mod files; // secrets, ACL, configuration files
mod ports; // the cell's ports
mod process; // one child
mod postgres; // a private cluster

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{At, UpOptions};
use crate::cell::{Cell, Exchange, Redis, Service};
use crate::demo;
use crate::outcome::{CONFIGURATION, FAILURE, Result, WithCode as _, end};
use crate::output;

use self::files::Secrets;
use self::ports::Ports;
use self::process::{Child, Plan};

/// Longest wait for a part to be ready.
const READY_WAIT: Duration = Duration::from_secs(45);
/// How often the children are looked at.
const WATCH: Duration = Duration::from_millis(250);
/// The file that says where everything is.
const CELL_FILE: &str = "cell.json";
/// The secret with which operators log in to the console.
const CONSOLE_TOKEN: &str = "console_token";
/// The secret of the ledger's superuser, whom only this program uses.
const POSTGRES_ADMIN: &str = "postgres_admin_password";
/// Marks a directory that `--demo` may empty.
const DEMO_FILE: &str = "demo-cell";

/// `cdb up`
pub async fn run(options: UpOptions) -> Result {
    let mut terminate = signal(SignalKind::terminate()).code(FAILURE)?;
    let mut interrupt = signal(SignalKind::interrupt()).code(FAILURE)?;
    let mut desk = tokio::select! {
        started = start(&options) => started?,
        _ = terminate.recv() => return Err(end(FAILURE, "interrupted while starting")),
        _ = interrupt.recv() => return Err(end(FAILURE, "interrupted while starting")),
    };
    let at = At { cell: desk.cell_file(), json: false, actor: "demo".to_owned() };
    let demo = if options.demo {
        tokio::select! {
            demo = demo::run(&at, &options.orders) => demo,
            died = desk.watch() => died,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    } else {
        Ok(())
    };
    let stays = !options.demo || options.serve || (!options.once && std::io::stdin().is_terminal());
    if stays {
        desk.announce();
        tokio::select! {
            died = desk.watch() => { desk.stop().await; return died; }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    eprintln!("stopping ...");
    desk.stop().await;
    demo
}

/// A running cell.
struct Desk {
    dir: PathBuf,
    cell: Cell,
    /// In the order of their start.
    children: Vec<Child>,
    /// Held while the cell runs.
    _lock: File,
}

async fn start(options: &UpOptions) -> Result<Desk> {
    let dir = prepare_dir(options)?;
    let lock = lock(&dir)?;
    let ports = Ports::from(options.ports, options.console_port)?;
    ports.all_free()?;
    let variables = match &options.env_file {
        Some(path) => files::read_env(path)?,
        None => BTreeMap::new(),
    };
    let tools = Tools::find()?;
    let secrets = Secrets::prepare(&dir)?;
    for name in ["redis", "logs", "audit", "risk", "monitor"] {
        fs::create_dir_all(dir.join(name)).code(CONFIGURATION)?;
    }
    files::write_redis(&dir, &ports, &secrets)?;
    let cell = describe(&dir, &ports, &secrets)?;
    let mut desk = Desk { dir, cell, children: Vec::new(), _lock: lock };
    let started = desk.start_all(options, &ports, &tools, &variables).await;
    if let Err(error) = started {
        eprintln!("stopping what had started ...");
        desk.stop().await;
        return Err(error);
    }
    Ok(desk)
}

/// The cell's directory, absolute; for a demo, emptied when it is one of an earlier demo.
fn prepare_dir(options: &UpOptions) -> Result<PathBuf> {
    let dir = if options.demo { options.dir.join("demo") } else { options.dir.clone() };
    if options.demo && dir.exists() && dir.join(DEMO_FILE).exists() {
        // A running demo holds the lock; its files are not touched.
        drop(lock(&dir)?);
        postgres::remove_data(&dir);
        fs::remove_dir_all(&dir).code(CONFIGURATION)?;
    }
    fs::create_dir_all(&dir).code(CONFIGURATION)?;
    if options.demo {
        fs::write(dir.join(DEMO_FILE), "emptied by the next `cdb up --demo`\n").code(CONFIGURATION)?;
    }
    fs::canonicalize(&dir).code(CONFIGURATION)
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("up.lock");
    let file = File::create(&path).code(CONFIGURATION)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| end(CONFIGURATION, format!("a cell already runs in {}; end it first", dir.display())))?;
    Ok(file)
}

/// Programs that the cell is made of.
struct Tools {
    redis_server: PathBuf,
    postgres_bin: PathBuf,
    own: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        let own = std::env::current_exe().code(CONFIGURATION)?;
        let own = own.parent().unwrap_or(Path::new(".")).to_owned();
        for name in ["cdb_risk", "cdb_execution", "cdb_monitor", "mexc-sim"] {
            if !own.join(name).exists() {
                let hint = "build everything first: cargo build --release";
                return Err(end(CONFIGURATION, format!("{} is missing beside cdb; {hint}", own.join(name).display())));
            }
        }
        let redis_server = on_path("redis-server").ok_or_else(|| {
            end(CONFIGURATION, "redis-server is not installed; on Debian or Ubuntu: apt-get install redis-server")
        })?;
        let postgres_bin = postgres::find_bin().ok_or_else(|| {
            end(CONFIGURATION, "PostgreSQL is not installed; on Debian or Ubuntu: apt-get install postgresql")
        })?;
        Ok(Self { redis_server, postgres_bin, own })
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn describe(dir: &Path, ports: &Ports, secrets: &Secrets) -> Result<Cell> {
    let service = |name: &str, port: u16| {
        let log = dir.join("logs").join(format!("{name}.log"));
        (name.to_owned(), Service { url: format!("http://127.0.0.1:{port}"), pid: None, log })
    };
    Ok(Cell {
        version: 1,
        mode: "paper".to_owned(),
        dir: dir.to_owned(),
        redis: Redis {
            host: "127.0.0.1".to_owned(),
            port: ports.redis,
            pid: None,
            password_files: secrets.redis_password_files(),
        },
        exchange: Some(Exchange {
            url: format!("http://127.0.0.1:{}", ports.exchange),
            admin_url: format!("http://127.0.0.1:{}", ports.exchange_admin),
            pid: None,
        }),
        postgres: postgres::describe(dir, ports.postgres, secrets.file(POSTGRES_ADMIN))?,
        services: BTreeMap::from([
            service("cdb_risk", ports.risk),
            service("cdb_execution", ports.execution),
            service("cdb_monitor", ports.monitor),
        ]),
        audit_dir: dir.join("audit"),
        console: format!("http://127.0.0.1:{}/", ports.console),
    })
}

impl Desk {
    fn cell_file(&self) -> PathBuf {
        self.dir.join(CELL_FILE)
    }

    async fn start_all(
        &mut self,
        options: &UpOptions,
        ports: &Ports,
        tools: &Tools,
        variables: &BTreeMap<String, String>,
    ) -> Result {
        let ledger = self.cell.postgres.clone();
        let log = |name: &str| self.dir.join("logs").join(format!("{name}.log"));
        let secret = |name: &str| self.dir.join("secrets").join(name);
        let redis = Plan::new("redis", &tools.redis_server, log("redis")).arg(self.dir.join("redis/redis.conf"));
        let exchange = exchange_plan(options, ports, &tools.own, &self.dir, log("mexc-sim"))?;
        let service = |name: &str, port: u16, more: Vec<(&str, String)>| {
            let mut plan = Plan::new(name, &tools.own.join(name), log(name));
            for (name, value) in variables {
                plan = plan.env(name, value);
            }
            plan = plan
                .env("TRADING_MODE", "paper")
                .env("REDIS_HOST", "127.0.0.1")
                .env("REDIS_PORT", &ports.redis.to_string())
                .env("REDIS_PASSWORD_FILE", &secret(&format!("redis_{name}")).to_string_lossy())
                .env("HTTP_LISTEN", &format!("127.0.0.1:{port}"))
                .env("AUDIT_DIR", &self.dir.join("audit").to_string_lossy());
            for (name, value) in more {
                plan = plan.env(name, &value);
            }
            plan
        };
        let path = |name: &str| secret(name).to_string_lossy().into_owned();
        let risk = service(
            "cdb_risk",
            ports.risk,
            vec![
                ("VERDICT_KEY_FILE", path("verdict_key")),
                ("STATE_DIR", self.dir.join("risk").to_string_lossy().into_owned()),
            ],
        );
        let execution = service(
            "cdb_execution",
            ports.execution,
            vec![
                ("VERDICT_KEY_FILE", path("verdict_key")),
                ("MEXC_API_KEY_FILE", path("mexc_api_key")),
                ("MEXC_API_SECRET_FILE", path("mexc_api_secret")),
                ("CDB_STOP_FILE", self.dir.join("stop").to_string_lossy().into_owned()),
                ("STOP_TOKEN_FILE", path("stop_token")),
                ("MEXC_BASE_URL", format!("http://127.0.0.1:{}", ports.exchange)),
            ],
        );
        let monitor = service(
            "cdb_monitor",
            ports.monitor,
            vec![
                ("POSTGRES_HOST", ledger.host.clone()),
                ("POSTGRES_PORT", ledger.port.to_string()),
                ("POSTGRES_USER", "cdb_monitor".to_owned()),
                ("POSTGRES_DB", ledger.database.clone()),
                ("POSTGRES_PASSWORD_FILE", path("postgres_password")),
                ("POSTGRES_OWNER_PASSWORD_FILE", path("postgres_owner")),
                ("CHECKPOINT_KEY_FILE", path("checkpoint_key")),
                ("STATE_DIR", self.dir.join("monitor").to_string_lossy().into_owned()),
                ("RISK_URL", format!("http://127.0.0.1:{}", ports.risk)),
                ("EXECUTION_URL", format!("http://127.0.0.1:{}", ports.execution)),
                ("CONSOLE_LISTEN", format!("127.0.0.1:{}", ports.console)),
                ("CONSOLE_TOKEN_FILE", path(CONSOLE_TOKEN)),
                ("REDIS_OPERATOR_PASSWORD_FILE", path("redis_operator")),
            ],
        );
        let postgres = postgres::plan(&tools.postgres_bin, &ledger, log("postgres"))?;

        progress("redis", ports.redis);
        self.spawn(redis)?;
        self.wait("redis", async || ports::answers(ports.redis).await).await?;
        progress("postgres", ports.postgres);
        self.spawn(postgres)?;
        self.wait("postgres", async || postgres::is_ready(&tools.postgres_bin, &ledger).await).await?;
        postgres::create_database(&tools.postgres_bin, &ledger).await?;
        postgres::make_roles(&tools.postgres_bin, &ledger, &self.dir.join("secrets")).await?;
        progress("mexc-sim", ports.exchange);
        self.spawn(exchange)?;
        self.wait("mexc-sim", async || ports::answers(ports.exchange).await).await?;
        let services = [(monitor, ports.monitor), (risk, ports.risk), (execution, ports.execution)];
        let names = services.each_ref().map(|(plan, port)| (plan.name().to_owned(), *port));
        for (plan, port) in services {
            progress(plan.name(), port);
            self.spawn(plan)?;
        }
        // Risk is ready when it knows balances, rules and prices, which execution brings.
        for (name, port) in names {
            self.wait(&name, async || ports::is_http_ready(port).await).await?;
        }
        self.write_cell()?;
        Ok(())
    }

    fn spawn(&mut self, plan: Plan) -> Result {
        let child = Child::spawn(plan)?;
        self.children.push(child);
        Ok(())
    }

    /// Waits until a part is ready; a part that dies while starting says why.
    async fn wait(&mut self, name: &str, is_ready: impl AsyncFn() -> bool) -> Result {
        let deadline = tokio::time::Instant::now() + READY_WAIT;
        while !is_ready().await {
            for child in &mut self.children {
                child.must_live()?;
            }
            if tokio::time::Instant::now() > deadline {
                let log = self.dir.join("logs").join(format!("{name}.log"));
                return Err(end(FAILURE, format!("{name} is not ready after {READY_WAIT:?}; see {}", log.display())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Writes where everything is, with the present process ids.
    fn write_cell(&mut self) -> Result {
        let pid = |name: &str| self.children.iter().find(|child| child.name() == name).and_then(Child::pid);
        self.cell.redis.pid = pid("redis");
        self.cell.postgres.pid = pid("postgres");
        if let Some(exchange) = &mut self.cell.exchange {
            exchange.pid = pid("mexc-sim");
        }
        for (name, service) in &mut self.cell.services {
            service.pid = pid(name);
        }
        self.cell.write(&self.dir.join(CELL_FILE))
    }

    /// Restarts what dies; ends with an error when something dies again and again.
    async fn watch(&mut self) -> Result {
        loop {
            tokio::time::sleep(WATCH).await;
            let mut has_restarted = false;
            for child in &mut self.children {
                has_restarted |= child.revive()?;
            }
            if has_restarted {
                self.write_cell()?;
            }
        }
    }

    /// Stops everything, last started first.
    async fn stop(&mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
    }

    fn announce(&self) {
        let cell = &self.cell;
        println!();
        println!("{}", output::bold("The cell is running. Ctrl-C stops it."));
        for (name, service) in &cell.services {
            println!("  {name:<14} {}/metrics  /readyz", service.url);
        }
        let token = cell.dir.join("secrets").join(CONSOLE_TOKEN);
        println!("  {:<14} {}  (log in with what is in {})", "console", cell.console, token.display());
        if let Some(exchange) = &cell.exchange {
            println!("  {:<14} {}  (admin {})", "stand-in", exchange.url, exchange.admin_url);
        }
        println!("  {:<14} {}", "cell file", self.cell_file().display());
        println!("Emergency stop, from any shell:");
        println!("  {}", redis_cli(cell, "SET emergency_stop \"why\""));
        println!("  {}", redis_cli(cell, "DEL emergency_stop"));
    }
}

/// The exact redis-cli line with the operator's user.
fn redis_cli(cell: &Cell, command: &str) -> String {
    let file = cell.redis.password_files.get("operator").map(|file| file.display().to_string()).unwrap_or_default();
    let port = cell.redis.port;
    format!("REDISCLI_AUTH=$(cat {file}) redis-cli -p {port} --user operator {command}")
}

fn progress(name: &str, port: u16) {
    eprintln!("starting {name} on port {port} ...");
}

fn exchange_plan(options: &UpOptions, ports: &Ports, own: &Path, dir: &Path, log: PathBuf) -> Result<Plan> {
    let secret = |name: &str| dir.join("secrets").join(name);
    let mut plan = Plan::new("mexc-sim", &own.join("mexc-sim"), log)
        .arg("--listen")
        .arg(format!("127.0.0.1:{}", ports.exchange))
        .arg("--admin")
        .arg(format!("127.0.0.1:{}", ports.exchange_admin))
        .arg("--api-key-file")
        .arg(secret("mexc_api_key"))
        .arg("--api-secret-file")
        .arg(secret("mexc_api_secret"))
        .arg("--seed")
        .arg(options.seed.to_string())
        .arg("--state")
        .arg(dir.join("exchange.json"));
    for balance in &options.balances {
        plan = plan.arg("--balance").arg(balance);
    }
    let shipped = ["examples/data/trades-BTCUSDT-2021-01-08.csv", "examples/data/trades-ETHUSDT-2023-02-02.csv"];
    let replay: Vec<PathBuf> =
        if options.replay.is_empty() { shipped.iter().map(PathBuf::from).collect() } else { options.replay.clone() };
    for file in replay {
        let file = fs::canonicalize(&file).map_err(|error| {
            end(CONFIGURATION, format!("{}: {error}; name recorded trades with --replay", file.display()))
        })?;
        plan = plan.arg("--replay").arg(file);
    }
    if options.unlimited_exchange {
        plan = plan.arg("--unlimited");
    }
    Ok(plan)
}

/// Makes a file readable by its owner alone.
fn private(path: &Path) -> Result {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).code(CONFIGURATION)
}
