"""A function's parameters, from its type hints and its docstring: their schema for the model, and the check of arguments."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin

import msgspec
import typing_extensions
from docstring_parser import ParseError, parse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticSerializationError, core_schema, to_json

from naru.agent.arguments import refusal
from naru.agent.json_schema import Json, plain
from naru.agent.tool import ArgumentsError


class Doc(msgspec.Struct, frozen=True):
    """What a docstring says of the whole, and of each parameter."""

    description: str
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Doc:
        """Google's, NumPy's or reST's form, whichever fits best."""
        text = inspect.getdoc(function) or ""
        try:
            parsed = parse(text)
        except ParseError:
            return cls(text, {})
        about = {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parsed.params}
        return cls((parsed.description or "").strip(), about)


class Signature(msgspec.Struct, frozen=True):
    """`schema` is what the model is shown. `model` checks; its fields are called p0, p1 … with the parameters' names as aliases,
    since a parameter may be called `json` or `_x`, which fields of pydantic's models may not."""

    name: str
    schema: Json
    model: type[BaseModel]
    fields: Mapping[str, str]

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments for the function, of the types that it asks for; what the model left out is left out, so that the
        function's own defaults hold. Raises ArgumentsError."""
        try:
            # As JSON, since that is what the model wrote: text is a date there, and a list a set, even for strict types.
            read = self.model.model_validate_json(to_json(dict(arguments), inf_nan_mode="constants"))
        except PydanticSerializationError as error:  # half a surrogate pair, from JSON such as "\\ud83d"
            raise ArgumentsError(
                f"The arguments of {self.name} hold text that is none. Write whole characters. {error}"
            ) from None
        except ValidationError as error:
            raise refusal(self.name, error, arguments, self.schema) from None
        return {self.fields[field]: getattr(read, field) for field in self.fields if field in read.model_fields_set}


def signature_of(function: Callable[..., Any], name: str, skipped: int = 0) -> Signature:
    """`skipped` leading parameters are not the model's: the `self` of a method. Raises TypeError, which says what to write."""
    parameters = list(inspect.signature(function).parameters.values())[skipped:]
    for parameter in parameters:
        _check_kind(parameter, name)
    hints = _hints(function, parameters, name)
    about = Doc.of(function).parameters
    fields = {
        f"p{number}": (hints[parameter.name], _field(parameter, hints[parameter.name], about))
        for number, parameter in enumerate(parameters)
    }
    aliases = {f"p{number}": parameter.name for number, parameter in enumerate(parameters)}
    try:
        model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
        schema = plain(model.model_json_schema(schema_generator=ForModels))
    except PydanticUserError as error:
        raise TypeError(_unusable(name, hints, error)) from error
    schema.pop("description", None)  # BaseModel's own, never the function's
    return Signature(name, schema, model, aliases)


class ForModels(GenerateJsonSchema):
    """pydantic's schemas, with three types put as a model writes them."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as pydantic declares it

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A number. pydantic takes text with a pattern too, which models need not know; from a number of 15 digits or less a
        Decimal is made exactly."""
        number: JsonSchemaValue = super().decimal_schema(schema)["anyOf"][0]
        return number

    def named_tuple_schema(self, schema: Any) -> JsonSchemaValue:
        """A NamedTuple is an object, whose fields have names, rather than an array of places: pydantic 2.14 and later."""
        fields = schema["fields"]
        required = [field["name"] for field in fields if field["schema"]["type"] != "default"]
        properties = {field["name"]: self.generate_inner(field["schema"]) for field in fields}
        return {"type": "object", "properties": properties, "required": required}

    def arguments_schema(self, schema: core_schema.ArgumentsSchema) -> JsonSchemaValue:
        """The same for pydantic before 2.14."""
        named = [each for each in schema["arguments_schema"] if each.get("mode") != "positional_only"]
        if len(named) < len(schema["arguments_schema"]) or "var_args_schema" in schema:
            return super().arguments_schema(schema)
        return self.kw_arguments_schema(named, schema.get("var_kwargs_schema"))


def _check_kind(parameter: inspect.Parameter, name: str) -> None:
    shown = f"{name}(): the parameter {parameter}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(
            f"{shown} has no fixed form, and a model must be told one. Name each parameter, or take one list or dict."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError(
            f"{shown} can only be given by place, and models give arguments by name. Remove the / behind it."
        )
    if parameter.annotation is parameter.empty:
        raise TypeError(
            f"{shown} has no type, and the model is told one. Write `{parameter.name}: str`, say, or `{parameter.name}: Any`."
        )
    if isinstance(parameter.default, FieldInfo):
        raise TypeError(
            f"{shown} has a Field as its default, which a plain call would pass on. Write "
            f"`{parameter.name}: Annotated[…, Field(…)]` and the default behind it."
        )


def _hints(function: Callable[..., Any], parameters: list[inspect.Parameter], name: str) -> dict[str, Any]:
    """Types by parameter, those written as text looked up. What it returns is not looked at: it may be imported for type
    checkers only."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    if not hasattr(inner, "__globals__"):
        inner = type(inner).__call__  # an object with __call__
    holder = types.SimpleNamespace(__annotations__={each.name: each.annotation for each in parameters})
    try:
        found = typing.get_type_hints(holder, getattr(inner, "__globals__", {}), include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{name}(): the type {error.name!r} is not known where the function's module is. Define or import it at the top of "
            "the module, not inside a function or under TYPE_CHECKING."
        ) from error
    return {key: modern(hint) for key, hint in found.items()}


def _field(parameter: inspect.Parameter, hint: Any, about: Mapping[str, str]) -> Any:
    """Annotated's words come first: they stand beside the type. Then the docstring's."""
    notes = getattr(hint, "__metadata__", ())
    said = next((note for note in notes if isinstance(note, str)), "") or about.get(parameter.name, "")
    settings: dict[str, Any] = {"alias": parameter.name}
    if said and not any(isinstance(note, FieldInfo) and note.description for note in notes):
        settings["description"] = said
    if parameter.default is not parameter.empty:
        settings["default"] = parameter.default
    return Field(**settings)


def _unusable(name: str, hints: Mapping[str, Any], error: PydanticUserError) -> str:
    for parameter, hint in hints.items():
        try:
            TypeAdapter(hint).json_schema(schema_generator=ForModels)
        except PydanticUserError as own:
            return (
                f"{name}(): the type of {parameter} ({hint!r}) cannot be told to a model. Use str, int, float, bool, Literal, "
                "Enum, list, dict, a dataclass, a TypedDict or a pydantic model. pydantic says: "
                f"{str(own.message).splitlines()[0]}"
            )
    return f"{name}(): its types cannot be told to a model. pydantic says: {error}"


def modern(hint: Any, inside: tuple[Any, ...] = ()) -> Any:
    """typing.TypedDict put as typing_extensions': before Python 3.12 the former does not say enough for pydantic, which refuses
    it."""
    if sys.version_info >= (3, 12):
        return hint
    if typing.is_typeddict(hint):
        return _modern_dict(hint, inside)
    before = get_args(hint)
    after = tuple(modern(each, inside) for each in _types_in(hint, before))
    if all(new is old for new, old in zip(after, before, strict=False)):
        return hint
    if get_origin(hint) is Annotated:
        return Annotated[(after[0], *hint.__metadata__)]
    origin = Union if get_origin(hint) is types.UnionType else get_origin(hint)
    return origin[after]


def _types_in(hint: Any, arguments: tuple[Any, ...]) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield arguments[0]
    elif get_origin(hint) is not typing.Literal:
        yield from arguments


def _modern_dict(hint: Any, inside: tuple[Any, ...]) -> Any:
    if hint in inside:
        raise TypeError(f"{hint.__name__} contains itself. Take TypedDict from typing_extensions, which can say so.")
    fields: dict[str, Any] = {}
    for key, own in typing.get_type_hints(hint, include_extras=True).items():
        said = get_origin(own)
        held = modern(get_args(own)[0] if said in (Required, NotRequired) else own, (*inside, hint))
        # __required_keys__ misses what is written as text, which all is under `from __future__ import annotations`.
        is_required = said is Required or (said is not NotRequired and key in hint.__required_keys__)
        fields[key] = Required[held] if is_required else NotRequired[held]
    make: Any = typing_extensions.TypedDict
    rebuilt = make(hint.__name__, fields)
    rebuilt.__doc__ = hint.__doc__
    return rebuilt
