"""How a function becomes a step, a flow or a question: Fabric's tasks with the engine around them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import fabric
from invoke import Collection, Exit
from invoke.parser import Argument, parser
from invoke.parser.parser import ParseMachine

from ..model import Refusal
from . import report
from .ahead import packages
from .host import Host
from .problems import NoHost, Problem, Stopped
from .render import BadValue

Body = Callable[..., Any]


class Option(Argument):  # type: ignore[misc]
    """An option of a task; a number is judged as it is typed, before anything is asked of a host."""

    within = (0, 10**9)
    spare: Any = None
    """What a positional argument is when it is left out; None: it must be there."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Take what was typed.  Raises Exit with code 2 for what is no whole number in the range."""
        low, high = self.within
        whole = re.fullmatch("0|-?[1-9][0-9]{0,14}", str(value))
        if cast and self.kind is int and not (whole and low <= int(value) <= high):
            raise Exit(f"--{self.name.replace('_', '-')} {value}: must be a whole number from {low} to {high}", code=2)
        super().set_value(value, cast)


class Step(fabric.Task):  # type: ignore[misc]
    """Fabric's task, with options that are judged."""

    within: Mapping[str, tuple[int, int]] = {}
    vital = True
    help: dict[str, str]

    def __deepcopy__(self, _memo: object) -> Step:
        """Itself: Invoke copies all that a module has, and changes none of it."""
        return self

    def get_arguments(self, *args: Any, **options: Any) -> list[Argument]:
        """Invoke's arguments of the body, as Options; Invoke takes their help away as it goes."""
        told: dict[str, str] = dict(self.help)
        arguments = super().get_arguments(*args, **options)
        self.help = told
        for argument in arguments:
            argument.__class__ = Option
            argument.within = self.within.get(argument.attr_name or argument.name, Option.within)
            if argument.positional and argument.default is not None:
                argument.spare, argument.default = argument.default, None
        return arguments  # type: ignore[no-any-return]


class Machine(ParseMachine):  # type: ignore[misc]
    """Invoke's parser takes every word for a positional argument that has no value yet, and misses those without one.

    One with a default may be left out here: at the end, or before the name of the next task.
    """

    def __init__(self, initial: Any, contexts: Any, ignore_unknown: bool) -> None:
        # It copies a task's context when it comes to it; before, it would copy all that there are.
        super().__init__(initial, type(contexts)(), ignore_unknown)
        self.contexts = contexts

    def handle(self, token: str) -> None:
        """Take the next word."""
        if token in self.contexts and not self.waiting_for_flag_value:
            self.leave_out()
        super().handle(token)

    def complete_context(self) -> None:
        """The task has all its words."""
        self.leave_out()
        super().complete_context()

    def leave_out(self) -> None:
        """What is still open takes its default."""
        for argument in self.context.positional_args if self.context else ():
            if argument.value is None and getattr(argument, "spare", None) is not None:
                argument.default = argument.spare


# Its states are kept class by class.
Machine._class_states, Machine._class_transitions = ParseMachine._class_states, ParseMachine._class_transitions  # noqa: SLF001
parser.ParseMachine = Machine


def task(*args: Any, **options: Any) -> Any:
    """A step: what its body wishes goes over as one script when it returns; one line tells the outcome.

    With `vital=False` a failure does not stop the flow that the step is part of; the flow still ends with code 1.
    `within={"days": (1, 3650)}` says which whole numbers an option takes; others are refused as they are typed.
    A `positional` argument with a default may be left out.
    """
    vital, within = options.pop("vital", True), options.pop("within", {})

    def decorate(body: Body) -> Any:
        name = f"{_chapter(body.__module__)}.{body.__name__}"

        @functools.wraps(body)
        def step(c: Any, *args: Any, **kwargs: Any) -> Any:
            with Told(c):
                host = Host.of(c)
                with host.running(name, bool(kwargs.get("json"))), host.step(name):
                    return body(c, *args, **kwargs)

        made = fabric.task(klass=Step, **options)(step)
        made.vital, made.within = vital, within
        return made

    return decorate(args[0]) if args else decorate


def flow(*args: Any, **options: Any) -> Any:
    """Several steps as one run, with one summary line.  The body calls them in order.

    `run` is the task's full name where that is not the body's own, such as "site.deploy".
    """
    run_name = options.pop("run", "")
    within = options.pop("within", {})

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def run(c: Any, *args: Any, **kwargs: Any) -> Any:
            with Told(c):
                with Host.of(c).running(run_name or body.__name__, bool(kwargs.get("json"))) as lines:
                    result = body(c, *args, **kwargs)
                if lines.failed:
                    raise Exit(code=1)
                return result

        made = fabric.task(klass=Step, **options)(run)
        made.within = within
        return made

    return decorate(args[0]) if args else decorate


def query(*args: Any, **options: Any) -> Any:
    """A task that only looks: no lock, no summary; what it prints is its answer.  `within`: see `task`."""
    within = options.pop("within", {})

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def ask(c: Any, *args: Any, **kwargs: Any) -> Any:
            with Told(c):
                if not isinstance(c, fabric.Connection):
                    raise NoHost(f"{body.__name__} wants a host", f"fab -H vps {body.__name__}")
                return body(c, *args, **kwargs)

        made = fabric.task(klass=Step, **options)(ask)
        made.within = within
        return made

    return decorate(args[0]) if args else decorate


def steps(c: Any, *wanted: Any) -> None:
    """Run steps in order; the first that installs packages brings those of the others along.

    One that is not vital may fail: it is told, and the rest goes on.
    """
    host = Host.of(c)
    try:
        for number, step in enumerate(wanted, 1):
            host.packages_ahead = functools.partial(packages, c, host, wanted[number:])
            try:
                step(c)
            except Exit as ended:
                if getattr(step, "vital", True) or ended.code != 1:
                    raise
    finally:
        host.packages_ahead = None


def chapter(module: ModuleType) -> Collection:
    """A chapter's tasks as a namespace; its default runs all its STEPS in order."""

    def body(c: Any) -> None:
        steps(c, *module.STEPS)

    name = module.__name__.rpartition(".")[2]
    body.__name__, body.__doc__ = name, (module.__doc__ or name).strip().splitlines()[0]
    collection = Collection.from_module(module)
    collection.add_task(flow(body), name="all", default=True)
    return collection


def _chapter(module: str) -> str:
    """`firewall` for fabfile.firewall and for fabfile.firewall.drill."""
    package, _, rest = module.partition(".")
    return (rest or package).partition(".")[0]


class Told:
    """Problems become one clear error and an exit code; inside another task they are passed on as they are."""

    def __init__(self, c: Any) -> None:
        self.host = getattr(c, "original_host", "")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and not isinstance(error, Refusal):
            error = _as_problem(error)
        if isinstance(error, KeyboardInterrupt):
            error = Stopped("stopped")
        if isinstance(error, Refusal):
            report.refused(error)
            raise Exit(code=error.exit_code)
        if isinstance(error, Problem):
            report.problem(error, self.host)
            raise Exit(code=error.exit_code)


def _as_problem(error: ValueError) -> Problem:
    problem = Problem(str(error))
    problem.exit_code = 2 if isinstance(error, BadValue) else 1
    return problem
