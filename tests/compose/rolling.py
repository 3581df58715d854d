"""scripts/rolling-restart under load: restart, upgrade, rollback, and settings that a service refuses."""

import load
from project import OWN


def restart(project, is_long):
    before = {service: project.container(service) for service in OWN}
    project.script("scripts/rolling-restart")
    for service in OWN:
        assert project.container(service) != before[service], f"{service} was not recreated"
    project.wait_healthy(*OWN)
    load.filled(project, 3)
    changed = OWN if is_long else ["cdb_execution"]
    upgrade(project, changed)
    refused_settings(project)


def images(project, services):
    return {service: project.inspect(service)["Image"] for service in services}


def upgrade(project, services):
    """Other images under the same tag, and back."""
    old = images(project, services)
    project.build("upgrade", from_host=False)
    project.script("scripts/rolling-restart", *services)
    new = images(project, services)
    assert not set(old.values()) & set(new.values()), "the upgrade runs the old images"
    project.wait_healthy(*OWN)
    load.filled(project, 2)
    project.script("scripts/rolling-restart", "--rollback", *services)
    back = images(project, services)
    assert back == old, f"the rollback runs {back}, not {old}"
    project.wait_healthy(*OWN)
    load.filled(project, 2)


def refused_settings(project):
    """A service that does not start is taken back by itself, and the desk trades on."""
    project.configure(MAX_ORDER_SIZE_USD="a lot")
    text = project.script("sh", "-c", "scripts/rolling-restart cdb_risk 2>&1; echo code $?")
    assert "taking back: cdb_risk" in text and text.strip().endswith("code 1"), text
    assert "a lot" not in project.env_file.read_text(), "the refused settings stayed"
    del project.settings["MAX_ORDER_SIZE_USD"]
    project.wait_healthy(*OWN)
    load.filled(project, 2)
