"""config.yaml and the environment: what is taken, and what each mistake is answered with."""

import re
from pathlib import Path

import pydantic
import pytest

from bot.config import Config, Limits, Secrets, ServerSettings, load, parse
from bot.errors import ConfigError

ROOT = Path(__file__).parents[2]
LOCAL = {"name": "local", "url": "http://127.0.0.1:8188"}


def loaded(folder: Path, text: str, **environment: str) -> tuple[Config, Secrets]:
    path = folder / "config.yaml"
    path.write_text(text, "utf-8")
    return load(path, environment)


def complaint(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environment)
    message = str(caught.value).replace(str(folder / "config.yaml"), "config.yaml")
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config, secrets = load(tmp_path / "config.yaml", {})

    assert config.servers == ()
    assert config.discord.guilds == ()
    assert config.database == "sqlite:///data/comfycord.db"
    assert config.workflows == "workflows"
    assert config.limits == Limits(
        jobs_per_user=5,
        queue=1000,
        pixels=4194304,
        upload_mb=25,
        jobs_per_day=None,
        gpu_seconds_per_day=None,
    )
    assert secrets == Secrets()


def test_the_file_that_ships_holds_the_defaults_and_the_local_server() -> None:
    config, _ = load(ROOT / "config.yaml", {})

    assert config == Config(servers=(ServerSettings(**LOCAL),))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}", "\ufeff{}"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, text: str) -> None:
    config, _ = loaded(tmp_path, text)

    assert config == Config()


def test_a_section_without_keys_is_as_if_left_out(tmp_path: Path) -> None:
    config, _ = loaded(tmp_path, "discord:\nservers:\nlimits:\n")

    assert config == Config()


def test_every_key_is_taken_from_the_file(tmp_path: Path) -> None:
    text = """
        discord: {guilds: [123456789012345678]}
        servers:
          - {name: gpu-1, url: "https://gpu.example/comfy/"}
          - {name: gpu_2, url: "http://10.0.0.2:8188"}
        database: sqlite:////var/lib/comfycord/jobs.db
        workflows: /srv/workflows
        limits:
          jobs_per_user: 2
          queue: 10
          pixels: 1048576
          upload_mb: 8
          jobs_per_day: 20
          gpu_seconds_per_day: 600
    """

    config, _ = loaded(tmp_path, text)

    assert config.discord.guilds == (123456789012345678,)
    assert [each.url for each in config.servers] == [
        "https://gpu.example/comfy/",
        "http://10.0.0.2:8188",
    ]
    assert config.workflows == "/srv/workflows"
    assert config.limits == Limits(
        jobs_per_user=2,
        queue=10,
        pixels=1048576,
        upload_mb=8,
        jobs_per_day=20,
        gpu_seconds_per_day=600,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "limit: {queue: 5}",
            "config.yaml: unknown key `limit`. "
            "Allowed here: discord, servers, database, workflows, limits, fairness, "
            "http, log, retention_days.",
        ),
        (
            "servers: [{name: local, ulr: 'http://h', url: 'http://h'}]",
            "config.yaml: unknown key `servers[0].ulr`. Allowed here: name, url, ca_file.",
        ),
        (
            "servers: [{name: local, ulr: 'http://h'}]",
            "config.yaml: unknown key `servers[0].ulr`. Allowed here: name, url, ca_file.",
        ),
        (
            "limits: {que: 5}",
            "config.yaml: unknown key `limits.que`. "
            "Allowed here: jobs_per_user, queue, pixels, upload_mb, "
            "jobs_per_day, gpu_seconds_per_day, blocked_words.",
        ),
        (
            "discord: {token: abc}",
            "config.yaml: unknown key `discord.token`. Allowed here: guilds, shards.",
        ),
        ("servers: [{name: local}]", "config.yaml: `servers[0].url` is missing."),
        (
            "limits: {queue: many}",
            "config.yaml: `limits.queue`: takes a whole number, found 'many'.",
        ),
        (
            "limits: {queue: [5]}",
            "config.yaml: `limits.queue`: takes a whole number, found [5].",
        ),
        ("workflows: 5", "config.yaml: `workflows`: takes a text, found 5."),
        (
            "limits: 5",
            "config.yaml: `limits`: takes keys and values, indented below it, found 5.",
        ),
        (
            "discord: {guilds: 5}",
            "config.yaml: `discord.guilds`: takes a list, with `- ` before each entry, found 5.",
        ),
        (
            "servers: [{name: my server, url: 'http://h'}]",
            "config.yaml: `servers[0].name`: takes letters, digits, - and _, at most 32 of them, "
            "found 'my server'.",
        ),
        (
            "limits: {queue: 0}",
            "config.yaml: `limits.queue`: Input should be greater than or equal to 1, found 0.",
        ),
        (
            "limits: {jobs_per_day: 0}",
            "config.yaml: `limits.jobs_per_day`: "
            "Input should be greater than or equal to 1, found 0.",
        ),
        (
            "limits: {gpu_seconds_per_day: an hour}",
            "config.yaml: `limits.gpu_seconds_per_day`: takes a whole number, found 'an hour'.",
        ),
        (
            "limits: {upload_mb: 500}",
            "config.yaml: `limits.upload_mb`: "
            "Input should be less than or equal to 100, found 500.",
        ),
        (
            "servers: [{name: local, url: 'localhost:8188'}]",
            "config.yaml: `servers[0].url`: "
            "'localhost:8188' needs http:// or https:// in front, and a host.",
        ),
        (
            "servers: [{name: local, url: 'http://'}]",
            "config.yaml: `servers[0].url`: "
            "'http://' needs http:// or https:// in front, and a host.",
        ),
        (
            "servers: [{name: local, url: 'http://h:99999'}]",
            "config.yaml: `servers[0].url`: 'http://h:99999' is not an address.",
        ),
        (
            "servers: [{name: a, url: 'http://h'}, {name: a, url: 'http://g'}]",
            "config.yaml: `servers`: two servers are named 'a'.",
        ),
        (
            "servers: [{name: gpu-1, url: 'http://h'}, {name: gpu_1, url: 'http://g'}]",
            "config.yaml: `servers`: 'gpu-1' and 'gpu_1' would share the variable "
            "COMFYUI_TOKEN_GPU_1.",
        ),
        (
            "servers: [{name: a, url: 'https://h', ca_file: /nothing/ca.pem}]",
            "config.yaml: `servers[0].ca_file`: '/nothing/ca.pem' is not there "
            "or holds no certificate.",
        ),
        (
            "servers:\n  - {name: a, url: 'http://h'}\n  - {name: b, url: 'http://u:pw@g'}",
            "config.yaml: servers[1].url holds a login. Move it to the environment "
            "variable COMFYUI_LOGIN_B as user:password.",
        ),
        (
            "servers:\n  - name: a\n   url: http://h\n",
            "config.yaml, line 3: this is not YAML. Check the indentation.",
        ),
        ("\x01", "config.yaml: this is not YAML. Check the indentation."),
        ("workflows: 2024-13-45", "config.yaml: month must be in 1..12."),
        ("- one\n- two", "config.yaml: expected keys such as `servers:`, found ['one', 'two']."),
    ],
    ids=[
        "top level", "in a server", "in place of another", "in the limits",
        "secret in the file", "missing",
        "wrong type", "a list for a number", "a number for a text", "a number for keys",
        "a number for a list", "a name with a space",
        "too small", "nothing a day", "a day in words", "too large",
        "no scheme", "no host", "impossible port",
        "two of one name", "two of one variable", "no such certificate", "login in the url",
        "not YAML", "control character", "impossible date", "not keys",
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_key_in_one_sentence(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert complaint(tmp_path, text) == expected


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()

    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: .*directory"):
        load(tmp_path / "config.yaml", {})


def test_a_file_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes("workflows: Bücher".encode("utf-16"))

    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: .*utf-8"):
        load(tmp_path / "config.yaml", {})


def test_one_address_in_the_environment_is_enough(tmp_path: Path) -> None:
    config, _ = load(tmp_path / "config.yaml", {"COMFYUI_BASE_URL": "http://u:pw@h:8188/comfy"})

    assert config.servers == (ServerSettings(name="local", url="http://u:pw@h:8188/comfy"),)


def test_a_wrong_address_in_the_environment_names_its_variable(tmp_path: Path) -> None:
    text = complaint(tmp_path, "", COMFYUI_BASE_URL="localhost:8188")

    assert text == "COMFYUI_BASE_URL needs http:// or https:// in front, and a host."


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")

    text = complaint(
        tmp_path, f"servers: [{{name: a, url: 'https://h', ca_file: '{tmp_path}/ca.pem'}}]"
    )

    assert text.endswith("ca.pem' is not there or holds no certificate.")


def test_the_environment_outdoes_the_file(tmp_path: Path) -> None:
    text = "servers: [{name: a, url: 'http://a'}]\ndatabase: sqlite:///a.db"

    config, _ = loaded(
        tmp_path, text, COMFYUI_BASE_URL="http://b", DATABASE_URL="sqlite:///there/b.db"
    )

    assert [each.url for each in config.servers] == ["http://b"]
    assert config.database == "sqlite:///there/b.db"
    assert config.spool == Path("there/b.db.spool")


@pytest.mark.parametrize(
    ("database", "folder"),
    [
        ("sqlite:///data/comfycord.db", "data/comfycord.db.spool"),
        ("sqlite:////var/lib/comfycord/jobs.db", "/var/lib/comfycord/jobs.db.spool"),
        ("sqlite:///jobs.db", "jobs.db.spool"),
        ("sqlite:///data/jobs", "data/jobs.spool"),
        ("postgresql://h/jobs", "data/comfycord.all.spool"),
    ],
    ids=["relative", "absolute", "here", "without a suffix", "elsewhere"],
)
def test_files_on_their_way_have_a_folder_of_their_own_beside_the_database(
    database: str, folder: str
) -> None:
    assert Config(database=database).spool == Path(folder)


def test_secrets_come_from_the_environment(tmp_path: Path) -> None:
    text = """
        servers:
          - {name: gpu-1, url: "http://a"}
          - {name: home, url: "http://b"}
          - {name: open, url: "http://c"}
    """

    _, secrets = loaded(
        tmp_path,
        text,
        DISCORD_TOKEN="the-token",
        COMFYUI_TOKEN_GPU_1="the-bearer",
        COMFYUI_LOGIN_HOME="ann:pass:word",
        COMFYCORD_DISCORD_API="http://127.0.0.1:1",
    )

    assert secrets.discord_token == "the-token"
    assert secrets.discord_api == "http://127.0.0.1:1"
    assert secrets.access["gpu-1"].token == "the-bearer"
    assert secrets.access["home"].login == ("ann", "pass:word")
    assert secrets.access["open"].headers() == {}
    assert sorted(secrets.hidden) == ["pass:word", "the-bearer", "the-token"]


def test_the_login_of_an_address_is_a_secret_too(tmp_path: Path) -> None:
    address = "http://ann:the-p%40ssword@h"

    _, secrets = load(tmp_path / "config.yaml", {"COMFYUI_BASE_URL": address})

    assert secrets.access["local"].login == ("ann", "the-p@ssword")
    assert secrets.hidden == ["the-p@ssword"]


def test_spaces_around_a_secret_are_not_part_of_it(tmp_path: Path) -> None:
    _, secrets = loaded(
        tmp_path,
        "servers: [{name: a, url: 'http://a'}, {name: b, url: 'http://b'}]",
        COMFYUI_TOKEN_A=" the-bearer\n",
        COMFYUI_LOGIN_B=" ann:the-password ",
    )

    assert secrets.access["a"].token == "the-bearer"
    assert secrets.access["b"].login == ("ann", "the-password")


def test_empty_variables_count_as_left_out(tmp_path: Path) -> None:
    names = ("DISCORD_TOKEN", "COMFYUI_TOKEN_A", "COMFYUI_LOGIN_A", "COMFYCORD_DISCORD_API")

    _, secrets = loaded(
        tmp_path, "servers: [{name: a, url: 'http://a'}]", **dict.fromkeys(names, "")
    )

    assert secrets.discord_token is None
    assert secrets.discord_api is None
    assert secrets.access["a"].headers() == {}
    assert secrets.hidden == []


def test_no_secret_is_in_a_repr(tmp_path: Path) -> None:
    _, secrets = loaded(
        tmp_path,
        "servers: [{name: a, url: 'http://a'}, {name: b, url: 'http://b'}]",
        DISCORD_TOKEN="the-token",
        COMFYUI_TOKEN_A="the-bearer",
        COMFYUI_LOGIN_B="ann:the-password",
    )

    shown = f"{secrets!r} {secrets} {secrets.access}"

    assert not any(secret in shown for secret in ("the-token", "the-bearer", "the-password"))


def test_a_private_authority_belongs_to_its_server() -> None:
    config = parse({"servers": [{**LOCAL, "ca_file": "ca.pem"}]})

    secrets = Secrets.from_environment(config, {})

    assert secrets.access["local"].ca_file == "ca.pem"


def test_settings_do_not_change() -> None:
    config = parse({"servers": [LOCAL]})

    with pytest.raises(pydantic.ValidationError):
        config.database = "sqlite:///other.db"  # type: ignore[misc]


def test_members_over_http_have_tokens_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("http: {port: 8190, members: [web-site, nightly]}")
    tokens = {"HTTP_TOKEN_WEB_SITE": "a" * 16, "HTTP_TOKEN_NIGHTLY": "b" * 16}

    _, secrets = load(file, tokens)

    assert secrets.http_tokens == {"web-site": "a" * 16, "nightly": "b" * 16}
    assert "a" * 16 in secrets.hidden
    assert "aaaa" not in repr(secrets)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ({}, "'website' needs HTTP_TOKEN_WEBSITE in the environment"),
        ({"HTTP_TOKEN_WEBSITE": "short"}, "with at least 16 characters"),
        (
            {"HTTP_TOKEN_WEBSITE": "a" * 16, "HTTP_TOKEN_NIGHTLY": "a" * 16},
            "two of them have the same token",
        ),
    ],
    ids=["none", "short", "the same"],
)
def test_a_member_without_a_good_token_stops_the_start(
    tmp_path: Path, tokens: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("http: {port: 8190, members: [website, nightly]}")

    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load(file, tokens)


def test_without_a_port_no_token_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("http: {members: [website]}")

    assert load(file, {})[1].http_tokens == {}
