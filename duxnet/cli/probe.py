"""`duxnet probe`: measure this machine once and print what it offers.

Its start is its whole cost, so plain uses are read here without click (`parsed_without_click`); help, completion,
errors and everything unusual go through the click command, which is made from the same table of options.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from agent.probe.probes import PROBE_NAMES
from duxnet.process.errors import EXIT_PARTIAL, ConfigurationError
from duxnet.process.terminal import say, say_text

if TYPE_CHECKING:
    import click

    from agent.probe.options import ProbeOptions
    from agent.probe.recording import Recorder
    from agent.probe.report import ProbeReport
    from agent.probe.source import Source

__all__ = ["OPTIONS", "command", "main", "parsed_without_click", "run"]


class Option(NamedTuple):
    """One option; `choices` for a closed set, `metavar` None for a flag."""

    name: str
    metavar: Optional[str]
    help: str
    choices: tuple[str, ...] = ()
    default: Optional[str] = None

    @property
    def key(self) -> str:
        """The name of its value."""
        return self.name[2:].replace("-", "_")


OPTIONS = (
    Option("--format", "FORMAT", "table for a person, json for a program", ("table", "json"), "table"),
    Option("--only", "LIST", f"run only these probes, joined by commas: {', '.join(PROBE_NAMES)}"),
    Option("--explain", None, "say for each figure what is offered, what the host has and what made the difference"),
    Option("--all", None, "show every reading in the table, also those that say nothing here"),
    Option("--bench", None, "also measure what CPUs, memory, disk and GPU do, in under 20 seconds"),
    Option("--work-dir", "DIR", "the folder that work is stored in (default: the setting agent.work_dir)"),
    Option("--record", "DIR", "also save all that was read into DIR, without secrets, to be replayed elsewhere"),
    Option("--root", "DIR", "replay such a recording instead of reading this machine"),
)


def parsed_without_click(arguments: Sequence[str]) -> Optional[dict[str, Any]]:
    """The values of plainly written options; None when click has to look: help, an error, anything unusual."""
    values: dict[str, Any] = {option.key: option.default if option.metavar else False for option in OPTIONS}
    known = {option.name: option for option in OPTIONS}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        option = known.get(name)
        if option is None or (bool(equals) and option.metavar is None):
            return None
        if option.metavar is None:
            values[option.key] = True
            continue
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        if value.startswith("-") or (option.choices and value not in option.choices):
            return None
        values[option.key] = value
    return values if _only(values["only"]) is not None or values["only"] is None else None


def _only(text: Optional[str]) -> Optional[tuple[str, ...]]:
    """The probes named in `--only`; None when one is unknown."""
    names = tuple(name.strip() for name in (text or "").split(","))
    return names if all(name in PROBE_NAMES for name in names) else None


def main(arguments: Sequence[str]) -> int:
    """The command, from the arguments after its name; the exit code."""
    values = parsed_without_click(arguments)
    if values is not None:
        return run(values)
    from duxnet.cli.run import run_click

    return run_click(command(), arguments, "duxnet probe")


def command() -> click.Command:
    """The click command, made from `OPTIONS`."""
    import click

    def checked(_context: click.Context, _parameter: click.Parameter, value: Optional[str]) -> Optional[str]:
        if value is not None and _only(value) is None:
            raise click.BadParameter(f"{value!r} is not a list of probes: {', '.join(PROBE_NAMES)}")
        return value

    parameters: list[click.Parameter] = [
        click.Option(
            [option.name],
            help=option.help,
            is_flag=option.metavar is None,
            metavar=None if option.choices else option.metavar,
            type=click.Choice(option.choices) if option.choices else None,
            default=option.default if option.metavar else False,
            show_default=bool(option.default),
            callback=checked if option.key == "only" else None,
        )
        for option in OPTIONS
    ]

    def callback(**values: Any) -> int:
        return run(values)

    return click.Command(
        "probe",
        params=parameters,
        callback=callback,
        short_help="Measure this machine once and print what it offers.",
        help="Measure this machine once and print what it offers to work.\n\n"
        "Exit code 0: everything was found out. 3: something could not be; the rest is printed and the errors listed.",
    )


def run(values: dict[str, Any]) -> int:
    """Measure, print, and return the exit code. Raises ValidationError, ConfigurationError."""
    gc.disable()  # one short run leaves nothing to collect: a twentieth of it saved
    from agent.probe.runner import ProbeRunner

    if values["bench"] and values["root"] is not None:
        from registry_core.errors import ValidationError

        raise ValidationError("bench", values["root"], "a recording does nothing that could be measured")
    source, options = _source_and_options(values["root"], values["work_dir"])
    recorder = None
    if values["record"] is not None:
        from agent.probe.recording import Recorder

        recorder = Recorder(source)
    report = ProbeRunner(recorder or source, options).run(_only(values["only"]) if values["only"] else None)
    if recorder is not None:
        _save(recorder, values["record"], options)
    found = None
    if values["bench"]:
        from agent.bench.measure import bench

        found = bench(source, report, options.work_dir)
    say_text(_printed(report, values, found))
    return EXIT_PARTIAL if report.errors else 0


def _source_and_options(root: Optional[str], work_dir: Optional[str]) -> tuple[Source, ProbeOptions]:
    """This machine with the agent's settings here, or the recording in `root` with the options of its making."""
    if root is None:
        from agent.probe.source import LiveSource

        return LiveSource(), configured_options(os.environ, work_dir)
    from agent.probe.options import ProbeOptions
    from agent.probe.recording import load_recording

    recording = load_recording(root)
    recorded = recording.options
    chosen = work_dir if work_dir is not None else recorded.get("work_dir", "/")
    return recording, ProbeOptions(chosen, registry_address=recorded.get("registry_address"))


def configured_options(environ: Mapping[str, str], work_dir: Optional[str]) -> ProbeOptions:
    """The options that an agent here would use; `work_dir`, when given, wins. Raises ConfigurationError.

    Without the validation of all settings, which would take 400 ms: `ProbeOptions` refuses what makes no sense.
    """
    from agent.probe.options import ProbeOptions, options_of
    from duxnet.process.folders import default_state_folder
    from duxnet.process.layers import read_layers
    from registry_core.errors import ValidationError

    layers = read_layers(("agent", "registry"), environ)
    folders = {name: layers.text("agent", name) for name in ("work_dir", "state_dir")}
    if work_dir is not None:
        ProbeOptions(work_dir)  # a mistake on the command line is none of the configuration
        folders["work_dir"] = work_dir
    agent = {**folders, "reserve": layers.table("agent", "reserve"), "override": layers.table("agent", "override")}
    try:
        return options_of(agent, layers.text("registry", "target"), default_state_folder(environ))
    except ValidationError as error:
        raise ConfigurationError([str(ValidationError(_setting_of(error.field), error.value, error.rule))]) from None


def _setting_of(field: str) -> str:
    """The setting behind a field of ProbeOptions."""
    for beginning, setting in (("reserve_", "agent.reserve."), ("overrides.", "agent.override.")):
        if field.startswith(beginning):
            return setting + field[len(beginning) :]
    return "registry.target" if field == "registry_address" else f"agent.{field}"


def _save(recorder: Recorder, folder: str, options: ProbeOptions) -> None:
    from agent.probe.masking import masked
    from agent.probe.recording import written

    recorded = {"work_dir": options.work_dir, "registry_address": options.registry_address}
    path = written(folder, masked(recorder.text({name: value for name, value in recorded.items() if value})))
    say(f"recorded in {path}; read it before you send it", err=True)


def _printed(report: ProbeReport, values: dict[str, Any], found: Optional[dict[str, Any]]) -> str:
    if values["format"] == "json":
        import json

        measured = {} if found is None else {"bench": found}
        return json.dumps({**report.to_plain(), **measured}, indent=2) + "\n"
    from agent.probe.render import explained, table

    text = explained(report) if values["explain"] else table(report, everything=values["all"])
    if found is None:
        return text
    from agent.bench.text import bench_text

    return text + bench_text(found)
