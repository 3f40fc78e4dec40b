"""Drive a machine from Python: the client of Assay's test-driver protocol, version 1.

A test module is a file in ``tests/``::

    from assay import Machine, post_fail, test

    @test(fatal=True, timeout="10m")
    def run(t: Machine) -> None:
        t.assert_screen("grub-prompt", timeout=60)
        t.enter_cmd("ls")

    @post_fail
    def collect(t: Machine) -> None:
        t.save_screenshot()

The arguments of ``@test`` are read before the file is run, so they must be literals.
Names, arguments and defaults are those of the Starlark modules; see ``docs/writing-tests.md``.
What a test prints goes to the log. Needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

PROTOCOL = 1
"""The version of the protocol that this client speaks."""

Tags = Union[str, Sequence[str]]
"""One tag set (words separated by blanks, all of which a needle must carry), or several."""

Place = Union[Tuple[int, int], str]
"""Pixels from the left and from the top, or the tags of a needle."""

_ROOT = os.getcwd()

T = TypeVar("T")
Function = Callable[["Machine"], Any]


class CallError(Exception):
    """A call that was refused. ``kind`` is ``failed`` or ``usage``."""

    kind = "usage"


class Failed(CallError):
    """An expectation did not hold."""

    kind = "failed"


class UsageError(CallError):
    """The call was wrong: an unknown key, no needle with these tags, a bad pattern."""


class Stopped(BaseException):
    """The run ends. Not an ``Exception``, so that a test does not catch it by accident."""


@dataclass(frozen=True)
class Area:
    """An area of a needle where it was found, in pixels."""

    x: int
    y: int
    w: int
    h: int
    similarity: float
    """0 to 1."""


@dataclass(frozen=True)
class Match:
    """A needle that matched."""

    needle: str
    """Its name."""
    tags: List[str]
    error: float
    """How far it is from a perfect match: the mean of ``(1 - similarity)**2`` over its areas."""
    areas: List[Area]


@dataclass(frozen=True)
class Attempt:
    """What ``attempt`` answers."""

    ok: bool
    value: Any
    error: Optional[str]


def _match(hit: Dict[str, Any]) -> Match:
    areas = [Area(a["x"], a["y"], a["w"], a["h"], a["similarity"]) for a in hit["areas"]]
    return Match(hit["name"], list(hit["tags"]), hit["error"], areas)


class _Channel:
    """JSON lines in both directions, apart from the standard streams that the test may use."""

    def __init__(self) -> None:
        self.reader = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
        self.writer = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        # What the test and its children print must not get between the lines of the protocol.
        sys.stdout.flush()
        os.dup2(2, 1)
        self.lock = threading.Lock()
        self.last = 0

    def send(self, message: Dict[str, Any]) -> None:
        self.writer.write(json.dumps(message) + "\n")
        self.writer.flush()

    def receive(self) -> Dict[str, Any]:
        line = self.reader.readline()
        if not line:
            raise Stopped("the host has gone")
        message: Dict[str, Any] = json.loads(line)
        return message

    def call(self, name: str, request: str, args: Dict[str, Any]) -> Any:
        """One call, one answer; threads take turns."""
        stack = _stack()
        with self.lock:
            self.last += 1
            sent = {"type": "call", "id": self.last, "name": name, "stack": stack}
            self.send({**sent, "request": {"call": request, "args": args}})
            answer = self.receive()
        if answer["type"] == "answer":
            return answer["value"]
        if answer["type"] != "error":
            raise Stopped("the host ended the run")
        error = answer["error"]
        if error["kind"] == "failed":
            raise Failed(error["message"])
        if error["kind"] == "usage":
            raise UsageError(error["message"])
        raise Stopped(error["message"])


def _place(filename: str) -> Optional[str]:
    """The file relative to the test directory, or None for a file outside of it."""
    path = os.path.relpath(os.path.abspath(filename), _ROOT)
    outside = path.startswith("..") or os.path.abspath(filename) == os.path.abspath(__file__)
    return None if outside else path


def _stack() -> List[Dict[str, Any]]:
    """Where the test stands, innermost last."""
    found: List[Dict[str, Any]] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < 50:
        file = _place(frame.f_code.co_filename)
        if file is not None:
            found.append({"file": file, "line": frame.f_lineno})
        frame = frame.f_back  # type: ignore[assignment]
    return found[::-1]


class Machine:
    """The machine under test. Times are seconds."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def _ask(self, word: str, request: Optional[str] = None, /, **args: Any) -> Any:
        return self._channel.call(word, request or word, args)

    # Screen

    def assert_screen(self, tags: Tags, timeout: float = 30, no_wait: bool = False) -> Match:
        """Waits until a needle with these tags matches; fails the test when none does."""
        return _match(self._ask("assert_screen", tags=_tags(tags), timeout=timeout, no_wait=no_wait))

    def check_screen(self, tags: Tags, timeout: float = 0, no_wait: bool = False) -> Optional[Match]:
        """Waits until a needle with these tags matches; ``None`` when none does."""
        hit = self._ask("check_screen", tags=_tags(tags), timeout=timeout, no_wait=no_wait)
        return None if hit is None else _match(hit)

    def match_has_tag(self, tag: str) -> bool:
        """Does the needle that matched last carry this tag?"""
        return bool(self._ask("match_has_tag", tag=tag))

    def assert_and_click(
        self,
        tags: Tags,
        button: str = "left",
        clicktime: float = 0.15,
        dclick: bool = False,
        mousehide: bool = False,
        point_id: Optional[str] = None,
        timeout: float = 30,
    ) -> Match:
        """``assert_screen``, then a click on the needle's click point."""
        click = _click(button, clicktime, dclick, mousehide, point_id)
        return _match(self._ask("assert_and_click", tags=_tags(tags), timeout=timeout, **click))

    def assert_and_dclick(
        self,
        tags: Tags,
        button: str = "left",
        clicktime: float = 0.15,
        mousehide: bool = False,
        point_id: Optional[str] = None,
        timeout: float = 30,
    ) -> Match:
        """``assert_and_click`` with a double click."""
        click = _click(button, clicktime, True, mousehide, point_id)
        hit = self._ask("assert_and_dclick", "assert_and_click", tags=_tags(tags), timeout=timeout, **click)
        return _match(hit)

    def click_lastmatch(
        self,
        button: str = "left",
        clicktime: float = 0.15,
        dclick: bool = False,
        mousehide: bool = False,
        point_id: Optional[str] = None,
    ) -> None:
        """Clicks on the needle that matched last."""
        self._ask("click_lastmatch", **_click(button, clicktime, dclick, mousehide, point_id))

    def wait_screen_change(
        self, action: Optional[Callable[[], Any]] = None, timeout: float = 10, similarity_level: float = 50
    ) -> bool:
        """Runs ``action``, then waits until the screen differs from what it was before; false when it does not."""
        return self._change("wait_screen_change", action, timeout, similarity_level)

    def assert_screen_change(
        self, action: Optional[Callable[[], Any]] = None, timeout: float = 10, similarity_level: float = 50
    ) -> bool:
        """``wait_screen_change`` that fails the test when nothing changes."""
        return self._change("assert_screen_change", action, timeout, similarity_level)

    def _change(self, name: str, action: Optional[Callable[[], Any]], timeout: float, level: float) -> bool:
        reference = None
        if action is not None:
            reference = self._ask(name, "screen_reference")
            action()
        return bool(self._ask(name, reference=reference, timeout=timeout, similarity_level=level))

    def wait_still_screen(self, stilltime: float = 7, timeout: float = 30, similarity_level: float = 47) -> bool:
        """Waits until the screen stays the same for ``stilltime``; false when it never does."""
        args = {"stilltime": stilltime, "timeout": timeout, "similarity_level": similarity_level}
        return bool(self._ask("wait_still_screen", **args))

    def assert_still_screen(self, stilltime: float = 7, timeout: float = 30, similarity_level: float = 47) -> bool:
        """``wait_still_screen`` that fails the test when the screen never rests."""
        args = {"stilltime": stilltime, "timeout": timeout, "similarity_level": similarity_level}
        return bool(self._ask("assert_still_screen", **args))

    def save_screenshot(self) -> None:
        """Keeps the present screen as a step."""
        self._ask("save_screenshot")

    def send_key_until_needlematch(self, tags: Tags, key: str, counter: int = 20, timeout: float = 1) -> Match:
        """Presses a key again and again until a needle matches; fails the test when none does."""
        args = {"tags": _tags(tags), "key": key, "counter": counter, "timeout": timeout}
        return _match(self._ask("send_key_until_needlematch", **args))

    # Keyboard

    def send_key(self, key: str, do_wait: bool = False) -> None:
        """Presses and releases a key or a chord such as ``ctrl-alt-f2``."""
        self._ask("send_key", key=key, do_wait=do_wait)

    def hold_key(self, key: str) -> None:
        """Presses a key and keeps it down."""
        self._ask("hold_key", key=key)

    def release_key(self, key: str) -> None:
        """Releases a key that is held."""
        self._ask("release_key", key=key)

    def type_string(
        self,
        text: str,
        max_interval: int = 250,
        wait_screen_change: int = 0,
        wait_still_screen: float = 0,
        similarity_level: float = 47,
        secret: bool = False,
        lf: bool = False,
        timeout: float = 30,
    ) -> None:
        r"""Types a text; ``\n`` is the return key."""
        waits = {"wait_screen_change": wait_screen_change, "wait_still_screen": wait_still_screen}
        waits.update(similarity_level=similarity_level, timeout=timeout)
        self._ask("type_string", text=text, max_interval=max_interval, secret=secret, lf=lf, **waits)

    def enter_cmd(
        self,
        text: str,
        max_interval: int = 250,
        wait_screen_change: int = 0,
        wait_still_screen: float = 0,
        similarity_level: float = 47,
        secret: bool = False,
        timeout: float = 30,
    ) -> None:
        """``type_string`` with the return key at the end."""
        waits = {"wait_screen_change": wait_screen_change, "wait_still_screen": wait_still_screen}
        waits.update(similarity_level=similarity_level, timeout=timeout)
        self._ask("enter_cmd", "type_string", text=text, max_interval=max_interval, secret=secret, lf=True, **waits)

    def type_password(self, password: Optional[str] = None, max_interval: int = 100) -> None:
        """Types a password (without it, the variable PASSWORD); it is never logged."""
        self._ask("type_password", password=password, max_interval=max_interval)

    # Mouse

    def mouse_set(self, x: int, y: int) -> None:
        """Moves the mouse; pixels from the left and from the top."""
        self._ask("mouse_set", x=x, y=y)

    def mouse_click(self, button: str = "left", hold_time: float = 0.15) -> None:
        """Clicks where the mouse is."""
        self._ask("mouse_click", button=button, hold_time=hold_time, count=1)

    def mouse_dclick(self, button: str = "left", hold_time: float = 0.1) -> None:
        """Double click where the mouse is."""
        self._ask("mouse_dclick", "mouse_click", button=button, hold_time=hold_time, count=2)

    def mouse_tclick(self, button: str = "left", hold_time: float = 0.1) -> None:
        """Triple click where the mouse is."""
        self._ask("mouse_tclick", "mouse_click", button=button, hold_time=hold_time, count=3)

    def mouse_hide(self, border_offset: int = 0) -> None:
        """Moves the mouse out of the way, to the lower right corner."""
        self._ask("mouse_hide", border_offset=border_offset)

    def mouse_drag(self, start: Place, end: Place, button: str = "left", timeout: float = 30) -> None:
        """Drags from one place to another; a place is ``(x, y)`` or a needle's tags."""
        self._ask("mouse_drag", start=start, end=end, button=button, timeout=timeout)

    # Serial line

    def wait_serial(
        self,
        patterns: Tags,
        timeout: float = 90,
        expect_not_found: bool = False,
        no_regex: bool = False,
        quiet: bool = False,
        buffer_size: Optional[int] = None,
        record_output: bool = False,
    ) -> Optional[str]:
        """Waits for a text on the serial line (regular expressions); the text up to it, or ``None``."""
        args: Dict[str, Any] = {"patterns": _tags(patterns), "timeout": timeout, "no_regex": no_regex}
        args.update(expect_not_found=expect_not_found, quiet=quiet)
        args.update(buffer_size=buffer_size, record_output=record_output)
        found: Optional[str] = self._ask("wait_serial", **args)
        return found

    # Records

    def record_info(self, title: str, output: str = "", result: str = "ok") -> None:
        """Puts a note on the result page; ``result`` is ``ok``, ``softfail`` or ``fail``."""
        self._ask("record_info", title=title, output=output, result=result)

    def record_soft_failure(self, reason: str) -> None:
        """Notes a known problem; the module passes softly."""
        self._ask("record_soft_failure", reason=reason)

    def force_soft_failure(self, reason: str) -> None:
        """As ``record_soft_failure``; the module stays soft-failed whatever follows."""
        self._ask("force_soft_failure", reason=reason)

    def diag(self, message: str) -> None:
        """Writes a line to the log."""
        self._ask("diag", message=message)

    # Variables

    def get_var(self, name: str, default: Union[str, int, None] = None) -> Optional[str]:
        """The value of a variable, or ``default``."""
        return self._variable("get_var", name, None if default is None else str(default))

    def get_required_var(self, name: str) -> str:
        """The value of a variable; fails the test when it is not set."""
        value = self._variable("get_required_var", name)
        if value is None:
            raise Failed(f"the variable {name} is not set; set it: {name}=...")
        return value

    def set_var(self, name: str, value: Union[str, int]) -> None:
        """Sets a variable for the rest of the run."""
        self._ask("set_var", name=name, value=str(value))

    def check_var(self, name: str, value: Union[str, int]) -> bool:
        """Has the variable this value?"""
        return self._variable("check_var", name) == str(value)

    def get_var_array(self, name: str) -> List[str]:
        """The variable's value cut at commas and semicolons; an empty list when it is not set."""
        return self._list("get_var_array", name)

    def check_var_array(self, name: str, value: Union[str, int]) -> bool:
        """Is this one of the variable's values cut at commas and semicolons?"""
        return str(value) in self._list("check_var_array", name)

    def _variable(self, call: str, name: str, default: Optional[str] = None) -> Optional[str]:
        value: Optional[str] = self._ask(call, "get_var", name=name, default=default)
        return value

    def _list(self, call: str, name: str) -> List[str]:
        return [part for part in (self._variable(call, name) or "").replace(";", ",").split(",") if part]

    # Power

    def power(self, action: str) -> None:
        """The power button and its relatives: ``on``, ``off``, ``acpi`` or ``reset``."""
        self._ask("power", action=action)

    def check_shutdown(self, timeout: float = 60) -> bool:
        """Waits until the machine has switched itself off; false when it does not."""
        return bool(self._ask("check_shutdown", timeout=timeout))

    def assert_shutdown(self, timeout: float = 60) -> None:
        """``check_shutdown`` that fails the test."""
        self._ask("assert_shutdown", timeout=timeout)

    def eject_cd(self) -> None:
        """Ejects the CD."""
        self._ask("eject_cd")

    def freeze_vm(self) -> None:
        """Stops the machine's processors."""
        self._ask("freeze_vm")

    def resume_vm(self) -> None:
        """Lets the machine's processors go on."""
        self._ask("resume_vm")

    # Jobs beside this one

    def _lock(self, name: str, op: str, timeout: Optional[float] = None, **args: Any) -> bool:
        given = {key: value for key, value in args.items() if value is not None}
        return bool(self._ask(op, "lock", lock={"op": op, "name": name, **given}, timeout=timeout))

    def mutex_create(self, name: str) -> None:
        """Makes a mutex that nobody holds yet."""
        self._lock(name, "mutex_create")

    def mutex_lock(self, name: str, job: Optional[int] = None, timeout: Optional[float] = None) -> None:
        """Waits until the mutex is there and free, and takes it; ``job`` means only one that this job has made."""
        self._lock(name, "mutex_lock", timeout, where=job)

    def mutex_try_lock(self, name: str, job: Optional[int] = None) -> bool:
        """Takes the mutex if it is there and free; says whether."""
        return self._lock(name, "mutex_try_lock", where=job)

    def mutex_unlock(self, name: str) -> None:
        """Gives the mutex back."""
        self._lock(name, "mutex_unlock")

    def mutex_wait(self, name: str, job: Optional[int] = None, timeout: Optional[float] = None) -> None:
        """Waits until the mutex is there and free, and leaves it so."""
        self._lock(name, "mutex_wait", timeout, where=job)

    def barrier_create(self, name: str, tasks: int) -> None:
        """Makes a barrier that so many jobs have to come to."""
        self._lock(name, "barrier_create", tasks=tasks)

    def barrier_wait(
        self,
        name: str,
        job: Optional[int] = None,
        check_dead_job: bool = False,
        timeout: Optional[float] = None,
    ) -> None:
        """Waits until the barrier is there and all have come; with ``check_dead_job`` fails once one of the jobs has ended."""
        self._lock(name, "barrier_wait", timeout, where=job, check_dead_job=check_dead_job)

    def barrier_try_wait(self, name: str) -> bool:
        """Passes the barrier if this is the last that it waits for; says whether."""
        return self._lock(name, "barrier_try_wait")

    def barrier_destroy(self, name: str) -> None:
        """Removes the barrier."""
        self._lock(name, "barrier_destroy")

    def get_children(self) -> Dict[int, str]:
        """The jobs that run in parallel with this one as its children: their states by number."""
        return {job["id"]: job["state"] for job in self._ask("get_children")}

    def get_children_by_state(self, state: str) -> List[int]:
        """The numbers of those children that are ``scheduled``, ``running`` or ``done``."""
        return [job["id"] for job in self._ask("get_children_by_state", state=state)]

    def get_parents(self) -> List[int]:
        """The numbers of the jobs that this one runs in parallel with as their child."""
        return [job["id"] for job in self._ask("get_parents")]

    def get_job_info(self, job: int) -> Dict[str, Any]:
        """A job's ``id``, ``name``, ``test``, ``state``, ``result``, ``settings``, and ``url``, its address in the server's API."""
        return dict(self._ask("get_job_info", job=job))

    def get_job_autoinst_vars(self, job: int) -> Dict[str, str]:
        """A job's settings, secrets left out."""
        return dict(self._ask("get_job_autoinst_vars", "get_job_info", job=job)["settings"])

    def get_job_autoinst_url(self, job: int) -> Optional[str]:
        """A job's address in the server's API, where openQA has that of its worker: what is there has its settings too."""
        url = self._ask("get_job_autoinst_url", "get_job_info", job=job)["url"]
        return None if url is None else str(url)

    def wait_for_children(self, timeout: Optional[float] = None) -> None:
        """Waits until each child has ended."""
        self._ask("wait_for_children", timeout=timeout)

    def wait_for_children_to_start(self, timeout: Optional[float] = None) -> None:
        """Waits until no child has yet to start."""
        self._ask("wait_for_children_to_start", timeout=timeout)

    def get_current_job_id(self) -> Optional[int]:
        """This job's number; ``None`` in a run without a server."""
        number = self._ask("get_current_job_id")
        return None if number is None else int(number)

    # Flow

    def fail(self, message: str) -> None:
        """Fails the test with this message."""
        raise Failed(message)

    def expect(self, condition: object, message: str) -> None:
        """Fails the test with this message unless the condition holds."""
        if not condition:
            raise Failed(message)

    def attempt(self, function: Callable[[], Any]) -> Attempt:
        """Runs a function and answers how it went; a failed expectation does not end the test."""
        try:
            return Attempt(True, function(), None)
        except CallError as error:
            return Attempt(False, None, str(error))

    def until(self, function: Callable[[], T], timeout: float = 30, interval: float = 1) -> T:
        """Runs a function after each change of the screen (and each ``interval``) until it answers something true."""
        deadline = time.monotonic() + timeout
        while True:
            reference = self._ask("until", "screen_reference")
            value = function()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"what `until` waits for did not come true within {timeout} s")
            wait = min(left, max(interval, 0.01))
            self._ask("until", "wait_screen_change", reference=reference, timeout=wait, similarity_level=50)

    def retry(self, n: int, function: Callable[[], T]) -> T:
        """Runs a function up to ``n`` times until no expectation fails in it, and answers its value."""
        for _ in range(1, n):
            try:
                return function()
            except Failed:
                pass
        return function()


def _tags(tags: Tags) -> Union[str, List[str]]:
    return tags if isinstance(tags, str) else list(tags)


def _click(
    button: str, clicktime: float, dclick: bool, mousehide: bool, point_id: Optional[str]
) -> Dict[str, Any]:
    click: Dict[str, Any] = {"button": button, "clicktime": clicktime, "dclick": dclick}
    click.update(mousehide=mousehide, point_id=point_id)
    return click


@dataclass
class _Module:
    """What the file declares."""

    functions: Dict[str, Function]
    declared: Dict[str, Any]


_module = _Module({}, {})


def test(
    name: Optional[str] = None,
    fatal: bool = True,
    ignore_failure: bool = False,
    always_run: bool = False,
    timeout: Union[str, float, None] = None,
) -> Callable[[Function], Function]:
    """Declares the module: ``@test(...)`` above its function, exactly once in each file. The arguments are literals.

    ``name`` is the file's name without ``.py`` unless given; ``timeout`` is seconds, or a text such as ``"45m"``.
    """

    def declare(function: Function) -> Function:
        if "run" in _module.functions:
            raise UsageError("@test is used twice; a file is one module")
        flags = {"fatal": fatal, "ignore_failure": ignore_failure, "always_run": always_run}
        _module.functions["run"] = function
        _module.declared = {"name": name, "flags": flags}
        return function

    return declare


def post_fail(function: Function) -> Function:
    """``@post_fail`` above a function: it runs after the module has failed, to collect what helps to find out why."""
    _module.functions["post_fail"] = function
    return function


def _done(channel: _Channel, error: Optional[BaseException]) -> None:
    if error is None:
        channel.send({"type": "done", "error": None})
        return
    text = str(error) if isinstance(error, CallError) else f"{type(error).__name__}: {error}"
    stack = [
        {"file": file, "line": frame.lineno}
        for frame in traceback.extract_tb(error.__traceback__)
        for file in [_place(frame.filename)]
        if file is not None
    ]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        file = _place(error.filename)
        stack += [{"file": file, "line": error.lineno}] if file else []
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    # An `assert` is an expectation as well.
    kind = "failed" if isinstance(error, (Failed, AssertionError)) else "usage"
    channel.send({"type": "done", "error": text, "kind": kind, "stack": stack, "traceback": "".join(lines)})


def _load(file: str) -> None:
    """Runs the file, so that its decorators say what it is."""
    sys.path.insert(0, os.path.join(os.getcwd(), "lib"))
    with open(file, encoding="utf-8") as source:
        code = compile(source.read(), os.path.abspath(file), "exec")
    exec(code, {"__name__": "__assay__", "__file__": os.path.abspath(file)})
    if "run" not in _module.functions:
        raise UsageError("the file has no function with @test")


def _serve(channel: _Channel) -> None:
    """Obeys the host until it says `exit` or goes away."""
    machine = Machine(channel)
    while True:
        message = channel.receive()
        if message["type"] == "hello":
            if message["protocol"] != PROTOCOL:
                raise UsageError(f"the host speaks protocol {message['protocol']}, this client {PROTOCOL}")
            _load(message["file"])
            stem = os.path.splitext(os.path.basename(message["file"]))[0]
            ready = {**_module.declared, "name": _module.declared["name"] or stem}
            ready["post_fail"] = "post_fail" in _module.functions
            channel.send({"type": "ready", "protocol": PROTOCOL, **ready})
        elif message["type"] == "run":
            _module.functions[message["function"]](machine)
            _done(channel, None)
        elif message["type"] == "exit":
            return


def _main() -> int:
    channel = _Channel()
    try:
        _serve(channel)
    except Stopped:
        return 1
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        _done(channel, error)
        return 1
    return 0


if __name__ == "__main__":
    # The test imports this file by its name; the functions must be registered there and not here.
    import assay

    code = assay._main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the test do not keep the program.
    os._exit(code)
