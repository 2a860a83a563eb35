"""What a gin config says, resolved: the settings of all that an Experiment refers to.

gin knows a setting once the function that it belongs to was called. Here nothing is
called: from Experiment on, each reference leads to a function, and its signature tells
the parameters, each with the value that gin has bound to it, else with its default.

    experiment.Experiment
      .epochs = 24
      .train_data = @dataset.train_dataset --> dataset.train_dataset
                                                .flip = False
                                                .augment = @randaugment.rand_augment ...
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gin
from gin.config import Configurable, ConfigurableReference

from common import checks
from common.checks import Rule, shown
from common.errors import UserError, first_line
from train.settings.gin_text import Names, full_name, statements
from train.settings.refusals import broken, refuse_missing, refuse_other_function

UNSET = inspect.Parameter.empty
_REQUIRED = "%gin.REQUIRED"  # how gin writes a value that a file leaves to the user


@dataclasses.dataclass(frozen=True)
class Setting:
    """A parameter of a function, or a field of Experiment, that a config can set.

    Attributes:
      value: bound, else the default; functions are references of gin's.
      default: what it is where nothing is bound; UNSET is none.
      may_change: in the middle of a run, see `train.experiment.setting`.
    """

    value: Any
    default: Any
    may_change: str = "accepted"


class Parameter(NamedTuple):
    """What a function or a class says of one of its parameters.

    Attributes:
      default: UNSET where there is none.
      by_caller: whether a caller that has the function alone has to hand it over.
      may_change: see Setting.
      rule: which values make sense; None of a user's own function, which may take any.
      handed_over: where its value is a function: parameters that its caller hands over,
        which are no settings; None where the rule or nobody says so.
    """

    default: Any
    by_caller: bool = False
    may_change: str = "accepted"
    rule: Rule | None = None
    handed_over: frozenset[str] | None = None


def parameters(function: Any) -> dict[str, Parameter]:
    """Return the parameters of a function or a class by name, but for * and **."""
    rules = checks.rules_of(function)
    if dataclasses.is_dataclass(function):
        return {
            field.name: Parameter(
                _default(field),
                may_change=field.metadata.get("may_change", "accepted"),
                rule=rules.get(field.name),
                handed_over=field.metadata.get("handed_over"),
            )
            for field in dataclasses.fields(function)
        }
    return {
        name: Parameter(
            parameter.default,
            parameter.default is UNSET and parameter.kind is not parameter.KEYWORD_ONLY,
            rule=rules.get(name),
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return UNSET if field.default is dataclasses.MISSING else field.default


class Resolver:
    """Walks over what gin has read.

    Attributes:
      settings: by name, as in "experiment.Experiment.epochs", of all that was resolved.
    """

    def __init__(self):
        self.settings: dict[str, Setting] = {}
        self._names = Names()
        self._used: set[tuple[str, str, str]] = set()  # scope, function, parameter
        self._within: list[tuple[str, list[str]]] = []  # functions, with their scopes

    def make(self, kind: type) -> Any:
        """Return an object of a class; functions among its fields are partials.

        Raises:
          UserError: a value is missing, or makes no sense.
        """
        name = f"{kind.__module__}.{kind.__qualname__}"
        try:
            return kind(**self._settings(name, kind, [], frozenset()))
        except RecursionError as error:
            raise UserError(
                "the config has no end: a value is nested too deep"
            ) from error

    def refuse_without_effect(self, bindings: Iterable[str]) -> None:
        """Raise UserError where a binding of the command line decides on nothing."""
        for binding in bindings:
            for statement in statements(binding):
                scope, selector, name = statement[:3]
                full = f"{scope}/" * bool(scope) + selector
                if not name and (full, "gin.macro", "value") not in self._used:
                    raise UserError(
                        f"--gin_param={full!r} has no effect: no setting refers to a "
                        f"macro %{full}{self._nearest(full)}"
                    )
                used = scope, self._names.selector(selector), name
                if name and used not in self._used:
                    raise UserError(
                        f"--gin_param='{full}.{name}' has no effect: this run does not "
                        "use it, or the trainer sets it from another setting"
                    )

    def _nearest(self, name: str) -> str:
        """Return the settings of this name, to go on a message with."""
        found = [one for one in self.settings if one.rpartition(".")[2] == name]
        return f"; a setting is written as {' or '.join(found)}" if found else ""

    def text(self) -> str:
        """Return the settings as a gin file, those left out that gin cannot write."""
        by_function: dict[str, list[str]] = {}
        for name, setting in self.settings.items():
            value = self._names.written(setting.value)
            if value is not None:
                lines = by_function.setdefault(name.rpartition(".")[0], [])
                lines.append(f"{name} = {value}")
        lines = self._names.imports()
        for function, settings in sorted(by_function.items()):
            lines += ["", f"# Parameters for {function}:", *sorted(settings)]
        return "\n".join(lines) + "\n"

    def _settings(
        self,
        selector: str,
        function: Any,
        scopes: list[str],
        handed_over: frozenset[str] | None,
    ) -> dict[str, Any]:
        """Return the values of a function's settings, and note them.

        Args:
          selector: of the function, with its module.
          function: a function or a class.
          scopes: of gin's, in which it is used.
          handed_over: parameters that its caller hands over; None where the caller is
            not known, who hands over what has no default then.
        """
        bound = _bound(function, scopes)
        known = parameters(function)
        # What a function with ** takes; gin has refused the others.
        known |= {name: Parameter(UNSET) for name in bound if name not in known}
        owner = "/".join([*scopes, self._names.of(selector)])
        values, missing, left = {}, [], []
        for name, parameter in known.items():
            full = f"{owner}.{name}"
            if parameter.by_caller if handed_over is None else name in handed_over:
                if bound.get(name, parameter.default) != parameter.default:
                    raise UserError(
                        f"{full!r} has no effect: it is no setting, the trainer hands "
                        "it over and has it from another one"
                    )
                continue
            if name in bound:
                scope = _binding_scope(function, name, scopes)
                self._used.add((scope, selector, name))
            raw = self._expanded(bound.get(name, parameter.default), full, ())
            if raw is UNSET:
                missing.append(full)
            elif _is_required(raw):
                left.append(full)
            else:
                raw = raw if parameter.rule is None else parameter.rule.read(raw)
                setting = Setting(raw, parameter.default, parameter.may_change)
                self.settings[full] = setting
                values[name] = self._checked(raw, full, scopes, parameter)
        refuse_missing(missing, left)
        return values

    def _checked(
        self, raw: Any, name: str, scopes: list[str], parameter: Parameter
    ) -> Any:
        """Return what a value of the config stands for.

        Raises:
          UserError: it breaks the parameter's rule.
        """
        rule, handed_over = parameter.rule, parameter.handed_over
        if rule is None:
            return self._value(raw, name, scopes, None)
        if isinstance(raw, ConfigurableReference):
            refuse_other_function(raw, name, rule)
            if rule.call is not None and rule.call.positional:
                handed_over = _first_parameters(raw, rule.call.positional)
            elif rule.call is not None and handed_over is None:
                handed_over = rule.call.keywords or None
        value = self._value(raw, name, scopes, handed_over)
        if not rule.holds(value):
            raise UserError(broken(name, raw, rule))
        return value

    def _value(
        self, raw: Any, name: str, scopes: list[str], handed_over: frozenset[str] | None
    ) -> Any:
        """Return a value with its references resolved; what is called, is called."""

        def resolve(value: Any) -> Any:
            if not isinstance(value, ConfigurableReference):
                return value
            target: Configurable = value.configurable
            inner = value.scopes or scopes
            if target.selector.startswith("gin."):
                return _called(value.scoped_configurable_fn, {}, name, value)
            called = frozenset() if value.evaluate else handed_over
            place = full_name(target), inner
            if place in self._within:
                raise UserError(
                    f"{name}: the config has no end: {shown(value)} refers to itself"
                )
            self._within.append(place)
            settings = self._settings(place[0], target.wrapped, inner, called)
            self._within.pop()
            if not value.evaluate:
                return functools.partial(target.wrapped, **settings)
            return _called(target.wrapped, settings, name, value)

        return _mapped(resolve, raw, name)

    def _expanded(self, raw: Any, name: str, within: tuple[str, ...]) -> Any:
        """Return a value of the config with what its macros stand for.

        Args:
          raw: the value.
          name: of the setting that has it.
          within: macros that led to it.

        Raises:
          UserError: there is no such macro, or it stands for itself.
        """

        def expand(value: Any) -> Any:
            is_reference = isinstance(value, ConfigurableReference)
            if not is_reference or value.configurable.selector != "gin.macro":
                return value
            macro = "/".join(value.scopes)
            if not macro:
                raise UserError(f"{name}: a macro is written as %its_name")
            bound = _bound("gin.macro", value.scopes)
            if "value" not in bound:
                raise UserError(
                    f"{name} = %{macro}: there is no macro {macro!r}; set it in a .gin "
                    f'file or with --gin_param="{macro} = ..."'
                )
            self._used.add((macro, "gin.macro", "value"))
            if macro in within:
                raise UserError(
                    f"{name}: the config has no end: %{macro} refers to itself"
                )
            return self._expanded(bound["value"], name, (*within, macro))

        return _mapped(expand, raw, name)


def _bound(
    function: Any, scopes: list[str], *, exactly: bool = False
) -> dict[str, Any]:
    """Return what gin has bound to a function's parameters, in nested scopes.

    Args:
      function: or a selector of gin's.
      scopes: outermost first.
      exactly: leave out what the outer ones have bound.
    """
    try:
        with gin.config_scope(scopes or None):
            return gin.get_bindings(
                function, resolve_references=False, inherit_scopes=not exactly
            )
    except ValueError:  # no binding has ever named it
        return {}


def _binding_scope(function: Any, name: str, scopes: list[str]) -> str:
    """Return where the binding that counts is: the innermost scope that has one."""
    for length in range(len(scopes), 0, -1):
        if name in _bound(function, scopes[:length], exactly=True):
            return "/".join(scopes[:length])
    return ""


def _mapped(function: Any, value: Any, name: str) -> Any:
    """Return a value with a function applied to all that is inside its containers.

    Raises:
      UserError: what is to be a key of a mapping cannot be one; of the setting `name`.
    """
    if isinstance(value, dict):
        keys = [_mapped(function, key, name) for key in value]
        for key in keys:
            if not _is_hashable(key):
                raise UserError(f"{name}: {shown(key)} cannot be a key of a mapping")
        values = [_mapped(function, item, name) for item in value.values()]
        return dict(zip(keys, values, strict=True))
    if isinstance(value, list | tuple):
        return type(value)(_mapped(function, item, name) for item in value)
    return function(value)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _called(
    function: Callable[..., Any], settings: dict[str, Any], name: str, value: Any
) -> Any:
    """Return what a function of the config makes for the setting `name`.

    Raises:
      UserError: whatever it raises, as one line.
    """
    try:
        return function(**settings)
    except UserError:
        raise
    except Exception as error:  # it may be anybody's
        raise UserError(f"{name} = {shown(value)}: {first_line(error)}") from error


def _first_parameters(reference: ConfigurableReference, count: int) -> frozenset[str]:
    """Return the names of a function's first parameters."""
    return frozenset([*parameters(reference.configurable.wrapped)][:count])


def _is_required(raw: Any) -> bool:
    return isinstance(raw, ConfigurableReference) and repr(raw) == _REQUIRED
