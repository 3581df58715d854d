"""No secret is where somebody who may look at the engine would see it."""

from pathlib import Path

from project import SERVICES, run


def faults(project):
    secrets = {
        path.name: path.read_text().strip()
        for path in project.secrets_dir.iterdir()
        if path.name not in ("users.acl", "redis_exporter.json")
    }
    assert len(secrets) > 10 and all(len(value) >= 32 for value in secrets.values()), "the secrets are not there"
    for place, text in places(project):
        for name, value in secrets.items():
            if value in text:
                yield f"{name} is in {place}"


def places(project):
    yield "docker compose config", project.compose("--profile", "*", "config")
    for service in SERVICES:
        container = project.container(service)
        yield f"docker inspect {service}", run("docker", "inspect", container)
        image = run("docker", "inspect", "-f", "{{.Image}}", container).strip()
        yield f"the image of {service}", run("docker", "image", "inspect", image) + run("docker", "history", "--no-trunc", image)
        logs = run("sh", "-c", f"docker logs {container} 2>&1")
        yield f"the log of {service}", logs
        for line in run("docker", "top", container, "-eo", "pid").splitlines()[1:]:
            for name in ("environ", "cmdline"):
                try:
                    yield f"{name} of a process of {service}", Path(f"/proc/{line.strip()}/{name}").read_text(errors="replace")
                except (FileNotFoundError, ProcessLookupError):
                    # A health check that has ended.
                    continue
