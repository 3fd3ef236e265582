"""Functions as tools.

    @tool
    def get_current_weather(location: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict:
        \"\"\"Current weather of a city.

        Args:
            location: The city, such as Seoul.
        \"\"\"

The function can still be called as before; the tool is its `tool`. Type hints make the schema, the docstring the descriptions.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

import msgspec

from naru.agent.signature import Doc, Signature, signature_of
from naru.agent.tool import Tool

P = ParamSpec("P")
R = TypeVar("R")

#: OpenAI's rule for function names, which the other providers share or widen.
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `@tool(…)` says; the meanings are Tool's. Empty name and description: the function's own."""

    name: str = ""
    description: str = ""
    timeout_s: float = 60.0
    retries: int = 0
    result_chars: int = 20_000
    needs_approval: bool = False


class FunctionTool(Generic[P, R]):
    """A function that is a tool as well. Calling it calls the function, with nothing checked; `tool` is for the model.

    On a class it is a method: `agent.search` is a tool of that agent, `Agent.search` is none yet."""

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        self.is_method = _is_method(function)
        self.made = make_tool(function, options, skipped=1 if self.is_method else 0)

    @property
    def tool(self) -> Tool:
        """Raises TypeError for a method that is bound to nothing."""
        if self.is_method:
            raise TypeError(
                f"{self.function.__qualname__} is a method. Give the tool of an object: the_object.{self.made.name}."
            )
        return self.made

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., R]:
        if instance is None:
            return self
        return FunctionTool(self.function.__get__(instance, owner), self.options)

    def __repr__(self) -> str:
        return f"<tool {self.made.name}>"


class Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> FunctionTool[P, R]: ...


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    timeout_s: float = 60.0,
    retries: int = 0,
    result_chars: int = 20_000,
    needs_approval: bool = False,
) -> Decorator: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function a tool: `@tool`, or `@tool(name=…, description=…, timeout_s=…, retries=…, result_chars=…,
    needs_approval=…)`. Raises TypeError and ValueError for what a model could not be told, here and not in the middle of a run.

    A function that is not async runs in a thread, with the caller's context variables."""
    chosen = _options(options)
    return FunctionTool(function, chosen) if function is not None else lambda given: FunctionTool(given, chosen)


def as_tool(given: object) -> Tool:
    """A Tool, a function with @tool, a plain function or method, as one Tool. Raises TypeError, which says what was given."""
    if isinstance(given, Tool):
        return given
    if isinstance(given, FunctionTool):
        return given.tool
    if isinstance(given, Mapping):
        raise TypeError(
            "A tool as a dict is only told to the model; there is nothing to run. Give a function, or Tool(…, call=…) with the "
            "dict's name, description and parameters."
        )
    if inspect.isclass(given) or not callable(given):
        what = f"the class {given.__name__}" if inspect.isclass(given) else f"a {type(given).__name__} ({given!r:.60})"
        raise TypeError(f"{what} is no tool. Give a function with typed parameters, one with @tool, or a Tool.")
    return make_tool(given, Options(), skipped=0)


def make_tool(function: Callable[..., Any], options: Options, skipped: int) -> Tool:
    name = options.name or _name_of(function)
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for a tool: providers take 1 to 64 letters (a-z), digits, _ and -. Write @tool(name=…)."
        )
    signature = signature_of(function, name, skipped)
    return Tool(
        name=name,
        description=options.description or Doc.of(function).description,
        parameters=signature.schema,
        call=_caller(function, signature),
        timeout_s=options.timeout_s,
        retries=options.retries,
        result_chars=options.result_chars,
        needs_approval=options.needs_approval,
    )


def _caller(function: Callable[..., Any], signature: Signature) -> Callable[[Mapping[str, Any]], Any]:
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    async def call(arguments: Mapping[str, Any]) -> object:
        given = signature.checked(arguments)
        # A thread, so that a tool that waits holds up nobody else; to_thread copies the context.
        result = function(**given) if is_async else await asyncio.to_thread(function, **given)
        return await result if inspect.isawaitable(result) else result

    return call


def _options(given: Mapping[str, Any]) -> Options:
    options = Options(**given)
    if options.timeout_s <= 0 or options.retries < 0 or options.result_chars < 1:
        raise ValueError("A tool needs timeout_s over 0, retries of 0 or more, and result_chars of 1 or more.")
    return options


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", "") or type(function).__name__


def _is_method(function: Callable[..., Any]) -> bool:
    """A function in the body of a class that takes the object first. It is not bound yet."""
    if inspect.ismethod(function) or not inspect.isfunction(function):
        return False
    first = next(iter(inspect.signature(function).parameters.values()), None)
    has_class = not function.__qualname__.rpartition(".")[0].endswith("<locals>") and "." in function.__qualname__
    return has_class and first is not None and first.annotation is first.empty and first.name == "self"
