"""Rules that no linter knows: banned words, ports, floats, asserts, handlers, SQL, sizes."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source import (
    ROOT,
    Module,
    ancestors,
    docstrings,
    enclosing_function,
    imported_names,
    modules,
)

LINES_MAX = 500
FUNCTION_LINES_MAX = 70  # TIGER_STYLE: "hard limit of 70 lines per function"

KEY_WORDS = re.compile(r"mnemonic|seed_phrase|seed_bytes|xprv|private_key")
# Names of functions of `cryptography` and `http_message_signatures`, which read a request-signing
# key and hand it to the signature; no key of a wallet ever goes there.
KEY_WORDS_OF_LIBRARIES = {"load_pem_private_key", "resolve_private_key"}

NO_FLOAT = (
    "ledger",
    "signer",
    "gateway/api",
    "gateway/payouts",
    "gateway/treasury",
    "watchers/chains",
)
NO_ASSERT = (
    "ledger",
    "signer",
    "watchers",
    "gateway/api",
    "gateway/payouts",
    "gateway/treasury",
    "gateway/webhooks",
)

# Where the outside world is touched (CASES c.2). Everything else gets it injected.
CLOCK_PORTS = {"config/clock.py", "signer/ports.py"}
RANDOM_PORTS = {"config/ids.py", "signer/ports.py", "gateway/sandbox/fee_year.py"}
HTTP_PORTS = {
    "watchers/chains/node.py": "the client of every node",
    "gateway/webhooks/connector.py": "the deliverer of webhooks",
    "gateway/webhooks/rate_source.py": "the reader of reference rates, guarded like webhooks",
    "gateway/client.py": "the signing client of the API, for staff commands, demo and tests",
    "gateway/cli/client.py": "staff commands are a client of the API",
    "gateway/sandbox/rpc.py": "the outside world's own client of its nodes",
    "gateway/sandbox/http.py": "the demo's and the bench's client of the API",
    "gateway/sandbox/doors.py": "the door before a node passes on what it is asked",
    "gateway/sandbox/liar.py": "the lying node asks the real node behind it",
}
HTTP_LIBRARIES = {"requests", "httpx", "urllib.request", "http.client"}

# SQL outside of stores: the foundations that no store can be below of.
SQL_FOUNDATIONS = {
    "config/database.py": "opens the unit of work",
    "config/migrate.py": "runs the migrations",
    "config/selfcheck.py": "asks the server for its settings at start",
    "gateway/sandbox/postgres.py": "creates the embedded server's database",
}
SQL = re.compile(
    r"^\s*(?:SELECT\b|INSERT\s+INTO\b|UPDATE\s+[\w.]+\s+SET\b|DELETE\s+FROM\b|WITH\s+\w+\s+AS\b|"
    r"LISTEN\s|NOTIFY\s|(?:CREATE|ALTER|DROP|TRUNCATE)\s+(?:TABLE|ROLE|DATABASE|SCHEMA|INDEX)\b)"
)

# A supervisor keeps a loop or a server going: named so, or the handler stands inside `while`.
SUPERVISORS = re.compile(r"^_?(?:run|serve|supervise)(?:_|$)")
# The one edge where every failure becomes an answer: a 500 with an id and no detail (A44).
EDGES = {("gateway/app.py", "_tell")}


def _of(*folders: str) -> list[Module]:
    return [module for module in modules() if module.within(*folders)]


def _identifiers(module: Module) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node
            case ast.keyword(arg=str(name)):
                yield name, node
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.ClassDef(name=name):
                yield name, node
            case ast.alias(name=name):
                yield name.rpartition(".")[2], node
            case _:
                pass


def test_no_private_key_has_a_name_outside_the_signer() -> None:
    wrong = [
        f"{module.where(node)} {name}"
        for module in _of("config", "ledger", "watchers", "gateway")
        for name, node in _identifiers(module)
        if KEY_WORDS.search(name.lower()) and name not in KEY_WORDS_OF_LIBRARIES
    ]
    assert wrong == []


SECONDS = re.compile(r"(?:^|_)seconds(?:_max|_min)?$", re.IGNORECASE)
RETRY_DELAYS = {"wait_exponential_jitter", "wait_random"}  # tenacity's words for seconds


def _is_seconds(node: ast.AST) -> bool:
    """True when the node names something that holds seconds."""
    names: list[str] = []
    match node:
        case ast.AnnAssign(target=target):
            names = [ast.unparse(target)]
        case ast.Assign(targets=targets):
            names = [ast.unparse(target) for target in targets]
        case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            names = [name]
        case ast.keyword(arg=str(name)):
            names = [name]
        case ast.Call(func=ast.Name(id=name)) if name in RETRY_DELAYS:
            return True
        case ast.Call(func=ast.Attribute(attr="sleep")):
            return True
        case ast.BinOp() | ast.Compare():
            names = [ast.unparse(part) for part in ast.iter_child_nodes(node)]
        case _:
            pass
    return any(SECONDS.search(name) for name in names)


def _default_of_seconds(module: Module, node: ast.AST) -> bool:
    """True for the default value of a parameter whose name ends with `_seconds`."""
    for parent in ancestors(module, node):
        if isinstance(parent, ast.arguments):
            positional = [*parent.posonlyargs, *parent.args]
            pairs = list(zip(reversed(positional), reversed(parent.defaults), strict=False))
            pairs += [
                (arg, value)
                for arg, value in zip(parent.kwonlyargs, parent.kw_defaults, strict=True)
                if value is not None
            ]
            return any(
                value is node and SECONDS.search(arg.arg) is not None for arg, value in pairs
            )
    return False


def _floats(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        is_literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        if is_literal or (isinstance(node, ast.Name) and node.id == "float"):
            chain = [*ancestors(module, node)]
            statement = next((i for i, n in enumerate(chain) if isinstance(n, ast.stmt)), 0)
            if any(_is_seconds(parent) for parent in chain[: statement + 1]):
                continue
            if SECONDS.search(enclosing_function(module, node)):
                continue
            if not _default_of_seconds(module, node):
                yield node


def test_no_float_comes_near_money() -> None:
    wrong = [module.where(node) for module in _of(*NO_FLOAT) for node in _floats(module)]
    assert wrong == []


def _port_breaches(module: Module) -> Iterator[str]:
    for name, node in imported_names(module):
        root = name.partition(".")[0]
        if root == "time" and module.path not in CLOCK_PORTS:
            yield f"{module.where(node)} imports time"
        if root in ("random", "secrets") and module.path not in RANDOM_PORTS:
            yield f"{module.where(node)} imports {root}"
        if name in ("uuid.uuid4", "uuid.uuid1", "os.urandom"):
            yield f"{module.where(node)} imports {name}"
        library = next((lib for lib in HTTP_LIBRARIES if f"{name}.".startswith(f"{lib}.")), None)
        if library is not None and module.path not in HTTP_PORTS:
            yield f"{module.where(node)} imports {library}"
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        text = ast.unparse(node)
        clock = ("datetime.now", "datetime.utcnow", "date.today", "asyncio.sleep")
        if text.endswith(clock) and module.path not in CLOCK_PORTS:
            yield f"{module.where(node)} {text}"
        if text in ("uuid.uuid4", "uuid.uuid1", "os.urandom") and module.path not in RANDOM_PORTS:
            yield f"{module.where(node)} {text}"


def _opens_http(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ClientSession"):
            yield node


def test_time_chance_and_ids_come_through_ports() -> None:
    wrong = [breach for module in modules() for breach in _port_breaches(module)]
    assert wrong == []


def test_http_goes_out_through_ports() -> None:
    wrong = [
        module.where(node)
        for module in modules()
        if module.path not in HTTP_PORTS
        for node in _opens_http(module)
    ]
    assert wrong == []


def test_x02_no_rule_about_money_is_an_assert() -> None:
    wrong = [
        module.where(node)
        for module in _of(*NO_ASSERT)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]
    assert wrong == []


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = "" if handler.type is None else ast.unparse(handler.type)
    names = set(re.findall(r"\w+", caught))
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def _is_endless(node: ast.AST) -> bool:
    return isinstance(node, ast.While) and ast.unparse(node.test) == "True"


def test_only_a_supervisor_catches_everything() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or not _catches_everything(node):
                continue
            last = node.body[-1]
            raises_again = isinstance(last, ast.Raise) and last.exc is None
            function = enclosing_function(module, node)
            in_loop = any(_is_endless(parent) for parent in ancestors(module, node))
            if (
                in_loop
                or raises_again
                or SUPERVISORS.match(function)
                or (module.path, function) in EDGES
            ):
                continue
            wrong.append(f"{module.where(node)} in {function or 'the module'}")
    assert wrong == []


def _is_store(module: Module) -> bool:
    name = module.path.rpartition("/")[2]
    return name == "store.py" or name.endswith("_store.py") or module.within("config/migrations")


def _sql_texts(module: Module) -> Iterator[ast.AST]:
    comments = docstrings(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node not in comments and SQL.match(node.value):
                yield node


def test_sql_lives_in_stores_and_migrations_only() -> None:
    wrong = [
        module.where(node)
        for module in modules()
        if not _is_store(module) and module.path not in SQL_FOUNDATIONS
        for node in _sql_texts(module)
    ]
    assert wrong == []


def test_no_module_is_longer_than_the_limit() -> None:
    lines = {module.path: module.text.count("\n") for module in modules()}
    lines |= {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").count("\n")
        for file in (ROOT / "tests").rglob("*.py")
    }
    assert {path: count for path, count in lines.items() if count > LINES_MAX} == {}


def test_no_function_is_longer_than_the_limit() -> None:
    long = [
        f"{module.where(node)} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_module_says_what_it_owns() -> None:
    silent = [m.path for m in modules() if m.text.strip() and ast.get_docstring(m.tree) is None]
    assert silent == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("rate = 0.5", 1),
        ("poll_seconds = 0.5", 0),
        ("def fee(rate: float) -> int: ...", 1),
        ("def wait(delay_seconds: float = 0.5) -> None: ...", 0),
        ("def left_seconds() -> float: ...", 0),
        ("total = float(amount)", 1),
        ("call(timeout_seconds=1.5)", 0),
    ],
)
def test_the_float_rule_bites(source: str, count: int) -> None:
    module = Module(path="ledger/x.py", name="ledger.x", text=source, tree=ast.parse(source))
    assert len(list(_floats(module))) == count


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import random",
        "from uuid import uuid4",
        "now = datetime.now(UTC)",
        "await_ = asyncio.sleep",
        "import requests",
    ],
)
def test_the_port_rule_bites(source: str) -> None:
    module = Module(path="ledger/x.py", name="ledger.x", text=source, tree=ast.parse(source))
    assert len(list(_port_breaches(module))) == 1
