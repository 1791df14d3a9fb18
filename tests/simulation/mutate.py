"""Puts deliberate bugs into the running code: one text in a function's source is replaced by another."""

import ast
import importlib
import inspect
import textwrap
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any, NamedTuple

__all__ = ["Edit", "Mutant", "MutantError", "mutate", "mutated", "planted"]


class MutantError(Exception):
    """A mutant does not fit the code and would prove nothing."""


class Edit(NamedTuple):
    """One change of one function."""

    target: str
    """`module:name`, or `module:Class.name`."""
    old: str
    """Text that must occur in its source exactly once, within a line."""
    new: str
    """Further lines are indented like the old one."""


class Mutant(NamedTuple):
    """A deliberate bug."""

    name: str
    law: int
    """The law that it breaks."""
    what: str
    """What the job then does wrong, in one line."""
    edits: tuple[Edit, ...]


def planted(name: str, law: int, what: str, *edits: tuple[str, str, str]) -> Mutant:
    """Return a mutant, with its edits as tuples of target, old and new text."""
    return Mutant(name, law, what, tuple(Edit(*edit) for edit in edits))


def mutate(mutant: Mutant) -> None:
    """Apply a bug to this process's code, wherever a function was imported to.

    Raises:
        MutantError: a function is not there, or its source is not what the mutant was made for.
    """
    for target, code in mutated(mutant).items():
        _function(target).__code__ = code


def mutated(mutant: Mutant) -> dict[str, CodeType]:
    """Return the changed code of each target; the targets themselves are unchanged.

    Raises:
        MutantError: see `mutate`.
    """
    targets = dict.fromkeys(edit.target for edit in mutant.edits)
    return {target: _changed(target, [edit for edit in mutant.edits if edit.target == target]) for target in targets}


def _changed(target: str, edits: list[Edit]) -> CodeType:
    function = _function(target)
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        source = _replaced(source, edit)
    code = _compiled(source, function)
    if code.co_freevars != function.__code__.co_freevars:
        raise MutantError(f"{target} is a closure, which cannot be changed in place")
    return code


def _replaced(source: str, edit: Edit) -> str:
    """Replace the old text with the new; further lines are indented like the old ones."""
    if source.count(edit.old) != 1:
        raise MutantError(f"text occurs {source.count(edit.old)} times, not once, in {edit.target}: {edit.old!r}")
    (line,) = (line for line in source.splitlines() if edit.old.splitlines()[0] in line)
    indent = line[: len(line) - len(line.lstrip())]
    return source.replace(edit.old, edit.new.replace("\n", f"\n{indent}"))


def _compiled(source: str, function: FunctionType) -> CodeType:
    tree = ast.parse(source)
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    namespace: dict[str, Any] = dict(function.__globals__)
    exec(compile(tree, f"<mutant of {function.__qualname__}>", "exec"), namespace)  # noqa: S102  our own mutants
    code: CodeType = namespace[definition.name].__code__
    return code


def _function(target: str) -> FunctionType:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        try:
            found = inspect.getattr_static(found, name)
        except AttributeError as error:
            raise MutantError(f"{target} is not there") from error
    match found:
        case property():
            found = found.fget
        case cached_property():
            found = found.func
        case classmethod() | staticmethod():
            found = found.__func__
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType):
        raise MutantError(f"{target} is no function")
    return found
