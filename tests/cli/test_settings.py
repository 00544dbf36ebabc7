"""Which of the command line, the environment and the file decides what an option is."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from dht_torrent.cli.configuring import example
from dht_torrent.cli.declared import default_state_dir
from dht_torrent.cli.main import cli
from dht_torrent.cli.node import Options
from dht_torrent.cli.options import Given, NodeOption, declared, mask_url
from dht_torrent.cli.settings import MAX_FILE, ConfigFile, settle
from dht_torrent.config import Config
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.daemon.rpc.remembered import FOLDER, NAME, SUFFIX, Remembered, plain
from dht_torrent.engine.state import StateDir
from dht_torrent.errors import InputError

ROOT = click.Context(cli)
OPTIONS = declared(ROOT)


def run(*args: object, env: dict[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], env=env, prog_name="dhtnode")


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def rows(*args: object, env: dict[str, str | None] | None = None) -> dict[str, dict[str, Any]]:
    result = run(*args, "config", "--json", env=env)
    assert result.exit_code == 0, result.output
    return {row["option"]: row for row in json.loads(result.stdout)["options"]}


def options_of(text: str, folder: Path) -> Options:
    """What a node is that has this file alone."""
    file = ConfigFile(written(folder, text))
    return Options.from_settings(settle(Given(), OPTIONS, file))


# --- who decides ---------------------------------------------------------------------------------

FILE_SAYS = 'limit-up = "1K"\npex = false\n'


@pytest.mark.parametrize(
    ("before", "after", "env", "limit", "source"),
    [
        ([], [], {}, "1K", "file"),
        ([], [], {"DHTNODE_LIMIT_UP": "2K"}, "2K", "environment"),
        (["--limit-up", "3K"], [], {"DHTNODE_LIMIT_UP": "2K"}, "3K", "command line"),
        ([], ["--limit-up", "4K"], {"DHTNODE_LIMIT_UP": "2K"}, "4K", "command line"),
        (["--limit-up", "3K"], ["--limit-up", "4K"], {}, "4K", "command line"),
        (["--limit-up", ""], [], {"DHTNODE_LIMIT_UP": "2K"}, "none", "command line"),
        ([], [], {"DHTNODE_LIMIT_UP": ""}, "1K", "file"),
    ],
)
def test_what_is_nearer_to_the_user_decides(
    before: list[str],
    after: list[str],
    env: dict[str, str | None],
    limit: str,
    source: str,
    tmp_path: Path,
) -> None:
    path = written(tmp_path, FILE_SAYS)
    result = run("--config", path, *before, "config", "--json", *after, env=env)
    found = {row["option"]: row for row in json.loads(result.stdout)["options"]}
    assert (found["limit-up"]["value"], found["limit-up"]["from"]) == (limit, source)
    where = {"file": f"{path}:1", "environment": "DHTNODE_LIMIT_UP", "command line": "--limit-up"}
    assert found["limit-up"]["where"] == where[source]


def test_a_switch_of_the_file_can_be_turned_back(tmp_path: Path) -> None:
    path = written(tmp_path, FILE_SAYS)
    assert rows("--config", path)["pex"]["value"] is False
    assert rows("--config", path, env={"DHTNODE_PEX": "yes"})["pex"]["value"] is True
    assert rows("--config", path, "--pex", env={"DHTNODE_PEX": "no"})["pex"]["value"] is True
    assert rows("--config", path, "--no-pex", env={"DHTNODE_PEX": "1"})["pex"]["value"] is False


@pytest.mark.parametrize("key", ["interface", "proxy", "ip-filter", "deny", "listen", "bootstrap"])
@pytest.mark.parametrize("source", ["command line", "environment", "file"])
def test_what_shuts_something_out_is_not_turned_off_by_an_empty_value(
    key: str, source: str, tmp_path: Path
) -> None:
    text = f'{key} = ""' if source == "file" else ""
    given = [f"--{key}", ""] if source == "command line" else []
    variable = "DHTNODE_" + key.replace("-", "_").upper()
    env: dict[str, str | None] = {variable: ""} if source == "environment" else {}
    result = run("--config", written(tmp_path, text), *given, "config", env=env)
    assert result.exit_code == 2
    assert "is empty" in result.stderr
    assert key in result.stderr.lower().replace("_", "-")


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_each_option_is_heard_by_the_environment(option: NodeOption, tmp_path: Path) -> None:
    good = {
        "interface": "tun0",
        "limit-up": "1K",
        "log-level": "info",
        "log-format": "json",
        "encryption": "off",
        "after-seeding": "remove",
        "alt-hours": "mon-fri 09:00-17:00",
        "on-complete": "true x",
    }
    given = good.get(option.key, "1")
    if option.is_flag:
        given = "1"
    elif option.key in ("listen", "tls-listen", "web", "control"):
        given = "127.0.0.1:9"
    elif option.key == "bootstrap":
        given = "h:9"
    elif option.key == "proxy":
        given = "socks5://h"
    elif option.key == "config":
        given = str(written(tmp_path, ""))
    elif option.nargs == 2:
        given = f"a{os.pathsep}b"
    name = "DHTNODE_" + option.key.upper().replace("-", "_")
    assert rows(env={name: given})[option.key]["from"] == "environment"


def test_folders_in_the_environment_may_have_spaces() -> None:
    env = {"DHTNODE_WEB_DIR": os.pathsep.join(["/a b", "/c"]), "DHTNODE_LISTEN": "1.2.3.4:5 [::]:6"}
    found = rows(env=dict(env))
    assert found["web-dir"]["value"] == ["/a b", "/c"]
    assert found["listen"]["value"] == ["1.2.3.4:5", "[::]:6"]


def test_the_file_is_looked_for_in_the_platforms_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DHTNODE_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path / name)
    assert rows()["limit-up"]["from"] == "default"
    (tmp_path / "dhtnode").mkdir()
    path = written(tmp_path / "dhtnode", FILE_SAYS)
    assert rows()["limit-up"]["where"] == f"{path}:1"
    assert rows("--config", os.devnull)["limit-up"]["from"] == "default"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    result = run("--config", tmp_path / "x.toml", "config")
    assert (result.exit_code, result.stderr) == (2, f"dhtnode: {tmp_path}/x.toml: no such file\n")


# --- what the file may say -----------------------------------------------------------------------


def test_values_have_the_types_of_toml(tmp_path: Path) -> None:
    found = options_of(
        'limit-up = 500000\nlimit-down = "1.5M"\nactive-downloads = 3\nseed-ratio = 1.5\n'
        'seed-idle = "none"\nlisten = "127.0.0.1:7"\nbootstrap = ["a:1", "b:2"]\n'
        'crawl = true\ncrawl-rate = 5\nweb-tls = ["c", "k"]\nafter-seeding = "remove"\n'
        'alt-limit-up = 5\nalt-limit-down = "none"\nalt-hours = "sun 1:00-2:00"\n'
        'min-free = 7\nwatch = "in"\non-complete = "sh -c \'a b\' $X"\n'
        'deny = "words"\ncatalogue = ""\ndownload-dir = "~/x"\nip-filter = "filter.p2p"\n'
        'control = "unix:sock"\n',
        tmp_path,
    )
    config = found.config()
    assert (config.limit_up, config.limit_down) == (500_000, 1_500_000)
    assert (config.active_downloads, config.active_seeds) == (3, None)
    assert (config.seed_ratio, config.seed_idle, config.after_seeding) == (1.5, None, "remove")
    assert (config.listen, config.bootstrap) == (("127.0.0.1:7",), ("a:1", "b:2"))
    assert (config.crawl.enabled, config.crawl.rate) == (True, 5.0)
    hours = WeeklyHours(60, 120, 1)
    assert config.alternative_limits == AlternativeLimits(5, None, by_clock=True, hours=hours)
    assert (config.min_free, config.watch_folder) == (7, tmp_path / "in")
    assert config.on_complete == ["sh", "-c", "a b", "$X"]
    assert config.deny_list == tmp_path / "words"
    assert config.catalogue.url is None
    assert config.download_dir == Path.home() / "x"
    assert config.ip_filter == tmp_path / "filter.p2p"
    assert found.web_tls == (str(tmp_path / "c"), str(tmp_path / "k"))
    assert found.control == f"unix:{tmp_path}/sock"


def test_idle_minutes_are_seconds_of_the_configuration(tmp_path: Path) -> None:
    assert options_of("seed-idle = 1.5", tmp_path).config().seed_idle == 90.0


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('\nlimit_up = "1K"', 2, "'limit_up' is not an option; do you mean limit-up?"),
        ("pex = true\nnonsense = 1", 2, "'nonsense' is not an option"),
        ("\n[web]\nport = 1", 2, "web: must be a string"),
        ('config = "x"', 1, "'config' is not an option"),
        ("pex = 1", 1, "pex: must be true or false, not a number"),
        ("limit-up = true", 1, "limit-up: must be a string, not a boolean"),
        ("\n\n'limit-up' = \"fast\"", 3, "limit-up: not a rate"),
        ("limit-up = inf", 1, "limit-up: not a rate"),
        ("crawl-rate = 21", 1, "crawl-rate: must be above 0 and at most 20 queries/s, not 21"),
        ("crawl-rate = nan", 1, "crawl-rate: must be above 0"),
        ("crawl-rate = true", 1, "crawl-rate: must be a number, not a boolean"),
        ("active-seeds = -1", 1, "active-seeds: must be a whole number from 0, or 'none'"),
        ("active-seeds = 1.5", 1, "active-seeds: must be a whole number from 0, or 'none'"),
        ("seed-ratio = 1e7", 1, "seed-ratio: must be a number from 0 to 1000000, or 'none'"),
        ("seed-ratio = nan", 1, "seed-ratio: must be a number from 0 to 1000000, or 'none'"),
        ("alt-hours = '9-17'", 1, "alt-hours: hours are as 'mon-fri 09:00-17:00'"),
        ("alt-limit-up = 'x'", 1, "alt-limit-up: not a rate"),
        ("min-free = 'x'", 1, "min-free: not a size"),
        ('on-complete = "x \'"', 1, "on-complete: cannot be read as a command"),
        ("on-complete = ' '", 1, "on-complete: is no command"),
        ("on-complete = '/no/such x'", 1, "on-complete: there is no program '/no/such'"),
        ('after-seeding = "x"', 1, "after-seeding: must be one of pause, remove, not 'x'"),
        ('log-level = ["debug"]', 1, "log-level: must be a string, not a list"),
        ('listen = ["a:1"]', 1, "listen: expected an IP address"),
        ("listen = []", 1, "listen: must be a list of at least one, not of 0"),
        ("listen = [1]", 1, "listen: must be a list of strings, not a list"),
        ('web-tls = ["c"]', 1, "web-tls: must be a list of 2, not of 1"),
        ("deny = 1979-05-27", 1, "deny: must be a string, not a date or time"),
        ('deny = "a\\u0000b"', 1, "deny: must not have a NUL character"),
        ('proxy = "http://h"', 1, "proxy: a proxy http is not supported"),
        ('interface = "tun 0"', 1, "interface: 'tun 0' is neither the name nor an address"),
        ('control = "8.8.8.8:1"', 1, "control: the control address must be loopback"),
        ("pex = true\npex = false", 2, "cannot overwrite a value"),
        ("pex = ", 1, "invalid value"),
        ("x = " + "[" * 100_000, None, "not a configuration"),
        ("x = 1" + "0" * 10_000, None, "not a configuration"),
        ("#" * MAX_FILE + "\n", None, "more than 256 KiB"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    text: str, line: int | None, told: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    where = f"{path}:{line}: " if line is not None else f"{path}"
    for command in ([], ["config"]):
        result = run("--config", path, "--state-dir", tmp_path / "state", *command)
        assert result.exit_code == 2
        (told_line,) = result.stderr.splitlines()
        assert told_line.startswith(f"dhtnode: {where}")
        assert told in told_line
    assert not (tmp_path / "state").exists()


def test_a_file_that_is_not_text_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"pex = true\n# \xff\n")
    assert f"{path}:2: not UTF-8" in run("--config", path, "config").stderr
    assert "not a file" in run("--config", tmp_path, "config").stderr


def test_a_hostile_key_does_not_move_the_cursor(tmp_path: Path) -> None:
    path = written(tmp_path, f'"\\u001b[2J{"x" * 5000}" = 1')
    result = run("--config", path, "config")
    assert "\x1b" not in result.stderr
    assert len(result.stderr) < 500


@pytest.mark.parametrize(
    ("args", "env", "where"),
    [
        (["--limit-up", "fast"], {}, "--limit-up: not a rate"),
        ([], {"DHTNODE_LIMIT_UP": "fast"}, "DHTNODE_LIMIT_UP: not a rate"),
        ([], {"DHTNODE_LISTEN": "nowhere"}, "DHTNODE_LISTEN: expected"),
    ],
)
def test_a_value_of_no_use_is_told_with_where_it_was_said(
    args: list[str], env: dict[str, str | None], where: str
) -> None:
    result = run(*args, "config", env=env)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"dhtnode: {where}")
    assert len(result.stderr.splitlines()) == 1


def test_what_does_not_go_together_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "tcp = false\nutp = false")
    result = run("--config", path, "config")
    assert result.exit_code == 2
    assert result.stderr == "dhtnode: TCP and uTP are both off: peers need one of them\n"


def test_an_error_of_the_file_is_told_even_if_the_command_line_goes_before(tmp_path: Path) -> None:
    path = written(tmp_path, 'limit-up = "fast"')
    assert run("--config", path, "--limit-up", "1K", "config").exit_code == 2


# --- one declaration -----------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_the_default_that_is_told_is_the_default(option: NodeOption, tmp_path: Path) -> None:
    value = option.default_value()
    if value is None:
        return
    value = str(value) if isinstance(value, Path) else value
    text = json.dumps(list(value) if isinstance(value, tuple) else value)
    alone, told = options_of("", tmp_path), options_of(f"{option.key} = {text}", tmp_path)
    without = tuple(map(str, Config().bootstrap))
    assert replace(told.config(), bootstrap=without) == replace(alone.config(), bootstrap=without)
    others = ("log_level", "log_format", "web_insecure", "web_read_only")
    assert [getattr(told, name) for name in others] == [getattr(alone, name) for name in others]


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS.values() if one.is_flag], ids=lambda option: option.key
)
def test_each_switch_can_be_turned_both_ways(option: NodeOption) -> None:
    assert isinstance(option.standard, bool)
    assert option.opts == [f"--{option.key}"]
    assert option.secondary_opts == [f"--no-{option.key}"]


def test_each_option_has_a_place_in_the_node() -> None:
    names = {name for name, option in OPTIONS.items() if option.in_file}
    assert names == set(Options.__dataclass_fields__) - {"fixed"}


def test_the_folder_of_the_node_is_the_platforms(tmp_path: Path) -> None:
    assert options_of("", tmp_path).state_dir == default_state_dir()


# --- where a running node is ---------------------------------------------------------------------


def test_a_node_is_looked_for_where_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, 'state-dir = "here"\nnonsense = 1')
    assert f"no node is running with state directory {tmp_path}/here" in (
        run("--config", path, "ls").stderr
    )


def test_no_file_is_read_where_the_folder_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "= not toml")
    assert "no node is running" in run("--config", path, "ls", "--state-dir", tmp_path).stderr
    result = run("--config", path, "ls")
    assert (result.exit_code, result.stderr.startswith(f"dhtnode: {path}:1: ")) == (2, True)


# --- secrets -------------------------------------------------------------------------------------

SECRET = {
    "proxy": "socks5://me:hush/@h:1",
    "catalogue": "postgresql://me:hush@h/d?sslpassword=hush",
    "rpc-auth": "me:hush",
}


@pytest.mark.parametrize(("key", "value"), SECRET.items())
def test_a_password_is_never_shown(key: str, value: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'{key} = "{value}"')
    name = "DHTNODE_" + key.upper().replace("-", "_")
    by_line = [f"--{key}", value]
    for args in (["--config", str(path)], by_line, []):
        for how in ([], ["--json"]):
            result = run(*args, "config", *how, env={name: value} if not args else {})
            assert result.exit_code == 0, result.output
            assert "hush" not in result.output
            assert "***" in result.stdout
            warned = "everybody on this machine can read the password" in result.stderr
            assert warned == (args == by_line)


@pytest.mark.parametrize(("key", "value"), SECRET.items())
def test_a_file_with_a_password_is_for_its_owner_alone(
    key: str, value: str, tmp_path: Path
) -> None:
    path = written(tmp_path, f'\n{key} = "{value}"')
    path.chmod(0o640)
    result = run("--config", path, "config")
    assert result.exit_code == 2
    assert result.stderr == (
        f"dhtnode: {path}:2: {key}: others can read the password in this file: chmod 600 it\n"
    )


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    for url in ("socks5://h:1080", "postgresql://me@h:5432/d", "postgresql:///d?host=/run"):
        assert mask_url(url) == url


# --- an example ----------------------------------------------------------------------------------


def test_an_example_is_written_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    result = run("--config", path, "config", "--init")
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {row["from"] for row in rows("--config", path).values()} == {"default", "command line"}
    again = run("--config", path, "config", "--init")
    assert again.exit_code == 2
    assert again.stderr == f"dhtnode: {path}: there is a configuration already\n"


def test_each_line_of_the_example_can_be_used(tmp_path: Path) -> None:
    text = example(OPTIONS.values())
    for option in OPTIONS.values():
        if not option.in_file:
            continue
        (line,) = [x for x in text.splitlines() if x.startswith(f"#{option.key} = ")]
        file = ConfigFile(written(tmp_path, line[1:]))
        file.check_keys(OPTIONS)
        if option.standard is not None and not callable(option.standard):
            file.value(option)
    assert max(map(len, text.splitlines())) <= 100


def test_the_table_names_the_option_the_value_and_its_origin(tmp_path: Path) -> None:
    path = written(tmp_path, FILE_SAYS)
    result = run("--config", path, "config", env={"DHTNODE_LIMT_UP": "1", "DHTNODE_DENY": "d"})
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["limit-up", "1K", f"{path}:1"] in lines
    assert ["pex", "false", f"{path}:2"] in lines
    assert ["deny", "d", "DHTNODE_DENY"] in lines
    assert ["listen", "0.0.0.0:6881", "[::]:6881", "default"] in lines
    assert result.stdout.splitlines()[-1] == str(path)
    assert result.stderr == "dhtnode: DHTNODE_LIMT_UP is not an option's\n"


def test_an_input_error_of_the_check_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="limit-up"):
        options_of('limit-up = "x"', tmp_path)


# --- what clients have set -----------------------------------------------------------------------


def test_what_clients_have_set_is_shown_where_it_would_hold(tmp_path: Path) -> None:
    auth = tmp_path / "auth"
    auth.write_text("a:b\n")
    auth.chmod(0o600)
    state = tmp_path / "state"
    file = written(tmp_path, "limit-up = 1000\n")
    limits = plain(AlternativeLimits(5_000, by_clock=True, hours=WeeklyHours(60, 120)))
    remembered = Remembered(
        {
            "limit_up": (1_000, 7_000),  # the file says what it said then
            "limit_down": (2_000, 7_000),  # it said something else
            "active_seeds": (None, 3),
            "seed_idle": (None, 600.0),
            "seed_ratio": (None, 1.5),
            "alternative_limits": (plain(Config().alternative_limits), limits),
        }
    )
    with StateDir(state) as held:
        held.save_in(FOLDER, f"{NAME}{SUFFIX}", remembered.encode())
    node = ("--config", file, "--state-dir", state)
    rpc = (*node, "--web", "127.0.0.1:9091", "--rpc-auth-file", auth)
    shown = rows(*rpc, "--active-seeds", 9)
    assert {one: row["value"] for one, row in shown.items() if row["from"] == "client"} == {
        "limit-up": "7000",
        "seed-idle": "10",
        "seed-ratio": "1.5",
        "alt-limit-up": "5000",
        "alt-limit-down": "50000",
        "alt-hours": "01:00-02:00",
    }
    assert shown["limit-up"]["where"] == str(state / FOLDER / f"{NAME}{SUFFIX}")
    assert shown["active-seeds"] == {**shown["active-seeds"], "value": "9", "from": "command line"}
    assert shown["limit-down"]["from"] == "default"
    assert rows(*node)["limit-up"]["value"] in ("1000", 1000)  # without the RPC
    (state / FOLDER / f"{NAME}{SUFFIX}").write_bytes(b"nonsense")
    assert rows(*rpc)["limit-up"]["from"] == "file"
