"""Mutants of the compiled loops, run as plain Python against the naive oracle.

`python -m tests.mutation [MODULE ...] [--sample N]`: each mutant is one small change (a comparison, an operator, a
number, a condition, a statement left out) in one function under `@compiled...`. It is killed where the features of a
fixed set of logs differ from the oracle's around the edges of windows, where it raises, or where it does not end.
"""

import argparse
import ast
import copy
import ctypes
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"

import numpy as np

from features.behaviour import compiled

SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.USub: ast.UAdd, ast.Invert: ast.UAdd,
}  # fmt: skip
FOLDER = Path(compiled.__file__).parent
PATIENCE = 3
"""Times what the loops take as they are: a mutant that takes longer does not end."""
SHARED = {
    "gather": ("count", "sum", "last", "active_days"),
    "marks": ("count", "max", "patterns", "funnel", "abandoned_carts", "cart_value"),
    "table": ("mean", "last", "recency", "sessions", "patterns", "abandoned_carts"),
    "carry": ("count", "sum", "min", "max", "first", "last", "tenure"),
    "categories": ("first", "last", "mode", "trait"),
    "formulas": ("count", "ratio", "difference", "score", "trend", "rfm_score", "recency", "tenure"),
    "members": ("count", "sum", "first", "recency", "active_days"),
    "mining": ("count",),
}
"""Of modules that are no family: what the entries have that show them."""


def place(k: int) -> int:
    """An index; one that is negative would read elsewhere in the compiled loop."""
    if k < 0:
        raise IndexError(k)
    return k


def view(arrays: np.ndarray, k: int, *, kept: dict = {}) -> np.ndarray:  # noqa: B006 - the views are made once
    address, length, width = key = tuple(arrays[k].tolist())
    if key not in kept:
        cells = (ctypes.c_int64 * max(length * width, 1)).from_address(address) if length * width else []
        kept[key] = np.frombuffer(cells, np.int64) if length * width else np.zeros(0, np.int64)
    return kept[key]


def vector(arrays: np.ndarray, k: int) -> np.ndarray:
    return view(arrays, k)[: arrays[k, 1]]


def grid(arrays: np.ndarray, k: int) -> np.ndarray:
    return view(arrays, k).reshape(arrays[k, 1], arrays[k, 2])


def as_plain_python() -> None:
    """What only machine code can do, done by Python; new arrays are full of what no feature is."""
    compiled.place, compiled.vector, compiled.grid = place, vector, grid
    np.empty = lambda shape, dtype=float, **_: np.full(shape, 7_654_321, dtype)
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")


def changes(function: ast.FunctionDef, names: dict) -> Iterator[tuple[int, str, str]]:
    """(place in the walk, which change, what it says) of every mutant of a function; `names` are its module's.

    Left out is what cannot change any result: where a table looks for a key first, and plus and minus nothing.
    """
    speed = {id(each) for node in ast.walk(function) if spreads(node) for each in ast.walk(node)}
    for number, node in enumerate(ast.walk(function)):
        adds = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        nothing = adds and isinstance(node.right, ast.Name) and names.get(node.right.id) == 0
        for change in () if id(node) in speed or nothing else kinds_of_change(node):
            yield (
                number,
                change,
                f"{function.name}:{getattr(node, 'lineno', '?')} {change} in `{ast.unparse(node)[:90]}`",
            )


def spreads(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and any(getattr(each, "id", "") == "MIX" for each in ast.walk(node))


def kinds_of_change(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare():
            yield from (f"op{k}" for k, op in enumerate(node.ops) if type(op) in SWAPS)
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() | ast.UnaryOp() if type(node.op) in SWAPS:
            yield "op"
        case ast.Constant() if isinstance(node.value, int | float):
            yield "flip" if isinstance(node.value, bool) else "more"
        case ast.If() | ast.IfExp():
            yield "not"
        case ast.Continue() | ast.Break():
            yield "jump"
        case ast.Call(func=ast.Name(id="min" | "max")):
            yield "least"
        case ast.Expr(value=ast.Call()):
            yield "leave"
    if isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)):
        yield "leave"


def mutated(function: ast.FunctionDef, number: int, change: str) -> ast.FunctionDef:
    """A copy with that one change."""
    other = copy.deepcopy(function)
    node = list(ast.walk(other))[number]
    if change == "op":
        node.op = SWAPS[type(node.op)]()
    elif change.startswith("op"):
        node.ops[int(change[2:])] = SWAPS[type(node.ops[int(change[2:])])]()
    elif change in ("more", "flip"):
        node.value = not node.value if change == "flip" else node.value + 1
    elif change == "not":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif change == "jump":
        node.__class__ = ast.Break if isinstance(node, ast.Continue) else ast.Continue
    elif change == "least":
        node.func.id = "max" if node.func.id == "min" else "min"
    else:
        node.__class__ = ast.Pass
    return ast.fix_missing_locations(other)


def loops(module: str) -> Iterator[ast.FunctionDef]:
    """The functions under `@compiled...`, without their docstrings, defaults and annotations."""
    for node in ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any("compiled" in ast.unparse(each) for each in node.decorator_list):
            node.decorator_list, node.returns = [], None
            for argument in node.args.args:
                argument.annotation = None
            yield node


def put_in(module: str, function: ast.FunctionDef) -> None:
    """Have every module call this function instead of the one of its name."""
    home = import_module(f"features.behaviour.{module}")
    old = getattr(home, function.name)
    exec(compile(ast.Module([function], []), f"<mutant of {module}>", "exec"), home.__dict__)  # noqa: S102
    new = home.__dict__[function.name]
    for each in [m for name, m in sys.modules.items() if name.startswith("features.")]:
        for name, value in list(vars(each).items()):
            if value is old:
                setattr(each, name, new)


def survives(module: str, function: ast.FunctionDef, cases: list, seconds: float) -> bool:
    """Whether a process of its own, with the mutant in place, finds nothing wrong. It may not call Polars."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            put_in(module, function)
            os._exit(0 if all(case() for case in cases) else 1)
        except BaseException:  # noqa: BLE001 - it is killed, however
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Print the survivors of each module, and killed/total; 1 where less than 95 % are killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="by default every module with loops")
    parser.add_argument("--sample", type=int, default=10**9, help="mutants of a module at most, drawn by a seed")
    options = parser.parse_args()
    as_plain_python()
    from tests.mutation_cases import cases_of  # the modules under test, read once Python stands in for machine code

    found = sorted(path.stem for path in FOLDER.glob("*.py") if compiled.DECORATOR in path.read_bytes())
    killed = total = 0
    for module in options.modules or [name for name in found if name != "compiled"]:
        names = vars(import_module(f"features.behaviour.{module}"))
        mutants = [(function, *change) for function in loops(module) for change in changes(function, names)]
        mutants = random.Random(1).sample(mutants, min(len(mutants), options.sample))
        cases = cases_of(module)
        begun = time.process_time()
        if not all(case() for case in cases):
            raise SystemExit(f"{module}: what was not changed differs from the oracle.")
        seconds = PATIENCE * (time.process_time() - begun)
        survivors = [
            says for function, number, change, says in mutants
            if survives(module, mutated(function, number, change), cases, seconds)
        ]  # fmt: skip
        killed, total = killed + len(mutants) - len(survivors), total + len(mutants)
        say(f"{module}: killed {len(mutants) - len(survivors)}/{len(mutants)}", *sorted(survivors))
    say(f"killed {killed}/{total} ({killed / total:.1%})")
    return int(killed < 0.95 * total)


if __name__ == "__main__":
    raise SystemExit(main())
