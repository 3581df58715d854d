"""What the engine and the kernel say of the running containers (docs/operations.md, "Install with docker compose")."""

from pathlib import Path

from project import OWN, SERVICES

USERS = {
    "redis": 999, "postgres": 999, "cdb_risk": 10011, "cdb_execution": 10012, "cdb_monitor": 10013, "mexc-sim": 10012,
    "redis_exporter": 59000, "postgres_exporter": 65534, "prometheus": 65534, "alertmanager": 65534,
}


def faults(project):
    for service in SERVICES:
        seen = project.inspect(service)
        for fault in [*engine(service, seen), *kernel(service, seen["State"]["Pid"])]:
            yield f"{service}: {fault}"


def engine(service, seen):
    host, config = seen["HostConfig"], seen["Config"]
    expected = [
        ("user", int(config["User"].split(":")[0]), USERS[service]),
        ("read-only root", host["ReadonlyRootfs"], True),
        ("dropped capabilities", host["CapDrop"], ["ALL"]),
        ("added capabilities", host["CapAdd"] or [], []),
        ("privileged", host["Privileged"], False),
        ("security options", host["SecurityOpt"], ["no-new-privileges:true"]),
        ("restart policy", host["RestartPolicy"]["Name"], "unless-stopped"),
        ("log size", host["LogConfig"]["Config"].get("max-size"), "10m"),
        ("shared pid namespace", host["PidMode"], ""),
        ("shared ipc namespace", host["IpcMode"], "private"),
        ("devices", host["Devices"] or [], []),
    ]
    for what, value, wanted in expected:
        if value != wanted:
            yield f"{what} is {value}, not {wanted}"
    for what in ("Memory", "NanoCpus", "PidsLimit"):
        if not host[what]:
            yield f"has no limit {what}"
    ulimits = {limit["Name"]: limit["Hard"] for limit in host["Ulimits"] or []}
    if ulimits.get("core") != 0 or "nofile" not in ulimits:
        yield f"ulimits are {ulimits}"
    for mount in seen["Mounts"]:
        if "docker.sock" in mount["Source"]:
            yield "has the engine's socket"
        if mount["Type"] == "bind" and mount["RW"] and "/secrets/" not in mount["Source"]:
            yield f"may write {mount['Source']} of the host"
    published = {port: at for port, at in (seen["NetworkSettings"]["Ports"] or {}).items() if at}
    wanted = {"8080/tcp"} if service == "cdb_monitor" else set()
    if set(published) != wanted or any(at["HostIp"] != "127.0.0.1" for ats in published.values() for at in ats):
        yield f"publishes {published}"


def kernel(service, pid):
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    expected = [("CapEff", "0000000000000000"), ("CapBnd", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")]
    for name, wanted in expected:
        if fields[name].strip() != wanted:
            yield f"{name} is {fields[name].strip()}, not {wanted}"
    if int(fields["Uid"].split()[0]) != USERS[service]:
        yield f"runs as {fields['Uid'].split()[0]}"
    mounts = {}
    for line in Path(f"/proc/{pid}/mounts").read_text().splitlines():
        _, target, _, options, *_ = line.split()
        mounts[target] = options.split(",")
    if "ro" not in mounts["/"]:
        yield "its root can be written to"
    for target, options in mounts.items():
        if target.startswith("/run/secrets") and "rw" in options and service not in ("prometheus", "alertmanager"):
            # Written to only by its owner, who has no right to: the file's mode forbids it.
            if Path(f"/proc/{pid}/root{target}").stat().st_mode & 0o222:
                yield f"{target} can be written to"
    if service in OWN:
        programs = [path for path in Path(f"/proc/{pid}/root").glob("bin/*")]
        if programs:
            yield f"its image has programs besides its own: {programs}"
