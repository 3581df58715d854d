"""Prometheus reads every target that its configuration names, and the console answers on this host's loopback alone."""

import json
import urllib.request

from project import run, until


def faults(project, _):
    def targets():
        answer = json.loads(project.http("prometheus", "http://127.0.0.1:9090/api/v1/targets"))
        return {target["labels"]["instance"]: target["health"] for target in answer["data"]["activeTargets"]}

    wanted = {
        "cdb_risk:8101", "cdb_execution:8102", "cdb_monitor:8103", "redis_exporter:9121", "postgres_exporter:9187",
        "alertmanager:9093",
    }
    until("every target is up", lambda: set(targets()) == wanted and set(targets().values()) == {"up"}, 40)
    query = "http://127.0.0.1:9090/api/v1/query?query="
    for metric in ("cdb_risk_approved_total", "redis_up==1", "pg_up==1"):
        answer = json.loads(project.http("prometheus", query + metric))
        if not answer["data"]["result"]:
            yield f"Prometheus has no {metric}"
    with urllib.request.urlopen(f"http://127.0.0.1:{project.console_port}/", timeout=5) as page:
        if page.status != 200:
            yield f"the console answers {page.status}"
    listeners = [line.split()[3] for line in run("ss", "-Htln").splitlines()]
    ours = [at for at in listeners if at.rsplit(":", 1)[1] == str(project.console_port)]
    if ours != [f"127.0.0.1:{project.console_port}"]:
        yield f"the console listens on {ours}"
