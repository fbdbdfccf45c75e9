"""`duxnet probe`: measures this machine once and prints what it offers.

Most of its time is start-up, so ordinary arguments are parsed here without click (`parsed_without_click`). Help,
completion, errors and anything unusual use the click command, which is made from the same table of options.
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
    """One option. `choices` is a closed set of values; a `metavar` of None makes a flag."""

    name: str
    metavar: Optional[str]
    help: str
    choices: tuple[str, ...] = ()
    default: Optional[str] = None
    alias: str = ""

    @property
    def key(self) -> str:
        """The name of the option's value."""
        return self.name[2:].replace("-", "_")


OPTIONS = (
    Option(
        "--format",
        "FORMAT",
        "Print a table for people or JSON for programs. Default: table.",
        ("table", "json"),
        "table",
        "-o",
    ),
    Option("--only", "LIST", f"Run only these probes, separated by commas: {', '.join(PROBE_NAMES)}."),
    Option("--explain", None, "Show for each figure what is offered, what the host has and what limits it."),
    Option("--all", None, "Show every reading in the table, even an empty one."),
    Option("--bench", None, "Also measure the speed of CPUs, memory, disk and GPU, in under 20 seconds."),
    Option("--work-dir", "DIR", "The folder that stores work. Default: the setting agent.work_dir."),
    Option("--record", "DIR", "Also save everything that was read to DIR, without secrets, for a later --root."),
    Option("--root", "DIR", "Read the recording in DIR instead of this machine."),
)


def parsed_without_click(arguments: Sequence[str]) -> Optional[dict[str, Any]]:
    """The values of ordinary arguments; None if click must parse them: help, an error, anything unusual."""
    values: dict[str, Any] = {option.key: option.default if option.metavar else False for option in OPTIONS}
    known = {name: option for option in OPTIONS for name in (option.name, option.alias) if name}
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
    """Run the command with the arguments after its name, and return the exit code."""
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
            raise click.BadParameter(f"{value!a} is not a list of probes; the probes are {', '.join(PROBE_NAMES)}")
        return value

    parameters: list[click.Parameter] = [
        click.Option(
            [option.name, *([option.alias] if option.alias else [])],
            help=option.help,
            is_flag=option.metavar is None,
            metavar=None if option.choices else option.metavar,
            type=click.Choice(option.choices) if option.choices else None,
            default=option.default if option.metavar else False,
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
        help="Measure this machine once and print what it offers.\n\n"
        "The exit code is 0 if everything was measured. It is 3 if something could not be measured: then the rest is "
        "printed and the errors are listed.",
    )


def run(values: dict[str, Any]) -> int:
    """Measure, print, and return the exit code. Raises ValidationError, ConfigurationError."""
    gc.disable()  # a short run has no garbage to collect; this saves 5 % of it
    from agent.probe.runner import ProbeRunner

    if values["bench"] and values["root"] is not None:
        from registry_core.errors import ValidationError

        raise ValidationError("bench", values["root"], "must not be given with --root: a recording cannot be measured")
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
    """This machine with the agent's settings, or the recording in `root` with the options it was made with."""
    if root is None:
        from agent.probe.live_source import LiveSource

        return LiveSource(), configured_options(os.environ, work_dir)
    from agent.probe.options import ProbeOptions
    from agent.probe.recording import load_recording

    recording = load_recording(root)
    recorded = recording.options
    chosen = work_dir if work_dir is not None else recorded.get("work_dir", "/")
    return recording, ProbeOptions(chosen, registry_address=recorded.get("registry_address"))


def configured_options(environ: Mapping[str, str], work_dir: Optional[str]) -> ProbeOptions:
    """The options that an agent here would use; `work_dir` replaces the setting. Raises ConfigurationError.

    Only `ProbeOptions` checks them: the validation of all settings would take 400 ms.
    """
    from agent.probe.options import ProbeOptions, options_of
    from duxnet.process.folders import default_state_folder
    from duxnet.process.layers import read_layers
    from registry_core.errors import ValidationError

    layers = read_layers(("agent", "registry"), environ)
    folders = {name: layers.text("agent", name) for name in ("work_dir", "state_dir")}
    if work_dir is not None:
        ProbeOptions(work_dir)  # a mistake on the command line is not one of the configuration
        folders["work_dir"] = work_dir
    agent = {**folders, "reserve": layers.table("agent", "reserve"), "override": layers.table("agent", "override")}
    try:
        return options_of(agent, layers.text("registry", "target"), default_state_folder(environ))
    except ValidationError as error:
        raise ConfigurationError([str(ValidationError(_setting_of(error.field), error.value, error.rule))]) from None


def _setting_of(field: str) -> str:
    """The setting that a field of ProbeOptions comes from."""
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
