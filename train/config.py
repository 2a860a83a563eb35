"""gin files and bindings in, a resolved config out: every setting with its value.

A config is known, checked and compared with the run's own before a device is touched
and before anything is built; see `train.settings.resolver`.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import gin

from common import checks, gfiles, gin_imports, gin_messages, project
from common.claims import Fence, no_fence
from common.console import say, warn
from common.errors import UserError
from input_pipeline.dataset_info import DatasetInfo
from train.experiment import Experiment
from train.settings import rate_change, saved_config
from train.settings.functions import MODULES
from train.settings.resolver import Resolver, Setting

SAVED = "operative_config.gin"
_ACCEPTED = ("accepted",)  # of MayChange


@dataclasses.dataclass(frozen=True)
class ResolvedConfig:
    """All that decides on a run.

    Attributes:
      experiment: whose functions have their settings bound.
      settings: by name, as in "experiment.Experiment.epochs".
      text: a gin file that says the same, with defaults.
    """

    experiment: Experiment
    settings: Mapping[str, Setting]
    text: str

    def refuse_changes(self, model_dir: str, *, accept_changes: bool = False) -> None:
        """Refuse to go on with a run whose saved config says something else.

        Args:
          model_dir: of the run.
          accept_changes: whether it may go on under other settings.

        Raises:
          UserError: names the settings that differ, or the saved config cannot be read.
        """
        path = f"{model_dir}/{SAVED}"
        with saved_config.readable(path):  # it is compared, and nothing is run
            saved = gfiles.read_text(path)
            if saved is None:
                return
            found = saved_config.differences(saved, self.text, self.settings)
        refused = {"never"} if accept_changes else {"never", "accepted"}
        changes = self._changes(found, refused)
        if accept_changes and not changes and (new := self._changes(found, _ACCEPTED)):
            warn(f"{model_dir} goes on under another config: {'; '.join(new)}")
        if changes:
            never = [n for n, s in self.settings.items() if s.may_change == "never"]
            raise UserError(
                f"{model_dir} belongs to a run with another config: "
                f"{'; '.join(changes)}. Take another --model_dir, the old settings, or "
                "--accept_config_changes to go on with the new ones (not for "
                f"{', '.join(never)})"
            )

    def say_new_rate(self, model_dir: str, info: DatasetInfo, step: int) -> None:
        """Say what the accepted changes make of the learning rate; before `save`.

        Args:
          model_dir: of the run, with the config that it had.
          info: of its data.
          step: at which it goes on; one that begins has nothing to compare.
        """
        if not step:
            return
        saved = gfiles.read_text(f"{model_dir}/{SAVED}")
        if saved is not None:
            line = rate_change.describe(saved, self.experiment, info, step)
            if line is not None:
                say(line)

    def _changes(
        self, found: Mapping[str, str], may_change: Collection[str]
    ) -> list[str]:
        """Return those of the changes, by setting, that may be made so, as lines."""
        return [
            f"{name}: {change}"
            for name, change in found.items()
            if self.settings[name].may_change in may_change
        ]

    def save(self, model_dir: str, *, fence: Fence = no_fence) -> None:
        """Write the config beside the checkpoints."""
        gfiles.write_text(f"{model_dir}/{SAVED}", self.text, fence=fence)


def parse(
    gin_files: Sequence[str], bindings: Iterable[str], *, model_dir: str | None = None
) -> Experiment:
    """Return the experiment of `resolve`, whose arguments and errors these are."""
    return resolve(gin_files, bindings, model_dir=model_dir).experiment


def resolve(
    gin_files: Sequence[str], bindings: Iterable[str], *, model_dir: str | None = None
) -> ResolvedConfig:
    """Read gin files, then bindings, which win, and resolve what they say.

    Args:
      gin_files: paths, as given or relative to the project's folder.
      bindings: lines such as "experiment.Experiment.epochs = 2".
      model_dir: of a run whose saved config stands in when no file is given. It may say
        less than a file, see `train.settings.saved_config`.

    Raises:
      UserError: a file is missing, a name or parameter does not exist (with the
        nearest that do), a required value is not set, a value makes no sense, one of
        the bindings has no effect, or the saved config says what only a file may.
    """
    gin.clear_config()
    gin.config._FILE_READERS[:] = project.GIN_READERS
    bindings, imported = list(bindings), []
    if model_dir is not None and not gin_files:
        _read(gin.parse_config, _checked(model_dir), f"{model_dir}/{SAVED}")
    elif not gin_files and not bindings:
        raise UserError(
            f"no config is given; --gin_file names one, {project.gin_files()}"
        )
    for path in gin_files:
        imported += gin_imports.modules(_read_file(path))
    above = gin_imports.lines(MODULES, imported)
    for binding in bindings:
        where = f"--gin_param={checks.shown(binding)}"
        _read(gin.parse_config, above + binding, where)
    # gin.finalize would lock gin for all modules that are imported later.
    found = Resolver()
    experiment = found.make(Experiment)
    found.refuse_without_effect(bindings)
    return ResolvedConfig(experiment, found.settings, found.text())


def _checked(model_dir: str) -> str:
    """Return the saved config of a run, which does nothing when gin reads it."""
    path = f"{model_dir}/{SAVED}"
    with saved_config.readable(path):
        text = gfiles.read_text(path)
    if text is None:
        raise UserError(
            f"{model_dir} holds no {SAVED}; name the --model_dir of a training run"
        )
    saved_config.check(text, path)
    return text


def _read_file(path: str) -> Any:
    """Let gin do whatever a file says that a person has named; return what it does."""
    if why := project.why_no_gin_file(path):
        raise UserError(why)
    if "://" not in path:
        return _read(gin.parse_config_file, path, path)
    text = gfiles.read_text(path)  # gin itself knows no buckets
    if text is None:
        raise UserError(f"there is no gin file {path}")
    return _read(gin.parse_config, text, path)


def _read(parser: Callable[[str], Any], text: str, where: str) -> Any:
    """Run one of gin's parsers; any complaint of it becomes one line."""
    try:
        return parser(text)
    except Exception as error:
        # gin raises what Python's tokenizer, importer and getattr raise: too many
        # types to list, and whatever the type, the text is what cannot be read.
        raise UserError(gin_messages.explain(error, where, MODULES)) from error
