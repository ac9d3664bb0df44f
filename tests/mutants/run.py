"""Mutation testing: do the tests notice small changes of the modules whose numbers matter most?

python tests/mutants/run.py [--only diffusion] [--out build/mutants.json] [--again build/mutants.json]

cosmic-ray's operators make the changes ("mutants"), one at a time, in a copy of the tree. Each mutant is
tested by the module's own test file, up to the first failure, in a fork of a process that has imported the
libraries, MindSpore only for modules that compute with it. Needs the extra `mutants` and a system with fork.
README.md next to this file has the results.
"""

import argparse
import difflib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parents[2]
TESTS = {
    "diffusion/gaussian.py": "diffusion/test_gaussian.py",
    "diffusion/guidance.py": "diffusion/test_guidance.py",
    "diffusion/reuse.py": "diffusion/test_reuse.py",
    "diffusion/samplers.py": "diffusion/test_samplers.py",
    "diffusion/schedule.py": "diffusion/test_schedule.py",
    "data/clips/batches.py": "data/clips/test_batches.py",
    "data/videos/transforms.py": "data/videos/test_transforms.py",
    "checkpoints/mapping.py": "checkpoints/test_mapping.py",
    "training/precision.py": "training/test_precision.py",
    "training/optimizer.py": "training/test_optimizer.py",
    "diffusion/losses.py": "diffusion/test_losses.py",
}
"""The mutated modules of latte_cli/core, and the files of tests/core that should notice."""
WITH_MINDSPORE = ("training/optimizer.py", "diffusion/losses.py")

OPERATORS = (
    "NumberReplacer",  # n + 1 and n - 1
    "AddNot",
    "ExceptionReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ZeroIterationForLoop",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Div", "Mod_Mul")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "Gt_Lt", "GtE_Gt", "GtE_Lt")),
)
PATIENCE = 30  # seconds beyond three times what the original takes, after which a mutant is stopped
POLL = 0.02  # seconds

PASSED, FAILED, SLOW = "passed", "failed", "slow"


class Mutant(NamedTuple):
    """One change of a module."""

    operator: str
    line: int
    code: str


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="mutate only modules whose path contains this")
    parser.add_argument(
        "--out", type=Path, default=Path("build/mutants.json"), help="where to write the survivors"
    )
    parser.add_argument("--again", type=Path, help="only try the survivors in this file of an earlier run")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    again = None if arguments.again is None else json.loads(arguments.again.read_text())["survivors"]
    sys.dont_write_bytecode = True  # consecutive mutants may have the same size and modification time
    survivors: list[dict[str, object]] = []
    total: Counter[str] = Counter()
    slow: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        tree = copy_of_tree(Path(scratch, "tree"))
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        import_libraries()
        for module, tests in TESTS.items():
            if arguments.only not in module or not (
                again is None or any(e["module"] == module for e in again)
            ):
                continue
            if module in WITH_MINDSPORE:
                import mindspore.dataset  # noqa: F401

                import latte_cli.core.kernels.optimizer  # noqa: F401
            path = tree / "latte_cli/core" / module
            original = path.read_text()
            start = processor_seconds()
            if run_tests(f"tests/core/{tests}", limit=600) != PASSED:
                print(Path("output").read_text(), f"{module}: the tests fail without a mutation", sep="\n")
                return 1
            limit = round(3 * (processor_seconds() - start)) + PATIENCE
            for mutant in mutants(original):
                record = survivor(module, mutant, original)
                if not (again is None or record in again):
                    continue
                path.write_text(mutant.code)
                total[module] += 1
                outcome = run_tests(f"tests/core/{tests}", limit)
                slow[module] += outcome == SLOW
                if outcome == PASSED:
                    survivors.append(record)
                    print(f"{module}:{mutant.line}: {mutant.operator}\n{record['change']}", flush=True)
            path.write_text(original)
            left = sum(entry["module"] == module for entry in survivors)
            print(
                f"{module}: {total[module] - left} of {total[module]} killed, {slow[module]} by time",
                flush=True,
            )
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(
                json.dumps({"mutants": total, "by_time": slow, "survivors": survivors}, indent=1) + "\n"
            )
    print(f"{1 - len(survivors) / max(1, total.total()):.1%} of {total.total()} mutants killed; {out}")
    return 0


def copy_of_tree(to: Path) -> Path:
    """The sources and tests, where they can be changed."""
    to.mkdir()
    for name in ("latte_cli", "configs", "tests"):
        ignore = shutil.ignore_patterns("__pycache__", "peers", "rehearsal", "endurance", "hostile")
        shutil.copytree(ROOT / name, to / name, symlinks=True, ignore=ignore)
    shutil.copytree(ROOT / "tests/peers", to / "tests/peers")  # golden_cases
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, to / name)
    return to


def import_libraries() -> None:
    """Import libraries once for all forks, and modules that import no mutated one, directly or indirectly."""
    import hypothesis  # noqa: F401
    import imageio_ffmpeg  # noqa: F401
    import pytest  # noqa: F401

    import latte_cli.core.data.videos.index
    import latte_cli.core.settings.schema  # noqa: F401

    mutated = {f"latte_cli.core.{module.removesuffix('.py').replace('/', '.')}" for module in TESTS}
    assert not mutated & set(sys.modules)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


def mutants(code: str) -> Iterator[Mutant]:
    """Every change of a module that an operator makes."""
    tree = get_ast(code)
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [(node, place) for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for occurrence, (node, ((line, _), _)) in enumerate(places):
            if node.type == "operator" and node.parent.type in ("parameters", "param", "argument"):
                continue  # a star in a signature or a call is not a product
            changed = mutate_code(code, operator, occurrence)
            if changed is not None and changed != code:
                yield Mutant(name, line, changed)


def run_tests(tests: str, limit: int) -> str:
    """Run tests in a fork of this process: PASSED, FAILED, or SLOW if stopped.

    That is after `limit` seconds of processor time, which other processes do not change, or, if it waits for
    something, ten times as many seconds.
    """
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        with open("output", "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        import pytest

        options = (
            "-x",
            "-q",
            "--no-header",
            "--assert=plain",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            "scratch",
        )
        os._exit(pytest.main([*options, tests]))
    for _ in range(round(10 * limit / POLL)):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return SLOW if code in (-signal.SIGXCPU, -signal.SIGKILL) else FAILED if code else PASSED
        time.sleep(POLL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return SLOW


def processor_seconds() -> float:
    """Processor time of this process's forks so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def survivor(module: str, mutant: Mutant, original: str) -> dict[str, object]:
    """A record of a mutant for which every test passed."""
    lines = difflib.unified_diff(original.splitlines(), mutant.code.splitlines(), lineterm="", n=0)
    change = "\n".join(line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@")
    return {"module": module, "line": mutant.line, "operator": mutant.operator, "change": change}


if __name__ == "__main__":
    sys.exit(main())
