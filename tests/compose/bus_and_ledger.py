"""Each user of the bus and each role of the ledger in the running project: its own, and nothing else. The whole table of
commands is in tests/it/bus_acl.rs; here it is the files that compose mounts and the passwords of the secrets."""

from bus import Bus, BusError

USERS = ["operator", "strategy", "cdb_risk", "cdb_execution", "cdb_monitor", "exporter"]
# A command, and who may. None of the allowed ones changes anything.
COMMANDS = [
    (("XRANGE", "cdb:verdicts", "-", "+", "COUNT", "1"), {"operator", "strategy", "cdb_risk", "cdb_execution", "cdb_monitor"}),
    (("XLEN", "cdb:events"), {"operator", "cdb_monitor", "exporter"}),
    (("EXISTS", "emergency_stop"), {"operator", "cdb_risk", "cdb_execution", "cdb_monitor"}),
    (("GET", "cdb:permit"), {"operator", "cdb_risk", "cdb_execution", "cdb_monitor"}),
    (("XTRIM", "cdb:orders", "MAXLEN", "0"), set()),
    (("XDEL", "cdb:verdicts", "1-1"), set()),
    (("EXPIRE", "emergency_stop", "1"), set()),
    (("FLUSHALL",), set()),
    (("CONFIG", "GET", "dir"), set()),
    (("EVAL", "return 1", "0"), set()),
    (("KEYS", "*"), set()),
    (("SHUTDOWN",), set()),
    (("ACL", "SETUSER", "x"), set()),
    (("REPLICAOF", "NO", "ONE"), set()),
    (("MONITOR",), set()),
]
# Only these may write here, and nobody is tried who may.
WRITES = [
    (("SET", "emergency_stop", "x"), {"operator", "cdb_risk", "cdb_monitor"}),
    (("DEL", "emergency_stop"), {"operator"}),
    (("SET", "cdb:permit", "x"), {"cdb_risk"}),
    (("HSET", "cdb:breaker", "state", "closed"), {"cdb_risk"}),
    (("XADD", "cdb:orders", "*", "json", "x"), {"operator", "strategy"}),
    (("XADD", "cdb:verdicts", "*", "json", "x"), {"cdb_risk"}),
    (("XADD", "cdb:executions", "*", "json", "x"), {"cdb_execution"}),
    (("DEL", "cdb:claim:x"), {"cdb_execution"}),
]


def answer(bus, command):
    try:
        bus(*command)
    except BusError as error:
        return str(error).split()[0]
    return "OK"


def bus_faults(project):
    address = (project.address("redis"), 6379)
    nobody = Bus(address)
    for command in (("XLEN", "cdb:events"), ("FLUSHALL",), ("SET", "emergency_stop", "x")):
        if answer(nobody, command) != "NOAUTH":
            yield f"without a user: {command} is answered"
    if answer(nobody, ("AUTH", "operator", "wrong")) != "WRONGPASS":
        yield "a wrong password is taken"
    if answer(nobody, ("AUTH", "default", "")) != "WRONGPASS":
        yield "the default user lets somebody in"
    for user in USERS:
        name = "redis_exporter" if user == "exporter" else f"redis_{user}"
        bus = Bus(address, user, project.secret(name))
        for command, allowed in COMMANDS:
            got = answer(bus, command)
            if (got == "NOPERM") != (user not in allowed):
                yield f"{user}: {' '.join(command)} is answered {got}"
        for command, allowed in WRITES:
            if user not in allowed and answer(bus, command) != "NOPERM":
                yield f"{user} may {' '.join(command)}"
        bus.close()


# Role, its secret, statement, whether it may.
STATEMENTS = [
    ("cdb_grafana", "postgres_grafana", "SELECT count(*) FROM orders", True),
    ("cdb_grafana", "postgres_grafana", "DELETE FROM reports", False),
    ("cdb_grafana", "postgres_grafana", "CREATE TABLE t (x int)", False),
    ("cdb_grafana", "postgres_grafana", "SELECT pg_read_file('/run/secrets/postgres_password')", False),
    ("cdb_exporter", "postgres_exporter", "SELECT count(*) FROM pg_stat_activity", True),
    ("cdb_exporter", "postgres_exporter", "SELECT count(*) FROM orders", False),
    ("cdb_exporter", "postgres_exporter", "DELETE FROM reports", False),
    ("cdb_monitor", "postgres_password", "SELECT count(*) FROM orders", True),
    ("cdb_monitor", "postgres_password", "DELETE FROM reports", False),
    ("cdb_monitor", "postgres_password", "DROP TABLE reports", False),
    ("cdb_monitor", "postgres_password", "COPY orders TO PROGRAM 'true'", False),
    ("cdb_monitor", "postgres_password", "CREATE ROLE intruder SUPERUSER", False),
    ("cdb_monitor", "postgres_password", "ALTER SYSTEM SET fsync = off", False),
]
ASK = 'IFS= read -r PGPASSWORD; export PGPASSWORD; psql -h 127.0.0.1 -U "$1" -d cdb -v ON_ERROR_STOP=1 -Atc "$2" 2>&1 || true'


def ask(project, role, password, statement):
    return project.compose("exec", "-T", "postgres", "sh", "-c", ASK, "sh", role, statement, input=password + "\n")


def ledger_faults(project):
    for role, secret, statement, is_allowed in STATEMENTS:
        output = ask(project, role, project.secret(secret), statement)
        # A table in a schema that a role may not look into does not exist for it.
        refusals = ("permission denied", "must be", "read-only transaction", "does not exist")
        is_refused = any(refusal in output for refusal in refusals)
        if is_allowed == is_refused or (is_allowed and "ERROR" in output):
            yield f"{role}: {statement}: {output.strip()}"
    if "authentication failed" not in ask(project, "cdb_monitor", "wrong", "SELECT 1"):
        yield "a wrong password opens the ledger"
    roles = ask(project, "cdb_monitor", project.secret("postgres_password"),
                "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolsuper")
    if roles.split() != ["postgres"]:
        yield f"superusers are {roles.split()}"
    stored = project.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "cdb", "-Atc",
                             "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'",
                             check=False)
    if stored.strip():
        yield f"passwords not kept as SCRAM: {stored.strip()}"
