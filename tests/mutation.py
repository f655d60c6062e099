"""Mutants of the compiled loops, run as plain Python against the naive oracle.

`python -m tests.mutation [MODULE ...] [--jobs N]`: each mutant is one small change (a comparison, an operator, a
number, a condition, a statement left out) in one function under `@compiled...`. It is killed where the features of a
fixed set of logs differ from the oracle's around the edges of windows, where it raises, or where it does not end.
Those that can change no result stand in mutation_equivalents.toml, each under its reason; they count as survivors.
"""

import argparse
import ast
import copy
import ctypes
import os
import signal
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

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
LIST = Path(__file__).with_name("mutation_equivalents.toml")
PATIENCE, LEAST_S = 5, 0.5
"""Times what a case takes of the loops as they are, and seconds at least: a mutant that takes longer does not end."""


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
    compiled.place, compiled.vector, compiled.grid, compiled.ahead = place, vector, grid, lambda _slots, _row: None
    np.empty = lambda shape, dtype=float, **_: np.full(shape, 7_654_321, dtype)
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")


class Mutant(NamedTuple):
    """One change; its name holds no line number, so that it stays what it is when a module grows above it."""

    function: ast.FunctionDef
    number: int  # of the node in the walk
    change: str
    name: str
    line: int


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module's loops; of the same change of the same words in one function the second is `#2`."""
    names, times = vars(import_module(f"features.behaviour.{module}")), Counter[str]()
    found = []
    for function in loops(module):
        for number, node, change in changes(function, names):
            name = f"{function.name} {change} in `{ast.unparse(node).splitlines()[0][:90]}`"
            times[name] += 1
            name += f" #{times[name]}" if times[name] > 1 else ""
            found.append(Mutant(function, number, change, name, getattr(node, "lineno", 0)))
    return found


def changes(function: ast.FunctionDef, names: dict) -> Iterator[tuple[int, ast.AST, str]]:
    """(place in the walk, node, which change) of every mutant of a function; `names` are its module's.

    Left out is what cannot change any result: where a table looks for a key first, and plus and minus nothing.
    """
    speed = {id(each) for node in ast.walk(function) if spreads(node) for each in ast.walk(node)}
    for number, node in enumerate(ast.walk(function)):
        adds = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        right = ast.unparse(node.right).removeprefix("place(").removesuffix(")") if adds else ""
        nothing = names.get(right, right) == 0
        yield from ((number, node, change) for change in kinds_of_change(node) if id(node) not in speed and not nothing)


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


def started(module: str, mutant: Mutant, cases: list[tuple[int, Callable[[], bool], float]]) -> int:
    """A process of its own, with the mutant in place; it ends with the number of the case that finds something wrong.

    It may not call Polars.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        number = 0
        try:
            put_in(module, mutated(mutant.function, mutant.number, mutant.change))
            for number, case, seconds in cases:
                signal.setitimer(signal.ITIMER_PROF, max(LEAST_S, PATIENCE * seconds))
                if not case():
                    os._exit(min(number, 255))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - it is killed, however
            os._exit(min(max(number, 1), 255))
    return child


def survivors_of(module: str, mutants: list[Mutant], jobs: int) -> list[Mutant]:
    """Those in which no case finds anything wrong; what has killed last is asked first."""
    from tests.mutation_cases import cases_of  # the modules under test, read once Python stands in for machine code

    cases = [(number, case, seconds_of(case, module)) for number, case in enumerate(cases_of(module), 1)]
    running: dict[int, Mutant] = {}
    left = []
    for mutant in [*mutants, *[None] * jobs]:
        while len(running) >= jobs or (mutant is None and running):
            child, status = os.wait()
            one, by = running.pop(child), os.WEXITSTATUS(status)
            if status == 0:
                left.append(one)
            cases.sort(key=lambda each: each[0] != by)
        if mutant is not None:
            running[started(module, mutant, cases)] = mutant
    return left


def seconds_of(case: Callable[[], bool], module: str) -> float:
    """What a case takes of the loops as they are."""
    begun = time.process_time()
    if not case():
        raise SystemExit(f"{module}: what was not changed differs from the oracle.")
    return time.process_time() - begun


def listed(module: str) -> set[str]:
    """The names of the mutants that are said to change no result."""
    groups = tomllib.loads(LIST.read_text(encoding="utf-8")).get(module, [])
    return {name for group in groups for name in group["mutants"]}


def say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def told(module: str, mutants: list[Mutant], left: list[Mutant]) -> tuple[int, int, bool]:
    """Print a module's survivors; (killed, listed and alive, whether the list is true)."""
    names, alive, known = {each.name for each in mutants}, {each.name for each in left}, listed(module)
    say(
        f"{module}: killed {len(mutants) - len(left)}/{len(mutants)}, changing nothing {len(alive & known)}",
        *(f"{module}.py:{each.line} {each.name}" for each in left if each.name not in known),
        *(f"listed, but killed: {name}" for name in sorted(known & names - alive)),
        *(f"listed, but there is none: {name}" for name in sorted(known - names)),
    )
    return len(mutants) - len(left), len(alive & known), known <= alive


def main() -> int:
    """Print the survivors of each module, and killed/total; 1 where less than 95 % are killed, or the list is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="by default every module with loops")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    options = parser.parse_args()
    as_plain_python()
    found = sorted(path.stem for path in FOLDER.glob("*.py") if compiled.DECORATOR in path.read_bytes())
    killed = total = nothing = 0
    true = True
    for module in options.modules or [name for name in found if name != "compiled"]:
        mutants = mutants_of(module)
        mine, same, right = told(module, mutants, survivors_of(module, mutants, options.jobs))
        killed, total, nothing, true = killed + mine, total + len(mutants), nothing + same, true and right
    share = killed / (total - nothing)
    say(f"killed {killed}/{total} ({killed / total:.1%}); without the {nothing} that change nothing {share:.1%}")
    return int(killed < 0.95 * total or not true)


if __name__ == "__main__":
    raise SystemExit(main())
