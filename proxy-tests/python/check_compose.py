"""Checks docker-compose.yml as far as one can without a Docker engine.

check_compose.py COMPOSE [QUERYGATE]: the file is YAML with the services, health checks and inline Dockerfile it should
have; with the path of a querygate binary, the configuration it gives the gate is checked by `querygate config check`.
Where the compose plugin is installed, `docker compose config` must accept the file too.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import yaml


def main(path: str, querygate: str | None) -> None:
    with open(path, encoding="utf-8") as file:
        compose = yaml.safe_load(file)
    postgres, gate = compose["services"]["postgres"], compose["services"]["querygate"]
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"], f"{name} has a health check"
    assert "ports" not in postgres, "the gate is the only way to Postgres"
    assert gate["depends_on"]["postgres"]["condition"] == "service_healthy"
    for port in gate["ports"]:
        assert port.startswith("127.0.0.1:"), f"{port} is published on loopback only"
    dockerfile = gate["build"]["dockerfile_inline"]
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile, re.MULTILINE)
    assert len(stages) == 2 and stages[0][1] == "build", stages
    assert "--from=build" in dockerfile and "--locked" in dockerfile
    instructions = set(re.findall(r"^([A-Z]+) ", dockerfile, re.MULTILINE))
    assert instructions <= {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}, instructions
    assert gate["configs"][0]["source"] in compose["configs"]

    if querygate:
        # As compose hands it over: no variables in it, or they would need a second look here.
        content = compose["configs"][gate["configs"][0]["source"]]["content"]
        assert "$" not in content
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write(content)
            config.flush()
            tokens = {name: "x" * 32 for name in gate["environment"]}
            command = [querygate, "config", "check", "--config", config.name]
            subprocess.run(command, check=True, env=os.environ | tokens)

    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        subprocess.run(["docker", "compose", "-f", path, "config", "--quiet"], check=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
