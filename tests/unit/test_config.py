"""Settings: precedence, origins, refusals that name source and key, and building backends from names."""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedpipe.assembly import BACKENDS, PORTS, Backends, construct
from embedpipe.cli.setup import toml_text
from embedpipe.config import DEFAULT_BACKENDS, PROVIDER_DEFAULTS, Config, build
from embedpipe.errors import ConfigError
from embedpipe.layout import SEED
from embedpipe.limits import Limits, Policy
from embedpipe.settings import convert, flag_layer


def load(root: Path | None = None, text: str | None = None, **options: Any) -> Config:
    if text is not None:
        assert root is not None
        root.mkdir(parents=True, exist_ok=True)
        (root / "embedpipe.toml").write_text(text)
    return Config.load(root, **{"env": {}, **options})


def refusal(root: Path, text: str | None = None, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(root, text, **options)
    return str(caught.value)


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load()
    root = tmp_path / ".embedpipe"
    assert (config.root, config.kind, config.file) == (root, "record", None)
    assert config.objects.options == {"root": root / "objects", "bucket": "local"}
    assert config.table.options == {"path": root / "table.sqlite3"}
    assert (config.model.name, config.model.dimensions, config.model.send_dimensions) == (
        "wordllama-l2-256",
        256,
        True,
    )
    assert config.limits == Limits()
    assert {origin.source for origin in config.origins.values()} == {"default", "default of provider 'local_model'"}


def test_a_local_model_waits_seconds_for_an_unknown_create(tmp_path: Path) -> None:
    assert load(tmp_path).policy.ambiguous_after_s == 5.0
    assert load(tmp_path, '[provider]\nbackend = "x:Y"').policy == Policy()
    assert load(tmp_path, "[policy]\nambiguous_after_s = 60").policy.ambiguous_after_s == 60.0


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text = 'kind = "file"\n[limits]\nfile_bytes = 1\nrequests_per_batch = 1\n[run]\nthreads = 1\n'
    env = {"EMBEDPIPE_LIMITS__FILE_BYTES": "2", "EMBEDPIPE_RUN__THREADS": "2"}
    config = load(tmp_path, text, env=env, flags={"run.threads": "3"})
    assert (config.run.threads, config.limits.file_bytes, config.limits.requests_per_batch) == (3, 2, 1)
    sources = {key: origin.source for key, origin in config.origins.items()}
    assert sources["run.threads"] == "flag"
    assert sources["limits.file_bytes"] == "environment variable EMBEDPIPE_LIMITS__FILE_BYTES"
    assert sources["limits.requests_per_batch"] == f"file {tmp_path / 'embedpipe.toml'}"
    assert sources["limits.tokens_per_input"] == "default"
    assert (config.kind, sources["kind"]) == ("file", f"file {tmp_path / 'embedpipe.toml'}")


def test_each_key_has_one_origin_and_its_effective_value(tmp_path: Path) -> None:
    config = load(tmp_path, env={"EMBEDPIPE_RETRY__ATTEMPTS": "9"})
    assert config.origins["retry.attempts"].value == config.retry.attempts == 9
    assert config.origins["policy.merge_rows"].value == config.policy.merge_rows
    assert config.origins["objects.root"].value == config.objects.options["root"]


def test_paths_in_a_file_count_from_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "any.toml"
    file.write_text('root = "../data"\n[table]\npath = "rows.db"\n')
    config = load(file=file)
    assert config.root == tmp_path / "conf" / ".." / "data"
    assert config.table.options == {"path": tmp_path / "conf" / "rows.db"}
    assert load(tmp_path / "flag", file=file).root == tmp_path / "flag"


def test_without_a_root_the_file_s_directory_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "embedpipe.toml").write_text('kind = "articles"')
    by_file = load(file=tmp_path / "embedpipe.toml")
    by_variable = load(env={"EMBEDPIPE_CONFIG": str(tmp_path / "embedpipe.toml")})
    assert by_file.root == by_variable.root == load(tmp_path).root == tmp_path
    assert by_file == by_variable == load(env={"EMBEDPIPE_ROOT": str(tmp_path)})


def test_another_backend_drops_the_options_of_the_one_below(tmp_path: Path) -> None:
    text = '[objects]\nbackend = "files"\nbucket = "mine"\n'
    config = load(tmp_path, text, env={"EMBEDPIPE_OBJECTS__BACKEND": "my.store:Store", "EMBEDPIPE_OBJECTS__N": "3"})
    assert config.objects.backend == "my.store:Store"
    assert config.objects.options == {"n": 3}
    assert "objects.bucket" not in config.origins


def test_options_of_one_s_own_backend_keep_their_types(tmp_path: Path) -> None:
    text = '[vectors]\nbackend = "a.b:C"\nurl = "http://x"\nports = [1, 2]\n[vectors.tls]\nverify = true\n'
    assert load(tmp_path, text).vectors.options == {"url": "http://x", "ports": [1, 2], "tls": {"verify": True}}


def test_layout_from_a_file(tmp_path: Path) -> None:
    text = '[layout]\npk = "id"\nstatuses = { PENDING = "SUBMITTED" }\n'
    layout = load(tmp_path, text).layout
    assert (layout.pk, layout.statuses) == ("id", {"PENDING": "SUBMITTED"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kimd = 'x'", "the key 'kimd' is unknown. Did you mean 'kind'?"),
        ("[limit]\nfile_bytes = 1", "the key 'limit.file_bytes' is unknown. Did you mean 'limits.file_bytes'?"),
        ("[limitz]", "the key 'limitz' is unknown. Did you mean 'limits'?"),
        ("[limits]\nfile_byte = 1", "the key 'limits.file_byte' is unknown. Did you mean 'limits.file_bytes'?"),
        ("[objects]\nbuckett = 'x'", "the key 'objects.buckett' is unknown. Did you mean 'objects.bucket'?"),
        ("[limits]\nfile_bytes = '1'", "limits.file_bytes must be a whole number, not '1'."),
        ("[limits]\nfile_bytes = true", "limits.file_bytes must be a whole number, not True."),
        ("[limits]\nfile_bytes = 1.0", "limits.file_bytes must be a whole number, not 1.0."),
        ("[limits]\nfile_bytes = 0", "limits.file_bytes: 'file_bytes' must be > 0: 0"),
        ("[policy]\nlost_after_s = 'x'", "policy.lost_after_s must be a number"),
        ("[policy]\nlost_after_s = nan", "policy.lost_after_s must be a number"),
        ("[policy]\nlost_after_s = -1", "policy.lost_after_s: 'lost_after_s' must be >= 0"),
        ("[provider]\nsend_dimensions = 1", "provider.send_dimensions must be true or false, not 1."),
        ("[provider]\ndimensions = 0", "provider.dimensions: 0 is refused."),
        ("[provider]\nmodel = ''", "provider.model: '' is refused."),
        ("[objects]\nbackend = 'S3'", "objects.backend: there is no backend 'S3'. Use files, memory, s3, or"),
        ("kind = '../x'", "kind: kind '../x' is refused."),
        ("root = ''", "root must be a path, not ''."),
        ("root = 3", "root must be a path, not 3."),
        ("[layout]\nresult = 'x'", "layout.result: Layout field 'result' must name ['batch_id']"),
        ("[layout]\nstatuses = { A = 1 }", "layout.statuses must be a table of strings"),
        ("[layout]\nresult = '../{batch_id}'", "layout.result: Layout field 'result' has the segment '..'"),
        ("[layout]\nresult = '/{batch_id}'", "layout.result: Layout field 'result' has an empty segment"),
        ("[layout]\nresult = '{batch_id}/'", "layout.result: Layout field 'result' must not end with '/'"),
        ("[layout]\nresult = '{batch_id!r}'", "has a field that is more than a name"),
        ("[layout]\nresult = '{batch_id'", "has a field that is more than a name"),
        ("[provider]\ndelay_s = -1", "provider.delay_s: -1.0 is refused. Use 0 or more."),
        ("[provider]\ndelay_s = inf", "provider.delay_s must be a number"),
        ("[objects]\nbackend = 's3'\nattempts = 0", "objects.attempts: 0 is refused. Use 1 or more."),
        ("[table]\nbackend = 'dynamodb'\ntimeout_s = 0", "table.timeout_s: 0.0 is refused. Use 0.1 or more."),
        ("kind = ", "is not TOML"),
        ("kind = 'a'\nkind = 'b'", "is not TOML"),
    ],
)
def test_each_refusal_names_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, text)
    assert expected in message
    assert str(tmp_path / "embedpipe.toml") in message
    assert "\n" not in message


def test_refusals_of_the_environment_and_of_flags(tmp_path: Path) -> None:
    assert "environment variable EMBEDPIPE_RUN__THREADS: run.threads must be a whole number, not 'many'." in refusal(
        tmp_path, env={"EMBEDPIPE_RUN__THREADS": "many"}
    )
    assert "environment variable EMBEDPIPE_LIMITS__: the key 'limits.' is unknown." in refusal(
        tmp_path, env={"EMBEDPIPE_LIMITS__": "many"}
    )
    assert "environment variable EMBEDPIPE_THREADS: the key 'threads' is unknown." in refusal(
        tmp_path, env={"EMBEDPIPE_THREADS": "1"}
    )
    assert "flag: the key 'run.thread' is unknown. Did you mean 'run.threads'?" in refusal(
        tmp_path, flags={"run.thread": "1"}
    )


NUMBERS = [key for key, origin in Config.load(env={}, flags={}).origins.items() if type(origin.value) in (int, float)]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("word", ["-1", "nan", "inf", "-inf", "many", "", "1e999", "true"])
def test_no_number_is_less_than_nothing(tmp_path: Path, key: str, word: str) -> None:
    variable = "EMBEDPIPE_" + key.upper().replace(".", "__")
    assert f"environment variable {variable}: {key}" in refusal(tmp_path, env={variable: word})


OPTIONS = [
    (section, backend, name)
    for section, backends in BACKENDS.items()
    for backend, builtin in backends.items()
    for name, value in builtin.options.items()
    if type(value) in (int, float)
]


@pytest.mark.parametrize(("section", "backend", "name"), OPTIONS, ids="-".join)
def test_nor_is_a_number_of_a_backend(tmp_path: Path, section: str, backend: str, name: str) -> None:
    for word in ("-1", "-inf", "nan", "inf", "many"):
        flags = {f"{section}.backend": backend, f"{section}.{name}": word}
        assert f"flag: {section}.{name}" in refusal(tmp_path, flags=flags)


def test_what_one_s_own_backend_takes_is_its_own_affair(tmp_path: Path) -> None:
    text = '[objects]\nbackend = "my.store:Store"\noffset = -1\ntimeout_s = 0\nweight = nan\n'
    assert load(tmp_path, text).objects.options["offset"] == -1


@pytest.mark.parametrize(
    ("text", "inner", "outer"),
    [
        ("[vectors]\nroot = 'objects/chroma'", "vectors.root", "objects.root"),
        ("[vectors]\nroot = 'objects'", "vectors.root", "objects.root"),
        ("[table]\npath = 'chroma/table.sqlite3'", "table.path", "vectors.root"),
        ("[provider]\nroot = 'link/x'", "provider.root", "objects.root"),
        ("[objects]\nroot = '.'", "table.path", "objects.root"),
    ],
)
def test_a_store_among_the_files_of_another_is_refused(tmp_path: Path, text: str, inner: str, outer: str) -> None:
    (tmp_path / "link").symlink_to("objects")
    message = refusal(tmp_path, text)
    assert f"{inner} ({tmp_path}" in message
    assert f"is inside {outer} ({tmp_path}" in message


def test_two_patterns_that_give_one_key_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, env={"EMBEDPIPE_LAYOUT__MARKED": "poll_results/{execution_id}/result.json"})
    assert "environment variable EMBEDPIPE_LAYOUT__MARKED: layout.marked: Layout fields 'result' and " in message
    assert "'marked' can give the same key" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("result = 'results/{batch_id}/{batch_id}'", "layout.result: Layout field 'result' names {batch_id} twice"),
        (
            "intermediate = 'x/{execution_id}{chunk_id}'",
            "layout.intermediate: Layout field 'intermediate' has two fields",
        ),
        ("result = 'requests/{batch_id}'", "'result' and 'requests' can give the same key"),  # a folder of the other
        ("vectors_file = '../x'", "layout.vectors_file: Layout field 'vectors_file' must be a file name"),
        ("retry_file = 'rejected.jsonl'", "layout.retry_file: Layout fields 'rejected_file' and 'retry_file' are both"),
        ("sk = 'PK'", "layout.sk: Layout fields 'pk' and 'sk' are both 'PK'"),
        ("pk = ''", "layout.pk: Layout field 'pk' must be a printable word: ''"),
        ("statuses = { PENDING = 'COMPLETED' }", "layout.statuses: gives the name 'COMPLETED' twice"),
        ("statuses = { PENDIN = 'X' }", "layout.statuses: renames 'PENDIN', which there is not; there are INTENT, "),
        ("attributes = { seq = 'attempt' }", "layout.attributes: gives the name 'attempt' twice"),
        ("attributes = { seq = 'PK' }", "layout.attributes: gives the name 'PK' twice"),
        ("attributes = { sec = 'x' }", "layout.attributes: renames 'sec', which there is not"),
    ],
)
def test_names_of_a_layout_that_cannot_be_told_apart(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, f"[layout]\n{text}")
    assert expected in message
    assert str(tmp_path / "embedpipe.toml") in message


def test_patterns_may_change_places(tmp_path: Path) -> None:
    """Each alone would meet the default of the other."""
    swapped = {"manifest": SEED.items, "items": SEED.manifest}
    text = "\n".join(["[layout]", *(f"{name} = '{pattern}'" for name, pattern in swapped.items())])
    assert load(tmp_path, text).layout.items == SEED.manifest


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file. Write one with: embedpipe init" in refusal(tmp_path, file=tmp_path / "no.toml")
    assert "cannot be read" in refusal(tmp_path, file=tmp_path)
    for name in ("folder", "nowhere"):  # something is there: it is not passed over in silence
        root = tmp_path / name
        root.mkdir()
        (root / "embedpipe.toml").mkdir() if name == "folder" else (root / "embedpipe.toml").symlink_to("nowhere")
        assert f"{root / 'embedpipe.toml'}: " in refusal(root)
    (tmp_path / "embedpipe.toml").write_bytes(b"kind = '\xff'")
    assert "byte 9 is not UTF-8" in refusal(tmp_path)


@pytest.mark.parametrize("word", ["true", "Yes", "on", "1"])
def test_words_for_true(tmp_path: Path, word: str) -> None:
    assert load(tmp_path, env={"EMBEDPIPE_PROVIDER__SEND_DIMENSIONS": word}).model.send_dimensions is True


def test_a_config_can_be_pickled_and_compared(tmp_path: Path) -> None:
    config = load(tmp_path, "[limits]\nfile_bytes = 7")
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.origins["limits.file_bytes"] == config.origins["limits.file_bytes"]


def test_the_tables_agree() -> None:
    assert set(BACKENDS) == set(PORTS) == set(DEFAULT_BACKENDS)
    assert all(name in BACKENDS[section] for section, name in DEFAULT_BACKENDS.items())
    assert set(PROVIDER_DEFAULTS) <= set(BACKENDS["provider"])


def test_what_init_writes_says_the_defaults_when_uncommented(tmp_path: Path) -> None:
    text = toml_text(load(tmp_path))
    settings = [
        line.removeprefix("# ") if " = " in line else line for line in text.splitlines() if "file's" not in line
    ]
    again = load(tmp_path, "\n".join(settings))
    assert again == load(tmp_path)
    assert load(tmp_path / "b", toml_text(load(tmp_path / "b", flags={"kind": "articles"}))).kind == "articles"


@given(value=st.one_of(st.integers(), st.booleans(), st.text(), st.none(), st.lists(st.integers())))
@example(value="~0")
def test_conversion_gives_the_wanted_type_or_refuses(value: object) -> None:
    for wanted in (str, int, float, bool, Path, dict):
        try:
            converted = convert("key", value, wanted, flag_layer({}))
        except ConfigError:
            continue
        assert isinstance(converted, wanted)


# --- building ------------------------------------------------------------------------------------------------------


class Store:
    """Enough of every port to be built; remembers whether it was closed."""

    closed = 0

    def __init__(self, *, size: int = 1, clock: object = None) -> None:
        self.size, self.clock = size, clock

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return name

    def close(self) -> None:
        type(self).closed += 1


class Incomplete:
    def get(self, key: str) -> None: ...


class Failing(Store):
    def __init__(self) -> None:
        raise ConfigError("Not today.")


class Silent(Store):
    """A provider that cannot embed questions."""

    def __getattr__(self, name: str) -> object:
        if name == "embed":
            raise AttributeError(name)
        return super().__getattr__(name)


def config_of(tmp_path: Path, **backends: str) -> Config:
    chosen = {section: backends.get(section, "Store") for section in PORTS}
    return load(tmp_path, flags={f"{section}.backend": f"{__name__}:{name}" for section, name in chosen.items()})


@pytest.fixture
def clock() -> Any:
    return object()


def test_one_s_own_backends_are_built_from_their_names(tmp_path: Path, clock: Any) -> None:
    config = config_of(tmp_path)
    config = load(tmp_path, flags={**_flags(config), "table.size": "5"})
    Store.closed = 0
    backends = build(config, clock=clock)
    assert isinstance(backends, Backends)
    assert (backends.table.size, backends.objects.size) == (5, 1)  # type: ignore[attr-defined]
    assert backends.table.clock is clock  # type: ignore[attr-defined]
    assert backends.embedder is backends.provider
    assert Store.closed == 0
    backends.close()
    assert Store.closed == 4


def _flags(config: Config) -> Mapping[str, Any]:
    return {key: origin.value for key, origin in config.origins.items() if origin.source == "flag" and key != "root"}


def test_what_was_opened_is_closed_when_a_later_one_fails(tmp_path: Path, clock: Any) -> None:
    Store.closed = 0
    with pytest.raises(ConfigError, match="Not today"):
        build(config_of(tmp_path, vectors="Failing"), clock=clock)
    assert Store.closed == 3


def test_a_provider_that_cannot_embed_questions_says_so_when_asked(tmp_path: Path, clock: Any) -> None:
    backends = build(config_of(tmp_path, provider="Silent"), clock=clock)
    with pytest.raises(ConfigError, match="Silent has no method 'embed'"):
        backends.embedder.embed(["x"], model="m", dimensions=1)


@pytest.mark.parametrize(
    ("backend", "options", "expected"),
    [
        ("no.such.module:X", {}, "objects.backend 'no.such.module:X' cannot be imported"),
        (f"{__name__}:Nothing", {}, "cannot be imported"),
        (":X", {}, "cannot be imported"),
        ("os:", {}, "cannot be imported"),
        ("os:path", {}, "objects.backend 'os:path' is a module, and no class."),
        ("builtins:dict", {}, "is no BlobStore: it lacks bucket, put"),
        (
            "builtins:iter",
            {},
            "objects.backend 'builtins:iter' cannot be made: TypeError: .* Look at the settings below",
        ),
        (f"{__name__}:Incomplete", {}, "is no BlobStore: it lacks bucket, put, list, delete, upload, download."),
        (f"{__name__}:Store", {"sise": 1}, "objects.sise is no option of .* Did you mean 'objects.size'?"),
        (f"{__name__}:needs_a_url", {}, "needs objects.url. Set it in embedpipe.toml."),
    ],
)
def test_a_backend_that_does_not_fit(backend: str, options: Mapping[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        construct("objects", backend, options, {"clock": None})


@pytest.mark.parametrize("line", ["raise SystemExit(3)", "1 / 0", "def", "import nothing_of_the_kind", "\0"])
def test_a_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    (tmp_path / "broken_backend.py").write_text(f"{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="objects.backend 'broken_backend:Store' cannot be imported") as caught:
        construct("objects", "broken_backend:Store", {}, {})
    assert "\n" not in str(caught.value)


class Lazy:
    """A store that knows its bucket once it is connected."""

    get = put = list = delete = upload = download = print

    @property
    def bucket(self) -> str:
        raise self.error

    error: Exception = AttributeError("not connected")


@pytest.mark.parametrize("error", [AttributeError("not connected"), OSError("no route"), ConfigError("later")])
def test_a_property_is_not_called_to_see_whether_it_is_there(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(Lazy, "error", error)
    assert isinstance(construct("objects", f"{__name__}:Lazy", {}, {}), Lazy)


@attrs.frozen
class Placed:
    """A store that takes paths, and a text that looks like one."""

    folder: Path
    other: pathlib.Path | None = None
    name: str = ""

    def __getattr__(self, name: str) -> object:
        return name


PLACED = f"""
[objects]
backend = "{__name__}:Placed"
folder = "data/objects"
other = "~/x"
name = "data/name"
"""


def test_paths_of_one_s_own_backend_count_from_the_file_s_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "settings"
    home.mkdir()
    others = {f"{section}.backend": f"{__name__}:Store" for section in PORTS if section != "objects"}
    made = build(load(home, PLACED, flags=others), clock=clock).objects
    assert made == Placed(home / "data" / "objects", Path.home() / "x", "data/name")
    given = build(load(home, PLACED, flags={**others, "objects.folder": "here"}), clock=clock).objects
    assert given.folder == tmp_path / "here"  # type: ignore[attr-defined]
    sent = pickle.loads(pickle.dumps(load(home, PLACED, flags=others)))
    monkeypatch.chdir("/")
    assert build(sent, clock=clock).objects == made


def needs_a_url(url: str) -> Sequence[str]:
    return [url]
