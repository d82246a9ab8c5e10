"""Runs other projects' test suites directly and through the gate, and compares the results by test name.

suites.py SUITE --sources DIR --direct PORT --gate PORT    servers on 127.0.0.1, user postgres, trusted; two clusters
suites.py asyncpg-clusters --sources DIR --querygate FILE --pgbin DIR    the suite makes its clusters

DIR has the suites' source distributions. Both sides run at the same time, against clusters of their own. A test whose
result differs is run again on both sides: only one that never has the same result counts. Exit status 1: results
differ, or one that is known to differ does not, or fewer tests passed than the suite has.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import psycopg

HERE = pathlib.Path(__file__).resolve().parent
# Runs of a test whose results differ, besides the first.
AGAIN = 4
# Seconds for one run of one side.
DEADLINE = 900

TWO_HANDSHAKES = "the client's TLS ends at the gate, and the gate's own TLS is what the server sees"


@dataclasses.dataclass
class Suite:
    # The source distribution is `{source}-*.tar.gz`; only `tree` of it is used, so that installed modules are found.
    source: str
    tree: str
    # What pytest is asked to run.
    tests: list[str]
    # Fewer passing tests mean that the suite did not run as it should.
    at_least: int
    # Differences that are meant, by test name, with the reason.
    known: dict[str, str] = dataclasses.field(default_factory=dict)
    # Arguments and environment; `{port}` stands for the side's port.
    arguments: list[str] = dataclasses.field(default_factory=list)
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    # Run in the database `suite` before the tests.
    prepare: str = "SELECT 1"
    # Names that pytest does not take as arguments: whole files are run again.
    again_by_file: bool = False


def asyncpg_tls(names: str, reason: str) -> dict[str, str]:
    return {f"tests/test_connect.py::{name}": reason for name in names.split()}


ASYNCPG = Suite(
    source="asyncpg",
    tree="tests",
    # Checks of its sources are not about the wire.
    tests=["tests", "--ignore=tests/test__sourcecode.py"],
    at_least=305,
    # It would start clusters, to which no gate is put.
    arguments=["-k", "not TestConnectionAttributes"],
    environment={"PGHOST": "127.0.0.1", "PGPORT": "{port}", "PGUSER": "postgres", "PGDATABASE": "postgres"},
)

SQLALCHEMY = Suite(
    source="sqlalchemy",
    tree=".",
    tests=["test/dialect/test_suite.py", "test/dialect/postgresql"],
    at_least=11900,
    prepare="CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2; CREATE EXTENSION hstore; CREATE EXTENSION citext",
    again_by_file=True,
)


def sqlalchemy(driver: str, **changes) -> Suite:
    uri = f"postgresql+{driver}://postgres@127.0.0.1:{{port}}/suite"
    # These want a server on port 5432.
    arguments = ["-c", "setup.cfg", "--dburi", uri, "-k", "not test_multiple_host_real_connect"]
    return dataclasses.replace(SQLALCHEMY, arguments=arguments, **changes)


def without_types(driver: str) -> Suite:
    """Most of its tests, and most of their time, are in test_types.py: operators on every range type."""
    tests = [*SQLALCHEMY.tests, "--ignore=test/dialect/postgresql/test_types.py"]
    return sqlalchemy(driver, tests=tests, at_least=2000)


SUITES = {
    "asyncpg": ASYNCPG,
    "asyncpg-clusters": dataclasses.replace(
        ASYNCPG,
        at_least=355,
        arguments=["-p", "asyncpg_clusters"],
        environment={},
        known=asyncpg_tls(
            "TestClientSSLConnection::test_ssl_connection_client_auth_custom_context "
            "TestClientSSLConnection::test_ssl_connection_client_auth_dot_postgresql "
            "TestClientSSLConnection::test_ssl_connection_client_auth_dsn "
            "TestClientSSLConnection::test_ssl_connection_client_auth_env",
            "a client's certificate is not seen by the server: " + TWO_HANDSHAKES,
        )
        | asyncpg_tls(
            "TestNoSSLConnection::test_nossl_connection_pool "
            "TestNoSSLConnection::test_nossl_connection_prefer_cancel "
            "TestNoSSLConnection::test_nossl_connection_sslmode "
            "TestNoSSLConnection::test_nossl_handshake_fallback "
            "TestSSLConnection::test_ssl_connection_sslmode "
            "TestSSLConnection::test_ssl_handshake_failure_cause "
            "TestSSLConnection::test_sslmode_preserves_password_error",
            "`hostssl` and `hostnossl` lines of pg_hba.conf: " + TWO_HANDSHAKES,
        )
        | asyncpg_tls("TestSSLConnection::test_tls_version", "the server's TLS versions: " + TWO_HANDSHAKES),
    ),
    "psycopg2": Suite(
        source="psycopg2",
        tree="tests",
        tests=["tests"],
        at_least=750,
        environment={
            "PSYCOPG2_TESTDB": "suite",
            "PSYCOPG2_TESTDB_HOST": "127.0.0.1",
            "PSYCOPG2_TESTDB_PORT": "{port}",
            "PSYCOPG2_TESTDB_USER": "postgres",
            "PSYCOPG2_TEST_REPL_DSN": "host=127.0.0.1 port={port} user=postgres dbname=suite",
        },
        known={
            "tests/test_types_extras.py::JsonTestCase::test_scs": "standard_conforming_strings=off is refused in the "
            "startup packet whatever the policy: later statements would be read differently",
        },
    ),
    "sqlalchemy-psycopg": sqlalchemy("psycopg"),
    "sqlalchemy-asyncpg": sqlalchemy("asyncpg"),
    "sqlalchemy-psycopg-core": without_types("psycopg"),
    "sqlalchemy-asyncpg-core": without_types("asyncpg"),
}


class Side:
    """One of the two ways to the server."""

    def __init__(self, name: str, suite: Suite, port: int | None, environment: dict[str, str], tree: pathlib.Path):
        self.name, self.suite, self.tree, self.runs = name, suite, tree, 0
        self.values = {"port": port}
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        own = {key: value.format(**self.values) for key, value in suite.environment.items()}
        self.environment = plain | environment | own | {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        self.why: dict[str, str] = {}

    def prepare(self) -> None:
        conninfo = "host=127.0.0.1 user=postgres sslmode=disable port={port}".format(**self.values)
        with psycopg.connect(conninfo + " dbname=postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS suite WITH (FORCE)")
            connection.execute("CREATE DATABASE suite")
        with psycopg.connect(conninfo + " dbname=suite", autocommit=True) as connection:
            connection.execute(self.suite.prepare)

    def run(self, tests: list[str]) -> dict[str, str]:
        """The outcome of every test, by name."""
        self.runs += 1
        outcomes = self.tree.parent / f"{self.name}.{self.runs}.jsonl"
        arguments = [argument.format(**self.values) for argument in self.suite.arguments]
        log = outcomes.with_suffix(".log")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "outcomes"]
        if "-c" not in arguments:
            # Not what some parent directory configures.
            command += ["-c", os.devnull, "--rootdir=."]
        with log.open("w") as output:
            subprocess.run(
                [*command, *arguments, *tests],
                cwd=self.tree,
                env=self.environment | {"SUITE_OUTCOMES": str(outcomes)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=DEADLINE,
                check=False,
            )
        if not outcomes.exists():
            raise SystemExit(f"no test ran ({self.name}):\n{log.read_text(errors='replace')[-4000:]}")
        lines = [json.loads(line) for line in outcomes.read_text().splitlines()]
        self.why |= {name: why for name, _, why in lines if why}
        return {name: outcome for name, outcome, _ in lines}


def differing(direct: dict[str, str], gate: dict[str, str]) -> list[str]:
    return sorted(name for name in direct.keys() | gate.keys() if direct.get(name) != gate.get(name))


def compare(sides: list[Side], suite: Suite) -> bool:
    """Runs both sides and says what differs; whether all is as it should be."""

    def both(tests: list[str]) -> list[dict[str, str]]:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda side: side.run(tests), sides))

    first = both(suite.tests)
    for side, outcomes in zip(sides, first):
        counts = collections.Counter(outcomes.values())
        print(f"{side.name}: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts)))
    names = differing(*first)
    seen = {name: tuple({outcomes.get(name, "absent")} for outcomes in first) for name in names}
    unsteady = []
    stubborn = [name for name in names if name not in suite.known]
    for _ in range(AGAIN):
        if not stubborn:
            break
        again = sorted({name.split("::")[0] for name in stubborn}) if suite.again_by_file else stubborn
        for outcomes, index in zip(both(again), range(2)):
            for name in stubborn:
                seen[name][index].add(outcomes.get(name, "absent"))
        steady = [name for name in stubborn if seen[name][0].isdisjoint(seen[name][1])]
        unsteady += [name for name in stubborn if name not in steady]
        stubborn = steady
    stale = [name for name in suite.known if name not in names]
    for title, which in [("known to differ", suite.known), ("unsteady", unsteady), ("differs", stubborn)]:
        for name in which:
            if name in seen:
                results = " / ".join("|".join(sorted(outcomes)) for outcomes in seen[name])
                why = suite.known.get(name) or "; ".join(filter(None, (side.why.get(name) for side in sides)))
                print(f"{title}: {name}: {results} ({why})")
    for name in stale:
        print(f"does not differ, though it is known to: {name}")
    passed = [sum(outcome == "ok" for outcome in outcomes.values()) for outcomes in first]
    if min(passed) < suite.at_least:
        print(f"fewer tests passed than the {suite.at_least} at least expected")
    return not stubborn and not stale and min(passed) >= suite.at_least


def unpack(suite: Suite, sources: pathlib.Path, into: pathlib.Path) -> pathlib.Path:
    """A fresh copy of the suite's files."""
    [archive] = sources.glob(f"{suite.source}-[0-9]*.tar.gz")
    unpacked = into / "unpacked"
    shutil.unpack_archive(archive, unpacked)
    [root] = unpacked.iterdir()
    tree = into / "tree"
    if suite.tree == ".":
        root.rename(tree)
    else:
        tree.mkdir()
        (root / suite.tree).rename(tree / suite.tree)
    return tree


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--sources", type=pathlib.Path, required=True)
    parser.add_argument("--direct", type=int)
    parser.add_argument("--gate", type=int)
    parser.add_argument("--querygate", default="")
    parser.add_argument("--pgbin", default="")
    parser.add_argument("--keep", type=pathlib.Path, help="directory for outcomes and pytest's output")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    clusters = options.suite == "asyncpg-clusters"
    with tempfile.TemporaryDirectory(prefix="querygate-suites-") as directory:
        # Servers that run as somebody else read certificates there.
        os.chmod(directory, 0o755)
        sides = []
        for name, port, gate in [("direct", options.direct, ""), ("gate", options.gate, options.querygate)]:
            into = pathlib.Path(directory) / name
            into.mkdir()
            environment = {"SUITE_GATE": gate, "SUITE_PGBIN": options.pgbin}
            sides.append(Side(name, suite, port, environment, unpack(suite, options.sources, into)))
            if not clusters:
                sides[-1].prepare()
        same = compare(sides, suite)
        if options.keep:
            for file in pathlib.Path(directory).glob("*/*.[jl]*"):
                shutil.copy(file, options.keep / f"{options.suite}.{file.name}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
