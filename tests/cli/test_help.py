"""The help of every command: whole sentences that fit 80 columns, under whatever name a person looks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from duxnet.cli import COMMANDS, main
from duxnet.cli.group import click_command, group


def every_command() -> Iterator[tuple[str, ...]]:
    for name in COMMANDS:
        yield (name,)
        command = click_command(name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.commands)


def found(words: tuple[str, ...]) -> click.Command:
    command = click_command(words[0])
    for word in words[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", [(), *every_command()], ids=" ".join)
def test_help_fits_80_columns_and_cuts_nothing_off(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\w\.\.\.$", text.partition("\n")[2], re.MULTILINE)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_help_is_whole_sentences(words: tuple[str, ...]) -> None:
    command = found(words)
    summary = command.get_short_help_str()
    assert re.fullmatch(r"[A-Z].{8,58}\.", summary), summary
    assert command.help is not None
    for paragraph in command.help.split("\n\n"):
        if not paragraph.lstrip().startswith("\b"):
            assert re.fullmatch(r"[A-Z`].*[.:]", paragraph.strip(), re.DOTALL), paragraph
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help is not None, option.name
            assert re.fullmatch(r"[A-Z].*\.", option.help), option.help


@pytest.mark.parametrize("words", [[], ["nodes"], ["nodes", "list"], ["probe"], ["agent"]], ids=" ".join)
def test_help_has_three_names(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for arguments in ([*words, "--help"], [*words, "-h"], ["help", *words]):
        assert main(arguments) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith(" ".join(["Usage: duxnet", *words]))
    assert texts[0] == texts[1] == texts[2]


def test_options_of_a_kind_stand_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "list", "-h"]) == 0
    sections = dict(re.findall(r"^([A-Z].*):\n((?:  .*\n)+)", capsys.readouterr().out, re.MULTILINE))
    assert list(sections) == ["Conditions", "GPU conditions", "Order and pages", "Options"]
    for section, option in zip(sections.values(), ("--healthy", "--gpu-model", "--after", "--registry")):
        assert option in section


@pytest.mark.parametrize("command", [["config", "show"], ["probe", "--only", "host"], ["status", "--state-dir", "."]])
def test_o_is_short_for_format(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for option in (["-o", "json"], ["--format", "json"], ["--format=json"]):
        main([*command, *option])
        texts.append(re.sub(r"\d+", "", capsys.readouterr().out))
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].startswith("{")


def test_the_version_has_two_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_completion_shows_whole_sentences_too() -> None:
    for name, (_module, _attribute, line) in COMMANDS.items():
        assert group().get_command(click.Context(group()), name).get_short_help_str() == line  # type: ignore[union-attr]
